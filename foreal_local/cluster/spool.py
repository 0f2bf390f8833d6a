"""Prompts on their way to a cluster: in a file, so that any number of them takes no memory."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ..results import Prompt


class Spans(NamedTuple):
    """Where prompts that travel together begin and end in the file."""

    begins: array[int]
    ends: array[int]


class Spool:
    """A file of prompts in the system's folder for temporary files; it is gone at the end of the `with`.

    path: the file
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="foreal-prompts-")
        self.path = Path(self._folder.name) / "prompts"
        self._file = open(self.path, "wb")
        self._ends = array("Q", [0])

    def add(self, prompt: Prompt) -> None:
        self._file.write(pickle.dumps(prompt, pickle.HIGHEST_PROTOCOL))
        self._ends.append(self._file.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def spans(self, n_prompts: int) -> Spans:
        """All prompts, so many at a time; what was added is on the disk then."""
        self._file.flush()
        begins = self._ends[:-1:n_prompts]
        return Spans(begins, array("Q", [*begins[1:], self._ends[-1]]))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()


def read_span(path: Path, begin: int, end: int) -> bytes:
    """The bytes of some prompts."""
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(end - begin)


def prompts_in(data: bytes) -> Iterator[Prompt]:
    """The prompts that `read_span` has read."""
    stream = BytesIO(data)
    while stream.tell() < len(data):
        yield pickle.load(stream)
