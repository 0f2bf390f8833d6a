"""foreal-gen resuming an earlier run: --resume, --checkpoint, and runs that meet on one file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import MODULE, ROOT, Done, environment, error_line, jsonl, records, run
from real.models import Files
from real.replay import replay

from foreal_local.cli.gen import main

PAIR = Files(ROOT / "models" / "tiny-leader.gguf", ROOT / "models" / "tiny-draft.gguf")
PROMPTS = {
    "a": "Iris has 39 shells. Leo has 2 fewer shells than Noah. Noah has 4 fewer shells than Iris. "
    "How many shells does Leo have?",
    "b": "Tom has 2 more pens than Kate. Leo has 35 pens. Kate has twice as many pens as Leo. "
    "How many pens does Tom have?",
    "c": "Anna has 24 toys. Kate has 8 fewer toys than Anna. Finn has 2 more toys than Kate. "
    "How many toys does Finn have?",
}
SETTINGS = ("--temp", "0", "--seed", "1", "-n", "4", "-k", "2", "--max-tokens", "40", "--checkpoint-every", "8", "-q")
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")


def call(*arguments: str | Path, env: dict[str, str], stdin: str | None = None) -> Done:
    """As `run`, in this process: for what needs no process of its own, which takes most of a call's time."""
    cleared = {name: None for name in os.environ if name.startswith("FOREAL_")}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin, env=cleared | env)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return Done(arguments, result.exit_code, result.stdout, result.stderr)


def prompts_in(folder: Path, ids: str = "abc", **texts: str) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text(jsonl(*({"prompt": (PROMPTS | texts)[id], "id": id} for id in ids)), "utf-8")
    return path


