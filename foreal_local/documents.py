"""Texts from outside: bytes as text, a file as one text, standard input as one text.

Knows encodings and streams. Does not know what a text is for.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import UsageError

STDIN = "<stdin>"
"""The name of standard input in messages."""
MOST_BYTES = 2**28
"""Of one text: far more than any context holds."""
PATIENCE = 3.0
"""Seconds until it is said that standard input is waited for."""
WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order marks, longer ones first: UTF-32's begins as UTF-16's."""

Note = Callable[[str], None]


def text_of(data: bytes, name: str, line: int = 1) -> str:
    """Bytes as text: UTF-8, or what a byte order mark says. UsageError where they are no text.

    name: the file's, for messages
    line: of the file, that the bytes begin with
    """
    encoding = next((encoding for mark, encoding in WIDE_MARKS.items() if data.startswith(mark)), "UTF-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        at = f"{name}:{data[: error.start].count(10) + line}" if encoding == "UTF-8" else name
        byte = f"byte 0x{data[error.start]:02x}: {error.reason}"
        raise UsageError(
            f"{at}: not {encoding} text ({byte}): a binary file, or text to convert (iconv -f LATIN1 -t UTF-8)"
        ) from None
    if "\0" in text:
        line += text[: text.index("\0")].count("\n")
        raise UsageError(f"{name}:{line}: not text, but binary data or UTF-16 without a mark (it has a NUL character)")
    return text


def name_of(path: str) -> str:
    """What messages and titles call a file: "-" is standard input."""
    return STDIN if path == "-" else path


def bytes_of(path: str, note: Note = lambda text: None, what: str = "JSON lines") -> bytes:
    """A file's bytes, or standard input's for "-"; OSError where they cannot be read, UsageError where it is closed.

    note: what tells the user that a terminal is read, or that nothing comes
    what: what is read, for these notes
    """
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise UsageError(f"standard input is closed: {what} were to be read there; name a file instead")
    with waited_for(note, what):
        return sys.stdin.buffer.read()


def whole(data: bytes, name: str) -> str:
    """A file's bytes as one text, without byte order mark and last line end; "" where it has no words."""
    text = text_of(data, name).removeprefix("\ufeff").replace("\r\n", "\n")
    return text.removesuffix("\n") if text.strip() else ""


def read_whole(path: str) -> str:
    """A file as one text; UsageError where it has none."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if text := whole(_limited(data, path), path):
        return text
    raise UsageError(f"no prompt in {path}: it is empty")


def read_stdin(note: Note) -> str:
    """Standard input as one text, for a user who asks for it; UsageError where it has none.

    note: what tells the user that a terminal is read, or that nothing comes
    """
    if sys.stdin is None:
        raise UsageError("standard input is closed: a prompt was to be read there")
    if text := _stdin(note):
        return text
    raise UsageError("standard input is empty: there is no prompt in it")


def piped_in(note: Note) -> str:
    """Standard input as one text, where it is not a terminal; "" where it is closed or empty."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return _stdin(note, unasked=True)


def with_question(document: str, question: str) -> str:
    """A document with a question about it, which stands last."""
    parts = (document.rstrip("\n"), question)
    return "\n\n".join(part for part in parts if part.strip()) if document else question


def waited_for(note: Note, ending: str) -> contextlib.AbstractContextManager[None]:
    """While standard input is read: say at once what ends a terminal's, and after a while that a pipe's is waited for.

    ending: what is read, for the message
    """
    if sys.stdin.isatty():
        keys = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
        note(f"reading {ending} from the terminal; {keys} on a line of its own ends it, --help shows all options")
        return contextlib.nullcontext()
    return _told_later(note, f"waiting for {ending} on standard input (< /dev/null says that there is none)")


@contextlib.contextmanager
def _told_later(note: Note, text: str) -> Iterator[None]:
    timer = threading.Timer(PATIENCE, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stdin(note: Note, unasked: bool = False) -> str:
    with waited_for(note, "a document" if unasked else "a prompt"):
        try:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        except OSError as error:
            if unasked and error.errno == errno.EBADF:  # as nohup leaves it: it can only be written
                return ""
            raise UsageError(f"cannot read standard input: {error.strerror or error}") from None
    return whole(_limited(data, STDIN), STDIN)


def _limited(data: bytes, name: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise UsageError(f"{name} has more than {MOST_BYTES >> 20} MiB: no model's context holds that")
    return data
