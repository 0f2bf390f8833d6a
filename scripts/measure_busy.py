#!/usr/bin/env python3
"""How much longer an answer takes while other programs keep cores busy.

    python scripts/measure_busy.py [--leader LEADER --draft DRAFT] [--busy 1] [--policy default]

The same prompts are answered in a fresh process each time: quiet, then with so many endless loops beside it. Without
models the bundled pair answers. Ends with 1 where the busy time is more than --bound times the quiet one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "active": {"OMP_WAIT_POLICY": "active"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "spin 100": {"GOMP_SPINCOUNT": "100"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
}
"""How threads wait for each other: default is what foreal_local chooses, the others are for comparison."""
PROMPTS = [
    "Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?",
    "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?",
]


@click.command()
@click.option("--leader", "-l")
@click.option("--draft", "-d")
@click.option("--busy", default=1, show_default=True, help="Endless loops beside the busy runs.")
@click.option("--runs", default=3, show_default=True)
@click.option("--max-tokens", default=100, show_default=True)
@click.option("--mode", "modes", multiple=True, default=("leader", "foreal"), show_default=True)
@click.option("--threads", "-t", type=int)
@click.option("--policy", "policies", type=click.Choice(list(POLICIES)), multiple=True, default=("default",))
@click.option("--bound", default=3.0, show_default=True)
def main(
    leader: str | None, draft: str | None, busy: int, runs: int, max_tokens: int, modes: tuple[str, ...],
    threads: int | None, policies: tuple[str, ...], bound: float,
) -> None:  # fmt: skip
    """Time answers on a quiet machine and on a busy one."""
    words = ["--max-tokens", str(max_tokens), "--temp", "0", "--seed", "1", *(["-t", str(threads)] if threads else [])]
    words += ["--leader", leader, "--draft", draft, "-c", "1024"] if leader and draft else []
    click.echo(f"{'mode':12}{'waiting':16}{'quiet, s':>10}{'busy, s':>10}{'ratio':>8}")
    worst = 0.0
    for mode in modes:
        for policy in policies:
            quiet = statistics.median(seconds(mode, words, policy) for _ in range(runs))
            with loops(busy):
                loaded = statistics.median(seconds(mode, words, policy) for _ in range(runs))
            worst = max(worst, loaded / quiet)
            click.echo(f"{mode:12}{policy:16}{quiet:10.3f}{loaded:10.3f}{loaded / quiet:8.2f}")
    sys.exit(int(worst > bound))


def seconds(mode: str, words: list[str], policy: str) -> float:
    """Time in the models' slots, without the start of the process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-m", "foreal_local", "gen", "-q", "-o", "-", "--mode", mode, "--file", "-", *words]
    done = subprocess.run(
        command,
        input="\n".join(PROMPTS),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=kept | POLICIES[policy],
        check=True,
    )
    return sum(json.loads(line)["seconds"] for line in done.stdout.splitlines())


@contextmanager
def loops(n: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
