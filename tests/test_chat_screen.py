"""What a chat writes to its terminal, as a terminal emulator shows it: wrapped words, styles, reasoning, figures."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyte
import pytest
from fakes import SHAPES, FakePair
from runs import new_sequence, run_all
from wcwidth import wcswidth

from foreal_local.alone import Alone
from foreal_local.chat.conversation import Message
from foreal_local.chat.figures import figures, gauge, totals
from foreal_local.chat.loop import Chat
from foreal_local.chat.past import show_loaded
from foreal_local.chat.screen import Screen
from foreal_local.chat.view import AnswerView
from foreal_local.config import MODES, Generation, Method
from foreal_local.method.ledger import Cost
from foreal_local.method.plan import UNMEASURED_PLAN, Plan, Speed
from foreal_local.method.reasoning import ReasoningTags
from foreal_local.method.roles import Role
from foreal_local.method.tokens import FinishReason, Token
from foreal_local.palette import hexadecimal
from foreal_local.results import Chunk, Prompt, Result, Submission
from foreal_local.tally import Tally

LEADER, DRAFT = Role.LEADER, Role.DRAFT
LINES = 400


class Terminal(io.StringIO):
    """A stream that says it is a terminal; `rows` and `cells` are what an emulator of this size shows of it."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.columns, self.lines = columns, lines
        self._screen = pyte.HistoryScreen(columns, lines, history=LINES)
        self._stream, self._n_shown = pyte.Stream(self._screen), 0

    def isatty(self) -> bool:
        return True

    def show(self) -> pyte.HistoryScreen:
        new, self._n_shown = self.getvalue()[self._n_shown :], len(self.getvalue())
        self._stream.feed(new.replace("\n", "\r\n"))
        return self._screen

    @property
    def rows(self) -> list[str]:
        screen = self.show()
        gone = ["".join(row[x].data for x in range(self.columns)) for row in screen.history.top]
        rows = [row.rstrip() for row in [*gone, *screen.display]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def cells(self, y: int = 0) -> list[Any]:
        row = self.show().buffer[y]
        return [row[x] for x in range(self.columns)]


Opened = tuple[Screen, Terminal]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """A screen on a terminal of this many columns and lines."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def open_screen(columns: int = 80, lines: int = LINES, **options: Any) -> Opened:
        monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((columns, lines)))
        out = Terminal(columns, lines)
        return Screen(out=out, **options), out

    return open_screen


def cut(text: str, rng: random.Random) -> list[str]:
    """The text in pieces of some characters, as tokens have."""
    pieces = []
    while text:
        n = rng.randrange(1, 8)
        pieces.append(text[:n])
        text = text[n:]
    return pieces


def write(screen: Screen, text: str, seed: int = 1, thinking: bool = False) -> None:
    """The text as an answer of both authors, piece by piece."""
    rng = random.Random(seed)
    for piece in cut(text, rng):
        screen.words(piece, rng.choice([LEADER, DRAFT]), thinking)
    screen.end_line()


def wrapped(text: str, columns: int) -> list[str]:
    """The lines of a text whose words all fit: as many words in each as there is room for."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > columns:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


# ---------------------------------------------------------------- lines
@pytest.mark.parametrize("columns", [12, 20, 40, 79, 80, 200])
def test_lines_are_broken_between_words(columns: int, opened: Callable[..., Opened]) -> None:
    """Guards words that the terminal breaks, or that are torn where an author changes inside of them; lines that
    end too early; and blank lines where a word fills its line to the end."""
    rng = random.Random(columns)
    for seed in range(6):
        words = ["x" * rng.choice([1, 2, 3, 4, 6, 9, 12, columns // 2]) for _ in range(120)]
        words = [word[:12] for word in words]
        text = "".join(word + rng.choice([" "] * 12 + ["\n", "\n\n"]) for word in words[:-1]) + words[-1]
        for styled in (True, False):
            screen, out = opened(columns, color=styled)
            write(screen, text, seed)
            assert out.rows == wrapped(text, columns)


def test_a_word_longer_than_the_line_is_whole(opened: Callable[..., Opened]) -> None:
    """Guards a long number or address of which a part is lost, or that the next word is written over."""
    text = f"so {'1234567890' * 5} and {'abc' * 6} end {'z' * 20} done"
    screen, out = opened(20)
    write(screen, text)
    assert "".join(out.rows).replace(" ", "") == text.replace(" ", "")
    for word in ("so", "and", "end", "done"):
        assert any(word in row.split() for row in out.rows), word


@pytest.mark.parametrize(
    "text", ["数が大きい。" * 12, "so 数 is 和 and " * 6, "😀 ok 👍 fine 🎉🎉 " * 6, "é ü ñ " * 30]
)
def test_wide_characters_take_two_columns(text: str, opened: Callable[..., Opened]) -> None:
    """Guards lines that are too long where characters are wide, and text without spaces that is one endless word."""
    columns = 21
    screen, out = opened(columns)
    rng = random.Random(1)
    for piece in re.findall(r".{1,3}", text):
        screen.words(piece, rng.choice([LEADER, DRAFT]), False)
    screen.end_line()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).rstrip("\n").split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) == len(out.rows) > 1, "the terminal has broken a line"
    assert max(map(wcswidth, lines)) <= columns
    if " " not in text:
        assert min(map(wcswidth, lines[:-1])) >= columns - 6, "a line that is not filled"


def test_tabs_are_as_wide_as_the_terminal_shows_them(opened: Callable[..., Opened]) -> None:
    """Guards code with tabs whose lines are broken inside words."""
    screen, out = opened(40)
    write(screen, "\tif answer:\n\t\treturns the complete number of apples\n")
    words = " ".join(out.rows).split()
    assert words == "if answer: returns the complete number of apples".split()  # noqa: SIM905


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\x1b]0;title\x07b", "a\x08\x08b", "abc\rd", "a\x00b"])
def test_a_model_does_not_steer_the_terminal(text: str, opened: Callable[..., Opened]) -> None:
    """Guards answers that clear the screen, rename the window or write over what stands there."""
    screen, out = opened(40)
    screen.line("before")
    write(screen, text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", plain)
    assert out.rows[0] == "before"


def test_a_line_of_the_program_begins_a_line(opened: Callable[..., Opened]) -> None:
    """Guards a note glued to an answer, a blank line before each note, and an answer's last word that is lost."""
    screen, out = opened(20)
    screen.words("an answer", LEADER, False)
    screen.line("a line")
    screen.line("another")
    screen.words("so", DRAFT, False)
    screen.end_line()
    screen.end_line()
    screen.note("a note that is longer than the line")
    assert out.rows == ["an answer", "a line", "another", "so", "a note that is", "longer than the", "line"]


# ---------------------------------------------------------------- styles
STYLES = {
    (True, False): ("38;5;63", ""),
    (True, True): ("38;5;63", "38;5;243"),
    (False, False): ("4", ""),
    (False, True): ("3;4", "3"),
}


@pytest.mark.parametrize(("colored", "thinking"), STYLES)
def test_each_author_has_a_style(colored: bool, thinking: bool, opened: Callable[..., Opened]) -> None:
    """Guards authors that look alike, a style that continues in the next word, and one author's part of a word that
    looks like the other's."""
    screen, out = opened(color=colored)
    for text, author in (("so", LEADER), (" we", LEADER), ("'ll", DRAFT), (" add", DRAFT), (" it", LEADER)):
        screen.words(text, author, thinking)
    screen.end_line()
    leader, draft = STYLES[colored, thinking]
    parts = [(leader, "so"), (leader, "we"), (draft, "'ll"), (draft, "add"), (leader, "it")]
    shown = [f"\x1b[{codes}m{text}\x1b[0m" if codes else text for codes, text in parts]
    assert out.getvalue() == f"{shown[0]} {shown[1]}{shown[2]} {shown[3]} {shown[4]}\n"
    cells = out.cells()
    assert "".join(cell.data for cell in cells).rstrip() == "so we'll add it"
    for cell, letter in zip(cells, "llxllddd dddxll".replace(" ", "x"), strict=False):
        led = letter == "l"
        assert not cell.bold
        assert cell.underscore == (led and not colored)
        if colored and not thinking:
            assert cell.fg == (hexadecimal(63)[1:] if led else "default")


@pytest.mark.parametrize(
    ("environment", "color", "styled", "colored"),
    [
        ({}, None, True, True),
        ({"NO_COLOR": "1"}, None, True, False),
        ({"NO_COLOR": ""}, None, True, True),
        ({"NO_COLOR": "1"}, True, True, True),
        ({}, False, True, False),
        ({"TERM": "dumb"}, None, False, False),
        ({"TERM": "dumb"}, True, False, False),
    ],
)
def test_what_decides_about_colour(
    environment: dict[str, str],
    color: bool | None,
    styled: bool,
    colored: bool,
    opened: Callable[..., Opened],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards NO_COLOR and dumb terminals that are not heard, and an option that they overrule."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen, out = opened(color=color)
    screen.status("working")
    screen.words("so we", LEADER, False)
    screen.words(" think", LEADER, True)
    screen.note("note")
    assert ("\x1b" in out.getvalue()) == styled
    assert ("38;5;" in out.getvalue()) == colored
    if not styled:
        assert out.getvalue() == "so we think\nnote\n"


def test_a_pipe_gets_answers_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards styles, reasoning, status lines, notes or line breaks of ours in a file."""
    out = io.StringIO()
    screen = Screen(True, True, out)
    assert (screen.is_terminal, screen.styled, screen.colored, screen.show_thinking) == (False,) * 4
    view = AnswerView(screen)
    screen.status("reading")
    answer = "so " * 100 + "数\tend."
    view.feed(tokens(["\nOkay", ", so.", "\n</think>", "\n\n", answer[:50], answer[50:]], True))
    view.end()
    screen.note("a note")
    assert out.getvalue() == f"{answer}\n"
    assert capsys.readouterr().err == "a note\n"


# ---------------------------------------------------------------- one answer
def tokens(texts: list[str], starts_thinking: bool, author: Role = LEADER) -> Chunk:
    made = [Token(i, author, text, 1, False, 0) for i, text in enumerate(texts)]
    return Chunk(1, "1", made, ReasoningTags(opened=starts_thinking))


def test_reasoning_is_hidden_behind_a_count(opened: Callable[..., Opened]) -> None:
    """Guards hidden reasoning that shows, a silent screen while it is written, a count of more or less than that, and a
    status line that stays beside the answer."""
    screen, out = opened(show_thinking=False)
    view = AnswerView(screen)
    screen.status("reading 256 of 900 tokens")
    for n, text in enumerate(["Okay", ", so", " we", " add."], 1):
        view.feed(tokens([text], True))
        assert out.rows == [f"thinking: {n} token{'s' if n > 1 else ''}"]
    view.feed(tokens(["\n", "</think>", "\n", "\n", "It", " is", " 5."], True, DRAFT))
    view.end()
    assert out.rows == ["It is 5."]
    assert "Okay" not in out.getvalue()
    again = AnswerView(screen)
    again.feed(tokens(["so"], True))
    assert out.rows[-1].startswith("thinking: 1 ")
    again.end()  # stopped inside the reasoning
    screen.note("stopped")
    assert out.rows == ["It is 5.", "stopped"]


def test_one_token_is_one_token(opened: Callable[..., Opened]) -> None:
    """Guards a plural where there is one."""
    screen, out = opened(show_thinking=False)
    AnswerView(screen).feed(tokens(["so"], True))
    assert out.rows == ["thinking: 1 token"]


@pytest.mark.parametrize(
    ("starts_thinking", "texts", "rows"),
    [
        (True, ["\n", "Okay", ".\n", "</th", "ink>", "\n\n", "5"], ["Okay.", "", "5"]),
        (True, ["<think>", "\n", "Okay.", "</think>", "5"], ["Okay.", "", "5"]),
        (False, ["<think>", "\nOkay.\n", "</think>", "\n", "5\n\n", "6"], ["Okay.", "", "5", "", "6"]),
        (False, ["\n\n", "5 < 6 <", "/b>"], ["5 < 6 </b>"]),
        (True, ["Okay", " </th"], ["Okay </th"]),
        (False, ["<thi"], ["<thi"]),
        (True, ["\n"], []),
        (True, [], []),
    ],
)
def test_reasoning_and_answer_stand_apart(
    starts_thinking: bool, texts: list[str], rows: list[str], opened: Callable[..., Opened]
) -> None:
    """Guards tags on the screen, blank lines that the tags leave, and half a tag at the end that is swallowed."""
    for at_once in (True, False):
        screen, out = opened()
        view = AnswerView(screen)
        for part in [texts] if at_once else [[text] for text in texts]:
            view.feed(tokens(part, starts_thinking))
        view.end()
        assert out.rows == rows


# ---------------------------------------------------------------- what may still be taken back
@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sketch is drawn, however soon after the last."""
    monkeypatch.setattr("foreal_local.chat.view._SKETCH_EVERY", 0.0)


def drafts(rng: random.Random) -> list[tuple[str, str]]:
    """Steps of an answer: the text that is settled, and what is written behind it, which is taken back at times."""
    ends = [" "] * 8 + ["\n", "\n\n", " 数 ", " 😀 "]
    text = "".join("x" * rng.choice([1, 2, 3, 4, 6, 9]) + rng.choice(ends) for _ in range(60)).rstrip()
    at, steps = 0, []
    while at < len(text):
        n = rng.randrange(1, 60)
        steps += [(text[:at], text[at:end]) for end in range(at, at + n, 7)]
        if rng.random() < 0.4:
            steps += [(text[:at], f"{text[at : at + 5]}other words\nand 数 more "), (text[:at], "")]
        at += n
    return [*steps, (text, "")]


def rows_of(text: str, opened: Callable[..., Opened], columns: int) -> list[str]:
    """The rows of a text that is all settled."""
    screen, out = opened(columns, color=False)
    write(screen, text)
    return [row.rstrip() for row in re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).rstrip().split("\n")]


@pytest.mark.parametrize("lines", [6, 50])
@pytest.mark.parametrize("columns", [14, 40, 80])
def test_a_sketch_stands_where_its_text_will_stand(
    columns: int, lines: int, opened: Callable[..., Opened], at_once: None
) -> None:
    """Guards a draft over settled text, rests of one that was taken back, a line that jumps when it is settled, and a
    last line of the screen that scrolls the cursor away."""
    n_whole = 0
    for seed in range(4):
        rng, shown = random.Random(seed), ""
        screen, out = opened(columns, lines, color=True)
        view = AnswerView(screen)
        for settled, draft in drafts(rng):
            wanted = rows_of(settled + draft, opened, columns)
            kept = rows_of(settled, opened, columns)
            opened(columns, lines)
            view.feed(tokens(cut(settled[len(shown) :], rng), False))
            shown = settled
            view.sketch(tokens(cut(draft, rng), False, DRAFT))
            if draft and screen._column < columns and len(wanted) - len(kept) < lines - 2:
                n_whole += 1
                assert (out.rows or [""]) == wanted
            else:
                assert "\n".join(out.rows).startswith("\n".join(kept[:-1]).rstrip())
        view.end()
        screen.line("after")
        assert out.rows == [*wanted, "after"]
        assert not any(cell.italics for y in range(lines) for cell in out.cells(y))
    assert n_whole > 100


def test_a_draft_is_dim_and_in_italics_until_it_is_settled(opened: Callable[..., Opened], at_once: None) -> None:
    """Guards text that looks as if it stood, and text that stands and looks as if it did not."""
    screen, out = opened(color=True)
    view = AnswerView(screen)
    for text in ("so we", " add", " it"):
        chunk = tokens([text], False, LEADER)
        view.sketch(chunk)
        assert "\x1b[38;5;243;3m" in out.getvalue()
        assert sum(cell.italics for cell in out.cells()) == len(text.replace(" ", ""))
        view.feed(chunk)
    view.end()
    assert out.rows == ["so we add it"]
    assert not any(cell.italics for cell in out.cells())


@pytest.mark.parametrize("terminal", [True, False])
def test_without_colour_a_draft_is_not_shown(
    terminal: bool, opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    """Guards a file or a plain terminal that gets words which are taken back."""
    screen, out = opened(color=False)
    if not terminal:
        monkeypatch.setattr(out, "isatty", lambda: False)
        screen = Screen(True, out=out)
    view = AnswerView(screen)
    view.feed(tokens(["so "], False))
    before = out.getvalue()
    view.sketch(tokens(["we", " add"], False))
    view.sketch(tokens([], False))
    assert out.getvalue() == before


def test_hidden_reasoning_stays_hidden_while_it_is_drafted(opened: Callable[..., Opened], at_once: None) -> None:
    """Guards a draft that shows what /think hide hides, and a count that stands still while it is written."""
    screen, out = opened(color=True, show_thinking=False)
    view = AnswerView(screen)
    view.sketch(tokens(["Okay", ", so"], True))
    assert out.rows == ["thinking: 2 tokens"]
    view.sketch(tokens(["Okay", ".", "</think>", "\n\n", "It is"], True))
    assert out.rows == ["It is"]
    view.sketch(tokens([], True))
    assert out.rows == []
    view.feed(tokens(["Okay", ".", "</think>", "It is 5."], True))
    view.end()
    assert out.rows == ["It is 5."]


def test_a_sketch_that_was_interrupted_is_erased(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    """Guards words that are no part of the answer, in front of what a stopped answer has cost."""
    screen, out = opened(20, color=True)
    view = AnswerView(screen)
    view.feed(tokens(["so we "], False))

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(out, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        view.sketch(tokens(["add", " them", " and", " more"], False))
    view.end()
    assert out.rows == ["so we"]


def test_a_status_fits_its_line(opened: Callable[..., Opened]) -> None:
    """Guards a status that wraps: the next one would not erase all of it."""
    screen, out = opened(12)
    screen.line("before")
    for n in range(3):
        screen.status(f"reading {n} of 1000 tokens")
    assert out.rows == ["before", "reading 2 o"]
    screen.clear_status()
    screen.clear_status()
    screen.line("after")
    assert out.rows == ["before", "after"]


def test_a_status_that_was_interrupted_is_erased(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards "reading 256 of 9896 tokens0 tokens · stopped" on one line."""
    screen, out = opened()

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(out, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        screen.status("reading 256 of 9896 tokens")
    screen.clear_status()
    screen.line("0 tokens")
    assert out.rows == ["0 tokens"]


# ---------------------------------------------------------------- a conversation that is shown again
def shown_again(message: Message, opened: Callable[..., Opened]) -> list[str]:
    screen, out = opened()
    conversation: Any = SimpleNamespace(notes=["a note"], messages=[Message("user", "How many?"), message])
    show_loaded(conversation, screen)
    assert conversation.notes == []
    assert out.rows[:3] == ["a note", "a conversation of 1 question; the last:", ">>> How many?"]
    return out.rows[3:]


@pytest.mark.parametrize(
    ("content", "spans", "rows"),
    [
        ("<think>\nso\n</think>\n\nIt is 5.", [("leader", 12), ("draft", 12)], ["It is 5."]),
        ("It is 5.", [("leader", 3), ("draft", 5)], ["It is 5."]),
        ("<think>\nso", [("leader", 2)], []),
        ("", [], []),
        ("<think>\nso\n</think>\n\nIt is 5.\n", [("leader", 25)], ["It is 5."]),
    ],
)
def test_the_last_answer_is_shown_again(
    content: str, spans: list[tuple[str, int]], rows: list[str], opened: Callable[..., Opened]
) -> None:
    """Guards a session whose last answer comes back in part, with its reasoning, or with its tags."""
    assert shown_again(Message("assistant", content, spans), opened) == rows


def test_the_last_answer_comes_back_in_its_styles(opened: Callable[..., Opened]) -> None:
    """Guards authors that are forgotten, or that change places by some characters."""
    screen, out = opened(color=True)
    message = Message("assistant", "<think>\nso\n</think>\n\nIt is 5.", [("draft", 5), ("leader", 16), ("draft", 2)])
    conversation: Any = SimpleNamespace(notes=[], messages=[Message("user", "How many?"), message])
    show_loaded(conversation, screen)
    (y,) = [y for y, row in enumerate(out.rows) if row == "It is 5."]
    led = [cell.fg != "default" for cell in out.cells(y)[:8] if cell.data != " "]
    assert led == [True] * 4 + [False] * 2


# ---------------------------------------------------------------- figures
def result_of(reason: FinishReason, **options: Any) -> Result:
    """An answer of fakes."""
    pair = FakePair()
    sequence = new_sequence(1, **{"prompt": [2, 3], "max_tokens": 60, **options})
    run_all(pair.scheduler(), [sequence])
    sequence.finish_reason = reason
    return Result.of(Submission(Prompt("so"), "", 512), sequence, SHAPES)


def test_figures_are_those_of_the_answer() -> None:
    """Guards figures that do not belong to the answer, and a division by nothing."""
    result = result_of(FinishReason.STOP)
    sequence, n_tokens = result.sequence, len(result.tokens)
    line = figures(result, 2.0, 0.5, Alone(2.5, "measured"))
    share = sum(token.author is LEADER for token in result.tokens) / n_tokens
    for words in (
        f"{n_tokens} tokens",
        f"leader {share:.0%}",
        f"{sequence.n_led} of {sequence.n_sentences} sentences led",
        f"{sequence.n_handoffs} handoff",
        f"{n_tokens / 2:.0f} tokens/s",
        "first after 0.50 s",
        f"FLOPs {result.flops.generation / result.flops.leader_only_generation:.0%} written, ",
        f" {result.flops.total / result.flops.leader_only:.0%} all evaluated (leader alone 100%)",
    ):
        assert words in line, words
    assert line.startswith("2.00 s, 80% of the leader alone (measured) · FLOPs ")
    assert figures(result, 0.0, None, None).startswith("0.00 s · FLOPs ")
    one = figures(result_of(FinishReason.LENGTH, max_tokens=1), 1.0, 0.1, None)
    assert " · 1 token · " in one
    assert one.endswith("ended by max-tokens")
    never = figures(result_of(FinishReason.LENGTH, max_tokens=9, p=0.0), 1.0, 0.1, None)
    assert re.search(r" · 0 of \d+ sentences? led, 0 handoffs · ", never)


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        (FinishReason.STOP, "first after 0.10 s"),
        (FinishReason.LENGTH, "ended by max-tokens"),
        (FinishReason.CONTEXT, "the context is full"),
        (FinishReason.CANCELLED, "stopped"),
        (FinishReason.ERROR, "failed"),
    ],
)
def test_figures_say_how_it_ended(reason: FinishReason, ending: str) -> None:
    """Guards an answer that breaks off without a word about it."""
    assert figures(result_of(reason), 1.0, 0.1, None).endswith(ending)
    sequence = new_sequence(1, prompt=[2])
    sequence.finish(reason)
    nothing = Result.of(Submission(Prompt("so"), "", 512), sequence, SHAPES)
    assert figures(nothing, 1.0, None, Alone(2.0, "predicted")).startswith("1.00 s · 0 tokens")


def test_stats_of_a_loaded_conversation_agree_with_each_other(opened: Callable[..., Opened]) -> None:
    """Guards "0 answers" above the cost of many."""
    screen, out = opened()
    messages = [Message("user", "How many?"), Message("assistant", "5")]
    cost = {LEADER: Cost(decode_tokens=3, seconds=0.25, flops=2e9), DRAFT: Cost()}
    engine = SimpleNamespace(plan=UNMEASURED_PLAN)
    conversation: Any = SimpleNamespace(
        notes=[], messages=messages, cost=cost, tally=Tally(), settings=Generation(), engine=engine
    )
    Chat(conversation, screen, lambda *_: conversation, None, []).actions.do_stats("")
    assert out.rows[0] == "1 answer"


def test_the_gauge_has_one_width() -> None:
    """Guards a gauge that grows beyond its frame, is empty when full, or fails before anything is there."""
    for n_used in (0, 1, 50, 99, 100, 101, 250):
        drawn = gauge(n_used, 100)
        assert re.fullmatch(rf"[█░]{{12}} {n_used}/100", drawn)
        assert drawn.count("█") == min(12, round(12 * n_used / 100))
    assert gauge(0, 0).startswith("░" * 12)


def test_totals_leave_out_who_did_nothing() -> None:
    """Guards /stats that speaks of a draft that was never asked, or leaves out who worked."""
    cost = {LEADER: Cost(decode_tokens=3, prefill_tokens=4, calls=5, seconds=0.25, flops=2e9), DRAFT: Cost()}
    lines = list(totals(cost, 1))
    assert lines[0] == "1 answer"
    assert len(lines) == 2
    for words in ("leader", "3 tokens decoded", "4 prefilled", "5 calls", "0.25 s", "2 GFLOPs"):
        assert words in lines[1]
    assert list(totals({LEADER: Cost(), DRAFT: Cost()}, 0)) == ["0 answers"]


def test_stats_tell_what_the_draft_has_saved() -> None:
    """Guards /stats that tells a plan nobody follows or measured, and counts that are mixed up."""
    plan = Plan({LEADER: Speed({1: 1.0, 16: 1.5}), DRAFT: Speed({1: 0.1, 16: 0.2})})
    # With proposals the leader reads ahead, and a rewrite drops the refused token alone; without, what follows it too.
    sequences = [new_sequence(1, gate="never", review="exact", temp=0.6, proposals=n) for n in (3, None)]
    tally = Tally()
    for sequence in sequences:
        run_all(FakePair(truncation="remove").scheduler(), [sequence])
        tally.add(sequence)
    names = ("n_proposed", "n_accepted", "n_reviewed", "n_rewritten", "n_dropped")
    proposed, accepted, reviewed, rewritten, dropped = (sum(getattr(s, name) for s in sequences) for name in names)
    assert 0 < rewritten < dropped < reviewed
    calls = sum(s.cost[LEADER].calls for s in sequences) / sum(len(s.tokens) for s in sequences)
    told = [
        f"proposed: {proposed} tokens, {accepted} accepted ({accepted / proposed:.0%})",
        f"reviewed: {reviewed} tokens, {rewritten} rewritten, {dropped} dropped",
        f"leader calls: {calls:.2f} for each token",
    ]

    def lines(tally: Tally, settings: Generation, plan: Plan) -> list[str]:
        return [f"{label}: {text}" for label, text in tally.lines(settings, plan)]

    for mode in MODES:
        follows = mode in ("foreal", "auto", "speculative")
        assert lines(tally, Generation(mode), plan) == [f"proposals: {plan.describe()}"] * follows + told
    assert lines(tally, Generation(), UNMEASURED_PLAN) == told
    assert lines(tally, Generation(method=Method(proposals=2)), plan) == told
    assert lines(Tally(), Generation(), UNMEASURED_PLAN) == []


def test_the_gauge_shows_what_the_next_prompt_takes(opened: Callable[..., Opened]) -> None:
    """Guards a gauge that counts the reasoning of the last answer, which the next prompt leaves out."""

    class Ended:
        def read(self, prompt: str = "", default: str = "") -> str:
            raise EOFError

    screen, _ = opened()
    engine = SimpleNamespace(ctx_size=1024)
    conversation: Any = SimpleNamespace(
        n_prompt=lambda: 41,
        n_held=234,
        engine=engine,
        messages=[1],
        settings=Generation(),
        think_budget=None,
        thinking=None,
    )
    chat = Chat(conversation, screen, lambda *_: conversation, None, [])
    assert chat.run(Ended()) == 0
    assert "41/1024" in chat.toolbar()
