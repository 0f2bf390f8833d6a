"""What an earlier run has left: records and traces read back, files that are rewritten, and locked."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT

from foreal_local.batch.resume import EarlierOutput, keep_whole_traces, plan_for, read_earlier
from foreal_local.errors import UsageError
from foreal_local.storage.files import LineFile, OutputError, locked

HASHES = {"a": "ha", "b": "hb", "c": "hc"}
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")


def line(id: str, text: str = "so", **more: Any) -> bytes:
    """The line of a record that stands, unless `more` says otherwise."""
    record = {"id": id, "text": text, "finish_reason": "stop", "settings_hash": HASHES.get(id), "seed": 1}
    return json.dumps(record | more, ensure_ascii=False).encode() + b"\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.jsonl"


def resumed(path: Path, ctx_size: int = 256) -> tuple[set[str], list[str]]:
    """The ids that are done, and the notes."""
    notes: list[str] = []
    plan = plan_for(read_earlier(path), HASHES, ctx_size)
    plan.apply(notes.append)
    return plan.done, notes


def files_beside(path: Path) -> dict[str, bytes]:
    return {other.name: other.read_bytes() for other in path.parent.iterdir() if other != path}


# ---------------------------------------------------------------- the end of a file that a crash left
def test_a_last_record_torn_anywhere_is_cut_off(out: Path) -> None:
    """Guards half a record that stays, that joins the next one, or that takes the whole one before it along."""
    first, last = line("a", "one é"), line("b", "two 🦊")
    for size in range(len(last) + 1):
        out.write_bytes(first + last[:size])
        earlier = read_earlier(out)
        n_missing = len(last) - size
        assert (earlier.torn, earlier.mended) == (size > 0 and n_missing > 1, n_missing == 1), size
        done, notes = resumed(out)
        assert out.read_bytes() == (first + last if n_missing <= 1 else first), size
        assert done == ({"a", "b"} if n_missing <= 1 else {"a"})
        assert ["torn" in note for note in notes] == [True] * earlier.torn
        assert files_beside(out) == {}, "no text was lost"


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "missing"])
def test_a_file_without_records_is_left_as_it_is(content: bytes | None, out: Path) -> None:
    """Guards a first run with --resume that fails, and a file that is made before there is anything to write."""
    if content is not None:
        out.write_bytes(content)
    assert resumed(out) == (set(), [])
    assert (out.read_bytes() if out.exists() else None) == content
    assert files_beside(out) == {}


NO_RECORDS = {
    "blank": b"",
    "text": b"Tom has 5 pens.",
    "torn": line("b")[:-9],
    "list": b'["b"]',
    "id": b'{"id": 2, "finish_reason": "stop"}',
    "prompt": b'{"id": "b", "prompt": "How many?"}',
    "latin": b'{"id": "b", "finish_reason": "stop", "text": "caf\xe9"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", list(NO_RECORDS))
def test_a_line_that_is_no_record_is_named(name: str, out: Path) -> None:
    """Guards a file of something else (prompts, notes) that is taken for records and rewritten without them."""
    out.write_bytes(line("a") + NO_RECORDS[name] + b"\n" + line("c"))
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"out\.jsonl:2 is not a record") as caught:
        read_earlier(out)
    assert str(out) in str(caught.value)
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", sorted(set(NO_RECORDS) - {"blank", "torn", "latin"}))
@pytest.mark.parametrize("before", [b"", line("a")], ids=["alone", "after a record"])
def test_a_last_line_of_the_users_own_is_not_torn(before: bytes, name: str, out: Path) -> None:
    """Guards a user's file of one line without an end, which was emptied as the torn record of an earlier run."""
    out.write_bytes(before + NO_RECORDS[name])
    with pytest.raises(UsageError, match=rf"out\.jsonl:{1 + bool(before)} is not a record"):
        read_earlier(out)
    out.write_bytes(before + b"\0" * 100)  # a disk that lost its power
    assert read_earlier(out).torn


