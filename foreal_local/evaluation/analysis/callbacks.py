"""How an analysis tells what it is doing: notes for the user, progress, models that load. Knows no screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ...memory.fitting import UNFITTED, Fitting
from ...method.roles import Role

Advance = Callable[[int], None]
LoadProgress = Callable[[Role, float], None]


@contextmanager
def _no_progress(label: str, total: int) -> Iterator[Advance]:
    yield lambda n: None


@contextmanager
def _no_loading() -> Iterator[LoadProgress | None]:
    yield None


def _no_note(line: str) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """What an analysis calls; silent unless said otherwise.

    note: takes one line for the user
    progress: takes a label and a total; its context gives a function that takes how many more are done
    loading: its context gives a function that takes a role and the share of its model that is loaded, or None
    fitting: is asked whether a model fits, before it is loaded
    """

    note: Callable[[str], None] = _no_note
    progress: Callable[[str, int], AbstractContextManager[Advance]] = _no_progress
    loading: Callable[[], AbstractContextManager[LoadProgress | None]] = _no_loading
    fitting: Fitting = UNFITTED
