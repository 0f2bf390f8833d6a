"""Sessions of foreal-chat as users meet them: what is kept and when, where it lies, the list, and how one goes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, environment, error_line, run
from terminal import ENTER, Terminal, terminal_environment
from test_chat_terminal import APPLES, CHAT, PENS, SHORT, endless, unwrapped  # noqa: F401  (endless is a fixture)

from foreal_local.palette import PALETTES, hexadecimal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such terminals there")

MODELS = ROOT / "models"
SWAPPED = ("-l", MODELS / "tiny-draft.gguf", "-d", MODELS / "tiny-leader.gguf")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start chats, which end with the test; `variables` of the environment."""
    started: list[Terminal] = []

    def start_one(*arguments: str | Path, **options: Any) -> Terminal:
        env = terminal_environment(None, tmp_path) | options.pop("variables", {})
        del env["FOREAL_REVIEW"]  # it would go before what a session has kept
        started.append(Terminal(*arguments, env=env, **options))
        return started[-1].__enter__()

    yield start_one
    for terminal in started:
        terminal.process.close(force=True)


def sessions(home: Path) -> Path:
    return home / ".config" / "foreal" / "sessions"


def opening(chat: Terminal) -> str:
    """What a chat has shown before its first prompt."""
    rows = chat.rows
    return " ".join(rows[: next(i for i, row in enumerate(rows) if row == ">>>")])


# ---------------------------------------------------------------- what is kept
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/set temp 0.35", "temp 0.35"),
        ("/set preset faithful", "tau=0.7"),
        ("/set stop END", "stop 'END'"),
        ("/set seed 77", "seed 77"),
        ("/set think-budget 9", "at most 9 tokens of thinking"),
        ("/set ctx-size 768", "context 768"),
        ("/set batch-size 64", "batch-size 64"),
        ("/set parse-special on", "parse-special on"),
        ("/mode leader", "leader, greedy"),
        ("/system Be very brief.", "system Be very brief."),
    ],
)
def test_what_is_set_outlives_a_crash(command: str, shown: str, start: Callable[..., Terminal]) -> None:
    """Guards a setting that is kept with the next answer only, and a chat that opens without telling what holds."""
    chat = start(*SHORT, "--session", "kept")
    chat.say(command)
    chat.kill(signal.SIGKILL)
    assert chat.end() == -signal.SIGKILL
    again = start("--session", "kept")
    assert shown in opening(again), opening(again)
    assert "seed 77" in opening(again) or "seed 1," in opening(again)
    assert again.leave() == 0


@pytest.mark.parametrize("name", ["markdown", "wrap"])
def test_how_a_chat_looks_is_kept(name: str, start: Callable[..., Terminal]) -> None:
    """Guards a switch of the screen that is forgotten or goes before what is typed, and colours of one terminal that a
    session brings to another."""
    chat = start(*SHORT, "--session", "kept", variables={"COLORFGBG": ""})
    chat.say(f"/set {name} off")
    chat.say("/colors dark")
    chat.kill(signal.SIGKILL)
    assert chat.end() == -signal.SIGKILL
    again = start("--session", "kept", variables={"COLORFGBG": ""})
    assert again.say(f"/set {name}").splitlines()[0] == f"{name}  off"
    (row,) = [row for row in again.rows if row == "leader draft"]
    (leader,) = {cell.fg for cell in again.cells[again.rows.index(row)][:6]}
    assert leader == hexadecimal(PALETTES["auto"].leader)[1:]
    assert again.leave() == 0
    typed = start("--session", "kept", f"--{name}")
    assert typed.say(f"/set {name}").splitlines()[0] == f"{name}  on"
    assert typed.leave() == 0


