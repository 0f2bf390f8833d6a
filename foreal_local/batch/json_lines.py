"""JSON lines: a record as a line, and the objects of a file's lines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from ..documents import Note, bytes_of, name_of, text_of
from ..errors import UsageError

_MOST_DIGITS = 4000


def to_line(record: dict[str, Any]) -> str:
    """One line of JSON. Half a surrogate pair (a prompt may have \\ud800) stays escaped, because UTF-8 has none."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def _whole(digits: str) -> int | float:
    """A whole number; infinity, which no setting takes, for one that is longer than Python converts."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.copysign(math.inf, -digits.startswith("-") or 1)


def print_line(line: str) -> None:
    """Write a line to standard output, as UTF-8 whatever encoding a terminal there would have."""
    sys.stdout.flush()
    out = getattr(sys.stdout, "buffer", None)
    if out is None:  # a program's own stream of text
        sys.stdout.write(line)
    else:
        out.write(line.encode())
        out.flush()


def objects(path: str, note: Note = lambda text: None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object of each line, after its place (path:number) for messages; empty lines are left out.

    path: of the file; "-" is standard input
    note: what tells the user that this is waited for
    """
    name = name_of(path)
    try:
        data = bytes_of(path, note)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from None
    for number, line in lines_of(data, name):
        where = f"{name}:{number}"
        yield where, object_of(where, line)


def lines_of(data: bytes, name: str) -> list[tuple[int, str]]:
    """The lines of a file with their numbers, from 1; empty ones are left out. UsageError where they are no text.

    A byte order mark is no part of a line: files that were joined have several.

    name: the file's, for messages
    """
    lines = text_of(data, name).split("\n")  # not splitlines: a text may hold other separators
    unmarked = ((number, line.lstrip("\ufeff")) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in unmarked if line.strip()]


def is_object(line: str) -> bool:
    """Whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line, parse_int=_whole), dict)
    except RecursionError:
        return line.lstrip().startswith("{")
    except ValueError:
        return False


def object_of(where: str, line: str) -> dict[str, Any]:
    """The object that a line is; UsageError, which begins with `where`, if it is none."""
    try:
        record = json.loads(line, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error}): one object per line is expected") from None
    if not isinstance(record, dict):
        raise UsageError(f"{where}: not a JSON object but {line.strip()[:40]!r}")
    return record
