"""Whose a file is that stands where a result is to go: nothing of the user's is lost, whatever writes there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from commands import ROOT, environment, error_line, jsonl, run
from real.models import Files

from foreal_local.errors import ForealError, UsageError
from foreal_local.storage import session
from foreal_local.storage.checkpoints import Checkpoints
from foreal_local.storage.files import LineFile, OutputError, descriptor_of, keep_aside, locked, replace_file
from foreal_local.storage.ownership import (
    FIGURES,
    IMAGE,
    RECOMMENDATION,
    REPORT,
    VECTOR,
    Kind,
    check_writable,
    write_result,
)

CHAT = [sys.executable, "-m", "foreal_local", "chat"]
BENCH = [sys.executable, "-m", "foreal_local", "bench"]
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0" * 17 + b"\0\0\0\0IEND\xaeB`\x82"
CONTENTS = [
    (REPORT, b"<html></html>\n"),
    (VECTOR, b"<svg></svg>\n"),
    (IMAGE, PNG),
    (FIGURES, b'{\n "a": 1\n}\n'),
    (RECOMMENDATION, b"n = 5\n"),
]
kinds = pytest.mark.parametrize(("kind", "content"), CONTENTS, ids=["report", "svg", "png", "figures", "toml"])


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- results that the next one replaces
@kinds
def test_the_next_result_replaces_the_last_one_alone(kind: Kind, content: bytes, tmp_path: Path) -> None:
    """Guards a user's file, and a result that the user has changed, replaced by the next result; and copies of all."""
    path, notes = tmp_path / "it", list[str]()
    path.write_bytes(b"my own")
    for _ in range(3):
        write_result(path, content, kind, notes.append)
    assert left(tmp_path) == {"it": kind.marked(content), "it.~1~": b"my own"}
    assert notes == [f"{path} was there already: kept as {path}.~1~"]
    changes = [b"x" + path.read_bytes(), path.read_bytes() + b"\n", path.read_bytes()[:-1], content]
    for number, changed in enumerate(changes, 2):
        path.write_bytes(changed)
        write_result(path, content, kind, notes.append)
        assert (tmp_path / f"it.~{number}~").read_bytes() == changed
    assert len(notes) == 1 + len(changes)


def test_another_kinds_result_is_kept(tmp_path: Path) -> None:
    """Guards a recommendation replaced by a page because both are this program's."""
    write_result(tmp_path / "it", b"n = 5\n", RECOMMENDATION, lambda line: None)
    write_result(tmp_path / "it", b"<html>\n", REPORT, lambda line: None)
    assert (tmp_path / "it.~1~").read_bytes() == RECOMMENDATION.marked(b"n = 5\n")


def test_a_mark_keeps_the_format() -> None:
    """Guards figures that are no JSON any more, and pictures that no program opens."""
    assert json.loads(FIGURES.marked(b'{\n "a": 1\n}\n')).keys() == {"a", "made_by"}
    data = IMAGE.marked(PNG)
    at, found = 8, []
    while at < len(data):  # length, name, content, sum
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8])
        at += 12 + size
    assert (found, at) == ([b"IHDR", b"tEXt", b"IEND"], len(data))


# ---------------------------------------------------------------- what is never moved
PRECIOUS = {
    "model.gguf": b"GGUF\3\0\0\0",
    "model": b"GGUF\3\0\0\0",
    "torn.GGUF": b"",
    "weights.safetensors": b"\0",
    "prompts.jsonl": jsonl({"prompt": "wait"}).encode(),
    "chats.txt": jsonl({"messages": [{"role": "user", "content": "wait"}]}).encode(),
    "batch": b'\xef\xbb\xbf{"custom_id": "a", "body": {}}\n',
}


@pytest.mark.parametrize("name", PRECIOUS)
def test_models_and_prompts_are_never_moved(name: str, tmp_path: Path) -> None:
    """Guards a model that has another name after a slip of the tab key, also behind a link."""
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / name, tmp_path / "link"
    path.write_bytes(PRECIOUS[name])
    names = [path]
    if not path.suffix:
        link.hardlink_to(path)
        names.append(link)
    for each in names:
        for write in (lambda file: check_writable(file), lambda file: write_result(file, b"", REPORT, print)):
            with pytest.raises(UsageError, match="never moved") as caught:
                write(each)
            assert str(each) in str(caught.value)
    assert left(path.parent) == {name: PRECIOUS[name]}


