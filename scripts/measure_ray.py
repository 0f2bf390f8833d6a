#!/usr/bin/env python3
"""Prompt sets on a Ray cluster of several nodes on this machine: the same texts as without, throughput, a node that is
killed, and how cost grows with the number of prompts.

    python scripts/measure_ray.py                    # everything, about as long as 700 prompts take without a cluster
    python scripts/measure_ray.py --only same        # or kill, or grow
    python scripts/measure_ray.py --prompts 40 --nodes 2

All nodes are processes of this machine and share its cores; --cpus says how many each has. The commands are those that
users call. The fake model of the last part answers at once, so that what is left is Ray and this program.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil

from foreal_local.batch.json_lines import to_line
from foreal_local.batch.request import BatchRequest
from foreal_local.batch.totals import Totals
from foreal_local.cluster.answering import Answerer
from foreal_local.cluster.run import ClusterOptions, ClusterRun
from foreal_local.cluster.work import Answer, Answered, Models, Work, named_anywhere
from foreal_local.config import Generation
from foreal_local.loading import resolve_pair
from foreal_local.pairs import find_pair
from foreal_local.results import Prompt

ROOT = Path(__file__).parents[1]
GEN = [sys.executable, "-m", "foreal_local", "gen"]
Records = list[dict[str, Any]]


# ---------------------------------------------------------------- a cluster
@contextmanager
def cluster(n_nodes: int, cpus: int) -> Iterator[Any]:
    """A head without CPUs, and nodes; all are gone at the end."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        found.workers = [found.add_node(num_cpus=cpus) for _ in range(n_nodes)]
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def kill(node: Any) -> None:
    """End a node and all its processes as a power cut does."""
    raylet = next(info.process for kind, infos in node.all_processes.items() if kind == "raylet" for info in infos)
    processes = [psutil.Process(raylet.pid), *psutil.Process(raylet.pid).children(recursive=True)]
    for process in processes:
        process.kill()


