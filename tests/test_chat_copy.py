"""What leaves a chat for elsewhere: /copy, /write, /export, and the last answer shown again."""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import run
from terminal import Terminal, terminal_environment

import foreal_local
from foreal_local.chat.clipboard import programs
from foreal_local.chat.conversation import Message

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such terminals there")

LONG = "echo " + " ".join(f"word{i}" for i in range(40))
ANSWER = f"So **do** this:\n\n```sh\n{LONG}\nls\n```\n\nor\n\n```python\nprint(1)"
CHAT = [sys.executable, "-m", "foreal_local", "chat"]
_NO_CLIPBOARD = ("DISPLAY", "WAYLAND_DISPLAY", "TMUX", "SSH_CONNECTION", "SSH_TTY", "WSL_DISTRO_NAME")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversation whose answer has two blocks of code, the second one cut."""
    path = tmp_path_factory.mktemp("kept") / "talk"
    with foreal_local.load() as engine:
        talk = foreal_local.Conversation(engine)
        spans = [("leader", 20), ("draft", len(ANSWER) - 20)]
        talk.messages = [Message("user", "How?"), Message("assistant", ANSWER, spans, "length")]
        talk.save(path)
    return path


@pytest.fixture
def start(session: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start chats that go on with the conversation."""
    started: list[Terminal] = []

    def start_one(*arguments: str, columns: int = 60, **variables: str) -> Terminal:
        env = terminal_environment(None, tmp_path)
        env = {name: value for name, value in env.items() if name not in _NO_CLIPBOARD} | variables
        started.append(Terminal(*arguments, "-q", env=env, columns=columns).__enter__())
        started[-1].say(f"/load {session}")
        return started[-1]

    yield start_one
    for terminal in started:
        terminal.process.close(force=True)


