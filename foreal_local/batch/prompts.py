"""Prompt files: a text on each line, or a JSON object that may have settings of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import OF_A_RESPONSE, Generation, Prompting, find_setting, generation_of, names_of, prompting_of
from ..documents import STDIN, waited_for
from ..errors import UsageError
from ..results import Prompt
from ..settings import shown
from .json_lines import lines_of, object_of
from .run_batch import as_own_line


def read_prompts(
    path: str,
    settings: Generation,
    prompting: Prompting | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Prompt]:
    """All prompts of a file, or of stdin for "-" (JSON lines if the first line is a JSON object).

    settings, prompting: what a prompt's own settings change
    note: what tells the user of things that are not as they seem
    """
    name = STDIN if path == "-" else path
    numbered = lines_of(_read(path, note), name)
    if not numbered:
        raise UsageError(f"no prompts in {name}: it has no line with text")
    as_json = path.lower().endswith((".jsonl", ".ndjson")) or (path == "-" and _is_object(numbered[0][1]))
    if not as_json:
        return [Prompt(line.strip(), where=f"{name}:{number}") for number, line in numbered]
    return with_unique_ids(
        [_prompt(f"{name}:{number}", line, settings, prompting or Prompting()) for number, line in numbered], name
    )


def _read(path: str, note: Callable[[str], None]) -> bytes:
    """A file's bytes, or standard input's for "-"."""
    if path == "-" and sys.stdin is None:
        raise UsageError("standard input is closed: --file - reads prompts there; name a file instead")
    try:
        if path != "-":
            return Path(path).read_bytes()
        with waited_for(note, "prompts, a line each,"):
            return sys.stdin.buffer.read()
    except OSError as error:
        raise UsageError(f"cannot read prompts from {path}: {error.strerror or error}") from None


def with_unique_ids(prompts: list[Prompt], name: str) -> list[Prompt]:
    """The prompts; UsageError where two have the same id. A prompt without one has its index.

    name: of the file, for the message
    """
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


def _prompt(where: str, line: str, settings: Generation, prompting: Prompting) -> Prompt:
    record = as_own_line(where, object_of(where, line))
    if ("prompt" in record) == ("messages" in record):
        raise UsageError(f"{where}: an object needs either `prompt` or `messages`")
    content: Any = record.get("prompt", record.get("messages"))
    if "prompt" in record and not isinstance(content, str):
        raise UsageError(f"{where}: `prompt` is {shown(content)}, but must be a text")
    id = record.get("id")
    if id is not None and not isinstance(id, (str, int)):
        raise UsageError(f"{where}: `id` is {shown(id)}, but must be a text or a number")
    try:
        own_settings, own_prompting = _overrides(record, settings, prompting)
        return Prompt(content, None if id is None else str(id), own_settings, None, own_prompting, where)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _overrides(
    record: dict[str, Any], settings: Generation, prompting: Prompting
) -> tuple[Generation | None, Prompting | None]:
    """The settings and the prompting of a prompt that changes some; None where it changes none."""
    values = {}
    for key, value in record.items():
        setting = find_setting(key)
        if setting is not None and setting.name in OF_A_RESPONSE and value is not None:
            values[setting.name] = setting.from_json(value)
    of_prompting = {name: values.pop(name) for name in names_of(Prompting) if name in values}
    return (
        generation_of(values, settings) if values else None,
        prompting_of(of_prompting, prompting) if of_prompting else None,
    )
