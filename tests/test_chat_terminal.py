"""foreal-chat as users meet it: in a terminal, whose screen is looked at, and on a pipe."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner
from commands import ROOT, Done, environment, error_line, run
from real import tiny_gguf
from real.models import Files, TinyModels
from terminal import ALT_ENTER, CTRL_C, ENTER, TAB, UP, Terminal, terminal_environment

from foreal_local.chat.commands import NAMES_TO_SET
from foreal_local.cli.chat import main
from foreal_local.presets import PRESETS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such terminals there")

APPLES = "Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?"
PENS = "Leo has 8 pens. Kate has twice as many pens as Leo. How many pens does Kate have?"
SHORT = ("--temp", "0", "--seed", "1", "--max-tokens", "40")
WHOLE = ("--temp", "0", "--seed", "1")
BOXED = r"\\boxed\{\d+\}"
"""An answer of the bundled pair, whatever it has come to."""
CHAT = [sys.executable, "-m", "foreal_local", "chat"]


class Shared:
    """One chat with the bundled pair for many tests, started again where a test has left it elsewhere."""

    def __init__(self, home: Path) -> None:
        self._env = terminal_environment(None, home)
        self._terminal: Terminal | None = None
        self._fresh = ""

    def ready(self) -> Terminal:
        terminal = self._terminal
        if terminal and terminal.process.isalive() and terminal.at_prompt():
            terminal.say("/clear")
            if terminal.say("/show") == self._fresh:
                return terminal
        self.close()
        self._terminal = terminal = Terminal(*SHORT, env=self._env).__enter__()
        self._fresh = terminal.say("/show")
        return terminal

    def close(self) -> None:
        if self._terminal:
            self._terminal.process.close(force=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    one = Shared(tmp_path_factory.mktemp("shared"))
    yield one
    one.close()


@pytest.fixture
def chat(shared: Shared) -> Terminal:
    """A chat at its prompt, without messages; greedy, 40 tokens an answer. Leave it with the settings it had."""
    return shared.ready()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start chats with the bundled pair, which end with the test; `variables` of the environment."""
    started: list[Terminal] = []

    def start_one(*arguments: str | Path, **options: Any) -> Terminal:
        variables = options.pop("variables", {})
        started.append(Terminal(*arguments, env=terminal_environment(None, tmp_path) | variables, **options))
        return started[-1].__enter__()

    yield start_one
    for terminal in started:
        terminal.process.close(force=True)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options for answers of plain words that take many seconds."""
    base, folder = tiny_gguf.plain(), tmp_path_factory.mktemp("endless")
    emphasis = tuple(0.0 if value == tiny_gguf.RARE else value for value in base.emphasis)  # no bytes, no end
    words = replace(base, emphasis=emphasis, specials=tuple(replace(one, emphasis=0.0) for one in base.specials))
    leader = tiny_gguf.write_llama(folder / "l.gguf", seed=2, vocabulary=words, chat_template=tiny_gguf.CHATML)
    draft = tiny_gguf.perturbed(leader, folder / "d.gguf", seed=3)
    return ("-l", str(leader), "-d", str(draft), "--temp", "0.6", "--seed", "1", "-c", "30000")


def exported(chat: Terminal, folder: Path) -> str:
    """The conversation as /export writes it."""
    path = folder / "exported.md"
    path.unlink(missing_ok=True)
    chat.say(f"/export {path}")
    return path.read_text("utf-8")


def questions(chat: Terminal, folder: Path) -> list[str]:
    """The user's messages of one line."""
    return re.findall(r"^## (.+)\n\n", exported(chat, folder), re.MULTILINE)


def without_figures(answer: str) -> str:
    """An answer without the lines of its figures, which begin with its seconds."""
    rows = answer.split("\n")
    begins = [i for i, row in enumerate(rows) if re.match(r"\d+\.\d\d s(, \d+%| · FLOPs)", row)]
    return "\n".join(rows[: begins[-1]])


def unwrapped(text: str) -> str:
    return text.replace("\n", "")


# ---------------------------------------------------------------- commands
def test_help_and_what_nobody_knows(chat: Terminal) -> None:
    """Guards commands that the chat does not tell of, and a typing error that is asked as a question."""
    shown = chat.say("/help")
    for name in ("help", "set", "mode", "regen", "undo", "edit", "read", "think", "save", "load", "export", "exit"):
        assert f"\n/{name} " in f"\n{shown}", name
    assert chat.say("/hepl") == "unknown command /hepl: did you mean /help?"
    assert chat.say("/xyzzy") == "unknown command /xyzzy: /help lists all"
    assert "needs FILE" in chat.say("/read")
    assert "none" in chat.say("/show").splitlines()[3]


def test_every_setting_can_be_set(chat: Terminal) -> None:
    """Guards a setting that the help names and the chat does not know, and one that is changed in silence."""
    for name, value, words in (
        ("n", "3", "n=3"),
        ("p", "0.25", "p=0.25"),
        ("k", "2", "k=2"),
        ("temp", "0.5", "temp 0.5"),
        ("top-p", "0.8", "top-p 0.8"),
        ("top-k", "7", "top-k 7"),
        ("min-p", "0.1", "min-p 0.1"),
        ("seed", "5", "seed 5"),
        ("max-tokens", "9", "at most 9 tokens"),
        ("think-budget", "6", "at most 6 tokens of thinking"),
        ("mode", "leader", "leader, temp 0.5"),
    ):
        assert words in " ".join(chat.say(f"/set {name} {value}").split("\n")), name
        chat.wait(lambda words=words: words in unwrapped("\n".join(chat.screen.display)))
    shown = unwrapped(chat.say("/show"))
    assert "leader, temp 0.5, top-p 0.8, top-k 7, min-p 0.1, seed 5, at most 9 tokens, at most 6 tokens" in shown
    for name, value in (
        ("n", "15"), ("p", "0.6"), ("k", "5"), ("temp", "0"), ("top-p", "0.95"), ("top-k", "0"), ("min-p", "0"),
        ("seed", "1"), ("max-tokens", "40"), ("think-budget", "off"), ("thinking", "on"), ("mode", "foreal"),
    ):  # fmt: skip
        last = chat.say(f"/set {name} {value}")
    assert last == "foreal n=15 p=0.6 k=5, greedy, seed 1, at most 40 tokens, thinking on"


