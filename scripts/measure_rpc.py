#!/usr/bin/env python3
"""A leader over two workers against the same leader here: its text, its speed, and what passes between the machines.

    python scripts/measure_rpc.py --leader LEADER --draft DRAFT [--threads 1] [--max-tokens 60]

The workers are two processes of this machine, at loopback. A port in front of each counts bytes and round trips; in the
last rows it is a network of 1 Gbit/s and 1 ms there and back. All runs are greedy. A worker's processor computes with
other kernels than this one does by itself; so the leader also runs here with those, and the workers' text is compared
with that. Where it differs, it is said how near the two tokens were. Needs llama.cpp with RPC (docs/scale.md).
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
import foreal_local
from foreal_local.engine import Engine
from foreal_local.presets import preset
from foreal_local.results import Result
from foreal_local.runtime.llama import weights
from tests.forwarder import Counts, Forwarder

ROOT = Path(__file__).parent.parent
GIGABIT, MILLISECOND = 125e6, 1e-3
PROMPTS = [
    "A train goes 60 miles in 45 minutes. How fast is it, in miles per hour?",
    "Write a short story about a lighthouse keeper.",
    "Explain what a hash table is.",
]
MODES: dict[str, dict[str, Any]] = {
    "leader": {"mode": "leader"},
    "foreal": {"mode": "foreal", "proposals": 0},
    "speculative": {"mode": "speculative", "proposals": 8},
    "fast": preset("fast") | {"proposals": 16},
}
WAYS: dict[str, dict[str, float] | None] = {
    "two workers": None,
    "two workers, counted": {},
    "1 Gbit/s, 1 ms": {"one_way": MILLISECOND / 2, "bytes_per_second": GIGABIT},
}
"""What is measured with workers, and the network before each of them, if there is one."""


class Run(NamedTuple):
    """One way to run the pair."""

    results: list[Result]
    seconds: float
    counts: Counts

    @property
    def n_tokens(self) -> int:
        return sum(len(result.tokens) for result in self.results)

    @property
    def rate(self) -> float:
        return self.n_tokens / self.seconds


@click.command()
@click.option("--leader", "-l", required=True)
@click.option("--draft", "-d", required=True)
@click.option("--threads", "-t", default=1, show_default=True, help="Of this process, and of each worker.")
@click.option("--max-tokens", default=60, show_default=True)
@click.option("--mode", "modes", type=click.Choice(list(MODES)), multiple=True, default=list(MODES))
def main(leader: str, draft: str, threads: int, max_tokens: int, modes: tuple[str, ...]) -> None:
    """Measure a leader over two workers."""
    click.echo(
        f"{'mode':12}{'leader':22}{'tokens/s':>9}{'ratio':>7}{'kB out':>9}{'kB in':>9}{'trips':>7}{'1 Gbit/s':>9}  text"
    )
    click.echo(f"{'':50}{'a token of the text':>25}{'computed':>9}")
    models = {"leader": leader, "draft": draft, "threads": threads, "ctx_size": 1024}
    plain: dict[str, Run] = {}
    with foreal_local.load(**models) as engine:
        local = {mode: measured(engine, mode, max_tokens, []) for mode in modes}
    for mode in modes:
        show(mode, "here", local[mode], local[mode])
    with as_a_worker(), foreal_local.load(**models, flash_attention="on") as engine:
        for mode in modes:
            plain[mode] = measured(engine, mode, max_tokens, [])
            show(mode, "here, same kernels", plain[mode], local[mode])
    with workers(threads) as ports:
        for label, network in WAYS.items():
            with contextlib.ExitStack() as stack:
                forwarders = [Forwarder(port, **network) for port in ports] if network is not None else []
                for each in forwarders:
                    stack.callback(each.close)
                there = [each.port for each in forwarders] or ports
                rpc = ",".join(f"127.0.0.1:{port}" for port in there)
                engine = stack.enter_context(foreal_local.load(**models | {"leader_rpc": rpc}))
                for mode in modes:
                    show(mode, label, measured(engine, mode, max_tokens, forwarders), local[mode], plain[mode])


@contextlib.contextmanager
def workers(threads: int) -> Iterator[list[int]]:
    """Two of them; their ports."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(int(free.getsockname()[1]))
            words = ["rpc-worker", "--listen", f"127.0.0.1:{ports[-1]}", "--threads", str(threads)]
            process = subprocess.Popen([sys.executable, "-m", "foreal_local", *words], cwd=ROOT, stdout=-3, stderr=-3)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in ports:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
        yield ports


def measured(engine: Engine, mode: str, max_tokens: int, forwarders: list[Forwarder]) -> Run:
    """All prompts, one after the other, after a first one that is not counted."""
    settings = {"temp": 0, "seed": 1, "max_tokens": max_tokens, **MODES[mode]}
    engine.generate(PROMPTS[0], **(settings | {"max_tokens": 4}))
    before = [each.counts + Counts() for each in forwarders]
    started = time.perf_counter()
    results = [engine.generate(prompt, logprobs=5, **settings) for prompt in PROMPTS]
    seconds = time.perf_counter() - started
    after = [each.counts + Counts() for each in forwarders]
    counts = sum((b - a for a, b in zip(before, after, strict=True)), Counts())
    return Run(results, seconds, counts)


@contextlib.contextmanager
def as_a_worker() -> Iterator[None]:
    """Models here are loaded as a worker's processor has them: not in the order that is fastest for it."""
    before, weights.must_avoid_amx = weights.must_avoid_amx, lambda: True
    try:
        yield
    finally:
        weights.must_avoid_amx = before


def show(mode: str, label: str, run: Run, local: Run, plain: Run | None = None) -> None:
    """A row. Computed: what the bytes and round trips that were counted would add to the local time."""
    n, counts = run.n_tokens, run.counts
    passed = ""
    if counts.turns:
        wire = (counts.to_worker + counts.to_client) / GIGABIT + counts.turns * MILLISECOND
        computed = n / (run.seconds + wire)
        passed = (
            f"{counts.to_worker / n / 1e3:9.1f}{counts.to_client / n / 1e3:9.1f}{counts.turns / n:7.2f}{computed:9.1f}"
        )
    click.echo(
        f"{mode:12}{label:22}{run.rate:9.2f}{run.rate / local.rate:7.2f}{passed:34}  {compared(run, plain or local)}"
    )


def compared(run: Run, local: Run) -> str:
    """Whether the texts are the same, or how near the tokens were at the first place where they differ."""
    if run is local:
        return ""
    gaps = []
    for here, there in zip(local.results, run.results, strict=True):
        pairs = zip(here.tokens, there.tokens, strict=False)
        for own, other in ((a, b) for a, b in pairs if a.id != b.id):
            top = dict(own.likelihood.top if own.likelihood else ())
            gaps.append(f"{own.likelihood.logprob - top[other.id]:.3f}" if other.id in top else "far")
            break
    same = len(run.results) - len(gaps)
    return f"{same} of {len(run.results)} the same" + (f"; differ at a gap of {', '.join(gaps)}" if gaps else "")


if __name__ == "__main__":
    main()
