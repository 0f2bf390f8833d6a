"""Progress bars on a terminal's stderr: while models load, and while prompts are answered or texts are read.

A line that is told while a bar is there is printed above it. So whatever a command tells goes through its `Bars`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress


class Bars:
    """The bars of one command, one at a time.

    shown: whether there are any; never where stderr is no terminal
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Progress | None = None

    def tell(self, line: str) -> None:
        """Print a line on stderr, which may be styled."""
        if self._bar is None:
            click.echo(line, err=True)
            return
        from rich.text import Text

        self._bar.console.print(Text.from_ansi(line), soft_wrap=True)

    @contextlib.contextmanager
    def loading(self) -> Iterator[Any]:
        """A bar for each model that loads; it yields what Engine takes as on_progress."""
        if not self._shown:
            yield None
            return
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn

        with self._open(TextColumn("loading the {task.description}"), BarColumn(), TaskProgressColumn()) as bar:
            tasks: dict[Any, Any] = {}

            def on_progress(role: Any, done: float) -> None:
                if role not in tasks:
                    tasks[role] = bar.add_task(str(role), total=1.0)
                bar.update(tasks[role], completed=done)

            yield on_progress

    @contextlib.contextmanager
    def answering(self, n_prompts: int, shown: bool = True) -> Iterator[Callable[[int, bool], None]]:
        """A bar of prompts; it yields what is to be called with the number of tokens written, and whether they end one.

        shown: nothing else is written to the terminal meanwhile, but for what is told
        """
        if not (self._shown and shown):
            yield lambda n_tokens, finished: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        speed = TextColumn("{task.fields[speed]}")
        with self._open(
            TextColumn("answering"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()
        ) as bar:
            task = bar.add_task("", total=n_prompts, speed="")
            started, written = time.perf_counter(), 0

            def advance(n_tokens: int, finished: bool) -> None:
                nonlocal written
                written += n_tokens
                speed = f"{written / (time.perf_counter() - started):.0f} tokens/s"
                bar.update(task, advance=int(finished), speed=speed)

            yield advance

    @contextlib.contextmanager
    def counting(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar with the time left; it yields what is to be called with how many more are done."""
        if not self._shown:
            yield lambda n: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with self._open(*columns) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.update(task, advance=n)

    @contextlib.contextmanager
    def _open(self, *columns: Any) -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            self._bar = bar
            try:
                yield bar
            finally:
                self._bar = None
