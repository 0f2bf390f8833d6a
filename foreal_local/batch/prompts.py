"""Prompt files: one prompt per line (text) or one JSON object per line, with overrides."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import MODES, Generation, Mode
from ..errors import UsageError
from ..results import Prompt
from .json_lines import object_of

_METHOD_KEYS = ("n", "p", "k")
_SAMPLING_KEYS = ("temp", "top_k", "top_p", "min_p")
_NUMBERS = {
    "n": int,
    "p": float,
    "k": int,
    "temp": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "seed": int,
    "max_tokens": int,
}


def read_prompts(path: str, settings: Generation) -> list[Prompt]:
    """All prompts of a file, or of stdin for "-" (JSON lines if its first line is a JSON object)."""
    name = "<stdin>" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read prompts from {path}: {error.strerror or error}") from None
    try:
        lines = data.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold other separators
    except UnicodeDecodeError as error:
        at = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}:{at}: not UTF-8 text ({error.reason}): convert the file") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"no prompts in {name}: it has no line with text")
    as_json = path.lower().endswith((".jsonl", ".ndjson")) or (path == "-" and _is_object(numbered[0][1]))
    if not as_json:
        return [Prompt(line.strip()) for _, line in numbered]
    return with_unique_ids([_prompt(f"{name}:{number}", line, settings) for number, line in numbered], name)


def with_unique_ids(prompts: list[Prompt], name: str) -> list[Prompt]:
    """The prompts, unless two have one id (an index stands for a missing one)."""
    seen: dict[str, int] = {}
    for index, prompt in enumerate(prompts):
        id = str(index) if prompt.id is None else prompt.id
        if id in seen:
            raise UsageError(f"{name}: prompts {seen[id] + 1} and {index + 1} both have the id {id!r}")
        seen[id] = index
    return prompts


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _prompt(where: str, line: str, settings: Generation) -> Prompt:
    record = object_of(where, line)
    if ("prompt" in record) == ("messages" in record):
        raise UsageError(f"{where}: an object needs either `prompt` or `messages`")
    content: Any = record.get("prompt", record.get("messages"))
    if "prompt" in record and not isinstance(content, str):
        raise UsageError(f"{where}: `prompt` is {content!r}, but must be a text")
    if "messages" in record:
        content = _messages(where, content)
    id = record.get("id")
    if id is not None and not isinstance(id, (str, int)):
        raise UsageError(f"{where}: `id` is {id!r}, but must be a text or a number")
    try:
        own = _override(settings, record)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Prompt(content, None if id is None else str(id), own)


def _messages(where: str, messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise UsageError(f"{where}: `messages` must be a list of objects with `role` and `content`")
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise UsageError(f"{where}: a message needs `role` and `content`, both texts: {message!r}")
    return messages


def _override(settings: Generation, record: dict[str, Any]) -> Generation | None:
    values: dict[str, Any] = {key: _number(key, record[key]) for key in _NUMBERS if record.get(key) is not None}
    if record.get("mode") is not None:
        if record["mode"] not in list(Mode):
            raise UsageError(f"mode is {record['mode']!r}, but must be {MODES}")
        values["mode"] = Mode(record["mode"])
    if not values:
        return None
    method = replace(settings.method, **_pick(values, _METHOD_KEYS))
    sampling = replace(settings.sampling, **_pick(values, _SAMPLING_KEYS))
    rest = _pick(values, ("mode", "seed", "max_tokens"))
    return replace(settings, method=method, sampling=sampling, **rest)


def _pick(values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _number(key: str, value: Any) -> int | float:
    kind = _NUMBERS[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (kind is int and value != int(value)):
        raise UsageError(f"{key} is {value!r}, but must be {'a whole number' if kind is int else 'a number'}")
    return int(value) if kind is int else float(value)
