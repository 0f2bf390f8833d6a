#!/usr/bin/env python3
"""How much faster many sequences at once are: --parallel 1 against --parallel N, in turn.

    python scripts/compare_parallel.py [--prompts 32] [--parallel 8] [--runs 3]
    python scripts/compare_parallel.py --widen 32       # the same text from models of 101 MB together

Each run is a process of its own, timed by its own clock around the generation; its peak memory is held
against the model files plus the KV caches. --widen makes the pair slower without changing what it writes
(scripts/widen_gguf.py): the bundled pair is so small that it runs in lanes, larger ones run in batches.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from foreal_local.hub import bundled_dir

CHILD = """
import json, resource, sys, time
from pathlib import Path
from foreal_local.config import *
from foreal_local.engine import Engine
from foreal_local.results import Prompt
from foreal_local.runtime.gguf_file import cache_bytes_per_token
leader, draft, problems, n_prompts, n_slots = sys.argv[1:6]
lines = Path(problems).read_text(encoding="utf-8").splitlines()[: int(n_prompts)]
prompts = [Prompt(json.loads(line)["prompt"]) for line in lines]
pair = Pair(ModelSettings(Path(leader)), ModelSettings(Path(draft)))
with Engine(pair, n_slots=int(n_slots)) as engine:
    started = time.perf_counter()
    results = engine.generate(prompts, Generation(sampling=Sampling(temp=0), seed=1))
    seconds = time.perf_counter() - started
    files = sum(w.n_bytes for w in set(engine.loaded._weights.values()))
    caches = engine.ctx_size * engine.n_slots * sum(map(cache_bytes_per_token, (Path(leader), Path(draft))))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "tokens": sum(len(r.tokens) for r in results), "peak": peak,
                  "files": files, "caches": caches}))
"""


@click.command()
@click.option("--leader", default=None)
@click.option("--draft", default=None)
@click.option("--problems", default=None, help="JSON lines with `prompt`.")
@click.option("--prompts", default=32, show_default=True)
@click.option("--parallel", default=8, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--widen", default=1, show_default=True, help="Times as wide the feed-forward layers are made.")
def main(
    leader: str | None, draft: str | None, problems: str | None, prompts: int, parallel: int, runs: int, widen: int
) -> None:
    """Compare --parallel 1 with --parallel N."""
    folder = bundled_dir()
    models = [Path(leader or folder / "tiny-leader.gguf"), Path(draft or folder / "tiny-draft.gguf")]
    with tempfile.TemporaryDirectory() as scratch:
        if widen > 1:
            models = [widened(model, Path(scratch), widen) for model in models]
        compare(models, problems, prompts, parallel, runs)


def widened(model: Path, folder: Path, times: int) -> Path:
    from widen_gguf import widen

    target = folder / model.name
    widen(model, target, times)
    return target


def compare(models: list[Path], problems: str | None, prompts: int, parallel: int, runs: int) -> None:
    folder = bundled_dir()
    files = [str(name) for name in (*models, problems or folder / "heldout.jsonl")]

    def run(n_slots: int) -> dict[str, float]:
        command = [sys.executable, "-c", CHILD, *files, str(prompts), str(n_slots)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        return dict(json.loads(done.stdout))

    found: dict[int, list[dict[str, float]]] = {1: [], parallel: []}
    for _ in range(runs):
        for n_slots in found:
            found[n_slots].append(run(n_slots))
            time.sleep(0.2)
    for n_slots, runs_found in found.items():
        seconds = statistics.median(r["seconds"] for r in runs_found)
        last = runs_found[-1]
        beyond = (last["peak"] - last["files"] - last["caches"]) / 1e6
        click.echo(
            f"--parallel {n_slots}: {seconds:.2f} s for {prompts} prompts, {last['tokens'] / seconds:.0f} tokens/s; "
            f"peak memory {last['peak'] / 1e6:.0f} MB = files {last['files'] / 1e6:.1f} + caches "
            f"{last['caches'] / 1e6:.1f} + {beyond:.0f} MB"
        )
    ratios = [one["seconds"] / many["seconds"] for one, many in zip(found[1], found[parallel], strict=True)]
    click.echo(f"speed-up: median {statistics.median(ratios):.2f} (runs: {', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