# ---------------------------------------------------------------- runs
class Run:
    """A command that runs, and the most memory that it has taken."""

    def __init__(self, words: list[str | Path]) -> None:
        self._started, self.n_bytes = time.perf_counter(), 0
        self.process = subprocess.Popen([str(word) for word in words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        watched = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                self.n_bytes = max(self.n_bytes, watched.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.2)

    def wait(self) -> float:
        """Its seconds, once it has ended well."""
        _, told = self.process.communicate()
        if self.process.returncode:
            raise click.ClickException(f"it ended with {self.process.returncode}: {told[-2000:]}")
        return time.perf_counter() - self._started


def records_of(output: Path) -> Records:
    files = sorted(output.glob("part-*.jsonl")) if output.is_dir() else [output]
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def prompts_file(folder: Path, n: int, name: str = "prompts.jsonl") -> Path:
    """The first held-out problems of the bundled pair."""
    rows = [json.loads(line) for line in (ROOT / "models" / "heldout.jsonl").read_text("utf-8").splitlines()[:n]]
    path = folder / name
    path.write_text("".join(json.dumps({"id": row["id"], "prompt": row["prompt"]}) + "\n" for row in rows), "utf-8")
    return path


def answering(records: Records) -> float:
    """Seconds in which prompts were answered, those of all actors together."""
    return sum(record["seconds"] for record in records)


def outside_models(records: Records) -> float:
    """The share of that time in which no model evaluated."""
    evaluating = sum(record["cost"][role]["seconds"] for record in records for role in ("leader", "draft"))
    return 1 - evaluating / answering(records)


def command(prompts: Path, output: Path, *more: str) -> list[str | Path]:
    greedy = ["--temp", "0", "--seed", "1", "-q"]
    return [*GEN, "--file", prompts, "-o", output, *greedy, *more]


# ---------------------------------------------------------------- what is measured
def same(folder: Path, address: str, n: int, n_nodes: int, cpus: int) -> None:
    """The texts, and the time, of one process, of one with as many threads, and of the cluster."""
    prompts, threads = prompts_file(folder, n), str(n_nodes * cpus)
    alone = Run(command(prompts, folder / "alone.jsonl", "--threads", "1")).wait()
    many = Run(command(prompts, folder / "many.jsonl", "--threads", threads, "--parallel", threads)).wait()
    few = prompts_file(folder, n_nodes, "few.jsonl")
    start = Run(command(few, folder / "few", "--threads", str(cpus), "--ray", address)).wait()
    run = Run(command(prompts, folder / "out", "--threads", str(cpus), "--ray", address))
    ray = run.wait()
    again = Run(command(prompts, folder / "out", "--threads", str(cpus), "--resume", "--ray", address)).wait()
    found = {name: records_of(folder / name) for name in ("alone.jsonl", "many.jsonl", "out")}
    texts = {name: {r["id"]: r["text"] for r in records} for name, records in found.items()}
    n_same = sum(texts["out"].get(id) == text for id, text in texts["alone.jsonl"].items())
    row("the same text as one process", f"{n_same} of {n}")
    row("one process, one prompt at a time", f"{alone:.1f} s")
    row(f"one process, {threads} threads and prompts", f"{many:.1f} s")
    row(f"cluster, {n_nodes} actors with {cpus} CPU", f"{ray:.1f} s, {many / ray:.2f} of that throughput")
    row(f"the same for {n_nodes} prompts: starts", f"{start:.1f} s")
    steady = (many / n) / ((ray - start) / (n - n_nodes))
    row("throughput without the starts", f"{steady:.2f} of the process with as many threads")
    row("no model evaluates, of the time that prompts take", f"{outside_models(found['out']):.1%}")
    row("the same without a cluster", f"{outside_models(found['alone.jsonl']):.1%}")
    row("actors without a prompt, starts included", f"{1 - answering(found['out']) / (ray * n_nodes):.1%}")
    row("driver's memory", f"{run.n_bytes / 1e6:.0f} MB")
    row("--resume of what is done", f"{again:.1f} s")


def killed(folder: Path, ray: Any, n: int, cpus: int) -> None:
    """A node is killed once a third of the prompts is done."""
    output = folder / "killed"
    run = Run(command(prompts_file(folder, n), output, "--threads", str(cpus), "--ray", ray.address))
    while run.process.poll() is None and len(records_of(output) if output.is_dir() else []) < n // 3:
        time.sleep(0.2)
    before = len(records_of(output))
    kill(ray.workers[-1])
    seconds = run.wait()
    counts = Counter(record["index"] for record in records_of(output))
    row("records when a node was killed", f"{before} of {n}")
    row("records at the end", f"{len(counts)} of {n}, each {'once' if set(counts.values()) == {1} else 'NOT once'}")
    row("seconds", f"{seconds:.1f}")


class FakeAnswerer(Answerer):
    """Answers at once."""

    def _open(self, work: Work) -> None:
        pass

    async def _answer(self, prompt: Prompt, totals: Totals) -> Answer:
        await asyncio.sleep(0)
        assert prompt.index is not None
        totals.n_results += 1
        record = {"id": prompt.id, "index": prompt.index, "text": "word " * 300, "finish_reason": "stop"}
        return Answer(prompt.index, str(prompt.id), "", to_line(record))

    def _with_state(self, answers: list[Answer], totals: Totals) -> Answered:
        return Answered(answers, totals, self._name)


def fake_run(n: int, output: Path, address: str) -> None:
    """A run with the fake model, in this process."""
    entry = find_pair("tiny")
    models = Models(named_anywhere(entry.leader), named_anywhere(entry.draft))
    request = BatchRequest([], Generation(seed=1), output=str(output), quiet=True)
    prompts = (Prompt(f"prompt {i} " + "word " * 100) for i in range(n))
    pair = resolve_pair(entry.leader, entry.draft, offline=True)
    run = ClusterRun(request, lambda roles: pair, models, ClusterOptions(address), prompts, FakeAnswerer)
    sys.exit(run.execute())


def grow(folder: Path, address: str) -> None:
    """Time and the driver's memory for 100, 1,000 and 10,000 prompts."""
    seconds: dict[int, float] = {}
    for n in (100, 1000, 10000):
        output = folder / f"fake-{n}"
        run = Run([sys.executable, __file__, "--fake", str(n), str(output), address])
        seconds[n] = run.wait()
        assert len({record["index"] for record in records_of(output)}) == n
        row(f"{n} prompts of the fake model", f"{seconds[n]:.1f} s, driver {run.n_bytes / 1e6:.0f} MB")
    each = (seconds[10000] - seconds[1000]) / 9000
    row("each further prompt", f"{1000 * each:.1f} ms")


def row(label: str, text: str) -> None:
    click.echo(f"{label:<56}{text}")


@click.command()
@click.option("--prompts", "n", default=200, show_default=True, help="How many.")
@click.option("--nodes", "n_nodes", default=3, show_default=True, help="Of the cluster.")
@click.option("--cpus", default=1, show_default=True, help="Of each node.")
@click.option("--only", type=click.Choice(["same", "kill", "grow"]), multiple=True, help="What is measured.")
@click.option("--fake", nargs=3, hidden=True)
def main(n: int, n_nodes: int, cpus: int, only: tuple[str, ...], fake: tuple[str, str, str] | None) -> None:
    """Measure, and print a table."""
    if fake:
        fake_run(int(fake[0]), Path(fake[1]), fake[2])
    wanted = only or ("same", "grow", "kill")
    row("cores that this process may use", str(len(psutil.Process().cpu_affinity() or [])))
    with tempfile.TemporaryDirectory() as name, cluster(n_nodes, cpus) as ray:
        if "same" in wanted:
            same(Path(name), ray.address, n, n_nodes, cpus)
        if "grow" in wanted:
            grow(Path(name), ray.address)
        if "kill" in wanted:  # last: the cluster has a node less then
            killed(Path(name), ray, n, cpus)


if __name__ == "__main__":
    main()
