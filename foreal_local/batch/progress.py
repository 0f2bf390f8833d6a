"""Progress bars on a terminal's stderr: while models load, and while prompts are answered."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def loading_bar(quiet: bool) -> Iterator[Any]:
    """A bar for each model that loads; it yields what Engine takes as on_progress."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("loading the {task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[Any, Any] = {}

        def on_progress(role: Any, done: float) -> None:
            if role not in tasks:
                tasks[role] = bar.add_task(str(role), total=1.0)
            bar.update(tasks[role], completed=done)

        yield on_progress


@contextlib.contextmanager
def answering_bar(shown: bool, n_prompts: int) -> Iterator[Callable[[int, bool], None]]:
    """A bar of prompts; it yields what is to be called with the number of tokens written, and whether they end one."""
    if not shown:
        yield lambda n_tokens, finished: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("answering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=n_prompts, speed="")
        started, written = time.perf_counter(), 0

        def advance(n_tokens: int, finished: bool) -> None:
            nonlocal written
            written += n_tokens
            speed = f"{written / (time.perf_counter() - started):.0f} tokens/s"
            bar.update(task, advance=int(finished), speed=speed)

        yield advance