def test_what_can_be_set_is_listed_with_its_value(chat: Terminal) -> None:
    """Guards settings that can be changed and not be seen, and a range that one learns from an error."""
    rows = chat.say("/set").splitlines()
    names = [row.split()[0] for row in rows if not row.startswith(" ")]
    assert names == list(NAMES_TO_SET)
    for row in (
        r"temp +0 +0 or more",
        r"p +0.6 +between 0 and 1",
        r"seed +1 +0 or more, or none",
        r"preset +paper +",
        r"wrap +on +",
    ):
        assert any(re.match(row, each) for each in rows), row
    assert max(map(len, rows)) < 80
    chat.say("/set gate always")
    assert chat.say("/set p").splitlines() == [
        "p  0.6", "between 0 and 1; default 0.6", "Chance that the leader leads a sentence.",
    ]  # fmt: skip
    assert chat.say("/set tau").splitlines()[-1].startswith("without effect now, in mode foreal")
    assert chat.say("/set think-budget").startswith("think-budget  none\n1 or more, or none\n")
    assert chat.say("/set thinkbudget") == "no setting 'thinkbudget': did you mean think-budget?"
    assert chat.say("/set wrap off").startswith("wrap: off")
    assert chat.say("/set wrap").splitlines()[0] == "wrap  off"
    chat.say("/set wrap on")
    chat.say("/set gate random")


@pytest.mark.parametrize("word", ["exit", "quit", "Exit", "/exit", "/quit", "/bye"])
def test_words_that_leave(word: str, start: Callable[..., Terminal]) -> None:
    """Guards a model that is asked "exit" for minutes. In a file of messages it is one."""
    chat = start(*SHORT)
    chat.ask(word)
    assert chat.end() == 0


def test_the_toolbar_keeps_the_sessions_name(start: Callable[..., Terminal]) -> None:
    """Guards a name that a line of 80 columns has no room for, behind settings that /show tells as well."""
    for name in ("home", "a-session-whose-name-is-rather-long-0123456789", "x" * 54):
        chat = start(*SHORT, "--review", "ratio", "--top-k", "40", "--session", name, columns=80, lines=24)
        bar = chat.screen.display[-1]
        assert bar.rstrip().endswith(f" · {name}"), bar
        assert re.search(r" \d+/\d+ ", bar)
        chat.process.close(force=True)
    assert "foreal" not in bar


def test_wrong_values_change_nothing(chat: Terminal) -> None:
    """Guards a wrong value that ends the chat, is taken, or is refused without a reason."""
    for line, words in (
        ("/set tempo", "did you mean temp?"),
        ("/set temp hot", "temp is 'hot', but must be a number"),
        ("/set temp -1", "but must be 0 or more"),
        ("/set n 1.5", "must be a whole number"),
        ("/set p 2", "between 0 and 1"),
        ("/set tmp 1", "did you mean temp?"),
        ("/set think-budget 0", "must be 1 or more, or off"),
        ("/set thinking maybe", "must be on or off"),
        ("/set mode both", "draft, cue, speculative or auto"),
        ("/set lanes 2", "no setting 'lanes'"),
        ("/mode both", "draft, cue, speculative or auto"),
        ("/think loudly", "must be show, hide or last"),
        ("/colors maybe", "must be one of on, off, light, dark"),
        ("/load /no/such/file", "cannot read /no/such/file: No such file or directory"),
        ("/read /no/such/file", "cannot read /no/such/file: No such file or directory"),
        (f"/read {ROOT}", "Is a directory"),
        (f"/read {ROOT / 'models' / 'tiny-draft.gguf'}", "not UTF-8 text"),
        (f"/read {os.devnull} why?", f"no prompt in {os.devnull}: it is empty"),
        (f"/load {ROOT / 'README.md'}", "not a session file"),
        ("/export /no/such/file.md", "cannot write /no/such/file.md"),
        ("/save /dev/null/x", "cannot write /dev/null/x"),
        ("/save", "needs a FILE here"),
        ("/regen", "there is no answer to write again"),
        ("/undo", "there is nothing to take back"),
        ("/edit", "there is no question to edit yet"),
        ("/think last", "there is no answer yet"),
    ):
        assert words in " ".join(chat.say(line).split("\n")), line
    assert "greedy, seed 1, at most 40 tokens" in chat.say("/show")
    assert chat.say("/stats").startswith("0 answers") or "decoded" in chat.text


def test_who_writes_can_be_chosen(chat: Terminal) -> None:
    """Guards /mode that holds for no answer, or for ever."""
    for mode, share in (("leader", "leader 100%"), ("draft", "leader 0%")):
        chat.say(f"/mode {mode}")
        assert share in chat.say(APPLES)
    chat.say("/mode foreal")
    shown = chat.say(APPLES)
    assert "sentences led" in shown
    assert "leader 100%" not in shown
    assert "ended by max-tokens" in unwrapped(shown)


def test_answers_are_removed_and_written_again(chat: Terminal, tmp_path: Path) -> None:
    """Guards /undo that takes too much or too little, and /regen that asks twice or keeps the old answer."""
    chat.say(APPLES)
    chat.say(PENS)
    assert questions(chat, tmp_path) == [short(APPLES), short(PENS)]
    assert chat.say("/undo") == f"taken back: {short(PENS)}"
    assert questions(chat, tmp_path) == [short(APPLES)]
    chat.say("/set temp 1")
    others = set()
    for _ in range(5):
        chat.say("/regen")
        others.add(exported(chat, tmp_path))
    chat.say("/set temp 0")
    assert len(others) > 1, "every seed gives the same answer"
    text = exported(chat, tmp_path)
    assert text.count("## ") == text.count("<details>") == 1
    assert chat.say("/undo") == f"taken back: {short(APPLES)}"
    assert exported(chat, tmp_path) == ""


