"""Whose the file is that stands where a result is to go: the program's own is replaced, any other is kept or refused.

A result that the next one of its kind replaces ends in a mark: its kind, and a digest of all before it. A file that
somebody else wrote, or has changed since, has no such mark; it is kept under a numbered name. Models and files of
prompts are never moved.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .files import OutputError, descriptor_of, replace_file

Note = Callable[[str], None]


# ---------------------------------------------------------------- what is never moved
def check_writable(path: str | Path, name: str = "") -> None:
    """Whether a result may be written here, before work is done for it; nothing is created or changed.

    name: of the option or command, for messages

    OutputError where no file of this name could be written, UsageError where it is a model or a file of prompts.
    """
    file, label = Path(path), f"{name} {path}".strip()
    if "\0" in str(path):
        raise UsageError(f"{name or 'a file'} is {str(path)!r}, but a name has no NUL character")
    try:
        reason = _obstacle(file)
        precious = None if reason else _precious(file)
    except OSError as error:  # a name that is too long, links in a circle
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    if reason:
        raise OutputError(f"cannot write {path}: {os.strerror(reason)}")
    if precious:
        raise UsageError(f"{label} is {precious}, which is never moved or replaced: name another file")


def _obstacle(file: Path) -> int | None:
    """The error's number; None where nothing stands in the way."""
    if file.is_dir():
        return errno.EISDIR
    if Path(os.path.realpath(file)).is_symlink():
        return errno.ELOOP
    folder = file.parent
    if not folder.is_dir():
        return errno.ENOTDIR if folder.exists() else errno.ENOENT
    return None if os.access(file if file.exists() else folder, os.W_OK) else errno.EACCES


def _precious(file: Path) -> str | None:
    """What a file is that is never moved; None for any other."""
    if not file.is_file() or descriptor_of(file) is not None:
        return None
    with open(file, "rb") as opened:
        begin = opened.read(4)
        if begin == b"GGUF" or file.suffix.lower() in (".gguf", ".safetensors"):
            return "a model"
        return "a file of prompts" if _is_prompt(begin + opened.readline(_LONGEST)) else None


_LONGEST = 2**24


def _is_prompt(line: bytes) -> bool:
    """Whether a line is a prompt as JSON lines have it, and no record of an answer."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    asks = isinstance(record, dict) and not record.keys().isdisjoint({"prompt", "messages", "body"})
    return asks and record.keys().isdisjoint({"text", "answer", "response", "finish_reason"})


# ---------------------------------------------------------------- results that the next one replaces
@dataclass(frozen=True)
class Kind:
    """A kind of result.

    name: in its mark
    before, after: what stands around the mark, so that the format is kept
    """

    name: str
    before: bytes
    after: bytes

    def frame(self, body: bytes) -> bytes:
        """What stands behind the body: the mark, in the format's words; it is always of the same length."""
        mark = f"foreal_local {self.name} {hashlib.blake2b(body, digest_size=8).hexdigest()}".encode()
        if self is not IMAGE:
            return self.before + mark + self.after
        chunk = self.before + mark
        return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + self.after

    def marked(self, content: bytes) -> bytes:
        """The content with its mark."""
        closing = {FIGURES: b"\n}\n", IMAGE: IMAGE.after}.get(self, b"")
        assert content.endswith(closing)
        body = content.removesuffix(closing)
        return body + self.frame(body)

    def is_own(self, file: Path) -> bool:
        """Whether a file is an earlier result of this kind that nobody has changed."""
        content = file.read_bytes() if file.is_file() else b""
        body = content[: -len(self.frame(b""))]
        return content == body + self.frame(body)


REPORT = Kind("report", b"<!-- ", b" -->\n")
VECTOR = Kind("figure", b"<!-- ", b" -->\n")
IMAGE = Kind("figure", b"tEXtSoftware\0", b"\0\0\0\0IEND\xaeB`\x82")
FIGURES = Kind("figures", b',\n "made_by": "', b'"\n}\n')
RECOMMENDATION = Kind("recommendation", b"# ", b"\n")


def write_result(path: Path, content: bytes, kind: Kind, note: Note) -> None:
    """Write a result, whole or not at all; `note` hears under which name another file is kept that stood there.

    OutputError where it cannot be written, UsageError where a model or a file of prompts stands there.
    """
    check_writable(path)
    try:
        kept = replace_file(path, [kind.marked(content)], is_own=kind.is_own)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    if kept:
        note(was_there(path, kept))


def was_there(path: Path, kept: Path) -> str:
    """For the user: a file was not this program's own, or is not to be replaced."""
    return f"{path} was there already: kept as {kept}"


class OwnFiles:
    """The files that one conversation was written to or read from, as they were then. Nobody's change is overlooked."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, ...] | None] = {}

    def add(self, file: Path) -> None:
        self._seen[os.path.realpath(file)] = _state(file)

    def has(self, file: Path) -> bool:
        """Whether it may be replaced; an empty file may be."""
        state = _state(file)
        return state is None or not state[2] or self._seen.get(os.path.realpath(file)) == state

    def clear(self) -> None:
        self._seen.clear()


def _state(file: Path) -> tuple[int, int, int] | None:
    """What differs once a file has changed; None where there is none."""
    if not file.is_file():
        return None
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
