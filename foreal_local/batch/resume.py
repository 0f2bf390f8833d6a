"""What a run that is resumed keeps of the files of the earlier run: finished records, and whole responses in a trace.

A record is kept where it is whole and answers the same prompt with the same settings. The others are answered again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..storage.files import OutputError, keep_aside, replace_file
from .json_lines import to_line

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

    def now(self, ids: Iterable[str]) -> str | None:
        """The time that most of these prompts' chat templates were told; None where none was."""
        wanted = set(ids)
        times = Counter(r["now"] for _, r in self.lines if r["id"] in wanted and isinstance(r.get("now"), str))
        return times.most_common(1)[0][0] if times else None

    def choice(self, ids: Iterable[str], modes: Iterable[str]) -> tuple[str, str] | None:
        """Which of these modes was chosen for most of these prompts, and why; None where none was."""
        wanted, possible = set(ids), set(modes)
        chosen = [r for _, r in self.lines if r["id"] in wanted and r.get("mode") in possible]
        found = Counter((r["mode"], r["auto"]) for r in chosen if isinstance(r.get("auto"), str))
        return found.most_common(1)[0][0] if found else None


def read_earlier(path: Path) -> EarlierOutput:
    """The records of an output file; UsageError where a line is none, and not the beginning of one."""
    earlier = EarlierOutput(path)
    if path.exists() and not path.is_file():
        raise UsageError(f"--resume needs a file for --output, and {path} is none")
    try:
        *lines, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise UsageError(f"cannot read {path} to resume it: {error.strerror or error}") from None
    earlier.mended = _record(last) is not None
    earlier.torn = bool(last) and not earlier.mended and _may_be_torn(last)
    for number, line in enumerate(lines if earlier.torn or not last else [*lines, last], 1):
        record = _record(line)
        if record is None:
            raise UsageError(f"{path}:{number} is not a record of foreal-gen: name another --output, or mend the line")
        earlier.lines.append((line + b"\n", record))
    return earlier


def _may_be_torn(line: bytes) -> bool:
    """Whether a last line without an end is the beginning of a record, and not a text of the user's."""
    written = line.replace(b" ", b"").strip(b"\0")  # which a disk that lost its power may have left
    try:
        json.loads(written or b"{")
    except (ValueError, RecursionError):
        return written.startswith(_BEGIN) or _BEGIN.startswith(written)
    return False


_BEGIN = b'{"id":'


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() >= {"id", "finish_reason"}:
        return None
    return record if all(isinstance(record.get(name, each), kind) for name, (kind, each) in _FIELDS.items()) else None


_FIELDS: dict[str, tuple[Any, Any]] = {
    "id": (str, None),
    "finish_reason": (str, None),
    "settings_hash": ((str, type(None)), None),
    "ctx_size": (int, 0),
    "index": (int, 0),
    "drawn_index": (int, 0),
    "mode": (str, ""),
}
"""What is read of a record: its type, and what is no error where it is missing."""


@dataclass
class ResumePlan:
    """What is kept of an output file.

    earlier: the file as it is
    done: ids of this run's prompts that need no answer any more
    lines: what is kept, also of other runs' prompts
    moved: the new id of each record that was found by its content, by its old id
    dropped: how many records are dropped, by the reason
    loses_text: whether a dropped record has a text
    """

    earlier: EarlierOutput
    done: set[str]
    lines: list[bytes]
    moved: dict[str, str]
    dropped: Counter[str]
    loses_text: bool

    def apply(self, note: Note) -> None:
        """Reduce the file to what is kept; the old file is set aside where a text would be lost."""
        tell_dropped(self.dropped, note)
        if self.moved:
            n = len(self.moved)
            note(f"{n} of the records {'is' if n == 1 else 'are'} of prompts that stand at another place now")
        self.write(note)

    def write(self, note: Note) -> None:
        """As `apply`, but nothing is told of the records."""
        if self.earlier.torn:
            note(f"the last line of {self.earlier.path} was torn and is cut off")
        if self.dropped or self.moved or self.earlier.torn or self.earlier.mended:
            replace_lines(self.earlier.path, self.lines, self.loses_text, note)


def tell_dropped(dropped: Counter[str], note: Note) -> None:
    """How many records are dropped, by the reason."""
    for reason, n in dropped.items():
        note(f"{n} of the records {'is' if n == 1 else 'are'} {reason}")


