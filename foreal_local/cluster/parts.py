"""A folder of results in parts: part-000000.jsonl and so on, each written whole or not at all.

Knows files and finished records. Does not know who answers.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import UsageError
from ..storage.files import OutputError, replace_file
from .work import Answer

_NAME = re.compile(r"part-(\d{6,})\.jsonl")
MOST_RECORDS = 256
MOST_SECONDS = 10.0
"""When a part is written at the latest: after so many records, and so long after its first one."""


class Parts:
    """The parts of one folder, older ones too. Other files there are never touched.

    folder: is created by `created`
    on_written: is told what is on the disk now, perhaps from a thread of its own
    """

    def __init__(self, folder: Path, on_written: Callable[[list[Answer]], None] = lambda answers: None) -> None:
        self.folder, self._on_written = folder, on_written
        self._answers: list[Answer] = []
        self._lock, self._timer = threading.Lock(), threading.Timer(0, lambda: None)
        self._error: OutputError | None = None
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--output {folder} is a file, and with --ray it is a folder of parts: name another")

    @contextlib.contextmanager
    def created(self) -> Iterator[None]:
        """The folder is there meanwhile, and is gone afterwards where nothing came into it; OutputError where it cannot
        be made."""
        is_new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from None
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty
                    self.folder.rmdir()

    def files(self) -> list[Path]:
        """The parts that are there, in their order."""
        found = ((_NAME.fullmatch(file.name), file) for file in self.folder.glob("part-*.jsonl"))
        return [file for _, file in sorted((int(name[1]), file) for name, file in found if name)]

    def add(self, answers: list[Answer]) -> None:
        """Take finished records. They are written when there are enough for a part, or after some seconds, also where
        nothing more comes meanwhile."""
        with self._lock:
            self._answers += answers
            is_full, is_first = len(self._answers) >= MOST_RECORDS, len(self._answers) == len(answers)
            is_due = is_full or self._error is not None
        if is_due:
            self.flush()
        elif is_first:
            self._timer = threading.Timer(MOST_SECONDS, self._flush_late)
            self._timer.daemon = True
            self._timer.start()

    def _flush_late(self) -> None:
        with self._lock:
            self._write_part()

    def flush(self) -> None:
        """Write what was taken as a part of its own; OutputError where that fails, now or earlier."""
        self._timer.cancel()
        with self._lock:
            self._write_part()
            if self._error:
                raise self._error

    def _write_part(self) -> None:
        """With the lock held. An error stays, for the run's thread; nothing is written after it."""
        answers, self._answers = self._answers, []
        if not answers or self._error:
            return
        try:
            self._write(answers)
        except OutputError as error:
            self._error = error
        else:
            self._on_written(answers)

    def _write(self, answers: list[Answer]) -> None:
        files = self.files()
        path = self.folder / f"part-{_number_of(files[-1]) + 1 if files else 0:06}.jsonl"
        try:
            replace_file(path, [answer.line.encode() for answer in answers], is_own=lambda file: False)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(
                f"cannot write {path}: {reason}; earlier parts are whole, and --resume does the rest"
            ) from None


def _number_of(file: Path) -> int:
    name = _NAME.fullmatch(file.name)
    assert name
    return int(name[1])
