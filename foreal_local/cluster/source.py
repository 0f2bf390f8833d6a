"""Files of prompts read line by line, from disks and from object stores: any number of prompts takes no memory.

A line means what it means in prompts.py. Parquet has a row for each prompt, and its columns are the keys.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ..batch.json_lines import is_object
from ..batch.prompt_lines import Hints, has_prompt, prompt_of
from ..batch.prompts import read_prompts, with_ids
from ..config import Generation, Prompting
from ..documents import WIDE_MARKS, Note, text_of
from ..errors import UsageError
from ..results import Prompt

_JSON = (".jsonl", ".ndjson", ".json")


class PromptFile:
    """The prompts of a file, in its order.

    path: a file, "-" for standard input, or an address such as s3://bucket/prompts.jsonl
    settings, prompting: what a prompt's own settings change
    note: what tells the user of keys that are probably misspelt, after the last prompt
    """

    def __init__(self, path: str, settings: Generation, prompting: Prompting, note: Note) -> None:
        self._path, self._settings, self._prompting, self._note = path, settings, prompting, note

    def __iter__(self) -> Iterator[Prompt]:
        path = self._path
        if path == "-":
            yield from read_prompts(path, self._settings, self._prompting, self._note)
            return
        try:
            with _opened(path) as file:
                if path.lower().endswith(".parquet"):
                    yield from self._told(self._of_rows(file))
                elif file.read(4).startswith(tuple(WIDE_MARKS)):
                    yield from read_prompts(path, self._settings, self._prompting, self._note)
                else:
                    file.seek(0)
                    yield from self._told(self._of_lines(file))
        except OSError as error:
            raise UsageError(f"cannot read prompts from {path}: {error.strerror or error}") from None

    def _told(self, prompts: Iterator[Prompt]) -> Iterator[Prompt]:
        hints, n = Hints(), 0
        for n, prompt in enumerate(prompts, 1):  # noqa: B007  (counted)
            hints.add(prompt)
            yield prompt
        if not n:
            raise UsageError(f"no prompts in {self._path}: it has no line with text")
        for line in hints.lines():
            self._note(line)

    def _of_lines(self, file: IO[bytes]) -> Iterator[Prompt]:
        path, as_json, first = self._path, self._path.lower().endswith(_JSON), True
        for number, data in enumerate(file, 1):
            line = text_of(data, path, number).lstrip("\ufeff")
            if not line.strip():
                continue
            where = f"{path}:{number}"
            if first and not as_json and is_object(line) and has_prompt(where, line):
                raise UsageError(f"{path} has JSON lines, and its name does not end in .jsonl: rename it")
            first = False
            if as_json:
                yield prompt_of(where, line, self._settings, self._prompting)
            else:
                yield Prompt(line.strip(), where=where)

    def _of_rows(self, file: IO[bytes]) -> Iterator[Prompt]:
        """A row as the JSON object of its columns; one that is null is as if it were not there."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        number = 0
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    record = {key: value for key, value in row.items() if value is not None}
                    where = f"{self._path}: row {number}"
                    yield prompt_of(where, _as_line(where, record), self._settings, self._prompting)
        except ArrowException as error:
            raise UsageError(f"{self._path} is no Parquet file that can be read: {error}") from None


def _as_line(where: str, record: dict[str, Any]) -> str:
    try:
        return json.dumps(record)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: a column has no form in JSON ({error}): leave it out") from None


def _opened(path: str) -> IO[bytes]:
    """A file, or what an address names, through the file systems that Ray Data reads."""
    if "://" not in path:
        return Path(path).open("rb")
    from pyarrow import ArrowException, fs

    try:
        system, name = fs.FileSystem.from_uri(path)
        return io.BufferedReader(system.open_input_file(name))
    except (ArrowException, ValueError) as error:
        raise UsageError(f"cannot read prompts from {path}: {error}") from None


def numbered(prompts: Iterable[Prompt], name: str) -> Iterator[Prompt]:
    """The prompts with an index and an id each; UsageError where two have the same id.

    name: of the file, for the message
    """
    for index, (id, prompt) in enumerate(with_ids(prompts, name)):
        yield replace(prompt, id=id, index=index if prompt.index is None else prompt.index)