@pytest.fixture
def clipboard(tmp_path: Path) -> tuple[Path, str]:
    """A file that a program named xclip writes, and a PATH that has it."""
    folder, copied = tmp_path / "bin", tmp_path / "copied"
    folder.mkdir()
    program = folder / "xclip"
    program.write_text(f'#!/bin/sh\ncat > "{copied}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return copied, f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_copy_says_what_and_by_what(start: Callable[..., Terminal], clipboard: tuple[Path, str]) -> None:
    """Guards a copy of other lines than asked for, one with the marks around code, and one that says nothing."""
    copied, path = clipboard
    chat = start(PATH=path, DISPLAY=":0")
    for command, note, text in (
        ("/copy", "copied 11 lines, the answer, by xclip", ANSWER),
        ("/copy code", "copied 1 line, the last of 2 code blocks, by xclip", "print(1)\n"),
        ("/copy code all", "copied 4 lines, 2 code blocks, by xclip", f"{LONG}\nls\n\nprint(1)\n"),
    ):
        assert chat.say(command) == note
        assert copied.read_text("utf-8") == text
    assert chat.say("/copy cod") == "/copy is 'cod', but must be alone, or code, or code all"
    assert b"\x1b]52;" not in chat.raw
    chat.say("/clear")
    assert chat.say("/copy") == "there is no answer yet"


@pytest.mark.parametrize("variables", [{}, {"DISPLAY": ":0", "SSH_CONNECTION": "a 1 b 2"}])
def test_without_a_program_the_terminal_copies(
    variables: dict[str, str], start: Callable[..., Terminal], clipboard: tuple[Path, str]
) -> None:
    """Guards ssh, where the clipboard of the other computer is none: the terminal in front of the user is asked."""
    copied, path = clipboard
    chat = start(PATH=path, **variables)
    assert chat.say("/copy code").replace("\n", " ") == (
        "copied 1 line, the last of 2 code blocks, by the terminal (OSC 52), if it allows that"
    )
    (sent,) = re.findall(rb"\x1b\]52;c;([^\x07]*)\x07", chat.raw)
    assert base64.b64decode(sent) == b"print(1)\n"
    assert not copied.exists()


def test_a_program_that_fails_is_no_end(start: Callable[..., Terminal], clipboard: tuple[Path, str]) -> None:
    """Guards "copied" where nothing was: a display that cannot be reached."""
    copied, path = clipboard
    (copied.parent / "bin" / "xclip").write_text("#!/bin/sh\nexit 1\n")
    assert "OSC 52" in start(PATH=path, DISPLAY=":9").say("/copy")


def test_a_pipe_has_no_clipboard(session: Path, tmp_path: Path) -> None:
    """Guards escape sequences in a pipe, and a copy that nobody made."""
    env = terminal_environment(None, tmp_path)
    env = {name: value for name, value in env.items() if name not in _NO_CLIPBOARD}
    done = run("-q", env=env, stdin=f"/load {session}\n/copy\n", command=CHAT)
    assert (done.returncode, "\x1b" in done.stdout) == (1, False)
    assert "there is no clipboard here" in done.stderr


def test_clipboards_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a clipboard of another computer before the user's own, and tmux that is passed over."""
    monkeypatch.setattr("shutil.which", lambda name: name)
    names = lambda platform, **variables: [command[0] for command in programs(variables, platform)]  # noqa: E731
    assert names("darwin") == ["pbcopy"]
    assert names("win32") == ["clip.exe"]
    assert names("linux") == []
    assert names("linux", WAYLAND_DISPLAY="wayland-0", DISPLAY=":0") == ["wl-copy", "xclip", "xsel"]
    assert names("linux", DISPLAY=":0", TMUX="/tmp/tmux") == ["xclip", "xsel", "tmux"]
    assert names("linux", DISPLAY=":0", TMUX="/tmp/tmux", SSH_TTY="/dev/pts/1") == ["tmux"]
    assert names("darwin", SSH_CONNECTION="a 1 b 2") == []


# ---------------------------------------------------------------- files
def test_code_is_written_to_a_file(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards code with its fences, a file that another one's text is lost in, and /write that says nothing."""
    chat = start(columns=200)
    path, page, other = tmp_path / "code.sh", tmp_path / "answer.md", tmp_path / "other.txt"
    for _ in range(2):  # its own file is replaced
        assert chat.say(f"/write {path}") == f"wrote 4 lines, 2 code blocks, to {path}"
        assert path.read_text("utf-8") == f"{LONG}\nls\n\nprint(1)\n"
    assert chat.say(f"/write {page}") == f"wrote 11 lines, the answer, to {page}"
    assert page.read_text("utf-8") == f"{ANSWER}\n"
    other.write_text("mine")
    chat.ask(f"/write {other}")
    chat.wait("Keep it under a number, and write?")
    chat.send("n\r")
    chat.wait(chat.at_prompt)
    assert other.read_text("utf-8") == "mine"
    assert "cannot write" in chat.say(f"/write {tmp_path / 'none' / 'x'}")
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["answer.md", "code.sh", "other.txt"]


def test_an_answer_without_code_is_written_as_it_is(tmp_path: Path) -> None:
    """Guards an empty file."""
    options = ("--max-tokens", "30", "--temp", "0", "--think-budget", "1")
    with Terminal(*options, env=terminal_environment(None, tmp_path)) as chat:
        chat.say("Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?")
        path = tmp_path / "answer.txt"
        told = " ".join(chat.say(f"/write {path}").split())  # the name stands whole, in a line of its own
        assert re.fullmatch(r"wrote \d+ lines?, the answer, to .*", told)
        assert path.read_text("utf-8").strip()
        assert chat.say("/copy code") == "the last answer has no code block: /copy copies the answer"


def test_an_open_fence_is_closed_on_the_screen_and_in_a_file(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards all that follows an answer which was cut inside of code, and is code from there on."""
    chat = start()
    assert chat.text.split("print(1)")[1].lstrip().startswith("```")
    chat.say(f"/export {tmp_path / 'talk.md'}")
    assert (tmp_path / "talk.md").read_text("utf-8").endswith(f"{ANSWER}\n```\n\n")


# ---------------------------------------------------------------- the screen
def test_who_wrote_what_is_shown_again(start: Callable[..., Terminal]) -> None:
    """Guards authors that are lost where code is in colours, and a text that is not as it was written."""
    chat = start(columns=300)
    shown = chat.say("/authors")
    assert shown.splitlines() == ["leader draft", *ANSWER.split("\n"), "```"]
    led = [cell for cell in chat.answer_cells()[len("leaderdraft") :] if cell.fg != "default"]
    assert len(led) == len(re.sub(r"\s", "", ANSWER[:20]))


def test_markdown_and_wrapping_are_switched(start: Callable[..., Terminal], session: Path) -> None:
    """Guards options of the start that cannot be changed, and /set that changes nothing or says nothing."""
    chat = start("--no-markdown")
    assert "So **do** this:" in chat.text
    assert chat.say("/set markdown on") == "markdown: on"
    assert "So do this:" in chat.say(f"/load {session}")
    assert chat.say("/set wrap maybe") == "wrap is 'maybe', but must be on or off"
    assert chat.say("/set wrap off") == "wrap: off"


def test_colours_for_a_background(start: Callable[..., Terminal]) -> None:
    """Guards words that cannot be read on a light or a dark terminal, and a legend that shows other colours."""
    chat = start("--background", "dark")
    colours = {}
    for choice in ("dark", "light", "on"):
        assert chat.say(f"/colors {choice}").splitlines() == [f"colors are {choice}", "leader draft"]
        colours[choice] = chat.answer_cells()[-len("leaderdraft")].fg
    assert colours == {"dark": "5fafff", "light": "005faf", "on": "005faf"}
    assert "must be one of on, off, light, dark" in chat.say("/colors blue")


def test_the_legend_stands_once_at_the_start(tmp_path: Path) -> None:
    """Guards colours that nobody explains."""
    with Terminal(env=terminal_environment(None, tmp_path)) as chat:
        assert [row for row in chat.rows if row.strip() == "leader draft"] == ["leader draft"]
