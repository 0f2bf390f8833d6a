"""What a run that is resumed keeps of the files of the earlier run: finished records, and whole responses in a trace.

A record is kept where it is whole and answers the same prompt with the same settings. The others are answered again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..storage.files import OutputError, keep_aside, replace_file

Note = Callable[[str], None]


@dataclass
class EarlierOutput:
    """The output file of an earlier run.

    path: its name
    lines: its lines, each with its record; without a torn last line
    torn: its last line was cut off in the midst
    mended: its last line was whole but for its newline, which it has in `lines`
    """

    path: Path
    lines: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    torn: bool = False
    mended: bool = False

    def seed(self, ids: Iterable[str]) -> int | None:
        """The seed that most records of these prompts have; None where there are none."""
        wanted = set(ids)
        seeds = Counter(r.get("seed") for _, r in self.lines if r["id"] in wanted and isinstance(r.get("seed"), int))
        return seeds.most_common(1)[0][0] if seeds else None

    def choice(self, ids: Iterable[str], modes: Iterable[str]) -> tuple[str, str] | None:
        """Which of these modes was chosen for most of these prompts, and why; None where none was."""
        wanted, possible = set(ids), set(modes)
        chosen = [r for _, r in self.lines if r["id"] in wanted and r.get("mode") in possible]
        found = Counter((r["mode"], r["auto"]) for r in chosen if isinstance(r.get("auto"), str))
        return found.most_common(1)[0][0] if found else None


def read_earlier(path: Path) -> EarlierOutput:
    """The records of an output file; UsageError where a line that is not its last is no record."""
    earlier = EarlierOutput(path)
    if path.exists() and not path.is_file():
        raise UsageError(f"--resume needs a file for --output, and {path} is none")
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
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("id"), str) and "finish_reason" in record
    return record if known else None


@dataclass
class ResumePlan:
    """What is kept of an output file.

    earlier: the file as it is
    done: ids of this run's prompts that need no answer any more
    lines: what is kept, also of other runs' prompts
    dropped: how many records are dropped, by the reason
    loses_text: whether a dropped record has a text
    """

    earlier: EarlierOutput
    done: set[str]
    lines: list[bytes]
    dropped: Counter[str]
    loses_text: bool

    def apply(self, note: Note) -> None:
        """Reduce the file to what is kept; the old file is set aside where a text would be lost."""
        for reason, n in self.dropped.items():
            note(f"{n} of the records {'is' if n == 1 else 'are'} {reason}")
        if self.earlier.torn:
            note(f"the last line of {self.earlier.path} was torn and is cut off")
        if self.dropped or self.earlier.torn or self.earlier.mended:
            replace_lines(self.earlier.path, self.lines, self.loses_text, note)


def plan_for(earlier: EarlierOutput, hashes: dict[str, str], ctx_size: int) -> ResumePlan:
    """Which records are kept.

    hashes: the settings_hash of each prompt of this run, by its id
    ctx_size: of this run; a response that filled a smaller context is answered again
    """
    kept: dict[str, bytes] = {}
    dropped: Counter[str] = Counter()
    loses_text = False
    for line, record in earlier.lines:
        reason = _reason_to_drop(record, hashes, ctx_size)
        if reason is None and record["id"] in kept:
            reason = "dropped: twice in the file"
        if reason is None:
            kept[record["id"]] = line
        else:
            dropped[reason] += 1
            loses_text |= bool(record.get("text"))
    return ResumePlan(earlier, kept.keys() & hashes.keys(), list(kept.values()), dropped, loses_text)


def _reason_to_drop(record: dict[str, Any], hashes: dict[str, str], ctx_size: int) -> str | None:
    id, reason = record["id"], record["finish_reason"]
    if id not in hashes:
        return None  # of a prompt that is not in this run
    if record.get("settings_hash") != hashes[id]:
        return "made again: the prompt, the settings or the models have changed"
    if reason == "context" and record.get("ctx_size", 0) < ctx_size:
        return "made again: the context is larger now"
    return f"made again: finish_reason is {reason}" if reason in ("error", "cancelled") else None


def replace_lines(path: Path, lines: Iterable[bytes], keep_old: bool, note: Note) -> None:
    """Give a file these lines, and with `keep_old` keep it as it was under a numbered name."""
    try:
        if keep_old:
            old = keep_aside(Path(os.path.realpath(path)), copy=True)
            note(f"{path} as it was is kept as {old}")
        replace_file(path, list(lines))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; it is as it was") from None


def keep_whole_traces(path: Path, header: str, unfinished: set[str]) -> bool:
    """Reduce a trace to its whole responses, without those of the unfinished ids; whether it can be continued.

    header: what its first line must be; a trace of other settings has another, and cannot be continued
    unfinished: ids whose responses are written again
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    except OSError as error:
        raise UsageError(f"cannot read {path} to resume it: {error.strerror or error}") from None
    if not lines or lines[0] != header.encode():
        return False
    kept, block = lines[:1], list[bytes]()
    for line in lines[1:]:
        entry = _entry(line)
        block = [line] if entry.get("type") == "prompt" else [*block, line]
        if entry.get("type") == "end" and entry.get("id") not in unfinished:
            kept += block
    if len(b"".join(kept)) < len(b"".join(lines)):
        replace_lines(path, kept, False, lambda text: None)
    return True


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else {}
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