def test_what_is_typed_at_the_start_is_kept_when_the_chat_ends(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards options that hold for a chat and are forgotten, and a file for a chat in which nothing happened."""
    assert start("--session", "empty", "--temp", "0.2").leave() == 0
    assert not list(sessions(tmp_path).glob("*.session"))
    chat = start(*SHORT, "--session", "kept")
    chat.say(PENS)
    assert chat.leave() == 0
    assert start("--session", "kept", "--temp", "0.25", "--no-thinking").leave() == 0
    again = start("--session", "kept")
    assert "temp 0.25" in opening(again)
    assert "thinking off" in opening(again)
    again.say("/think hide")
    again.kill()
    assert again.end() == -signal.SIGKILL
    shown = start("--session", "kept", "--thinking").say(APPLES)
    assert "Anna" not in shown.split("tokens")[0], "reasoning is hidden, as it was"


# ---------------------------------------------------------------- which models
def test_a_session_goes_on_with_its_models(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a session that is opened with the default pair, because nobody named its own again."""
    shutil.copy(MODELS / "tiny-draft.gguf", tmp_path / "small.gguf")
    chat = start("-l", MODELS / "tiny-leader.gguf", "-d", tmp_path / "small.gguf", *SHORT, "--session", "own")
    chat.say(PENS)
    assert chat.leave() == 0
    again = start("--session", "own")
    assert "small" in opening(again)
    assert "session own was with" not in again.text
    assert "40 tokens" in again.say(APPLES)
    assert again.leave() == 0

    other = start("--session", "own", *SWAPPED)
    (line,) = [row for row in other.rows if "session own was with" in row]
    assert line == "session own was with tiny-leader + small; it goes on with tiny-draft + tiny-leader"
    assert "another model" not in other.text
    assert "40 tokens" in other.say(APPLES)
    assert other.leave() == 0
    assert "session own was with" not in start("--session", "own").text


def test_models_that_are_gone_are_told(tmp_path: Path) -> None:
    """Guards an error about a file that the user has not named now, without a way out."""
    env = environment(None, tmp_path)
    for name in ("big.gguf", "small.gguf"):
        shutil.copy(MODELS / f"tiny-{'leader' if name == 'big.gguf' else 'draft'}.gguf", tmp_path / name)
    models = ("-l", tmp_path / "big.gguf", "-d", tmp_path / "small.gguf")
    assert run("--session", "own", *models, *SHORT, env=env, command=CHAT, stdin=f"{PENS}\n").returncode == 0
    (tmp_path / "big.gguf").unlink()
    line = error_line(run("--session", "own", env=env, command=CHAT))
    assert "the models of session own: " in line
    assert "big.gguf" in line
    assert line.endswith("name other models with --pair, or with --leader and --draft")
    done = run("--session", "own", "--pair", "tiny", env=env, command=CHAT, stdin=f"{APPLES}\n")
    assert done.returncode == 0
    assert "session own was with big + small; it goes on with tiny\n" in done.stderr


# ---------------------------------------------------------------- where it lies
def test_states_lie_where_caches_belong(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a backup of one's settings that is full of models' states, and files that others can read."""
    cache = tmp_path / "elsewhere"
    chat = start(*SHORT, "--mode", "leader", "--session", "kept", variables={"XDG_CACHE_HOME": str(cache)})
    chat.say(PENS)
    assert chat.leave() == 0
    (text,), (states,) = sessions(tmp_path).iterdir(), (cache / "foreal" / "sessions").iterdir()
    assert (text.name, states.name) == ("kept.session", "kept.states")
    assert text.stat().st_size < 10_000 < states.stat().st_size
    for file in (text, states, tmp_path / ".config" / "foreal" / "history"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    first = evaluated(start("--session", "kept", variables={"XDG_CACHE_HOME": str(cache)}), APPLES)
    shutil.rmtree(cache)
    again = start("--session", "kept", variables={"XDG_CACHE_HOME": str(cache)})
    again.say("/undo")
    assert evaluated(again, APPLES) > first


def evaluated(chat: Terminal, question: str) -> int:
    """How many tokens both models have prefilled for a question."""

    def n_prefilled() -> int:
        return sum(map(int, re.findall(r"(\d+) prefilled", chat.say("/stats"))))

    before = n_prefilled()
    chat.say(question)
    found = n_prefilled() - before
    assert chat.leave() == 0
    return found


def test_sessions_of_earlier_versions_are_used(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a session with states in its file, as they were before, that is refused, evaluated again, or loses its
    states when a setting changes."""
    chat = start(*SHORT, "--mode", "leader")
    chat.say(PENS)
    chat.say(f"/save {tmp_path / 'old'}")  # one file with everything, as a session was
    fresh = evaluated(chat, APPLES)
    sessions(tmp_path).mkdir(parents=True)
    place = sessions(tmp_path) / "old.session"
    place.write_bytes((tmp_path / "old").read_bytes())
    place.chmod(0o644)
    again = start("--session", "old", "--pair", "tiny")
    assert "a conversation of 1 question; the last:" in again.text
    again.say("/set n 9")
    assert again.leave() == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert evaluated(start("--session", "old"), APPLES) <= fresh


def test_a_cache_that_cannot_be_written_costs_no_words(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a conversation that is lost because what can be made again could not be written."""
    (tmp_path / "file").touch()
    chat = start(*SHORT, "--session", "kept", variables={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert "next time the conversation is read again" in " ".join(chat.say(PENS).split())
    assert "cannot write" not in chat.say(APPLES)
    assert chat.leave() == 0
    assert "a conversation of 2 questions; the last:" in start("--session", "kept").text


# ---------------------------------------------------------------- the list, and how one goes
def test_the_list_tells_sessions_apart(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a list of names alone, a line that does not fit the terminal, and one bad file that hides the others."""
    env = environment(None, tmp_path)
    long = "Why " + "数" * 60 + "?"
    for name, lines, models in (("one", f"{PENS}\n{APPLES}\n", ()), ("other-two", f"{long}\n", SWAPPED)):
        assert run("--session", name, *models, *SHORT, env=env, command=CHAT, stdin=lines).returncode == 0
    (sessions(tmp_path) / "torn.session").write_bytes(b"FOREALST")
    (sessions(tmp_path) / "void.session").touch()
    os.utime(sessions(tmp_path) / "one.session", (2e9, 2e9))
    head, *rows = run("--list", env=env, command=CHAT).stdout.splitlines()
    assert head.split("  ")[0] == "name"
    by_name = {row.split()[0]: row for row in rows}
    assert rows[0] == by_name["one"]
    assert re.search(r"one +2033-05-18 \d\d:\d\d +2 +[\d.]+ .B  tiny +Leo has 8 pens", by_name["one"])
    assert re.search(r" 1 +[\d.]+ .B  tiny-draft \+ tiny-leader  Why 数数", by_name["other-two"])
    assert all("damaged" in by_name[name] for name in ("torn", "void"))

    shell = Terminal("--list", env=terminal_environment(None, tmp_path), columns=80)
    assert shell.end() == 0
    assert len(shell.text.splitlines()) == 5, shell.text


def test_a_session_is_deleted_when_one_is_sure(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards sessions that can only be removed by hand, half of one, and one that goes without a question."""
    env = environment(None, tmp_path)
    for name in ("one", "two"):
        assert run("--session", name, *SHORT, env=env, command=CHAT, stdin=f"{PENS}\n").returncode == 0
    cache = tmp_path / ".cache" / "foreal" / "sessions"
    assert "there is no session on: did you mean one?" in error_line(run("--delete", "on", env=env, command=CHAT))
    assert "--yes" in error_line(run("--delete", "one", env=env, command=CHAT))
    chat = start("--session", "one")
    assert "is in use" in error_line(run("--delete", "one", "--yes", env=env, command=CHAT))
    assert chat.leave() == 0
    assert {path.name for path in cache.iterdir()} == {"one.states", "two.states"}
    assert run("--delete", "one", "--yes", env=env, command=CHAT).stderr == "deleted one\n"
    assert {path.name for path in cache.iterdir()} == {"two.states"}
    for answer, is_left in (("n", True), ("y", False)):
        shell = Terminal("--delete", "two", env=terminal_environment(None, tmp_path))
        shell.wait("[y/N]")
        assert "Delete the session two (1 turns, " in shell.text
        shell.send(answer + ENTER)
        assert shell.end() == 0
        assert (sessions(tmp_path) / "two.session").exists() is is_left


@pytest.mark.parametrize("later", [("--session", "one"), ("--delete", "one", "--yes")])
def test_half_written_states_of_a_chat_that_was_killed_are_removed(later: tuple[str, ...], tmp_path: Path) -> None:
    """Guards files as large as the KV cache, in a folder where nobody looks, that no chat removes."""
    dying = "import os, signal, sys; from foreal_local.storage import files; from foreal_local.cli.chat import main\n"
    dying += "put = files._put_in_place\n"
    dying += "def die(scratch, path, is_own):\n"
    dying += "    if path.name == 'one.states': os.kill(os.getpid(), signal.SIGKILL)\n"
    dying += "    return put(scratch, path, is_own)\n"
    dying += "files._put_in_place = die; main()"
    env, cache = environment(None, tmp_path), tmp_path / ".cache" / "foreal" / "sessions"
    asked = ("--session", "one", *SHORT)
    done = run(*asked, env=env, stdin=PENS, command=[sys.executable, "-c", dying])
    assert done.returncode == -signal.SIGKILL
    (scratch,) = cache.iterdir()
    assert re.fullmatch(r"\.one\.states\.\d+-\d+\.part", scratch.name)
    other = scratch.with_name(".two.states.4711-140.part")  # perhaps another chat writes it now
    other.touch()
    assert run(*later, env=env, command=CHAT, stdin=APPLES).returncode == 0
    assert {path.name for path in cache.iterdir()} == {other.name, *(("one.states",) * ("--session" in later))}


# ---------------------------------------------------------------- where there is no place for them
def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Guards a traceback where the folder of sessions cannot be made: a home that is read-only, or full."""
    (tmp_path / ".config").touch()
    for variables in ({}, {"XDG_CONFIG_HOME": "/proc/nowhere"}):
        env = environment(None, tmp_path, **variables)
        done = run("--session", "x", *SHORT, env=env, command=CHAT, stdin=PENS)
        assert done.returncode == 1
        assert re.match(r"Error: cannot make the folder of sessions, .+: .+; leave out --session", error_line(done))
        assert run(*SHORT, env=env, command=CHAT, stdin=PENS).returncode == 0


def test_a_user_without_a_home_can_chat(tmp_path: Path) -> None:
    """Guards a traceback, and a folder that is named ~, where neither HOME nor the system's users tell a home."""
    nobody = "import pwd\n\n\ndef unknown(uid):\n    raise KeyError(uid)\n\n\npwd.getpwuid = unknown\n"
    (tmp_path / "sitecustomize.py").write_text(nobody)
    env = environment(None, tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    del env["HOME"]
    done = run(*SHORT, env=env, command=CHAT, stdin=PENS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "answer 1: ended by max-tokens after 40 tokens\n")
    assert "set HOME" in error_line(run("--session", "x", env=env, command=CHAT, stdin=PENS, cwd=tmp_path))
    assert "set HOME" in error_line(run("--list", env=env, command=CHAT, cwd=tmp_path))
    with Terminal(*SHORT, env=terminal_environment(None, tmp_path) | env | {"TERM": "xterm"}) as chat:
        chat.leave()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("given", ["", ".", "settings"])
def test_a_folder_that_is_no_absolute_path_is_ignored(given: str, tmp_path: Path) -> None:
    """Guards sessions that are written into the folder a chat is started in, because XDG_CONFIG_HOME is empty."""
    env, here = environment(None, tmp_path) | {"XDG_CONFIG_HOME": given}, tmp_path / "here"
    here.mkdir()
    done = run("--session", "s", "--max-tokens", "8", env=env, stdin=APPLES + "\n", cwd=here, command=CHAT)
    assert done.returncode == 0, done.stderr
    assert list(here.iterdir()) == []
    assert (sessions(Path(env["HOME"])) / "s.session").exists()
