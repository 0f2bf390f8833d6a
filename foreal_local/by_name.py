"""Settings given one by one, by name, as in `engine.generate(prompt, mode="leader", temp=0)`; which one a name that
there is none of probably means.

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

OTHER_NAMES = {
    "temperature": "temp",
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repetition_penalty": "repeat_penalty",
    "system_prompt": "system",
    "chat_template_kwargs": "template_args",
    "context_length": "ctx_size",
    "n_ctx": "ctx_size",
    "num_ctx": "ctx_size",
    "num_threads": "threads",
    "n_gpu_layers": "leader_gpu_layers",
    "gpu_layers": "leader_gpu_layers",
    "model": "leader",
    "m": "leader",
}
"""What settings and options are called in other programs."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of the known names that another name, misspelt or of another program, probably means; None: none.

    known: names as users write them there, with - or _, or options
    cutoff: how alike they must be, as difflib counts it
    """
    words = {_plain(each): each for each in known}
    settings = ((find_setting(word), each) for word, each in words.items())
    options = {other: each for setting, each in settings if setting for other in setting.names}
    others = {other: words[own] for other, own in OTHER_NAMES.items() if own in words}
    words = others | options | words
    near = get_close_matches(_plain(name), words, 1, cutoff)
    return words[near[0]] if near else None


def _plain(name: str) -> str:
    return name.strip("-").lower().replace("-", "_")


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
            near = nearest(name, [*known, *others])
            hint = f": did you mean {near}?" if near else ""
            raise UsageError(f"no setting {name!r} of {what}" + hint)
        values[setting.name] = setting.from_json(value)
    return values


def with_changes(changes: dict[str, Any], settings: Generation, prompting: Prompting) -> tuple[Generation, Prompting]:
    """The settings of a response with single ones changed by name."""
    values = checked(changes, OF_A_RESPONSE, "a response")
    return generation_of(values, settings), prompting_of(values, prompting)
