"""Settings given one by one, by name, as in `engine.generate(prompt, mode="leader", temp=0)`.

Knows the table of settings (config.py); not who uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from .config import (
    OF_A_RESPONSE,
    Generation,
    Prompting,
    find_setting,
    generation_of,
    prompting_of,
)
from .errors import UsageError


def checked(given: dict[str, Any], known: list[str], what: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """The values by their settings' names.

    given: the values by the names that the caller wrote
    known: the settings that may be given
    what: what these are settings of, for the message
    others: more names that the caller may have meant

    UsageError for a value of another type, and for an unknown name: it says which known one is nearest.
    """
    values = {}
    for name, value in given.items():
        setting = find_setting(name)
        if setting is None or setting.name not in known:
            near = get_close_matches(name, [*known, *others], 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise UsageError(f"no setting {name!r} of {what}" + hint)
        values[setting.name] = setting.from_json(value)
    return values


def with_changes(changes: dict[str, Any], settings: Generation, prompting: Prompting) -> tuple[Generation, Prompting]:
    """The settings of a response with single ones changed by name."""
    values = checked(changes, OF_A_RESPONSE, "a response")
    return generation_of(values, settings), prompting_of(values, prompting)
