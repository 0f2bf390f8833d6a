"""Prompt files: a text on each line, or a JSON object (prompt_lines.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..config import Generation, Prompting
from ..documents import Note, bytes_of, name_of
from ..errors import UsageError
from ..results import Prompt
from .json_lines import is_object, lines_of
from .prompt_lines import has_prompt, hints, prompt_of


def read_prompts(
    path: str, settings: Generation, prompting: Prompting | None = None, note: Note = lambda text: None
) -> list[Prompt]:
    """All prompts of a file, or of stdin for "-" (JSON lines if the first line is a JSON object).

    UsageError for JSON lines under another name than theirs: each would be asked as it stands.

    settings, prompting: what a prompt's own settings change
    note: what tells the user of keys that are probably misspelt
    """
    name = name_of(path)
    numbered = lines_of(_read(path, note), name)
    if not numbered:
        raise UsageError(f"no prompts in {name}: it has no line with text")
    first = numbered[0][1]
    as_json = path.lower().endswith((".jsonl", ".ndjson", ".json")) or (path == "-" and is_object(first))
    if not as_json and is_object(first) and has_prompt(name, first):
        raise UsageError(
            f"{name} has JSON lines, and its name does not end in .jsonl: rename it, or `--file - < {name}`"
        )
    if not as_json:
        return [Prompt(line.strip(), where=f"{name}:{number}") for number, line in numbered]
    found = [prompt_of(f"{name}:{number}", line, settings, prompting or Prompting()) for number, line in numbered]
    for line in hints(found):
        note(line)
    return with_unique_ids(found, name)


def _read(path: str, note: Note) -> bytes:
    """A file's bytes, or standard input's for "-"."""
    try:
        return bytes_of(path, note, "prompts, a line each,")
    except OSError as error:
        raise UsageError(f"cannot read prompts from {path}: {error.strerror or error}") from None


def with_unique_ids(prompts: list[Prompt], name: str) -> list[Prompt]:
    """The prompts; UsageError where two have the same id. A prompt without one has its index.

    name: of the file, for the message
    """
    for _ in with_ids(prompts, name):
        pass
    return prompts


def with_ids(prompts: Iterable[Prompt], name: str) -> Iterator[tuple[str, Prompt]]:
    """Each prompt with its id, which is its index where it has none; UsageError where two have the same. Of earlier
    prompts only a number each is kept.

    name: of the file, for the message
    """
    seen: dict[int, int] = {}
    for index, prompt in enumerate(prompts):
        id = str(index) if prompt.id is None else prompt.id
        if (earlier := seen.setdefault(hash(id), index)) != index:
            raise UsageError(f"{name}: prompts {earlier + 1} and {index + 1} both have the id {id!r}")
        yield id, prompt
