"""What an earlier run has finished: its records and trace, read back, and what of them stays.

A record stands when it is whole and answers the same prompt with the same settings. Others are set aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..session import write_beside
from .files import OutputError, kept_aside

Note = Callable[[str], None]


@dataclass
class Earlier:
    """The lines of a result file, each with its record; `torn`: its last line was cut off, `mended`: it was whole."""

    path: Path
    lines: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    torn: bool = False
    mended: bool = False

    def seed(self, ids: Iterable[str]) -> int | None:
        """The seed of most records of these prompts, which have none of their own."""
        wanted = set(ids)
        seeds = Counter(r.get("seed") for _, r in self.lines if r["id"] in wanted and isinstance(r.get("seed"), int))
        return seeds.most_common(1)[0][0] if seeds else None


def read_earlier(path: Path) -> Earlier:
    """The records of an output file; a last line that a crash tore is left out."""
    earlier = Earlier(path)
    try:
        *lines, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise UsageError(f"cannot read {path} to resume it: {error.strerror or error}") from None
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None:
            raise UsageError(f"{path}:{number} is not a record of foreal-gen: name another --output, or mend the line")
        earlier.lines.append((line + b"\n", record))
    record = _record(last)
    earlier.torn, earlier.mended = bool(last) and record is None, record is not None
    if record is not None:
        earlier.lines.append((last + b"\n", record))
    return earlier


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    known = isinstance(record, dict) and isinstance(record.get("id"), str) and "finish_reason" in record
    return record if known else None


def keep_standing(earlier: Earlier, hashes: dict[str, str], ctx_size: int, note: Note) -> set[str]:
    """Reduce the file to records that stand (or are of other prompts), and give the ids of those.

    `hashes`: the settings_hash of each prompt by its id. The old file is kept where a text would be lost.
    """
    standing: dict[str, bytes] = {}
    dropped: Counter[str] = Counter()
    lost = False
    for line, record in earlier.lines:
        reason = _why_again(record, hashes, ctx_size)
        if record["id"] in standing:
            reason = "twice in the file"
        if reason is None:
            standing[record["id"]] = line
        else:
            dropped[reason] += 1
            lost |= bool(record.get("text"))
    for reason, n in dropped.items():
        note(f"{n} of the records {'is' if n == 1 else 'are'} made again: {reason}")
    if earlier.torn:
        note(f"the last line of {earlier.path} was torn and is cut off")
    if dropped or earlier.torn or earlier.mended:
        _replace(earlier.path, standing.values(), lost, note)
    return standing.keys() & hashes.keys()


def _why_again(record: dict[str, Any], hashes: dict[str, str], ctx_size: int) -> str | None:
    id, reason = record["id"], record["finish_reason"]
    if id not in hashes:
        return None  # of a prompt that is not in this run
    if record.get("settings_hash") != hashes[id]:
        return "the prompt, the settings or the models have changed"
    if reason == "context" and record.get("ctx_size", 0) < ctx_size:
        return "the context is larger now"
    return f"finish_reason is {reason}" if reason in ("error", "cancelled") else None


def _replace(path: Path, lines: Iterable[bytes], keep_old: bool, note: Note) -> None:
    try:
        if keep_old:
            kept = kept_aside(path)
            write_beside(kept, [path.read_bytes()])
            note(f"{path} as it was is kept as {kept}")
        write_beside(path, list(lines))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; it is as it was") from None


def keep_whole_traces(path: Path, done: set[str]) -> bool:
    """Reduce a trace to its header and these ids' sequences; False where there is no trace to go on with."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    except OSError as error:
        raise UsageError(f"cannot read {path} to resume it: {error.strerror or error}") from None
    kept: list[bytes] = []
    block: list[bytes] = []
    for line in lines:
        entry = _entry(line)
        kind = entry.get("type")
        if kind == "header":
            kept.append(line)
        elif kind in ("prompt", "token", "end"):
            block = [line] if kind == "prompt" else [*block, line]
            if kind == "end" and entry.get("id") in done:
                kept += block
    if kept and len(b"".join(kept)) < len(b"".join(lines)):
        _replace(path, kept, False, lambda text: None)
    return bool(kept)


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
