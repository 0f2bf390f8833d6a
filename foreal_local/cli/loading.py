"""From options to a pair of model files, and what shows while they load."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..method.roles import Role
from .options import typed_models, with_preset, with_settings_of

if TYPE_CHECKING:
    import click

    from ..config import Pair
    from ..pairs import PairEntry


def with_models(values: dict[str, Any], context: click.Context) -> tuple[dict[str, Any], PairEntry | None]:
    """The values, where nobody has given them as the named pair and the preset have them; and the pair, where it is a
    named one."""
    values = typed_models(values, context)
    entry = named_pair(values)
    if entry:
        values = with_settings_of(entry, values, context)
    return with_preset(values, context), entry


def named_pair(values: dict[str, Any]) -> PairEntry | None:
    """The pair of --pair, or the default one; None where --leader or --draft is given."""
    from ..pairs import DEFAULT_PAIR, find_pair

    if not (values["leader"] or values["draft"]):
        return find_pair(values["pair"] or DEFAULT_PAIR)
    if values["pair"]:
        raise UsageError("--pair names both models: leave out --leader and --draft, or --pair")
    return None


def pair_of(values: dict[str, Any], entry: PairEntry | None, roles: set[Role]) -> Pair:
    """The models of the named pair, or of --leader and --draft; one is enough where one role writes everything."""
    from ..loading import resolve_pair

    leader, draft = values["leader"], values["draft"]
    if entry:
        leader, draft = entry.leader, entry.draft
    elif len(roles) == 2 and not (leader and draft):
        given, missing = ("leader", "draft") if leader else ("draft", "leader")
        raise UsageError(
            f"leader and draft both write here: --{missing} is missing (foreal-gen --mode {given} needs none)"
        )
    return resolve_pair(
        leader or draft,
        draft or leader,
        offline=values["offline"],
        progress=not values["quiet"],
        gpu_layers=(values["leader_gpu_layers"], values["draft_gpu_layers"]),
        name=values["pair"],
    )


def color_of(choice: str) -> bool | None:
    """True or False, or None where the stream decides."""
    if choice == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return choice == "always"