def test_a_folder_is_no_file_of_records(tmp_path: Path) -> None:
    """Guards the operating system's traceback."""
    with pytest.raises(UsageError, match=f"needs a file for --output, and {tmp_path}"):
        read_earlier(tmp_path)


# ---------------------------------------------------------------- which records stand
FULL = {"finish_reason": "context"}
CASES: dict[str, tuple[list[bytes], list[int], str]] = {
    # the lines; the numbers of those that stay; a word of the note
    "another prompt's": ([line("x"), line("a"), line("y", finish_reason="error")], [0, 1, 2], ""),
    "twice": ([line("a", "first"), line("b"), line("a", "second")], [0, 1], "twice"),
    "another prompt's twice": ([line("x", "first"), line("a"), line("x", "second")], [0, 1], "twice"),
    "other settings": ([line("a", settings_hash="old"), line("b")], [1], "changed"),
    "an older version's": ([line("a", settings_hash=None), line("b")], [1], "changed"),
    "another prompt's hash": ([line("a", settings_hash="hb"), line("b")], [1], "changed"),
    "failed": ([line("a"), line("b", "", finish_reason="error")], [0], "error"),
    "failed on the way": ([line("a"), line("b", "so ha", finish_reason="error")], [0], "error"),
    "cancelled": ([line("a", "so ha", finish_reason="cancelled"), line("c")], [1], "cancelled"),
    "failed, then answered": ([line("a", "", finish_reason="error"), line("a")], [1], "error"),
    "ended by --max-tokens": ([line("a", finish_reason="length")], [0], ""),
    "the context was smaller": ([line("a", ctx_size=255, **FULL), line("b")], [1], "larger"),
    "the context was the same": ([line("a", ctx_size=256, **FULL), line("b")], [0, 1], ""),
    "the context was larger": ([line("a", ctx_size=512, **FULL), line("b")], [0, 1], ""),
    "ended, the context was smaller": ([line("a", ctx_size=128), line("b")], [0, 1], ""),
    "none stands": ([line("a", settings_hash="old"), line("b", finish_reason="error")], [], "changed"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_record_stands_or_is_made_again(name: str, out: Path) -> None:
    """Guards answers to other questions that pass for these, work done twice, and a lost text without a copy."""
    lines, staying, word = CASES[name]
    out.write_bytes(b"".join(lines))
    content, before = out.read_bytes(), out.stat()
    done, notes = resumed(out)
    left = [lines[number] for number in staying]
    assert out.read_bytes() == b"".join(left)
    assert done == {json.loads(item)["id"] for item in left} & set(HASHES)
    lost = [json.loads(item)["text"] for number, item in enumerate(lines) if number not in staying]
    assert files_beside(out) == ({"out.jsonl.~1~": content} if any(lost) else {})
    assert word in " ".join(notes)
    assert sum(f"{out}.~1~" in note for note in notes) == any(lost)
    if not lost:
        assert notes == []
        after = out.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "rewritten for nothing"


# ---------------------------------------------------------------- found by their content
def at(place: int, hash: str, text: str, **more: Any) -> bytes:
    return line(str(place), text, index=place, settings_hash=hash, **more)


def found(path: Path, lines: list[bytes], *hashes: str) -> list[tuple[str, int, str, int | None]]:
    """Id, index, text and drawn_index of the records that stand when prompts of these hashes are resumed."""
    path.write_bytes(b"".join(lines))
    by_id = {str(i): hash for i, hash in enumerate(hashes)}
    plan = plan_for(read_earlier(path), by_id, 256, {id: int(id) for id in by_id})
    plan.apply(lambda note: None)
    kept = [json.loads(item) for item in path.read_bytes().splitlines()]
    assert plan.done == {record["id"] for record in kept} & by_id.keys()
    return sorted((r["id"], r["index"], r["text"], r.get("drawn_index")) for r in kept)


def test_records_are_found_where_their_prompts_stand_now(out: Path) -> None:
    """Guards a file of prompts with a line put at its top: all records were made again."""
    lines = [at(0, "A", "a"), at(1, "B", "b"), at(2, "C", "c")]
    assert found(out, lines, "X", "A", "B", "C") == [("1", 1, "a", 0), ("2", 2, "b", 1), ("3", 3, "c", 2)]
    assert found(out, lines, "C", "B", "A") == [("0", 0, "c", 2), ("1", 1, "b", None), ("2", 2, "a", 0)]
    moved = out.read_bytes().splitlines(keepends=True)
    assert found(out, moved, "A", "B", "C") == [("0", 0, "a", None), ("1", 1, "b", None), ("2", 2, "c", None)]
    assert files_beside(out) == {}, "no text was lost"


def test_answers_of_one_prompt_stay_distinct(out: Path) -> None:
    """Guards an answer that stands for two prompts, and one made anew from random numbers that one has already."""
    twice = [at(0, "A", "first"), at(1, "A", "second")]
    assert found(out, twice, "X", "A", "A") == [("1", 1, "second", None), ("2", 2, "first", 0)]
    once = [item for item in out.read_bytes().splitlines(keepends=True) if b"first" in item]
    assert found(out, once, "A", "X", "A") == [("0", 0, "first", None)]
    assert found(out, twice, "A") == [("0", 0, "first", None), ("1", 1, "second", None)]
    assert found(out, twice[:1], "A", "A") == [("0", 0, "first", None)]


def test_a_named_record_is_nobody_elses(out: Path) -> None:
    """Guards a record of another file's prompt that is taken for one without a name."""
    lines = [line("apples", "a", index=0, settings_hash="A"), at(0, "B", "b")]
    assert found(out, lines, "A", "B") == [("1", 1, "b", 0), ("apples", 0, "a", None)]


def test_a_record_that_must_be_made_again_is_not_found(out: Path) -> None:
    """Guards a failed response that stands because its prompt has moved."""
    assert found(out, [at(0, "A", "a", finish_reason="error"), at(1, "B", "b")], "X", "A", "B") == [("2", 2, "b", 1)]


def test_a_trace_follows_its_records(tmp_path: Path) -> None:
    """Guards a trace whose responses have the ids of other prompts now."""
    path, header = tmp_path / "trace.jsonl", '{"type": "header"}\n'
    blocks = [f'{{"type": "prompt", "id": "{i}"}}\n{{"type": "end", "id": "{i}"}}\n' for i in range(3)]
    strange = '{"type": "end", "id": []}\n'
    path.write_text(header + blocks[0] + blocks[1] + strange)
    assert keep_whole_traces(path, header, {"0"}, {"0": "1", "1": "2"})
    assert path.read_text() == header + blocks[1] + blocks[2]
    path.write_text(header + "".join(blocks))
    assert keep_whole_traces(path, header, {"2"}, {"0": "1"})
    assert path.read_text() == header + blocks[1], "one id, one response"


STRANGE = [{"finish_reason": []}, {"settings_hash": {}}, {"ctx_size": "x"}, {"index": []}, {"mode": ["leader"]}]


@pytest.mark.parametrize("fields", STRANGE, ids=lambda fields: next(iter(fields)))
def test_a_record_with_strange_fields_is_none(fields: dict[str, Any], out: Path) -> None:
    """Guards a traceback of a file that somebody has changed."""
    out.write_bytes(line("a", **fields))
    out.write_bytes(out.read_bytes() + line("b"))
    with pytest.raises(UsageError, match=r"out\.jsonl:1 is not a record"):
        read_earlier(out)


def test_older_copies_keep_their_numbers(out: Path) -> None:
    """Guards the copy of one resumed run overwritten by the next one's."""
    texts = {}
    for number, text in enumerate(("first", "second", "third"), 1):
        out.write_bytes(line("a", text, settings_hash="old"))
        texts[f"out.jsonl.~{number}~"] = out.read_bytes()
        _, notes = resumed(out)
        assert f"out.jsonl.~{number}~" in notes[-1]
    assert files_beside(out) == texts


def test_the_seed_is_that_of_most_of_these_prompts() -> None:
    """Guards the rest of a run answered with another seed: that of other prompts, or of one that was made later."""
    seeds = {"a": 7, "b": 5, "c": 5, "d": None, "x": 7, "y": 7}
    earlier = EarlierOutput(Path("out.jsonl"), [(b"", {"id": id, "seed": seed}) for id, seed in seeds.items()])
    assert earlier.seed(["a", "b", "c", "d", "z"]) == 5
    assert earlier.seed(iter(["a", "d"])) == 7
    assert earlier.seed(["d", "z"]) is None
    assert earlier.seed([]) is None


# ---------------------------------------------------------------- rewriting
@posix
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.~1~"])
def test_a_rewritten_file_is_as_private_as_before(name: str, out: Path) -> None:
    """Guards results that others can read after a resume, in the file or in the copy of it."""
    out.write_bytes(line("a", settings_hash="old") + line("b"))
    out.chmod(0o600)
    resumed(out)
    assert out.with_name(name).stat().st_mode & 0o777 == 0o600


@posix
def test_a_link_stays_a_link(out: Path) -> None:
    """Guards results that are no longer where their link points: the rewritten ones, and all that follow."""
    real = out.with_name("real.jsonl")
    real.write_bytes(line("a") + line("b")[:-5])
    out.symlink_to(real.name)
    assert resumed(out)[0] == {"a"}
    assert real.read_bytes() == line("a")
    assert out.is_symlink()


@pytest.mark.parametrize(
    ("settings_hash", "n_good"), [("old", 0), ("old", 1), ("ha", 0)], ids=["the copy", "after the copy", "the file"]
)
def test_a_full_disk_leaves_the_file_as_it_was(
    settings_hash: str, n_good: int, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the records of an earlier run lost because there was no room to set one of them aside."""
    out.write_bytes(line("a", settings_hash=settings_hash) + line("b") + line("c")[:-5])
    before, n_left, fsync = out.read_bytes(), n_good, os.fsync

    def full(handle: int) -> None:
        nonlocal n_left
        if stat.S_ISREG(os.fstat(handle).st_mode):
            n_left -= 1
            if n_left < 0:
                raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"out\.jsonl: No space left on device; it is as it was"):
        resumed(out)
    assert out.read_bytes() == before
    assert files_beside(out) == ({"out.jsonl.~1~": before} if n_good else {}), "no scratch file stays"


# ---------------------------------------------------------------- traces
HEADER = b'{"type": "header", "version": 1}\n'


def sequence(id: str) -> bytes:
    """A sequence of a trace."""
    token = {"type": "token", "id": id, "i": 0, "piece": "é"}
    lines = [{"type": "prompt", "id": id}, token, token | {"i": 1}, {"type": "end", "id": id}]
    return b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in lines)


def test_a_trace_torn_anywhere_keeps_its_whole_sequences(out: Path) -> None:
    """Guards half a sequence in a trace that is continued, and a trace without its header."""
    a, b = sequence("a"), sequence("b")
    whole = HEADER + a + b
    for size in range(len(whole) + 1):
        out.write_bytes(whole[:size])
        continued = keep_whole_traces(out, HEADER.decode(), {"c"})
        ends = [n for n in (len(HEADER), len(HEADER + a), len(whole)) if n <= size]
        assert continued == bool(ends), size
        assert out.read_bytes() == (whole[: ends[-1]] if ends else whole[:size]), size
    assert files_beside(out) == {}


def test_a_trace_keeps_the_sequences_of_records_that_stand(out: Path) -> None:
    """Guards a sequence that is twice in the trace, since its record is made again."""
    out.write_bytes(HEADER + sequence("a") + sequence("b") + sequence("c") + sequence("b")[:40])
    assert keep_whole_traces(out, HEADER.decode(), {"b"})
    assert out.read_bytes() == HEADER + sequence("a") + sequence("c")
    before = out.stat()
    assert keep_whole_traces(out, HEADER.decode(), {"b"})
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "rewritten for nothing"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"Tom has 5 pens.\n", HEADER[:-1], sequence("a")],
    ids=["missing", "empty", "text", "half a header", "no header"],
)
def test_what_is_no_trace_is_not_gone_on_with(content: bytes | None, out: Path) -> None:
    """Guards sequences behind something else, without a header; and that file emptied."""
    if content is not None:
        out.write_bytes(content)
    assert not keep_whole_traces(out, HEADER.decode(), {"b"})
    assert (out.read_bytes() if out.exists() else None) == content


# ---------------------------------------------------------------- files that are appended to
def test_a_failed_line_leaves_what_an_earlier_run_wrote(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a file that is cut back to the beginning of this run's lines, or to nothing at all."""
    out.write_bytes(line("a"))
    file = LineFile(str(out), append=True)
    assert file.set_aside is None
    file.write("second\n")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            file.write("half of the third")
    file.write("third\n")
    file.close()
    assert out.read_bytes() == line("a") + b"second\nthird\n"
    assert files_beside(out) == {}


# ---------------------------------------------------------------- locks
OTHER = """
import sys
from pathlib import Path
from foreal_local.storage.files import locked
from foreal_local.errors import UsageError
for path in sys.stdin:
    try:
        with locked(Path(path.strip()), "--output"):
            print("had it", flush=True)
            sys.stdin.readline()
        print("gave it back", flush=True)
    except UsageError as error:
        print(error, flush=True)
"""


class OtherProcess:
    """Locks what it is told to, until it is told something more."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", OTHER]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT
        )

    def tell(self, text: str | Path) -> str:
        assert self.process.stdin
        assert self.process.stdout
        print(text, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


@pytest.fixture
def other() -> Iterator[OtherProcess]:
    """A process like us."""
    process = OtherProcess()
    yield process
    process.process.kill()
    process.process.communicate()


@pytest.mark.parametrize("kind", ["file", "file to be", "folder"])
def test_a_second_run_is_kept_off(kind: str, other: OtherProcess, tmp_path: Path) -> None:
    """Guards two runs whose lines mix in one file, and a lock that outlasts its run, also one that was killed."""
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_bytes(b"keep me\n")
    with locked(path, "--trace"):
        refusal = other.tell(path)
        assert "--output" in refusal
        assert f"{path} is in use" in refusal
    assert other.tell(path) == "had it"
    with pytest.raises(UsageError, match=rf"--trace {path} is in use"), locked(path, "--trace"):
        pass
    assert other.tell("enough") == "gave it back"
    left = [item.name for item in tmp_path.rglob("*")]
    assert left == ([] if kind == "file to be" else ["it"])
    assert other.tell(path) == "had it"
    other.process.kill()
    other.process.wait()
    with locked(path, "--trace"):
        pass
    assert [item.name for item in tmp_path.rglob("*")] == left


@posix
def test_a_link_to_a_file_in_use_is_in_use(other: OtherProcess, tmp_path: Path) -> None:
    """Guards two runs whose lines mix in one file that has two names."""
    path, link = tmp_path / "it", tmp_path / "link"
    path.write_bytes(b"keep me\n")
    link.symlink_to(path.name)
    with locked(path, "--output"):
        assert "in use" in other.tell(link)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="POSIX only")
def test_a_device_is_nobodys() -> None:
    """Guards a file made in /dev, and -o /dev/null for one run only."""
    with locked(Path("/dev/null"), "--output"), locked(Path("/dev/null"), "--trace"):
        assert not list(Path("/dev").glob(".null*"))
