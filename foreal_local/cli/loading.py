"""From options to a pair of model files, and what shows while they load."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..config import ModelSettings, Pair
from ..errors import UsageError
from ..method.sequence import Role

if TYPE_CHECKING:
    from ..hub import PairEntry


def named_pair(values: dict[str, Any]) -> PairEntry | None:
    """The pair of --pair, or the default one; None where --leader or --draft is given."""
    from ..hub import DEFAULT_PAIR, find_pair

    if not (values["leader"] or values["draft"]):
        return find_pair(values["pair"] or DEFAULT_PAIR)
    if values["pair"]:
        raise UsageError("--pair names both models: leave out --leader and --draft, or --pair")
    return None


def pair_of(values: dict[str, Any], entry: PairEntry | None, roles: set[Role]) -> Pair:
    """The models of the named pair, or of --leader and --draft; one is enough where one role writes everything."""
    from ..hub import resolve_model

    leader, draft = values["leader"], values["draft"]
    if entry:
        leader, draft = entry.leader, entry.draft
    elif len(roles) == 2 and not (leader and draft):
        missing = "--draft" if leader else "--leader"
        raise UsageError(f"leader and draft both write here: {missing} is missing")
    leader, draft = leader or draft, draft or leader
    offline, progress = values["offline"], not values["quiet"]
    paths = [resolve_model(name, offline=offline, progress=progress) for name in (leader, draft)]
    return Pair(
        ModelSettings(paths[0], values["leader_gpu_layers"]),
        ModelSettings(paths[1], values["draft_gpu_layers"]),
        values["pair"],
    )


def color_of(choice: str) -> bool | None:
    """True or False, or None where the stream decides."""
    if choice == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return choice == "always"


@contextlib.contextmanager
def loading_bar(quiet: bool) -> Iterator[Any]:
    """Load progress on a terminal, for models that take more than a moment."""
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
