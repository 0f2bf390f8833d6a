"""Files of this program's own: locked, synced, replaced whole, grown by whole lines; none is ever lost."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import ForealError, UsageError


class OutputError(ForealError):
    """A file could not be written. What was written of it before is in it."""


def check_writable(path: str) -> None:
    """OutputError where no file of this name could be written; nothing is created or changed."""
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


def same_file(path: str | Path, other: str | Path) -> bool:
    """Whether both names, which may be links, are of the same file. A device such as /dev/null is no such file."""
    if Path(path).is_file() and Path(other).is_file():
        return Path(path).samefile(other)
    return Path(path).resolve() == Path(other).resolve() and not Path(path).exists()


@contextlib.contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Keep other runs off a file or folder; UsageError where another run uses it. A device is not locked.

    name: what messages call it
    """
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
    for scratch in real.parent.glob(f".{glob.escape(real.name)}.*.part"):  # left by a run that was killed
        scratch.unlink(missing_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            guard.unlink()
        lock.release()


def numbered(path: Path) -> Path:
    """The next free name for an older file that is set aside: NAME.~1~, NAME.~2~ and so on."""
    number = 1
    while (name := path.with_name(f"{path.name}.~{number}~")).exists():
        number += 1
    return name


# ---------------------------------------------------------------- files that are replaced
def replace_file(path: Path, parts: list[Any], like: Path | None = None) -> None:
    """Give a file (through a link, the file that it names) new content, whole or not at all.

    parts: the content, in pieces
    like: a file whose mode it gets; None: it keeps its own

    OSError where that fails; the old file is as it was.
    """
    path = Path(os.path.realpath(path))
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(scratch, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(like or path, scratch)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in it survive a crash; not every system can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---------------------------------------------------------------- files that grow
class LineFile:
    """A file that whole lines are appended to, each synced to the disk.

    path: its name
    set_aside: the name that an older file of this name has now; None where there was none

    With `append` an older file is continued. Otherwise it is set aside under a numbered name, unless it is empty.
    """

    def __init__(self, path: str, append: bool = False) -> None:
        self.path = Path(path)
        self.set_aside: Path | None = None
        try:
            if not append and self.path.is_file() and self.path.stat().st_size:
                self.set_aside = numbered(self.path)
                self.path.rename(self.set_aside)
            self._file = open(self.path, "ab" if append else "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None

    def write(self, lines: str) -> None:
        """Append whole lines; OutputError where that fails (a full disk), and then no part of them is left."""
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
