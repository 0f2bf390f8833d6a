"""Prompts on their way to a cluster: in a file, so that any number of them takes no memory."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from array import array
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ..results import Prompt
from ..storage.files import OutputError


class Spans(NamedTuple):
    """Where prompts that travel together begin and end in the file."""

    begins: array[int]
    ends: array[int]


class Spool:
    """A file of prompts in the system's folder for temporary files; it is gone at the end of the `with`. OutputError
    where that folder cannot take them.

    path: the file
    """

    def __init__(self) -> None:
        with _disk_errors():
            self._folder = tempfile.TemporaryDirectory(prefix="foreal-prompts-")
            self.path = Path(self._folder.name) / "prompts"
            self._file = open(self.path, "wb")
        self._ends = array("Q", [0])

    def add(self, prompt: Prompt) -> None:
        data = pickle.dumps(prompt, pickle.HIGHEST_PROTOCOL)
        with _disk_errors():
            self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def spans(self, n_prompts: int) -> Spans:
        """All prompts, so many at a time; what was added is on the disk then."""
        with _disk_errors():
            self._file.flush()
        begins = self._ends[:-1:n_prompts]
        return Spans(begins, array("Q", [*begins[1:], self._ends[-1]]))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk again: what is left of the prompts is not needed any more
            self._file.close()
        self._folder.cleanup()


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """An error of the disk as one that names the folder."""
    try:
        yield
    except OSError as error:
        folder, reason = tempfile.tempdir or "a temporary file", error.strerror or error
        raise OutputError(
            f"cannot keep the prompts in {folder}: {reason}; set TMPDIR to another folder for temporary files"
        ) from None


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
