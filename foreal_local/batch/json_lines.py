"""JSON lines: a record as a line, and the objects of a file's lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError


def to_line(record: dict[str, Any]) -> str:
    """One line of JSON. Half a surrogate pair (a prompt may have \\ud800) stays escaped, because UTF-8 has none."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def print_line(line: str) -> None:
    """Write a line to standard output, as UTF-8 whatever encoding a terminal there would have."""
    sys.stdout.flush()
    out = getattr(sys.stdout, "buffer", None)
    if out is None:  # a program's own stream of text
        sys.stdout.write(line)
    else:
        out.write(line.encode())
        out.flush()


def objects(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object of each line, after its place (path:number) for messages; empty lines are left out."""
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason}): convert the file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        yield where, object_of(where, line)


def object_of(where: str, line: str) -> dict[str, Any]:
    """The object that a line is; UsageError, which begins with `where`, if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error}): one object per line is expected") from None
    if not isinstance(record, dict):
        raise UsageError(f"{where}: not a JSON object but {line.strip()[:40]!r}")
    return record
