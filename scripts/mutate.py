#!/usr/bin/env python3
"""Broken inputs by the hundred: does a command ever hang, die, or end in a traceback?

    python scripts/mutate.py                     # the short form that CI runs, under a minute
    python scripts/mutate.py --long              # all there are, by hand
    python scripts/mutate.py --only gguf:rope    # those whose name has this in it
    python scripts/mutate.py --only gguf:rope -v # and what each printed last
    python scripts/mutate.py --seed 7            # other random numbers

Each group of inputs is a module of scripts/mutations/ with a function `cases(random, folder, long)` that yields
`Case`s: a name, a command line and the files it reads (mutations/common.py). Every case runs the real command in
a process and a folder of its own; after it must hold:

- the process was not killed by a signal, did not hang, and printed no traceback;
- its exit code is one that the commands document;
- where the code is not 0, a line on stderr says why.

To add a group: its module, and its row in GROUPS. Exit code 1 where a case fails.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from mutations.common import Case, Outcome, fault_of, run_case

GROUPS = {
    "gguf": "GGUF headers and tensor tables",
    "templates": "chat templates",
    "inputs": "prompt files, session files, encodings of standard output",
}
"""Modules of scripts/mutations/, and what each breaks."""
FRESH_EVERY = 40
"""One case of so many is run by an interpreter of its own, as users do."""


class Job:
    """All cases of this run. Processes that are copied from this one find them in `current`."""

    current: Job

    def __init__(self, cases: list[tuple[str, Case]], folder: Path) -> None:
        self.cases, self.folder = cases, folder


def run_number(i: int) -> tuple[int, Outcome]:
    job = Job.current
    return i, run_case(job.cases[i][1], job.folder / str(i), fresh=i % FRESH_EVERY == 0)


def load_commands() -> None:
    """Import what the commands import, so that each copy of this process has it."""
    for name in ("cli.gen", "cli.chat", "cli.bench", "cli.analyze", "engine", "batch.run", "batch.prompts", "loading"):
        importlib.import_module(f"foreal_local.{name}")


def last_line(outcome: Outcome) -> str:
    lines = outcome.err.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def all_cases(only: str, seed: int, folder: Path, long: bool) -> list[tuple[str, Case]]:
    """The cases of all groups with their full names, group:name."""
    found = []
    for group in GROUPS:
        shared = folder / group
        shared.mkdir()
        cases = importlib.import_module(f"mutations.{group}").cases(random.Random(f"{group} {seed}"), shared, long)
        found += [(f"{group}:{case.name}", case) for case in cases]
    twice = [name for name, n in Counter(name for name, _ in found).items() if n > 1]
    assert not twice, f"two cases of one name: {twice}"
    return [(name, case) for name, case in found if only in name]


@click.command()
@click.option("--long", is_flag=True, help="All cases of every group, not a choice of them.")
@click.option("--seed", default=0, show_default=True, help="Of the random numbers.")
@click.option("--only", default="", metavar="NAME", help="Cases whose name, such as gguf:empty, has this in it.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Cases that run at a time.")
@click.option("--verbose", "-v", is_flag=True, help="Each case, with its exit code and its last line on stderr.")
def main(long: bool, seed: int, only: str, jobs: int, verbose: bool) -> None:
    """Run the commands on broken inputs and report those that hang, die or end in a traceback."""
    began, failed, counts = time.monotonic(), 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = Path(name)
        Job.current = Job(all_cases(only, seed, folder, long), folder / "runs")
        cases = Job.current.cases
        load_commands()
        pool = multiprocessing.get_context("fork").Pool(jobs) if hasattr(os, "fork") else ThreadPoolExecutor(jobs)
        with pool:
            outcomes = pool.imap_unordered if hasattr(pool, "imap_unordered") else pool.map
            for i, outcome in outcomes(run_number, range(len(cases))):
                full, case = cases[i]
                fault = fault_of(case, outcome)
                counts[f"{full.split(':')[0]}: exit code {outcome.code}"] += 1
                failed += fault is not None
                if fault:
                    print(f"FAILED {full}: {fault}\n    {last_line(outcome)}", flush=True)
                elif verbose:
                    print(f"{outcome.seconds:5.1f} s  {outcome.code}  {full}\n    {last_line(outcome)}", flush=True)
    for what, n in sorted(counts.items()):
        print(f"{n:5} {what}")
    print(f"{len(cases)} cases, {failed} failed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed or not cases else 0)


if __name__ == "__main__":
    main()