def plan_for(
    earlier: EarlierOutput, hashes: dict[str, str], ctx_size: int, places: Mapping[str, int] | None = None
) -> ResumePlan:
    """Which records are kept.

    hashes: the settings_hash of each prompt of this run, by its id
    ctx_size: of this run; a response that filled a smaller context is answered again
    places: the index of each prompt that has no id but its place; its record may have been at another place
    """
    kept: dict[str, bytes] = {}
    moved: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    loses_text = False
    found = _found_by_content(earlier, hashes, ctx_size, places or {})
    taken = set(found.values())
    for number, (line, record) in enumerate(earlier.lines):
        id = found.get(number, record["id"])
        reason = _reason_to_drop(id, record, hashes, ctx_size)
        if reason is None and (id in kept or (id in taken and number not in found)):
            reason = "dropped: twice in the file"
        if reason is not None:
            dropped[reason] += 1
            loses_text |= bool(record.get("text"))
            continue
        if id != record["id"]:
            moved[record["id"]] = id
            line = to_line(_at_place(record, id, (places or {})[id])).encode()
        kept[id] = line
    return ResumePlan(earlier, kept.keys() & hashes.keys(), list(kept.values()), moved, dropped, loses_text)


def _found_by_content(
    earlier: EarlierOutput, hashes: dict[str, str], ctx_size: int, places: Mapping[str, int]
) -> dict[int, str]:
    """The prompt of each record, by the record's number, of those that have only their place for a name.

    Records of one prompt that is asked several times are told apart by the place that their random numbers are of,
    then by their id: so no two of its answers become the same.
    """
    prompts: dict[str, list[str]] = {}
    for id in places:
        prompts.setdefault(hashes[id], []).append(id)
    left: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, (_, record) in enumerate(earlier.lines):
        named = not record["id"].isdecimal() or (record["id"] in hashes and record["id"] not in places)
        if not named and record.get("settings_hash") in prompts and not must_be_made_again(record, ctx_size):
            left.setdefault(record["id"], (number, record))
    found: dict[int, str] = {}
    for key_of in (
        lambda id, place: (id, place),
        lambda id, place: place,
        lambda id, place: id,
        lambda id, place: None,
    ):
        records: dict[Any, list[str]] = {}
        for id, (_, record) in reversed(left.items()):
            key = record["settings_hash"], key_of(id, _drawn_at(record))
            records.setdefault(key, []).append(id)
        for digest, ids in prompts.items():
            for id in list(ids):
                same = records.get((digest, key_of(id, places[id])))
                if same:
                    number, _ = left.pop(same.pop())
                    found[number] = id
                    ids.remove(id)
    return found


def _drawn_at(record: dict[str, Any]) -> Any:
    """The place that its random numbers are of."""
    return record.get("drawn_index", record.get("index"))


def _at_place(record: dict[str, Any], id: str, index: int) -> dict[str, Any]:
    """The record of a prompt that stands at another place now; `drawn_index` is that of its random numbers."""
    drawn = _drawn_at(record)
    more = {} if drawn == index else {"drawn_index": drawn}
    rest = {name: value for name, value in record.items() if name not in ("id", "index", "drawn_index")}
    return {"id": id, "index": index} | more | rest


def _reason_to_drop(id: str, record: dict[str, Any], hashes: dict[str, str], ctx_size: int) -> str | None:
    if id not in hashes:
        return None  # of a prompt that is not in this run
    if record.get("settings_hash") != hashes[id]:
        return "made again: the prompt, the settings or the models have changed"
    return must_be_made_again(record, ctx_size)


def must_be_made_again(record: dict[str, Any], ctx_size: int) -> str | None:
    """Why a record does not stand though it answers the prompt."""
    reason = record["finish_reason"]
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


def keep_whole_traces(path: Path, header: str, unfinished: set[str], moved: Mapping[str, str] | None = None) -> bool:
    """Reduce a trace to its whole responses, without those of the unfinished ids; whether it can be continued.

    header: what its first line must be; a trace of other settings has another, and cannot be continued
    unfinished: ids whose responses are written again
    moved: the new ids of records that have others now; what has one of these ids, and no new one, has no record
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    except OSError as error:
        raise UsageError(f"cannot read {path} to resume it: {error.strerror or error}") from None
    if not lines or lines[0] != header.encode():
        return False
    kept, block, new_ids = lines[:1], list[bytes](), moved or {}
    gone = unfinished | (set(new_ids.values()) - new_ids.keys())
    for line in lines[1:]:
        entry = _entry(line)
        stands = entry["id"] not in gone
        if entry["id"] in new_ids:
            line, stands = to_line(_entry_at_place(entry, new_ids[entry["id"]])).encode(), True
        block = [line] if entry.get("type") == "prompt" else [*block, line]
        if entry.get("type") == "end" and stands:
            kept += block
    if kept != lines:
        replace_lines(path, kept, False, lambda text: None)
    return True


def _entry_at_place(entry: dict[str, Any], id: str) -> dict[str, Any]:
    """A line of a response whose prompt stands at another place now, which is its id."""
    if type(entry.get("index")) is not int:
        return entry | {"id": id}
    drawn = entry.pop("drawn_index", entry["index"])
    return entry | {"id": id, "index": int(id)} | ({} if drawn == int(id) else {"drawn_index": drawn})


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else {}
    except (ValueError, RecursionError):
        entry = {}
    return entry if isinstance(entry, dict) and isinstance(entry.get("id"), str) else {"id": ""}
