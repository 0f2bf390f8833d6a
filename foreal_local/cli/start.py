"""What a chat begins with: its options, and what its session remembers of the models where they do not say it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import runtime_of
from ..errors import ForealError
from .options import is_default, settings_in, typed_settings

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..config import Pair
    from ..pairs import PairEntry

ROLES = ("leader", "draft")


def about_pair(values: dict[str, Any], entry: PairEntry | None) -> dict[str, Any]:
    """The models as the user has named them, so that they are found again from another folder."""
    leader, draft = (entry.leader, entry.draft) if entry else (values["leader"], values["draft"])
    return {
        "name": entry.name if entry else None,
        "leader": _from_anywhere(leader),
        "draft": _from_anywhere(draft),
        "gpu_layers": [values["leader_gpu_layers"], values["draft_gpu_layers"]],
    }


def _from_anywhere(model: str | None) -> str | None:
    path = os.path.expanduser(model or "")  # noqa: PTH111  (a hub name is no path)
    return os.path.abspath(path) if model and Path(path).exists() else model  # noqa: PTH100  (a link is kept)


def described(pair: Any) -> str:
    """A pair that `about_pair` has made, in a word or two; "" where it is none."""
    if not isinstance(pair, dict):
        return ""
    names = (Path(str(pair.get(role))).name.removesuffix(".gguf") for role in ROLES)
    return str(pair.get("name") or " + ".join(names))


class Start:
    """What a chat begins with: options, and what its session remembers of the models.

    kept: what is in the session's file
    values: the options, with what the pair, the preset and the session say where nobody says otherwise
    entry: the named pair; None: two models of the user's own
    runtime: how the models run
    same_pair: the models are those of the session
    note: for the user, where they are not
    """

    def __init__(self, context: click.Context, values: dict[str, Any], session: ChatSession | None) -> None:
        from ..pairs import load_pairs
        from .loading import with_models

        self.kept = session.read() if session else {}
        before = self.kept.get("pair") or {}
        self.from_session = bool(before) and not any(values[name] for name in ("pair", *ROLES))
        if self.from_session:
            by_name = before["name"] in load_pairs()
            values = values | ({"pair": before["name"]} if by_name else {each: before[each] for each in ROLES})
            layers = dict(zip(("leader_gpu_layers", "draft_gpu_layers"), before["gpu_layers"], strict=True))
            values |= {name: value for name, value in layers.items() if is_default(context, name)}
        self.values, self.entry = with_models(values, context)
        self.about = about_pair(self.values, self.entry)
        self.same_pair = not before or all(before[role] == self.about[role] for role in ROLES)
        self.note = ""
        if session and not self.same_pair:
            self.note = f"session {session.name} was with {described(before)}; it goes on with {described(self.about)}"
        typed = typed_settings(values, context)
        kept_runtime = {name: value for name, value in (self.kept.get("runtime") or {}).items() if name not in typed}
        self.runtime = runtime_of(settings_in(values) | kept_runtime)
        self._name = session.name if session else ""

    def pair(self) -> Pair:
        """The models' files."""
        from ..method.roles import Role
        from .loading import pair_of

        try:
            return pair_of(self.values, self.entry, set(Role))
        except ForealError as error:
            if not self.from_session:
                raise
            hint = "name other models with --pair, or with --leader and --draft"
            raise type(error)(f"the models of session {self._name}: {error}; {hint}") from None