def test_answers_are_no_prompts(tmp_path: Path) -> None:
    """Guards results of an earlier run, which are kept under a number, refused as prompts."""
    path = tmp_path / "out.jsonl"
    path.write_text(jsonl({"id": "0", "prompt": "wait", "text": "so", "finish_reason": "stop"}))
    check_writable(path)


@pytest.mark.parametrize("command", ["gen", "trace", "json", "recommend", "save", "export"])
def test_every_command_refuses_a_model(command: str, env: dict[str, str], chat_pair: Files, tmp_path: Path) -> None:
    """Guards one way to write a file that is forgotten."""
    path = tmp_path / "other.gguf"
    path.write_bytes(chat_pair.draft.read_bytes())
    before = path.read_bytes()
    if command in ("gen", "trace"):
        done = run("--prompt", "wait", "-o" if command == "gen" else "--trace", path, env=env)
    elif command in ("json", "recommend"):
        done = run(f"--{command}", path, "--limit", "1", env=env, command=BENCH)
    else:
        done = run("-q", env=env, command=CHAT, stdin=f"/{command} {path}\n")
    assert done.returncode == (1 if command in ("save", "export") else 2)
    assert "other.gguf is a model, which is never moved" in done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "gguf" in file.name] == ["other.gguf"]


# ---------------------------------------------------------------- the chat
def test_a_chat_keeps_what_is_not_its_own(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a thesis replaced by 38 bytes of chat, and a second conversation saved over the first."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "thesis.md").write_text("a life's work")
    (folder / "prompts.txt").write_text("one\ntwo\n")
    options = ("-q", "--max-tokens", "3", "--temp", "0", "--seed", "1")
    first = run(*options, env=env, cwd=folder, command=CHAT, stdin="wait\n/export thesis.md\n/save talk\n/save talk\n")
    assert first.returncode == 0, first.stderr
    assert "thesis.md was there already: kept as" in first.stderr
    talk = (folder / "talk").read_bytes()
    lines = "now\n/save prompts.txt\n/save talk\nso\n/regen\n/save talk\n/export new.md\nha\n/export new.md\n"
    second = run(*options, env=env, cwd=folder, command=CHAT, stdin=lines)
    assert second.returncode == 1
    assert "prompts.txt is there already and is no saved conversation" in second.stderr
    files = left(folder)
    assert files.keys() == {"thesis.md", "thesis.md.~1~", "prompts.txt", "talk", "talk.~1~", "new.md"}
    assert (files["thesis.md.~1~"], files["prompts.txt"]) == (b"a life's work", b"one\ntwo\n")
    assert files["talk.~1~"] == talk


def test_a_loaded_conversation_is_saved_where_it_was(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a numbered copy at each saving, and a conversation that another one replaces after /clear."""
    folder = tmp_path / "work"
    folder.mkdir()
    options = ("-q", "--max-tokens", "3", "--temp", "0", "--seed", "1")
    lines = ["wait\n/save talk\n/export talk.md\n", "/load talk\nnow\n/save talk\n/export talk.md\n"]
    for text in lines:
        done = run(*options, env=env, cwd=folder, command=CHAT, stdin=text)
        assert done.returncode == 0, done.stderr
        assert left(folder).keys() == {"talk", "talk.md"}
    longer = (folder / "talk").read_bytes()
    done = run(*options, env=env, cwd=folder, command=CHAT, stdin="/load talk\n/clear\nso\n/save talk\n")
    assert (folder / "talk.~1~").read_bytes() == longer


def test_a_session_goes_on_in_its_own_file(env: dict[str, str], tmp_path: Path) -> None:
    """Guards numbered copies of a session, and its file given to an export."""
    home = environment(None, tmp_path)["HOME"]
    options = ("-q", "--session", "it", "--max-tokens", "3", "--seed", "1")
    (path,) = (Path(home) / name / "sessions" / "it.session" for name in [".config/foreal"])
    for _ in range(2):
        done = run(*options, env=env, command=CHAT, stdin=f"wait\n/save\n/save {path}\n/clear\n/save\n")
        assert done.returncode == 0, done.stderr
    refused = run(*options, env=env, command=CHAT, stdin=f"/export {path}\n")
    assert (refused.returncode, "would replace this chat's session" in refused.stderr) == (1, True)
    assert [file.name for file in path.parent.iterdir()] == ["it.session"]


def test_names_that_are_none(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a chat that ends in a traceback because of a name: too long, of nobody's home, with a NUL, a folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    names = ["x" * 300, "~nobody_here/x", "a\0b", str(tmp_path / "folder"), str(tmp_path / "loop"), "/dev/null/x"]
    lines = [f"/{command} {name}" for command in ("save", "export", "load", "read") for name in names]
    done = run("-q", env=env, cwd=tmp_path, command=CHAT, stdin="\n".join([*lines, "wait"]) + "\n")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) >= len(lines)
    assert done.stdout.strip()


# ---------------------------------------------------------------- kinds of files
@posix
def test_a_device_and_a_pipe_are_written_to(tmp_path: Path) -> None:
    """Guards /dev/null replaced by a file of figures, for the whole machine where root runs this."""
    null, pipe = tmp_path / "null", tmp_path / "pipe"
    null.symlink_to("/dev/null")
    os.mkfifo(pipe)
    write_result(null, b"{\n}\n", FIGURES, print)
    read = list[bytes]()
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_result(pipe, b"n = 5\n", RECOMMENDATION, print)
    reader.join(30)
    assert read == [RECOMMENDATION.marked(b"n = 5\n")]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"null", "pipe"}


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "all.txt"])
def test_standard_output_by_name_goes_on_where_it_stands(name: str, tmp_path: Path) -> None:
    """Guards `--json /dev/stdout > all.txt`: the file was moved away, and what was printed later was lost."""
    code = "import sys; from pathlib import Path; from foreal_local.storage.ownership import FIGURES, write_result\n"
    code += "from foreal_local.storage.files import LineFile\n"
    code += "print('first', flush=True); write_result(Path(sys.argv[1]), b'{\\n \"a\": 1\\n}\\n', FIGURES, print)\n"
    code += "file = LineFile(sys.argv[1]); file.write('a line\\n'); file.close(); print('last')"
    with open(tmp_path / "all.txt", "wb") as out:
        words = [sys.executable, "-c", code, name]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(words, stdout=out, cwd=tmp_path, check=True, timeout=60, env=env)
    text = (tmp_path / "all.txt").read_text()
    assert (text.splitlines()[0], text.splitlines()[-2:]) == ("first", ["a line", "last"])
    assert [path.name for path in tmp_path.iterdir()] == ["all.txt"]


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Guards results that land beside a link instead of on the disk that it names."""
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "out.jsonl", tmp_path / "out.jsonl"
    real.write_text("older\n")
    link.symlink_to(real)
    file = LineFile(str(link))
    file.write("new\n")
    file.close()
    assert left(real.parent) == {"out.jsonl": b"new\n", "out.jsonl.~1~": b"older\n"}
    assert link.is_symlink()


def test_two_runs_keep_both_results(tmp_path: Path) -> None:
    """Guards a file set aside under a name that another run takes at the same moment, and a result replaced by one."""
    path, n = tmp_path / "it", 12
    path.write_text("mine")
    start = threading.Barrier(n)

    def write(number: int) -> None:
        start.wait()
        replace_file(path, [f"{number}".encode()], is_own=lambda file: False)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(left(tmp_path).values()) == sorted([b"mine", *(f"{number}".encode() for number in range(n))])


def test_a_file_that_has_gone_is_nothing_to_keep(tmp_path: Path) -> None:
    """Guards an error, and an empty numbered file, where another run was faster."""
    assert keep_aside(tmp_path / "it") is None
    assert left(tmp_path) == {}


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    """Guards a long run whose result has no place."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder", "file/x", "none/x", "x" * 300):
        with pytest.raises(OutputError, match="cannot write"):
            check_writable(tmp_path / name)
    assert descriptor_of(tmp_path / "file") is None


# ---------------------------------------------------------------- folders that are the user's, too
def test_a_folder_of_checkpoints_may_hold_other_files(tmp_path: Path) -> None:
    """Guards run.json, .lock and half downloads of the user's in a folder that is given to --checkpoint."""
    mine = {"run.json": b'{"seed": 3, "trainer": "mine"}', ".lock": b"mine", ".model.part": b"half"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    notes = list[str]()
    with locked(tmp_path, "--checkpoint"):
        checkpoints = Checkpoints(tmp_path, on_note=notes.append)
        checkpoints.clean()
        from foreal_local.config import Generation

        seed = checkpoints.settle_seed(Generation()).seed
        assert checkpoints.settle_seed(Generation()).seed == seed
        checkpoints.close()
    assert left(tmp_path) == {"run.json.~1~": mine["run.json"], ".lock": b"mine", ".model.part": b"half"}
    assert len(notes) == 1


def test_a_second_run_json_is_no_error_of_the_first(tmp_path: Path) -> None:
    """Guards a file that is no JSON at all."""
    from foreal_local.config import Generation

    (tmp_path / "run.json").write_bytes(b"[" * 100_000)
    assert Checkpoints(tmp_path).settle_seed(Generation()).seed is not None
    assert (tmp_path / "run.json.~1~").read_bytes() == b"[" * 100_000


@pytest.mark.parametrize("obstacle", ["report.html", "figures"])
def test_an_obstacle_in_the_reports_folder_is_found_first(obstacle: str, tmp_path: Path) -> None:
    """Guards hours of a benchmark whose report cannot be written."""
    from foreal_local.evaluation.reports.report import check_folder

    if obstacle == "figures":
        (tmp_path / obstacle).write_text("mine")
    else:
        (tmp_path / obstacle).mkdir()
    with pytest.raises(ForealError, match=obstacle):
        check_folder(tmp_path)


def test_bench_keeps_a_config_and_figures_of_the_users(tmp_path: Path) -> None:
    """Guards a hand-written file for --config that --recommend replaces, and copies of results."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "best.toml").write_text("threads = 1\n")
    (folder / "figures.json").write_text("{}")
    env = environment(None, tmp_path)
    options = ["--limit", "3", "--temp", "0", "--boundaries", "simple", "--loss", "100", "-q"]
    options += ["--recommend", "best.toml", "--json", "figures.json"]
    for _ in range(2):
        done = run(*options, env=env, cwd=folder, command=BENCH)
        assert done.returncode == 0, done.stderr
    files = left(folder)
    pays = "nothing written to best.toml" not in done.stdout  # on this machine
    assert files["best.toml.~1~" if pays else "best.toml"] == b"threads = 1\n"
    assert files["figures.json.~1~"] == b"{}"
    assert len(files) == 3 + pays
    refused = run(*options[:-1], "best.toml", env=env, cwd=folder, command=BENCH)
    assert "same file" in error_line(refused)


# ---------------------------------------------------------------- sessions of other programs
STRANGE: dict[str, dict[str, object]] = {
    "models": {"models": 1.5},
    "no-models": {"models": None},
    "states": {"states": {"leader": True}},
    "kind": {"kind": "sequence"},
    "content": {"conversation": []},
    "budget": {"think_budget": "x"},
    "messages": {"messages": [5]},
    "role": {"messages": [{"role": 5, "content": "x", "spans": [], "finish_reason": None}]},
    "held": {"held": {"leader": ["x"]}},
    "cost": {"cost": {"leader": {"calls": []}, "draft": {}}},
    "tally": {"tally": {"n_tokens": "x"}},
    "settings": {"settings": {}},
    "prompting": {"prompting": {"system": 5}},
}


def test_a_session_that_another_program_wrote_is_a_line(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a chat that ends in a traceback: the digest is right, and the values are not what this version saves."""
    options = ("-q", "--max-tokens", "3", "--seed", "1")
    run(*options, env=env, cwd=tmp_path, command=CHAT, stdin="wait\n/save whole\n")
    data = (tmp_path / "whole").read_bytes()
    found = session._whole_header(data, at_end=False)
    assert found
    values = json.loads(zlib.decompress(found[1]))

    def write(name: str, header: bytes, version: int = session.VERSION) -> None:
        frame = session._FRAME.pack(session._MAGIC, version, len(header), session._digest(version, header))
        (tmp_path / name).write_bytes(frame + header + data[len(frame) + len(found[1]) :])

    for name, changes in STRANGE.items():
        top = {key: value for key, value in changes.items() if key in values}
        own = {key: value for key, value in changes.items() if key not in values}
        inner = values["conversation"] | own
        header = zlib.compress(json.dumps({**values, "conversation": inner, **top}).encode())
        write(name, header)
    write("no-zlib", b"abc")
    write("no-json", zlib.compress(b"[" * 100_000))
    write("older", found[1], 0)
    names = [*STRANGE, "no-zlib", "no-json", "older"]
    lines = "".join(f"/load {name}\n/clear\nso\n" for name in names)
    done = run(*options, env=env, cwd=tmp_path, command=CHAT, stdin=lines)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("answer ", "a new "))]
    assert (done.returncode, len(errors)) == (1, len(names)), done.stderr
    assert all(name in line for name, line in zip(names, errors, strict=True))
    assert done.stdout.count("\n") >= len(names), "the chat goes on"