def short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def test_the_last_question_is_edited_in_place(chat: Terminal, tmp_path: Path) -> None:
    """Guards /edit that leaves the old question in the conversation, or that cannot be left as it was."""
    chat.say("Tom has 12 apples.")
    chat.ask("/edit")
    chat.wait("edit> Tom has 12 apples.")
    chat.send(" Anna has 3.")
    chat.send(ENTER)
    chat.wait(chat.at_prompt)
    assert questions(chat, tmp_path) == ["Tom has 12 apples. Anna has 3."]
    chat.ask("/edit")
    chat.wait(lambda: chat.row.startswith("edit> "))
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    assert questions(chat, tmp_path) == ["Tom has 12 apples. Anna has 3."]


def test_a_file_is_read(chat: Terminal, tmp_path: Path) -> None:
    """Guards /read that drops the text, the file's lines, or characters that are not English, and a document that does
    not stand before the question, as where it is piped in."""
    path = tmp_path / "notes.txt"
    path.write_text("Tom has 12 apples.\n\nné 数 😀\n", "utf-8")
    chat.say(f"/read {path} How many are they, and why?")
    path.write_text(path.read_text("utf-8"), "utf-16")
    chat.say(f"/read {path}")
    text = exported(chat, tmp_path)
    assert "\n\nTom has 12 apples.\n\nné 数 😀\n\nHow many are they, and why?\n" in text
    assert "\n\nTom has 12 apples.\n\nné 数 😀\n" in text.split("</details>")[1]


def test_a_file_name_may_have_spaces(chat: Terminal, tmp_path: Path) -> None:
    """Guards a file that Tab completes and /read then does not find."""
    (tmp_path / "my notes.txt").write_text("Tom has 12 apples.", "utf-8")
    chat.send(f"/read {tmp_path}/my")
    chat.wait("/my")
    chat.send(TAB)
    chat.wait(lambda: "my notes.txt" in unwrapped(chat.text))
    chat.send(ENTER)
    chat.wait(chat.at_prompt)
    assert "cannot read" not in chat.answer()


def test_reasoning_is_hidden_shown_and_printed(chat: Terminal) -> None:
    """Guards /think hide that shows reasoning, an answer that is hidden with it, and /think last that shows another."""
    chat.say("/set max-tokens none")
    shown = chat.say(APPLES)
    assert "hidden" in chat.say("/think hide")
    hidden = chat.say(APPLES)
    (answer, figures), last = hidden.split("\n", 1), chat.say("/think last")
    chat.say("/think show")
    chat.say("/set max-tokens 40")
    assert answer.startswith("\\boxed{")
    assert "tokens ·" in figures
    assert "thinking:" not in hidden
    assert "\\boxed" not in last
    assert "Anna has" in last
    assert len(shown) > 3 * len(hidden)
    assert "the last answer has no reasoning" not in last
    mark = chat.raw.rindex(b"Anna have?")
    assert b"thinking: " in chat.raw[mark - 20_000 : mark] or b"thinking: " in chat.raw


def test_reasoning_that_is_printed_again_is_wrapped_as_it_was(chat: Terminal) -> None:
    """Guards reasoning whose words are whole while it comes, and broken when it is asked for again."""
    words = chat.say(APPLES).split()
    again = chat.say("/think last").split()
    assert again == words[: len(again)]


def test_the_leader_is_in_colour_or_underlined(chat: Terminal) -> None:
    """Guards authors that cannot be told apart, and /colors that changes nothing or is forgotten."""
    chat.say("/mode leader")
    for choice, colour, underlined in (("off", "default", True), ("on", "5f5fff", False)):
        assert chat.say(f"/colors {choice}").splitlines() == [f"colors are {choice}", "leader draft"]
        chat.say(APPLES)
        cells = chat.answer_cells()[:20]
        assert {(cell.fg, cell.underscore) for cell in cells} == {(colour, underlined)}
    chat.say("/mode draft")
    chat.say(APPLES)
    assert {(cell.fg, cell.underscore, cell.bold) for cell in chat.answer_cells()[:20]} == {("767676", False, False)}
    chat.say("/mode foreal")


def test_stats_grow_with_each_answer(chat: Terminal) -> None:
    """Guards figures that are those of one answer, or that count what was never evaluated."""
    counts = []
    for _ in range(2):
        chat.say(APPLES)
        shown = chat.say("/stats")
        counts.append([int(n) for n in re.findall(r"(\d+) (?:tokens decoded|prefilled)", shown)])
        assert shown.splitlines()[1].startswith("leader: ")
        assert shown.splitlines()[2].startswith("draft: ")
    assert all(before <= after for before, after in zip(*counts, strict=True))
    assert sum(counts[1]) > sum(counts[0])
    chat.say("/clear")
    assert "decoded" not in chat.say("/stats")  # what an earlier conversation took is not this one's


def test_a_conversation_is_saved_loaded_and_written_down(chat: Terminal, tmp_path: Path) -> None:
    """Guards files that lose questions, answers, reasoning or settings, and a load that mixes two conversations."""
    path = tmp_path / "deep" / "kept"
    chat.say("/system Be brief.")
    first = chat.say(APPLES)
    assert f"saved in {path}" in unwrapped(chat.say(f"/save {path}"))
    before = exported(chat, tmp_path)
    assert unwrapped(chat.answer()) == f"written to {tmp_path / 'exported.md'}"
    assert before.startswith(f"## {short(APPLES)}\n\n{APPLES}\n\n<details><summary>Reasoning</summary>\n\n")
    chat.say("/clear")
    chat.say("/system")
    chat.say(PENS)
    chat.say(f"/load {path}")
    chat.wait("a conversation of 1 question; the last:")
    assert exported(chat, tmp_path) == before
    assert "Be brief." in chat.say("/show")
    chat.say("/system")
    assert "system    none" in chat.say("/show")
    chat.say("/clear")
    assert chat.say(APPLES).splitlines()[0] == first.splitlines()[0]
    chat.say("/clear")
    assert exported(chat, tmp_path) == ""


