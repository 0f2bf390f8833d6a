"""Files that lines are appended to: locked, synced, never half a line, and nothing in them is ever lost."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ForealError, UsageError


class OutputError(ForealError):
    """A file could not be written to its end; what was finished before is in it."""


def check_writable(path: str) -> None:
    """OutputError where a file of this name cannot be made; nothing is made or changed."""
    file, folder = Path(path), Path(path).parent
    problem = None
    if file.is_dir():
        problem = errno.EISDIR
    elif not folder.is_dir():
        problem = errno.ENOTDIR if folder.exists() else errno.ENOENT
    elif not os.access(file if file.exists() else folder, os.W_OK):
        problem = errno.EACCES
    if problem:
        raise OutputError(f"cannot write {path}: {os.strerror(problem)}")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names, also links, are of one file that holds something (no device)."""
    if Path(one).is_file() and Path(other).is_file():
        return Path(one).samefile(other)
    return Path(one).resolve() == Path(other).resolve() and not Path(one).exists()


@contextlib.contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Keep other runs off a file or folder; UsageError where one has it. A device is nobody's."""
    if path.exists() and not path.is_file() and not path.is_dir():
        yield
        return
    real = Path(os.path.realpath(path))
    guard = real / ".lock" if path.is_dir() else real.with_name(f".{real.name}.lock")
    lock = FileLock(guard, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{name} {path} is in use by another run: wait for it, or name another") from None
    except OSError as error:
        raise OutputError(f"cannot lock {path}: {error.strerror or error}") from None
    for scratch in real.parent.glob(f".{glob.escape(real.name)}.*.part"):  # of a run that was killed while it wrote
        scratch.unlink(missing_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            guard.unlink()
        lock.release()


def kept_aside(path: Path) -> Path:
    """The numbered name that an older file is kept under."""
    number = 1
    while (name := path.with_name(f"{path.name}.~{number}~")).exists():
        number += 1
    return name


class LineFile:
    """A file that whole lines are appended to, each flushed to the disk; nothing in it is ever lost.

    Unless `append`, a file of that name that is not empty is kept beside it under a numbered name first.
    """

    def __init__(self, path: str, append: bool = False) -> None:
        self.path = Path(path)
        self.kept: Path | None = None
        try:
            if not append and self.path.is_file() and self.path.stat().st_size:
                self.kept = kept_aside(self.path)
                self.path.rename(self.kept)
            self._file = open(self.path, "ab" if append else "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None

    def write(self, lines: str) -> None:
        """Append whole lines; after a failure (such as a full disk) no part of them is left."""
        seekable = self._file.seekable()
        end = self._file.tell() if seekable else 0
        rest = memoryview(lines.encode("utf-8"))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if seekable:
                self._sync()
        except OSError as error:
            if seekable:
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
            reason = error.strerror or error
            raise OutputError(f"cannot write {self.path}: {reason}; what was finished before is in it") from None

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # a device that has nothing to sync, such as /dev/null
                raise

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
