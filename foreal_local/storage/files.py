"""Files of this program's own: locked, synced, replaced whole, grown by whole lines; none is ever lost."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import ForealError, UsageError


class OutputError(ForealError):
    """A file could not be written. What was written of it before is in it."""


def same_file(path: str | Path, other: str | Path) -> bool:
    """Whether both names, which may be links, are of the same file. A device such as /dev/null is no such file."""
    if Path(path).is_file() and Path(other).is_file():
        return Path(path).samefile(other)
    return os.path.realpath(path) == os.path.realpath(other) and not Path(path).exists()


@contextlib.contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Keep other runs off a file or folder; UsageError where another run uses it. A device is not locked.

    name: what messages call it
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield
        return
    real = Path(os.path.realpath(path))
    guard = real / ".foreal.lock" if path.is_dir() else real.with_name(f".{real.name}.foreal.lock")
    lock = FileLock(guard, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if not guard.exists():
            raise OutputError(f"cannot write {path}: no file can be made there") from None
        raise UsageError(f"{name} {path} is in use by another run: wait for it, or name another") from None
    except OSError as error:
        raise OutputError(f"cannot lock {path}: {error.strerror or error}") from None
    remove_scratch(real.parent, real.name)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            guard.unlink()
        lock.release()


def remove_scratch(folder: Path, name: str | None = None) -> None:
    """Remove what runs that were killed have left half-written of this file, or of all files of the folder."""
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.\d+-\d+\.part")
    for file in folder.glob(".*.part"):
        if pattern.fullmatch(file.name):
            with contextlib.suppress(OSError):  # it has gone, or the folder cannot be written
                file.unlink()


def _numbered(path: Path) -> Path:
    """The next free name for an older file that is kept: NAME.~1~, NAME.~2~ and so on; an empty file holds the name."""
    number = 1
    while True:
        name = path.with_name(f"{path.name}.~{number}~")
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # two runs at once get two names
        except FileExistsError:
            number += 1
        else:
            return name


def keep_aside(path: Path, copy: bool = False) -> Path | None:
    """Give a file, or a copy of it, a numbered name, which is returned; None where the file has gone meanwhile.

    OSError where that fails; the file is as it was.
    """
    name = _numbered(path)
    try:
        if copy:
            replace_file(name, [path.read_bytes()], like=path)
        else:
            path.replace(name)
    except BaseException as error:
        name.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    return name


def descriptor_of(path: str | Path) -> int | None:
    """The open file that a name stands for: /dev/stdout, or the file that standard output or error goes to.

    None for any other name: a file of it can be opened, moved and replaced.
    """
    name = os.path.abspath(path)  # noqa: PTH100  (a link is not followed)
    named = _DESCRIPTORS.fullmatch(name)
    if named:
        return _STREAMS[named[2]] if named[2] else int(named[1])
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(Path(path).stat(), os.fstat(number)):
                return number
    return None


_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_DESCRIPTORS = re.compile(r"(?:/dev|/proc/self)/(?:fd/(\d+)|(stdin|stdout|stderr))")


# ---------------------------------------------------------------- files that are replaced
def replace_file(
    path: Path,
    parts: list[Any],
    like: Path | None = None,
    is_own: Callable[[Path], bool] | None = None,
    mode: int = 0o666,
) -> Path | None:
    """Give a file (through a link, the file that it names) new content, whole or not at all.

    What is no file, such as a pipe or a device, is written to.

    parts: the content, in pieces
    like: a file whose mode it gets; None: it keeps its own
    is_own: whether a file that stands there may go, as an empty one may; another is kept, and its numbered name is
        returned. None: it may
    mode: of a new file, less what the user's umask takes

    OSError where that fails; the old file is as it was.
    """
    if descriptor_of(path) is not None or (path.exists() and not path.is_file()):
        _write_through(path, parts)
        return None
    path = Path(os.path.realpath(path))
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(scratch, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(like or path, scratch)
        kept = _put_in_place(scratch, path, is_own or (lambda file: True))
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    _sync_folder(path.parent)
    return kept


def _put_in_place(scratch: Path, path: Path, is_own: Callable[[Path], bool]) -> Path | None:
    """Rename a file; one that stands there and is not its own is kept, and the name that it has now is returned."""
    kept: Path | None = None
    while True:
        if os.path.lexists(path):
            if is_own(path) or (path.is_file() and not path.stat().st_size):
                scratch.replace(path)
                return kept
            kept = keep_aside(path) or kept
        try:
            os.link(scratch, path)  # unlike a rename it replaces nothing, should another run have been faster
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            scratch.replace(path)
            return kept
        scratch.unlink()
        return kept


def _write_through(path: Path, parts: list[Any]) -> None:
    with open_for_writing(path) as file:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[file.write(rest) :]


def open_for_writing(path: Path, append: bool = False) -> io.FileIO:
    """Open a file, a pipe or a device; a name of an open file, such as /dev/stdout, goes on where that stands."""
    number = descriptor_of(path)
    return io.FileIO(path if number is None else os.dup(number), "ab" if append else "wb")


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
            is_new = append or descriptor_of(self.path) is not None
            if not is_new and self.path.is_file() and self.path.stat().st_size:
                self.set_aside = keep_aside(Path(os.path.realpath(self.path)))
            self._file = open_for_writing(self.path, append)
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
                    self._file.seek(end)  # else what is written next stands behind zeros
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