# ---------------------------------------------------------------- keys
def test_tab_completes_commands_and_file_names(chat: Terminal, tmp_path: Path) -> None:
    """Guards completion that offers files for commands, commands for words, or nothing."""
    folder = tmp_path / "a-folder"
    folder.mkdir()
    (folder / "the-only-one.txt").write_text("so", "utf-8")
    for typed, completed in (
        ("/exp", "/export"),
        ("/sys", "/system"),
        (f"/read {folder}/the", f"/read {folder}/the-only-one.txt"),
        (f"/load {tmp_path}/a-f", f"/load {tmp_path}/a-folder"),
    ):
        chat.send(typed)
        chat.wait(lambda typed=typed: typed in unwrapped(chat.text))
        chat.type(TAB)
        chat.wait(lambda completed=completed: completed in unwrapped(chat.text))
        chat.send(CTRL_C)
        chat.wait(chat.at_prompt)
    chat.send("/s")
    chat.wait(lambda: chat.row.startswith(">>> /s"))
    chat.type(TAB)
    for name in ("set", "show", "system", "stats", "save"):
        chat.wait(f"/{name}")
    chat.wait("what this conversation has cost")
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    chat.send("exp")
    chat.wait(lambda: chat.row == ">>> exp")
    chat.send(TAB + "x")
    chat.wait(lambda: chat.row.endswith("x"))
    assert "export" not in chat.row
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)


def test_several_lines_are_one_message(chat: Terminal, tmp_path: Path) -> None:
    """Guards a pasted or fenced text of which each line is a question of its own, or whose lines are lost."""
    chat.send(f"Tom has 12.{ALT_ENTER}Anna has 3.")
    chat.wait("... Anna has 3.")
    chat.send(ENTER)
    chat.wait(chat.at_prompt)
    chat.ask('"""')
    chat.wait(lambda: chat.row.startswith("..."))
    chat.send(f"Leo has 8.{ENTER}")
    chat.wait(lambda: chat.row == "...")
    chat.send(f'  Kate has 9."""{ENTER}')
    chat.wait(chat.at_prompt)
    chat.send("\x1b[200~Mia has 1.\rIris has 2.\r\rWhy?\r\x1b[201~")
    chat.wait("Why?")
    chat.send(ENTER)
    chat.wait(chat.at_prompt)
    text = exported(chat, tmp_path)
    assert text.count("\n## ") == 2
    assert text.startswith("## Tom has 12. Anna has 3.\n\nTom has 12.\nAnna has 3.\n")
    assert "\n\nLeo has 8.\n  Kate has 9.\n\n" in text
    assert "\n\nMia has 1.\nIris has 2.\n\nWhy?\n\n" in text


def test_ctrl_c_clears_the_line(chat: Terminal, tmp_path: Path) -> None:
    """Guards Ctrl-C that leaves the chat, or asks what was typed; also between two fences."""
    chat.send("this is not to be asked")
    chat.wait("this is not to be asked")
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    chat.ask('"""')
    chat.wait(lambda: chat.row.startswith("..."))
    chat.send("nor this")
    chat.wait("nor this")
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    assert exported(chat, tmp_path) == ""


@pytest.mark.parametrize("as_signal", [False, True])
def test_ctrl_c_again_and_again_clears_the_line(start: Callable[..., Terminal], as_signal: bool) -> None:
    """Guards a key that is held down, and meets the chat between one prompt and the next: there it is a signal."""
    chat = start(*SHORT)
    begin = len(chat.raw)
    for i in range(250):
        if as_signal:
            chat.kill(signal.SIGINT)
        else:
            chat.send(CTRL_C)
        chat.pump(0.001 + i % 7 * 0.003)
        for words in (b"Traceback", b"Exception ignored", b"RuntimeWarning"):
            assert words not in chat.raw[begin:]
    chat.send(ENTER)
    chat.wait(chat.at_prompt)
    chat.say("/stats")
    assert chat.leave() == 0


def test_wide_characters_and_emoji_are_asked_as_typed(chat: Terminal, tmp_path: Path) -> None:
    """Guards a question that arrives in another encoding, or loses what is not one column wide."""
    question = "数が 12 😀 né, 👍 ok?"
    chat.say(question)
    assert f"\n\n{question}\n\n" in exported(chat, tmp_path)
    assert chat.say("/undo") == f"taken back: {question}"


