"""A line of a prompt file that is a JSON object: a prompt, perhaps with settings of its own, and what else it has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from ..by_name import nearest
from ..config import OF_A_RESPONSE, Generation, Prompting, find_setting, generation_of, names_of, prompting_of
from ..errors import UsageError
from ..results import Prompt
from ..settings import Setting, shown
from .json_lines import object_of
from .run_batch import NAMES, as_own_line

_CONTENTS = ("prompt", "messages")
_NEAREST = 0.82
"""How alike a misspelt key must be: `temprature` is like `temperature`, `code` is not like `mode`."""
_OF_OTHERS = {"model", "type", "source"}
"""Keys that many files have, and that are no misspelt ones."""


def prompt_of(where: str, line: str, settings: Generation, prompting: Prompting) -> Prompt:
    """The prompt of a line. UsageError, which begins with `where`, names the key that cannot be used.

    settings, prompting: what the prompt's own settings change
    """
    given = object_of(where, line)
    record = as_own_line(where, given)
    if ("prompt" in record) == ("messages" in record):
        near = next((key for key in record if _meant(key) in _CONTENTS and key not in _CONTENTS), None)
        hint = f" (it has {near!r}: did you mean {_meant(near)}?)" if near else ""
        raise UsageError(f"{where}: an object needs either `prompt` or `messages`{hint}")
    content: Any = record.get("prompt", record.get("messages"))
    if "prompt" in record and not isinstance(content, str):
        raise UsageError(f"{where}: `prompt` is {shown(content)}, but must be a text")
    id = record.get("id")
    if id is not None and not isinstance(id, (str, int)):
        raise UsageError(f"{where}: `id` is {shown(id)}, but must be a text or a number")
    try:
        own_settings, own_prompting = _overrides(record, settings, prompting)
        return Prompt(
            content, None if id is None else str(id), own_settings, None, own_prompting, where, _extra(record)
        )
    except UsageError as error:
        raise UsageError(f"{where}: {_key_of(error, given, record)}{error}") from None


def has_prompt(where: str, line: str) -> bool:
    """Whether a line that is an object has the keys of a prompt."""
    return not {*_CONTENTS, "body"}.isdisjoint(object_of(where, line))


def hints(prompts: Iterable[Prompt]) -> Iterator[str]:
    """A line for each key of these prompts that is probably meant to be another one, and so changes nothing."""
    found = Hints()
    for prompt in prompts:
        found.add(prompt)
    return found.lines()


class Hints:
    """Keys of prompts, and where they stand: for any number of prompts, one after the other."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[str, int]] = {}  # of each key the first, and how many there are

    def add(self, prompt: Prompt) -> None:
        for key in prompt.extra:
            first, n = self._places.get(key, (prompt.where, 0))
            self._places[key] = (first, n + 1)

    def lines(self) -> Iterator[str]:
        """A line for each key that is probably meant to be another one."""
        for key, (first, n) in self._places.items():
            setting, near = find_setting(key), _meant(key)
            if setting is not None:
                hint = f"it is the same for all prompts of a run: give {setting.option}"
            elif near and key not in _OF_OTHERS:
                hint = f"did you mean {near}?"
            else:
                continue
            more = f" (and on {n - 1} more lines)" if n > 1 else ""
            yield f"{first}: {key!r} changes nothing, and is kept in the record's `extra`: {hint}{more}"


def _setting_of(key: str) -> Setting | None:
    """The setting of one response that a key means."""
    setting = find_setting(key)
    return setting if setting is not None and setting.name in OF_A_RESPONSE else None


def _overrides(
    record: dict[str, Any], settings: Generation, prompting: Prompting
) -> tuple[Generation | None, Prompting | None]:
    """The settings and the prompting of a prompt that changes some; None where it changes none."""
    values = {}
    for key, value in record.items():
        setting = _setting_of(key)
        if setting is not None and value is not None:
            values[setting.name] = setting.from_json(value)
    of_prompting = {name: values.pop(name) for name in names_of(Prompting) if name in values}
    return (
        generation_of(values, settings) if values else None,
        prompting_of(of_prompting, prompting) if of_prompting else None,
    )


def _key_of(error: UsageError, given: dict[str, Any], record: dict[str, Any]) -> str:
    """The key that an error is about, where the line calls a setting otherwise than the message; then a colon."""
    if error.setting is None:
        return ""
    of_body = {own: theirs for theirs, own in NAMES.items() if theirs in given.get("body", ())}
    key = next((key for key in record if (made := _setting_of(key)) and made.name == error.setting), error.setting)
    key = of_body.get(key, key)
    return "" if key == error.setting else f"{key}: "


def _extra(record: dict[str, Any]) -> dict[str, Any]:
    """What the line has beside the prompt and its settings."""
    own = {*_CONTENTS, "id"}
    try:
        return {key: _as_json(value) for key, value in record.items() if key not in own and _setting_of(key) is None}
    except RecursionError:
        raise UsageError("its other keys are nested too deeply") from None


def _as_json(value: Any) -> Any:
    """The value without NaN and infinity, which JSON does not have: null."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _meant(key: str) -> str | None:
    """The key that a misspelt one, or one of other programs, probably means; None where it is none of ours."""
    return nearest(key, (*_CONTENTS, "id", "custom_id", "body", *OF_A_RESPONSE), _NEAREST)