def pair_environment(home: Path) -> dict[str, str]:
    return environment(None, home, FOREAL_CTX_SIZE="512")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a command line that uses the bundled pair."""
    return pair_environment(tmp_path)


@dataclass(frozen=True)
class Whole:
    """What a run that nothing stopped has written."""

    lines: list[bytes]
    trace: bytes

    @property
    def results(self) -> list[dict[str, Any]]:
        return results(b"".join(self.lines))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    out, trace = folder / "out.jsonl", folder / "trace.jsonl"
    done = call("-f", prompts_in(folder), *SETTINGS, "-o", out, "--trace", trace, env=pair_environment(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return Whole(out.read_bytes().splitlines(keepends=True), trace.read_bytes())


def results(data: bytes | Path) -> list[dict[str, Any]]:
    """What must be the same in the record of a run that was stopped, in the order of the prompts."""
    data = data.read_bytes() if isinstance(data, Path) else data
    keys = ("id", "index", "text", "finish_reason", "usage", "sentences", "seed", "settings_hash")
    found = [{key: record[key] for key in keys} for record in records(data.decode())]
    return sorted(found, key=lambda record: record["index"])


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, its hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- records that are there
def test_a_run_that_is_done_is_not_done_again(env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards --resume that needs an earlier run, that writes what is there once more, or loads models for nothing."""
    out = tmp_path / "out.jsonl"
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", "-v")
    first = run(*command, env=env)
    assert first.returncode == 0
    assert "llama_model_loader" in first.stderr
    assert results(out) == whole.results
    before, stat = contents(tmp_path), out.stat()
    second = run(*command, env=env)
    assert (second.returncode, second.stdout) == (0, "")
    assert second.stderr == f"foreal-gen: 3 of 3 prompts are done already, in {out}\n", "a model was loaded"
    assert contents(tmp_path) == before
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_only_the_rest_is_answered(torn: bool, env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards answers made twice, other ones than without the stop, and a trace with a sequence twice or in half."""
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    out.write_bytes(whole.lines[0] + (whole.lines[1][:-200] if torn else b""))
    begin = whole.trace.index(b'{"type": "prompt", "id": "b"')
    trace.write_bytes(whole.trace[: begin + (1500 if torn else 0)])
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--trace", trace, "--resume")
    done = call(*command, env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "foreal-gen: 1 of 3 prompts are done already" in done.stderr
    assert ("torn" in done.stderr) == torn
    assert out.read_bytes().startswith(whole.lines[0])
    assert results(out) == whole.results
    assert trace.read_bytes() == whole.trace
    assert replay(trace, *PAIR) == []
    assert set(contents(tmp_path)) == {"prompts.jsonl", "out.jsonl", "trace.jsonl"}


def another_draft(folder: Path, changed: bool) -> tuple[str | Path, ...]:
    """Options for a copy of the draft; its last tensor is another one where `changed`."""
    data = PAIR.draft.read_bytes()
    path = folder / "copied.gguf"
    path.write_bytes(data[:-80_000] + bytes(80_000) if changed else data)
    return ("-l", PAIR.leader, "-d", path)


CHANGES: dict[str, Callable[[Path], tuple[str | Path, ...]]] = {
    "temp": lambda folder: ("--temp", "0.5"),
    "n": lambda folder: ("-n", "3"),
    "system": lambda folder: ("--system", "Be brief."),
    "prompt": lambda folder: ("-f", prompts_in(folder, b="How many pens does Tom have?")),
    "model": lambda folder: another_draft(folder, True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_records_of_other_settings_are_made_again(
    change: str, env: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    """Guards answers of other settings that stand among these, and texts that are gone without a word."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"".join(whole.lines))
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", *CHANGES[change](tmp_path))
    done = call(*command, env=env)
    assert done.returncode == 0, done.stderr
    again = {"b"} if change == "prompt" else {"a", "b", "c"}
    words = "1 of the records is" if change == "prompt" else "3 of the records are"
    assert f"foreal-gen: {words} made again: the prompt, the settings or the models have changed" in done.stderr
    assert f"{out} as it was is kept as {out}.~1~" in done.stderr
    assert out.with_name("out.jsonl.~1~").read_bytes() == b"".join(whole.lines)
    found = results(out)
    assert [record["id"] for record in found] == ["a", "b", "c"]
    assert {new["id"] for new, old in zip(found, whole.results, strict=True) if new != old} == again


def test_a_model_that_has_moved_is_the_same_model(env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards hours of work done again because a model was copied, downloaded again or named by its path."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"".join(whole.lines))
    options = another_draft(tmp_path, False)
    done = call("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", *options, env=env)
    assert (done.returncode, "3 of 3 prompts are done" in done.stderr) == (0, True)
    assert out.read_bytes() == b"".join(whole.lines)


def test_the_rest_is_asked_as_it_would_have_been(env: dict[str, str], tmp_path: Path) -> None:
    """Guards records held against the run's settings instead of their prompts', and a run without --seed whose
    halves have different seeds."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    lines: list[dict[str, Any]] = [
        {"prompt": PROMPTS["a"], "id": 7, "n": 2, "max_tokens": 30},
        {"prompt": PROMPTS["b"], "id": "b", "temp": 0, "seed": 5},
        {"prompt": PROMPTS["b"], "id": "other seed", "seed": 5},
        {"messages": [{"role": "user", "content": PROMPTS["c"]}], "mode": "draft"},
    ]
    prompts.write_text(jsonl(*lines), "utf-8")
    command = ("-f", prompts, "--max-tokens", "20", "--temp", "2", "--top-p", "1", "-q", "-o", out, "--resume")
    assert call(*command, env=env).returncode == 0
    before, written = results(out), out.read_bytes().splitlines(keepends=True)
    assert [record["id"] for record in before] == ["7", "b", "other seed", "3"]
    assert before[0]["seed"] == before[3]["seed"], "drawn"
    assert before[1]["seed"] == before[2]["seed"] == 5
    lines[2]["seed"] = 6
    prompts.write_text(jsonl(*lines), "utf-8")
    out.write_bytes(b"".join(written[1:]))
    done = call(*command, env=env)
    assert "1 of the records is made again" in done.stderr
    assert "2 of 4 prompts are done" in done.stderr
    found = results(out)
    assert [found[number] for number in (0, 1, 3)] == [before[number] for number in (0, 1, 3)]
    assert found[2]["seed"] == 6
    assert found[2]["text"] != before[2]["text"]


@pytest.mark.parametrize("had_one", [True, False])
def test_a_trace_that_lacks_finished_responses_is_reported(
    had_one: bool, env: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    """Guards a trace that is taken for one of the whole output."""
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    out.write_bytes(b"".join(whole.lines[:1]))
    if had_one:
        trace.write_bytes(whole.trace[: whole.trace.index(b'{"type": "prompt", "id": "b"')])
    done = call("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--trace", trace, "--resume", env=env)
    assert done.returncode == 0
    assert ("has nothing of the 1 that are done" in done.stderr) is not had_one
    assert (trace.read_bytes() == whole.trace) is had_one


def test_a_trace_of_other_settings_is_not_gone_on_with(env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards a trace whose header tells of other settings than its sequences were made with."""
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    out.write_bytes(b"".join(whole.lines))
    trace.write_bytes(whole.trace)
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--trace", trace, "--resume", "-n", "3", "-p", "1")
    assert call(*command, env=env).returncode == 0
    assert json.loads(trace.read_bytes().splitlines()[0])["n"] == 3
    assert replay(trace, *PAIR) == []
    assert trace.with_name("trace.jsonl.~1~").read_bytes() == whole.trace


def test_other_prompts_stay_in_the_trace(env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards sequences lost where the records that belong to them stay."""
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    out.write_bytes(b"".join(whole.lines[:2]))
    trace.write_bytes(whole.trace[: whole.trace.index(b'{"type": "prompt", "id": "c"')])
    command = ("-f", prompts_in(tmp_path, "bc"), *SETTINGS, "-o", out, "--trace", trace, "--resume")
    assert call(*command, env=env).returncode == 0
    assert [record["id"] for record in records(out.read_text("utf-8"))] == ["a", "b", "c"]
    lines = [json.loads(line) for line in trace.read_bytes().splitlines()]
    assert [line["id"] for line in lines if line["type"] == "end"] == ["a", "b", "c"]


# ---------------------------------------------------------------- refusing
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume"], ["--resume", "--output"]),
        (["--resume", "-o", "out.jsonl", "--format", "text"], ["--resume", "JSON"]),
        pytest.param(["--resume", "-o", "-"], ["--resume"]),
        (["--resume", "-o", "notes.txt"], ["notes.txt:1", "not a record"]),
        (["--resume", "-o", "one-line.json"], ["one-line.json:1", "not a record"]),
        (["--resume", "-o", "one-line.md"], ["one-line.md:1", "not a record"]),
        pytest.param(
            ["-o", "/proc/answers"],
            ["/proc/answers", "no file can be made there"],
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
        ),
        (["--checkpoint", "new", "--checkpoint-every", "0"], ["--checkpoint-every", "0"]),
        (["--checkpoint", "notes.txt"], ["notes.txt", "File exists"]),
        pytest.param(
            ["--checkpoint", "/proc/unfinished"],
            ["/proc/unfinished"],
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_be_gone_on_with(
    options: list[str], words: list[str], env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a run that seems to be safe and is not, and one that writes before it refuses."""
    (tmp_path / "notes.txt").write_text("keep me\n")
    (tmp_path / "one-line.json").write_text('{"id": "mine"}')  # without a line's end, as editors may leave it
    (tmp_path / "one-line.md").write_text("# My thesis")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = call("--prompt", "wait", *SETTINGS, *options, env=env)
    line = error_line(done)
    assert all(word in line for word in words), line
    assert done.returncode == (
        1 if options[-1] in ("notes.txt", "/proc/unfinished", "/proc/answers") and len(options) == 2 else 2
    )
    assert contents(tmp_path) == before


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and not os.geteuid(), reason="root may write anywhere")
@pytest.mark.parametrize("name", ["", "new"], ids=["it", "its parent"])
def test_a_folder_that_cannot_be_written_to(name: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards hours without any checkpoint."""
    folder = tmp_path / "readonly"
    folder.mkdir(mode=0o500)
    done = call("--prompt", "wait", *SETTINGS, "--checkpoint", folder / name, env=env)
    assert done.returncode == 1
    assert str(folder) in error_line(done)
    assert "Permission denied" in error_line(done)


def test_a_run_that_cannot_start_sets_no_record_aside(env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards an output that is empty because a wrong model was named: here one that is none."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"".join(whole.lines))
    prompts, models = prompts_in(tmp_path), ("-l", PAIR.leader, "-d", tmp_path / "no.gguf")
    models[-1].write_bytes(PAIR.draft.read_bytes()[:5000])
    before = contents(tmp_path)
    done = call("-f", prompts, *SETTINGS, "-o", out, "--resume", *models, env=env)
    assert (done.returncode, "no.gguf" in done.stderr) == (2, True)
    assert contents(tmp_path) == before


def test_two_runs_do_not_share_a_file_or_a_folder(env: dict[str, str], chat_pair: Files, tmp_path: Path) -> None:
    """Guards two runs that mix their lines, or take each other's unfinished responses."""
    out, trace, folder, other = (tmp_path / name for name in ("out.jsonl", "trace.jsonl", "unfinished", "other.jsonl"))
    out.write_bytes(b"")
    long = ["--prompt", "wait", "-o", out, "--resume", "--trace", trace, "--checkpoint", folder]
    long += ["--max-tokens", "100000", "-c", "30000", "--checkpoint-every", "1000000"]
    command = [*MODULE, *map(str, long)]
    first = subprocess.Popen(command, env=env | environment(chat_pair, tmp_path), stderr=subprocess.PIPE, cwd=ROOT)
    try:
        wait_until(lambda: trace.exists() and trace.stat().st_size > 0, first)
        before = contents(tmp_path)
        for options in (
            ("-o", out, "--resume"),
            ("-o", other, "--trace", trace),
            ("-o", other, "--checkpoint", folder),
        ):
            done = call("--prompt", "wait", *SETTINGS, *options, env=env)
            assert done.returncode == 2
            assert f"{options[-1] if options[-1] != '--resume' else out} is in use" in error_line(done)
        assert contents(tmp_path) == before
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not reached() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


# ---------------------------------------------------------------- runs that are stopped
def assert_clean(folder: Path, checkpoints: Path, *more: str) -> None:
    """Nothing is left of a run that is complete but what was asked for."""
    assert contents(checkpoints) == {}
    assert set(contents(folder)) == {"prompts.jsonl", "out.jsonl", *more}


def stopped_by(
    number: signal.Signals, command: list[str | Path], env: dict[str, str], reached: Callable[[], bool]
) -> tuple[int, str]:
    """A run that gets a signal as soon as something is reached: its exit code and stderr."""
    process = subprocess.Popen(
        [*MODULE, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=env,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(reached, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_is_resumed(name: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards hours lost to a crash or to Ctrl-C, and a run in two parts that is not the one it would have been.

    Without a seed: that of the first part is found again. Two lanes, so that two responses are unfinished.
    """
    number = signal.Signals[name]
    out, folder = tmp_path / "out.jsonl", tmp_path / "new" / "unfinished"
    prompts = prompts_in(tmp_path, "abcd", d="Ben has 7 fewer toys than Mia. Mia has 32 toys. How many toys has Ben?")
    plain: list[str | Path] = ["-f", prompts, "--temp", "1", "--top-p", "1", "--max-tokens", "250", "-q"]
    plain += ["-P", "2", "--lanes", "2"]
    every = "16" if name == "SIGKILL" else "1000000"
    options = ["-o", out, "--resume", "--checkpoint", folder, "--checkpoint-every", every]

    def reached() -> bool:
        """A checkpoint is there; where Ctrl-C is to write them, a record."""
        if name == "SIGKILL":
            return any(folder.glob("*.session"))
        return out.exists() and out.stat().st_size > 0

    for _ in range(20):
        code, err = stopped_by(number, [*plain, *options], env, reached)
        if any(folder.glob("*.session")):
            break
        shutil.rmtree(folder, ignore_errors=True)  # this machine was too busy to stop it in time
        out.unlink(missing_ok=True)
    if name != "SIGKILL":
        assert code == 130
        n_finished = len(records(out.read_text("utf-8")))
        assert f"interrupted: {n_finished} of 4 prompts finished" in err
        assert len(list(folder.glob("*.session"))) <= 4, "two that run, two that had ended and were not read yet"
        assert not any(folder.glob(".*"))
    done = call(*plain, *options, env=env)
    assert (done.returncode, "goes on after" in done.stderr) == (0, True), done.stderr
    assert_clean(tmp_path, folder)
    found = results(out)
    done = call(*plain, "--format", "jsonl", "--seed", str(found[0]["seed"]), env=env)
    assert found == results(done.stdout.encode())


DYING = """
import os, runpy, signal, sys
from pathlib import Path
from foreal_local.storage.checkpoints import Checkpoints
from foreal_local.storage.files import LineFile
left = {n}
def dying(real, wanted, last_act=lambda self, *data: None):
    def call(self, *data):
        global left
        left -= wanted(self, *data)
        if not left:
            last_act(self, *data)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *data)
    return call
{patch}
sys.argv[0] = 'foreal'
runpy.run_module('foreal_local', run_name='__main__')
"""
WRITE = "LineFile.write = dying(LineFile.write, lambda self, text: self.path.name == '{name}', {last_act})"
HALF = "lambda self, text: self._file.write(text.encode()[: len(text) // 2])"
MOMENTS = {
    "a checkpoint is written": "Path.replace = dying(Path.replace, lambda self, to: Path(to).suffix == '.session')",
    "a record is written": WRITE.format(name="out.jsonl", last_act=HALF),
    "a trace is written": WRITE.format(name="trace.jsonl", last_act=HALF),
    "a checkpoint is removed": "Checkpoints.remove = dying(Checkpoints.remove, lambda self, id, of: True)",
}


def dying(moment: str, n: int) -> list[str]:
    """foreal-gen, killed the nth time that it comes to this moment."""
    return [sys.executable, "-c", DYING.format(n=n, patch=MOMENTS[moment]), "gen"]


@posix
@pytest.mark.parametrize(
    ("moment", "n"),
    [
        ("a checkpoint is written", 7),
        ("a record is written", 2),
        ("a checkpoint is removed", 2),
        pytest.param("a trace is written", 3),
        pytest.param("a checkpoint is removed", 3),
    ],
)
def test_no_moment_is_a_bad_one(moment: str, n: int, env: dict[str, str], whole: Whole, tmp_path: Path) -> None:
    """Guards the moments in which two files tell different things."""
    out, trace, folder = (tmp_path / name for name in ("out.jsonl", "trace.jsonl", "unfinished"))
    command = ["-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", "--checkpoint", folder]
    command += ["--trace", trace] if "trace" in moment else []
    assert run(*command, env=env, command=dying(moment, n)).returncode == -signal.SIGKILL
    assert set(contents(tmp_path)) > {"prompts.jsonl"}
    done = call(*command, env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert results(out) == whole.results
    assert not trace.exists() or trace.read_bytes() == whole.trace
    assert_clean(tmp_path, folder, *(["trace.jsonl"] if trace.exists() else []))


# ---------------------------------------------------------------- checkpoints
@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed while it saved b again; no record of it is left."""
    if os.name == "nt":
        pytest.skip("there is no such signal there")
    folder = tmp_path_factory.mktemp("stopped")
    checkpoints = folder / "unfinished"
    command = ("-f", prompts_in(folder, "ab"), *SETTINGS, "-o", folder / "out.jsonl", "--checkpoint", checkpoints)
    done = run(*command, env=pair_environment(folder), command=dying("a checkpoint is written", 7))
    assert done.returncode == -signal.SIGKILL
    (path,) = checkpoints.glob("*.session")
    (scratch,) = checkpoints.glob(".*.part")
    assert path.name.startswith("b.")
    assert scratch.name.startswith(".b.")
    return checkpoints


@pytest.fixture
def unfinished(stopped: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(stopped, tmp_path / "unfinished")


@pytest.mark.parametrize("change", ["temp", "system", "model"])
def test_a_checkpoint_of_something_else_is_left_alone(
    change: str, env: dict[str, str], unfinished: Path, tmp_path: Path
) -> None:
    """Guards a response that begins with other settings' or models' words, and their checkpoint lost."""
    (path,) = unfinished.glob("*.session")
    before = path.read_bytes()
    options = [*SETTINGS, *CHANGES[change](tmp_path)]
    found = [
        call("-f", prompts_in(tmp_path, "ab"), "--format", "jsonl", *options, *more, env=env)
        for more in ((), ("--checkpoint", unfinished))
    ]
    assert [(done.returncode, done.stderr) for done in found] == [(0, "")] * 2
    assert results(found[0].stdout.encode()) == results(found[1].stdout.encode())
    assert contents(unfinished) == {path.name: before, "run.json": b'{"seed": 1}'}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], list[str]]] = {
    "emptied": (lambda data: b"", ["not a session file", "begins again"]),
    "header cut off": (lambda data: data[:100], ["torn", "begins again"]),
    "states cut off": (
        lambda data: data[: len(data) // 8],
        ["leader's state is torn", "draft's state is torn", "goes on after"],
    ),
    "end cut off": (lambda data: data[:-1], ["goes on after"]),
    "state flipped": (lambda data: flipped(data, len(data) // 2), ["state is torn, and is evaluated", "goes on after"]),
    "header flipped": (lambda data: flipped(data, 50), ["its beginning is torn", "goes on after"]),
    "both headers flipped": (lambda data: flipped(flipped(data, 50), len(data) - 50), ["torn", "begins again"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_time_only(
    damage: str, env: dict[str, str], unfinished: Path, whole: Whole, tmp_path: Path
) -> None:
    """Guards a bad byte that ends the run or changes an answer, and that nobody hears of."""
    (path,) = unfinished.glob("*.session")
    data, words = DAMAGES[damage]
    path.write_bytes(data(path.read_bytes()))
    out = tmp_path / "out.jsonl"
    out.write_bytes(whole.lines[0])
    command = ("-f", prompts_in(tmp_path, "ab"), *SETTINGS, "-o", out, "--resume", "--checkpoint", unfinished)
    done = call(*command, env=env)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert results(out) == whole.results[:2]
    assert_clean(tmp_path, unfinished)


def test_a_checkpoint_is_found_by_its_id(env: dict[str, str], unfinished: Path, tmp_path: Path) -> None:
    """Guards a response that is resumed in another prompt's place, where prompts were added or taken out."""
    options = ("--format", "jsonl", "--checkpoint", unfinished, "-P", "2", "--lanes", "1")
    done = call("-f", prompts_in(tmp_path, "bc"), *SETTINGS, *options, env=env)
    assert done.returncode == 0, done.stderr
    assert "goes on after" in done.stderr
    found = {record["id"]: record["prompt"] for record in records(done.stdout)}
    assert found == {id: PROMPTS[id] for id in "bc"}


def test_a_checkpoint_longer_than_the_context_is_full(env: dict[str, str], unfinished: Path, tmp_path: Path) -> None:
    """Guards a smaller --ctx-size that makes a failure of a response that has only come to its end."""
    options = ("--format", "jsonl", "-c", "50", "--checkpoint", unfinished)
    done = call("-f", prompts_in(tmp_path, "ab"), *SETTINGS, *options, env=env)
    assert [record["finish_reason"] for record in records(done.stdout)] == ["context", "context"]
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_two_responses_that_end_in_one_step(env: dict[str, str], tmp_path: Path) -> None:
    """Guards the second of them when the run ends at the first: by Ctrl-C, or here by a full disk."""
    options = (*SETTINGS, "-p", "1", "--max-tokens", "20", "-P", "2", "--lanes", "1", "--checkpoint", tmp_path / "c")
    done = call("--prompt", "wait", "--prompt", "wait", *options, "-o", "/dev/full", "--format", "jsonl", env=env)
    assert done.returncode == 1
    assert "No space left" in error_line(done)


# ---------------------------------------------------------------- full disks
@dataclass(frozen=True)
class Disk:
    """A file system of its own, with 8 KiB at first."""

    folder: Path

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=8m", str(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)


def assert_disk_full(done: Done) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, done.stderr
    assert "No space left on device" in errors[0]


def test_a_full_disk_is_gone_on_with_when_there_is_room(
    small_disk: Disk, env: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    """Guards half a record on a full disk, records lost by trying again, and a checkpoint that outlives its record."""
    (small_disk.folder / "filler").write_bytes(bytes(4096))
    out, folder = small_disk.folder / "out.jsonl", tmp_path / "unfinished"
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", "--checkpoint", folder)
    for _ in range(2):
        assert_disk_full(call(*command, env=env))
        assert results(out) == whole.results[:2]
    first = out.read_bytes()
    small_disk.grow()
    done = call(*command, env=env)
    assert done.returncode == 0
    assert "prompt c: goes on after" in done.stderr, "the response whose record did not fit"
    assert out.read_bytes().startswith(first)
    assert results(out) == whole.results
    assert contents(folder) == {}


def test_a_full_disk_under_checkpoints_costs_no_record(
    small_disk: Disk, env: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    """Guards a run that continues without the checkpoints it was asked for, and scratch files that fill the disk."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(whole.lines[0])
    folder = small_disk.folder / "unfinished"
    command = ("-f", prompts_in(tmp_path), *SETTINGS, "-o", out, "--resume", "--checkpoint", folder)
    done = call(*command, env=env)
    assert_disk_full(done)
    assert out.read_bytes() == whole.lines[0]
    assert set(contents(folder)) == {"run.json"}
    small_disk.grow()
    assert call(*command, env=env).returncode == 0
    assert results(out) == whole.results
    assert contents(folder) == {}