# ---------------------------------------------------------------- stopping
def test_an_answer_is_stopped_and_the_next_one_works(
    endless: tuple[str, ...], start: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Guards Ctrl-C that ends the chat, is late, shows as ^C or spoils the next answer, and a window whose size
    changes meanwhile."""
    chat = start(*endless, "--repeat-penalty", "1.2")  # else an answer may be stopped as a loop
    for columns in (60, 130, 20):
        chat.ask("wait now so")
        chat.wait_for_bytes(2000)
        chat.resize(columns, 40)
        chat.wait_for_bytes(2000)
        begin, pressed = len(chat.raw), time.monotonic()
        chat.send(CTRL_C)
        chat.wait(lambda: chat.row == ">>>")
        assert time.monotonic() - pressed < 2
        assert b"^C" not in chat.raw[begin:]
        chat.wait(chat.at_prompt)
        assert "stopped" in unwrapped("\n".join(chat.rows[-30:]))
    text = exported(chat, tmp_path)
    assert text.count("*(stopped)*") == text.count("## ") == 3
    chat.say("/set max-tokens 5")
    assert "5 tokens" in " ".join(chat.say("so").split("\n"))
    assert chat.leave() == 0


def test_keys_typed_during_an_answer_are_at_the_next_prompt(
    endless: tuple[str, ...], start: Callable[..., Terminal]
) -> None:
    """Guards what is typed ahead and then shown in the midst of the answer, or lost."""
    chat = start(*endless, "--max-tokens", "500")
    chat.ask("wait now so")
    chat.wait_for_bytes(1000)
    begin = len(chat.raw)
    chat.send("typed ahead")
    chat.wait(lambda: "ended by max-tokens" in unwrapped(chat.text))
    assert b"typed ahead" not in chat.raw[begin : chat.raw.index(b"500 tokens \xc2\xb7", begin)]
    chat.wait(lambda: chat.row == ">>> typed ahead")
    chat.send(CTRL_C)
    assert chat.leave() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_a_session_outlives_its_process(
    number: signal.Signals, endless: tuple[str, ...], start: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Guards a closed window, a shutdown or a crash during an answer that takes the conversation with it, and a
    process that still writes for nobody."""
    chat = start(*endless, "--session", "kept", "--max-tokens", "30")
    chat.say("wait now so")
    before = exported(chat, tmp_path)
    chat.say("/set max-tokens none")
    chat.ask("let me check")
    chat.wait_for_bytes(2000)
    chat.kill(number)
    assert chat.end() in (128 + number, -number)
    again = start("-l", endless[1], "-d", endless[3], "--session", "kept", "-c", "30000")
    assert "is in use" not in again.text
    text = exported(again, tmp_path)
    assert text.startswith(before)
    if number == signal.SIGKILL:
        assert text == before
        assert "a conversation of 1 question; the last:" in again.text
    else:
        assert "a conversation of 2 questions; the last:" in again.text
        assert text.endswith("\n\n*(stopped)*\n\n")
        assert len(text) - len(before) > 200, "what was written is lost"
    again.say("/set max-tokens 5")
    assert "5 tokens" in again.say("so")
    assert again.leave() == 0


def test_reading_a_long_file_can_be_stopped(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a long prompt that is read in silence, is counted twice, cannot be stopped before its end, or must be
    typed again then."""
    path = tmp_path / "long.txt"
    path.write_text(" ".join(itertools.islice(itertools.cycle(APPLES.split()), 4000)), "utf-8")
    chat = start(*SHORT, "-c", "8192")
    chat.ask(f"/read {path}")
    reading = re.compile(r"reading (\d+) of (\d{4,}) tokens")
    chat.wait(lambda: reading.search("\n".join(chat.screen.display)))
    n_all = int(reading.search("\n".join(chat.screen.display))[2])  # type: ignore[index]
    pressed = time.monotonic()
    chat.send(CTRL_C)
    chat.wait(lambda: chat.row == f">>> /read {path}")
    assert time.monotonic() - pressed < 2
    assert "stopped before the first word" in chat.text
    assert 4000 < n_all < 8000, "a token of the prompt is counted once, whoever reads it"
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    assert chat.say("/undo") == "there is nothing to take back"
    assert "40 tokens ·" in chat.say(APPLES)
    assert "Anna" in chat.answer()


# ---------------------------------------------------------------- sessions
def test_a_session_goes_on_in_another_process(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a session that is lost, open twice, or shown without its last answer; typed settings that the session's
    replace; and history that ends with the process."""
    env = environment(None, tmp_path)
    assert run("--list", env=env, command=CHAT).stdout == "no sessions yet: foreal-chat --session NAME keeps one\n"
    chat = start(*WHOLE, "--session", "home.work-1")
    chat.say("/system Be brief.")
    chat.say(PENS)
    answer = chat.say("数 😀? " + APPLES)
    chat.wait("home.work-1")
    second = run("--session", "home.work-1", env=env, command=CHAT)
    assert second.returncode == 2
    assert "is in use by another run" in error_line(second)
    listed = run("--list", env=env, command=CHAT)
    assert re.search(r"\nhome\.work-1  \d{4}-\d\d-\d\d \d\d:\d\d      2  +\d+ kB  tiny  Leo has 8", listed.stdout)
    assert chat.leave() == 0
    folder = tmp_path / ".config" / "foreal"
    assert {path.name for path in (folder / "sessions").iterdir()} == {"home.work-1.session"}

    chat = start("--session", "home.work-1", "--max-tokens", "30", "--seed", "7")
    begin = next(i for i, row in enumerate(chat.rows) if row == "a conversation of 2 questions; the last:")
    shown = chat.rows[begin + 1 :]
    assert shown[0] == f">>> 数 😀? {APPLES}"
    assert shown[1] in answer.splitlines()
    assert re.fullmatch(BOXED, shown[1])
    chat.send(UP)
    chat.wait(lambda: APPLES[-20:] in chat.row)
    chat.send(UP)
    chat.wait(lambda: chat.row == f">>> {PENS}")
    chat.send(CTRL_C)
    chat.wait(chat.at_prompt)
    assert "greedy, seed 7, at most 30 tokens" in unwrapped(chat.say("/show"))
    assert "Be brief." in chat.answer()
    assert "30 tokens ·" in chat.say(APPLES)
    assert chat.leave() == 0


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a b", "x" * 101])
def test_session_names_are_names(name: str, tmp_path: Path) -> None:
    """Guards sessions outside of their folder, and names that --list does not show."""
    result = CliRunner().invoke(main, ["--session", name], env=environment(None, tmp_path))
    assert result.exit_code == 2
    assert "--session is " in result.stderr
    assert not list(tmp_path.rglob("*.session"))


# ---------------------------------------------------------------- what it looks like
def wrapped(words: list[str], columns: int) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def test_answers_fit_narrow_and_wide_windows(start: Callable[..., Terminal]) -> None:
    """Guards words that the edge of the window breaks, lines that end before it, and a width that is that of the start
    for ever."""
    chat, texts = start(*WHOLE, columns=40), []
    for columns in (40, 200, 61):
        chat.resize(columns, 50)
        rows = chat.say(APPLES).splitlines()
        boxed = next(i for i, row in enumerate(rows) if re.fullmatch(BOXED, row))
        begin = (len(f">>> {APPLES}") - 1) // columns  # rows of the question but the first
        assert rows[boxed - 1] == "", "the answer does not stand apart from the reasoning"
        boxed -= 1
        texts.append(" ".join(rows[begin:boxed]))
        assert rows[begin:boxed] == wrapped(texts[-1].split(), columns)
        assert all(len(row) <= columns for row in rows)
        chat.say("/clear")
    assert len(set(texts)) == 1
    assert len(texts[0]) > 120


@pytest.mark.parametrize("how", ["NO_COLOR", "--color"])
def test_without_colour_the_leader_is_underlined(how: str, start: Callable[..., Terminal]) -> None:
    """Guards NO_COLOR and --color never that are not heard, or that leave authors which cannot be told apart."""
    more: Any = {"variables": {"NO_COLOR": "1"}} if how == "NO_COLOR" else {}
    chat = start(*SHORT, *(("--color", "never") if how == "--color" else ()), **more)
    for mode, marked in (("leader", True), ("draft", False)):
        chat.say(f"/mode {mode}")
        chat.say(APPLES)
        cells = chat.answer_cells()
        assert {(cell.underscore, cell.fg) for cell in cells[:20]} == {(marked, "default")}
        assert {cell.fg for cell in cells} == {"default"}
    assert not re.search(rb"\x1b\[38;5;(?:63|243)[m;]", chat.raw)
    chat.say("/mode leader")
    chat.say("/set max-tokens none")
    chat.say(APPLES)
    boxed = next(i for i, row in enumerate(chat.rows) if row.startswith("\\boxed"))
    assert all(cell.underscore and not cell.italics for cell in chat.cells[boxed] if cell.data.strip())
    assert chat.leave() == 0


def test_a_dumb_terminal_gets_plain_text(start: Callable[..., Terminal]) -> None:
    """Guards escape sequences where nothing understands them."""
    chat = start(*SHORT, variables={"TERM": "dumb"})
    begin = len(chat.raw)
    shown = chat.say(APPLES)
    assert "Anna" in shown
    assert "40 tokens" in shown
    assert "3 answers" not in chat.say("/stats")
    assert b"\x1b" not in chat.raw[begin:]
    assert not re.search(r"reading \d+ of", chat.text)
    assert chat.leave() == 0


# ---------------------------------------------------------------- what may still be taken back
UNREAD = b"\x1b[38;5;243;3m"
"""How text begins that the leader has not read."""
REVIEWED = (*WHOLE, "--preset", "faithful", "--review", "ratio", "--think-budget", "60")


@pytest.mark.parametrize("columns", [30, 100])
def test_drafts_leave_no_trace(columns: int, start: Callable[..., Terminal]) -> None:
    """Guards words that were taken back and still stand, words that they have covered, and an answer that looks like
    a draft when it has ended; and drafts where they cannot be told from what stands."""
    chat = start(*REVIEWED, columns=columns, lines=12)
    shown = [chat.say(APPLES), chat.say(PENS)]
    assert UNREAD in chat.raw
    assert not any(cell.italics for row in chat.cells for cell in row)
    plain = start(*REVIEWED, "--color", "never", columns=columns, lines=12)
    for question, answer in zip((APPLES, PENS), shown, strict=True):
        words = without_figures(answer)
        assert words
        assert plain.say(question).startswith(words)
    assert UNREAD not in plain.raw


def test_a_stopped_answer_is_all_on_the_screen(
    endless: tuple[str, ...], start: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Guards a stopped answer that ends on the screen before it ends in the conversation, and what Ctrl-C makes a
    terminal throw away: output that it has not read yet."""
    chat = start(*endless, "--gate", "never", "--review", "ratio", "--tau", "0", lines=12)
    for unread in (0.0, 1.5, 1.5):
        chat.ask("wait now so")
        chat.wait_for_bytes(3000)
        time.sleep(unread)
        chat.send(CTRL_C)
        chat.wait(chat.at_prompt)
        shown = chat.answer()
        shown = without_figures(shown)
        written = exported(chat, tmp_path).partition("\n\nwait now so\n\n")[2].removesuffix("\n\n*(stopped)*\n\n")
        assert shown.split() == written.split()
        assert len(shown.split()) > 20
        chat.say("/clear")
    assert UNREAD in chat.raw


def test_a_preset_is_set_and_counted(start: Callable[..., Terminal]) -> None:
    """Guards presets that cannot be found or set half, and /stats that is silent on what they save, counts one answer
    alone, or forgets it with the process."""
    chat = start(*SHORT, "--session", "kept")
    assert chat.say("/set preset").splitlines()[0] == "preset  paper"
    for name, line in zip(PRESETS, chat.answer().splitlines()[1:], strict=True):
        assert line.startswith(f"{name} ")
    assert "must be one of paper, fast" in unwrapped(chat.say("/set preset none"))
    assert "gate=never review=ratio tau=0.7" in chat.say("/set preset faithful")
    reviewed = []
    for _ in range(2):
        chat.say(APPLES)
        shown = " ".join(chat.say("/stats").split())
        reviewed += re.findall(r" reviewed: (\d+) tokens, \d+ rewritten, \d+ dropped leader calls: 0\.\d\d for", shown)
        assert " proposals: " in shown
    assert 0 < int(reviewed[0]) < int(reviewed[1])
    assert "review" not in chat.say("/set preset paper")
    assert chat.leave() == 0
    assert f"reviewed: {reviewed[1]} tokens" in start("--session", "kept").say("/stats")


# ---------------------------------------------------------------- the editor
def test_the_editor_of_the_user_changes_the_question(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards $EDITOR that is not called, is called without the question, or whose text is not asked."""
    script = tmp_path / "an editor.sh"
    script.write_text('#!/bin/sh\ncp "$1" "$HOME/seen"\nsed -i "s/apples/pens/g; s/Anna/数/g" "$1"\n', "utf-8")
    script.chmod(0o755)
    chat = start(*SHORT, variables={"EDITOR": f"'{script}'"})
    chat.say(APPLES)
    assert " tokens · " in chat.say("/edit")
    assert (tmp_path / "seen").read_text("utf-8").strip() == APPLES
    assert exported(chat, tmp_path).count("## ") == 1
    assert f"\n\n{APPLES.replace('apples', 'pens').replace('Anna', '数')}\n\n" in exported(chat, tmp_path)
    script.write_text('#!/bin/sh\n: > "$1"\n', "utf-8")
    before = exported(chat, tmp_path)
    chat.say("/edit")
    assert exported(chat, tmp_path) == before


def test_an_editor_that_fails_is_no_end(start: Callable[..., Terminal]) -> None:
    """Guards a chat without --session that is lost because of a misspelt variable."""
    chat = start(*SHORT, variables={"EDITOR": "/no/such/editor"})
    chat.say("Tom has 12.")
    chat.say("/edit")
    assert "40 tokens ·" in chat.say(APPLES)


# ---------------------------------------------------------------- a full context
def ask_until_full(chat: Terminal) -> None:
    """Questions until the chat asks what to do about its context."""
    for _ in range(20):
        chat.ask(APPLES)
        chat.wait(lambda: chat.at_prompt() or asks_what_now(chat))
        if asks_what_now(chat):
            return
    raise AssertionError(f"the context is never full:\n{chat.text}")


def asks_what_now(chat: Terminal) -> bool:
    return chat.row == "what now?"


def choose(chat: Terminal, keys: str) -> None:
    chat.wait(lambda: asks_what_now(chat))
    chat.send(keys)
    chat.wait(chat.at_prompt)


FULL = (*SHORT, "--max-tokens", "20", "-c", "160")


def test_a_full_context_leaves_a_choice(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a full context that ends the chat, forgets more than was chosen, or asks a question that was given up."""
    chat = start(*FULL)
    ask_until_full(chat)
    assert "the context is nearly full (" in unwrapped(chat.text)
    assert "tokens with this message, the context 160" in chat.text
    for words in ("drop the oldest question and answer", "clear the conversation", "a context of N tokens"):
        assert words in chat.text
    choose(chat, ENTER)
    n = len(questions(chat, tmp_path))
    assert n >= 2
    ask_until_full(chat)
    choose(chat, CTRL_C)
    assert len(questions(chat, tmp_path)) == n
    ask_until_full(chat)
    choose(chat, f"d{ENTER}")
    assert "20 tokens ·" in chat.answer()
    assert len(questions(chat, tmp_path)) == n
    ask_until_full(chat)
    choose(chat, f"c{ENTER}")
    assert "20 tokens ·" in chat.answer()
    assert len(questions(chat, tmp_path)) == 1
    ask_until_full(chat)
    choose(chat, f"512{ENTER}")
    assert "20 tokens ·" in chat.answer()
    assert len(questions(chat, tmp_path)) == n + 1
    assert "/512 tokens" in chat.say("/show")
    assert "20 tokens ·" in chat.say(APPLES)
    assert chat.leave() == 0


def test_the_only_question_can_be_dropped_for_the_next(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards a full context that only clearing helps, and a question that is thrown away instead."""
    chat = start(*FULL)
    chat.say(PENS)
    chat.ask(" ".join([APPLES] * 4))
    choose(chat, f"d{ENTER}")
    assert "20 tokens ·" in chat.answer()
    assert questions(chat, tmp_path) == [short(APPLES * 2)]


def test_a_choice_that_looks_like_a_number(start: Callable[..., Terminal]) -> None:
    """Guards a crash on a mistyped choice."""
    chat = start(*FULL)
    ask_until_full(chat)
    choose(chat, f"²{ENTER}")


def test_an_edit_without_room_changes_nothing(start: Callable[..., Terminal], tmp_path: Path) -> None:
    """Guards the last answer that is gone although the new question was never asked."""
    chat = start(*FULL)
    chat.say(APPLES)
    chat.ask("/edit")
    chat.wait("edit> ")
    chat.send(f" {APPLES}" * 7 + ENTER)
    choose(chat, ENTER)
    assert questions(chat, tmp_path) == [short(APPLES)]


@pytest.mark.parametrize("choice", [CTRL_C, f"1{ENTER}"])
def test_an_edit_that_is_given_up_or_refused_changes_nothing(
    choice: str, start: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Guards the last answer where the new question ends with an error, or with Ctrl-C."""
    chat = start(*FULL, "--session", "kept")
    chat.say(APPLES)
    chat.ask("/edit")
    chat.wait("edit> ")
    chat.send(f" {APPLES}" * 7 + ENTER)
    choose(chat, choice)
    assert questions(chat, tmp_path) == [short(APPLES)]
    chat.leave()
    assert questions(start(*FULL, "--session", "kept"), tmp_path) == [short(APPLES)]


# ---------------------------------------------------------------- other models, other settings
def test_a_template_without_system_messages(tiny: TinyModels, start: Callable[..., Terminal]) -> None:
    """Guards a chat that is lost because of one command."""
    refusing = "{% if 'brief' in messages[0]['content'] %}{{ raise_exception('no system here') }}{% endif %}"
    leader, draft = tiny.pair("llama", "endless", chat=refusing + tiny_gguf.CHATML)
    chat = start("-l", leader, "-d", draft, "--temp", "0", "--max-tokens", "5")
    chat.say("so")
    assert "no system here" in unwrapped(chat.say("/system Be brief."))
    assert "system    none" in chat.say("/show")
    assert "5 tokens ·" in chat.say("so")


def test_what_is_typed_goes_before_the_session(start: Callable[..., Terminal]) -> None:
    """Guards options that are taken without a word, and change nothing because the session has its own."""
    chat = start(*SHORT, "--session", "kept")
    assert "apples" in chat.say(APPLES)
    chat.leave()
    chat = start(*SHORT, "--session", "kept", "--stop", "apples", "--stop-in-reasoning")
    assert "top text 'apples'" in chat.say(APPLES), "its line says so, and may be wrapped"


# ---------------------------------------------------------------- pipes
@pytest.fixture
def piped(tmp_path: Path) -> Callable[..., Done]:
    """A chat on a pipe, with the bundled pair."""
    env = terminal_environment(None, tmp_path)

    def call(stdin: str | bytes, *arguments: str, **variables: str) -> Done:
        return run(*arguments, env=env | variables, stdin=stdin, command=CHAT)

    return call


def test_a_pipe_gets_an_answer_for_each_line(piped: Callable[..., Done], tmp_path: Path) -> None:
    """Guards escapes, reasoning, notes or prompts among the answers, lines that are asked together, and commands or
    settings that work in terminals only."""
    lines = [APPLES, "", f"/export {tmp_path / 'one.md'}", "/mode leader", PENS, "/clear", '"""', APPLES, '"""']
    done = piped("\n".join(lines), *WHOLE)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"({BOXED}\n){{3}}", done.stdout)
    assert "\x1b" not in done.stderr
    assert (tmp_path / "one.md").read_text("utf-8").endswith(f"{done.stdout.splitlines()[0]}\n\n")


def test_a_pipe_gets_what_is_settled(piped: Callable[..., Done]) -> None:
    """Guards drafts that are taken back and stay in a file."""
    done = piped(f"{APPLES}\n/set preset faithful\n/clear\n{APPLES}\n", *WHOLE, "--color", "always")
    assert re.fullmatch(rf"({BOXED}\n){{2}}", done.stdout)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("wrong", ["/read /no/such/file", "x " * 3000])
def test_a_failed_line_is_an_exit_code(wrong: str, piped: Callable[..., Done]) -> None:
    """Guards scripts that never learn of a question without an answer, and lines after it that are not asked."""
    done = piped(f"{wrong}\n{APPLES}\n", *WHOLE)
    assert done.returncode == 1
    assert re.fullmatch(rf"{BOXED}\n", done.stdout)
    assert len(done.stderr.splitlines()) == 1


def test_wrong_commands_alone_are_an_exit_code(piped: Callable[..., Done]) -> None:
    """Guards an unknown command that a script takes for done, and errors among the answers."""
    done = piped("/hepl\n/set temp x\n/exit\n/hepl\n", *WHOLE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "unknown command /hepl: did you mean /help?\ntemp is 'x', but must be a number\n"


@pytest.mark.parametrize("stdin", ["", "\n\n   \n", "/exit\n" + APPLES])
def test_without_a_question_nothing_is_printed(stdin: str, piped: Callable[..., Done]) -> None:
    """Guards an empty input that is an error, or is answered."""
    done = piped(stdin, *WHOLE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """Guards a traceback, or the rest of all answers, after `| head -1`."""
    env = terminal_environment(None, tmp_path) | {"QUESTIONS": f"{APPLES}\n" * 6}
    line = f"printf '%s' \"$QUESTIONS\" | {' '.join(CHAT)} {' '.join(WHOLE)} | head -1; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env, cwd=ROOT, timeout=110)
    answer, code = done.stdout.splitlines()
    assert re.fullmatch(BOXED, answer)
    assert code in ("0", "1", "141")
    assert done.stderr.strip() in ("", "Aborted!")


def test_a_pipe_gets_a_line_for_an_answer_without_words(piped: Callable[..., Done]) -> None:
    """Guards answers that go to the question before theirs, and reasoning that was cut in silence."""
    done = piped(f"{APPLES}\n/set max-tokens none\n/clear\n{APPLES}\n", *SHORT)
    assert re.fullmatch(rf"\n{BOXED}\n", done.stdout)
    assert "max-tokens" in done.stderr


def test_a_fence_left_open_is_reported(piped: Callable[..., Done]) -> None:
    """Guards a question that is lost without a word."""
    done = piped(f'"""\n{APPLES}\n', *WHOLE)
    assert re.fullmatch(rf"{BOXED}\n", done.stdout) or (done.returncode == 1 and done.stderr)


def test_bytes_that_are_no_text_fail_alone(piped: Callable[..., Done]) -> None:
    """Guards a traceback for a line in another encoding, where the system's own is strict."""
    done = piped(b"n\xe9?\n" + APPLES.encode(), *WHOLE, PYTHONIOENCODING="utf-8:strict")
    assert re.fullmatch(BOXED, done.stdout.splitlines()[-1])


def test_a_pipe_may_ask_about_exit(piped: Callable[..., Done]) -> None:
    """Guards messages after one that only is "exit", which nobody would miss."""
    done = piped(f"exit\n{PENS}\n", *WHOLE)
    assert len(done.stdout.splitlines()) == 2


def test_questions_are_not_taken_for_choices(tmp_path: Path) -> None:
    """Guards a pipe into a chat that shows its answers on a terminal, where the context is full: the next question is
    no answer to "what now?"."""
    env = terminal_environment(None, tmp_path) | {"QUESTIONS": f"{APPLES}\n" * 6}
    line = f"printf '%s' \"$QUESTIONS\" | {' '.join(CHAT)} {' '.join(FULL)}"
    process = pexpect.spawn("bash", ["-c", line], env=env, cwd=str(ROOT), timeout=30, encoding="utf-8")
    process.expect(pexpect.EOF)
    process.close()
    assert "Traceback" not in process.before
    n_answers = process.before.count("20 tokens · leader")
    assert n_answers >= 2
    assert process.before.count("the context 160") == 6 - n_answers


def test_a_file_that_is_there_is_asked_for(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a thesis replaced by a chat because nobody asked; and a question about the chat's own files."""
    thesis = tmp_path / "t.md"
    thesis.write_text("a life's work")
    with Terminal(env=terminal_environment(chat_pair, tmp_path)) as chat:
        for answer, words in (("n", "is as it was"), ("", "is as it was"), ("y", "was there already: kept as")):
            chat.ask(f"/export {thesis}")
            chat.wait("[y/N]")
            chat.send(answer + ENTER)
            chat.wait(chat.at_prompt)
            assert words.replace(" ", "") in "".join(chat.text.split())
            kept = thesis.with_name("t.md.~1~")
            assert (kept if answer == "y" else thesis).read_text() == "a life's work"
        assert "[y/N]" not in chat.say(f"/export {thesis}")
        assert chat.leave() == 0
    assert len(list(tmp_path.glob("t.md*"))) == 2
