"""Markdown in a chat: what a text becomes, whatever pieces it comes in, and what a terminal shows of it."""

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
from wcwidth import wcswidth

from foreal_local.chat.conversation import Message
from foreal_local.chat.fences import blocks_in, closed
from foreal_local.chat.inline import BOLD, CODE, ITALIC, STRIKE, settle
from foreal_local.chat.markdown import Features, Formatter, Piece, Table
from foreal_local.chat.past import markdown, show_again, show_loaded
from foreal_local.chat.screen import Screen
from foreal_local.chat.view import TextView
from foreal_local.method.roles import Role

LEADER, DRAFT = Role.LEADER, Role.DRAFT
LONG = 'print([name for name in names if name.startswith("prefix") and not name.endswith(".bak")], sep=", ", end="")'
SAMPLE = f"""# A **title** of words

Some **bold**, *italic*, ~~struck~~ and `inline` words, 2*3*4, x**2 and a_b_c, for $5 or \\(a_1 * b_1\\).

1. A first item that is long enough to be broken into two lines of a narrow terminal
   - nested `code`
     - deeper
2. second

> A quotation that is long enough to be broken on a narrow terminal

```python
def f(x):  # a comment
    return "text"

{LONG}
```

| Name | Cost |
|:--|--:|
| `a` | 12 |
| **b** | 3 |

数が**大きい**場合は、注意してください。
\\[
a_1 * b_1 * c_1
\\]
End with **an open mark
"""


def of_line(text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(text[begin:end], marks) for begin, end, marks in settle(text, 0, final=True)[0]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a **b c** d", [("a ", ()), ("b c", (BOLD,)), (" d", ())]),
        ("*a* _b_ __c d__", [("a", (ITALIC,)), (" ", ()), ("b", (ITALIC,)), (" ", ()), ("c d", (BOLD,))]),
        ("***a***", [("a", (BOLD, ITALIC))]),
        ("**a *b* c**", [("a ", (BOLD,)), ("b", (BOLD, ITALIC)), (" c", (BOLD,))]),
        ("~~a~~ ~b~", [("a", (STRIKE,)), (" ", ()), ("~", ()), ("b", ()), ("~", ())]),
        ("`a*b*c` d", [("a*b*c", (CODE,)), (" d", ())]),
        ("`` a`b ``", [("a`b", (CODE,))]),
        ("**`a**b`**", [("a**b", (BOLD, CODE))]),
        ("数は**大きい**です", [("数は", ()), ("大きい", (BOLD,)), ("です", ())]),
        (r"2 \* 3 \$5", [("2 ", ()), ("*", ()), (" 3 ", ()), ("$", ()), ("5", ())]),
        (r"\(a_1 * b_1\) \[x_y_z\]", [(r"\(a_1 * b_1\)", ()), (" ", ()), (r"\[x_y_z\]", ())]),
        ("$a_1 * b_1$ $$x*y*z$$", [("$a_1 * b_1$", ()), (" ", ()), ("$$x*y*z$$", ())]),
    ],
)
def test_marks_inside_of_a_line(text: str, wanted: list[tuple[str, tuple[str, ...]]]) -> None:
    """Guards marks that are shown, words between marks that are not, and mathematics that loses its signs."""
    assert of_line(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2*3*4 = 24",
            "x**2 + y**2",
            "a_b_c",
            "f(x)*g(y)*h",
            "5 * 3 * 2",
            "costs $5 and $6",
            "**open",
            "`open",
            "* a",
        ),
        *(r"\frac{a_1}{b}", r"a \\ b", "snake_case and other_name", "**", "~", "a ** b ** c", "**a **", "__init__.py"),
    ],
)
def test_what_marks_nothing_stays(text: str) -> None:
    """Guards products, powers, names and prices that lose their signs, as CommonMark has it."""
    assert "".join(part for part, _ in of_line(text)) == text
    assert not any(marks for _, marks in of_line(text))


# ---------------------------------------------------------------- the same text in other pieces
WORDS = [
    "a",
    "word",
    " ",
    " ",
    "\n",
    "\n",
    "\n\n",
    "**",
    "*",
    "_",
    "`",
    "```",
    "```python",
    "$",
    "\\(",
    "\\)",
    "\\",
    "- ",
]
WORDS += [
    "1. ",
    "# ",
    "> ",
    "| a | b |\n",
    "|--|--|\n",
    "数",
    "~~",
    "---",
    "x = 'y'",
    "\t",
    "    ",
    ".",
    ")",
    "\\[\n",
    "12",
]


def fed(pieces: list[tuple[str, str]], features: Features) -> list[Any]:
    """What a formatter gives out, character by character; a table is whole."""
    formatter: Formatter[str] = Formatter(features)
    found = [each for text, look in pieces for each in formatter.feed(text, look)]
    found += formatter.end()
    return [
        each if isinstance(each, Table) else (char, each.look, each.marks, each.wrap, each.hang)
        for each in found
        for char in (each.text if isinstance(each, Piece) else " ")
    ]


@pytest.mark.parametrize("features", [Features(), Features(colours=False), Features(marks=False)])
def test_pieces_make_no_difference(features: Features) -> None:
    """Guards a text that is shown otherwise because of how it was cut into tokens."""
    for seed in range(400):
        rng = random.Random(seed)
        text = "".join(rng.choices(WORDS, k=rng.randrange(2, 40)))
        whole = fed([(text, "x")], features)
        assert fed([(char, "x") for char in text], features) == whole, (seed, text)
        cuts = sorted(rng.choices(range(len(text) + 1), k=5))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert fed([(part, "x") for part in parts if part], features) == whole, (seed, text)


@pytest.mark.parametrize("features", [Features(), Features(colours=False), Features(marks=False)])
def test_no_word_is_lost(features: Features) -> None:
    """Guards words, and their authors, that Markdown swallows."""
    for seed in range(400):
        rng = random.Random(seed)
        parts = [(rng.choice(WORDS), rng.choice("ld")) for _ in range(40)]
        shown = []
        for each in fed(parts, features):
            cells = [p for row in each.rows for cell in row for p in cell] if isinstance(each, Table) else []
            shown += [(c, p.look) for p in cells for c in p.text] or ([each[:2]] if isinstance(each, tuple) else [])
        wanted = [(char, look) for text, look in parts for char in text]
        kept = [(char, look) for char, look in shown if char.isalpha()]
        languages = "".join(text for text, _ in parts).count("```python")
        assert kept == [(char, look) for char, look in wanted if char.isalpha()], (seed, languages, parts)


# ---------------------------------------------------------------- on a terminal
class Terminal(io.StringIO):
    """A terminal of some columns; `rows` and `cells` are what an emulator shows."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.columns = columns
        self._screen = pyte.HistoryScreen(columns, lines, history=2000)
        self._stream, self._n_shown = pyte.Stream(self._screen), 0

    def isatty(self) -> bool:
        return True

    @property
    def cells(self) -> list[list[Any]]:
        new, self._n_shown = self.getvalue()[self._n_shown :], len(self.getvalue())
        self._stream.feed(new.replace("\n", "\r\n"))
        screen = self._screen
        rows = [*screen.history.top, *(screen.buffer[y] for y in range(screen.lines))]
        return [[row[x] for x in range(self.columns)] for row in rows]

    @property
    def rows(self) -> list[str]:
        return "\n".join("".join(cell.data for cell in row).rstrip() for row in self.cells).rstrip().split("\n")


Shown = Callable[..., Terminal]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Show a text, piece by piece, on a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)
    monkeypatch.setattr("foreal_local.chat.view._SHARE", 1.0)  # each picture is drawn

    def show(text: str, columns: int = 80, lines: int = 30, seed: int = 1, **options: Any) -> Terminal:
        monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((columns, lines)))
        out, rng = Terminal(columns, lines), random.Random(seed)
        screen = Screen(out=out, **options)
        view = TextView(screen, screen.markdown)
        while text:
            n = rng.randrange(1, 8)
            view.feed(text[:n], rng.choice([LEADER, DRAFT]), False)
            view.show_open()
            text = text[n:]
        view.end()
        return out

    return show


def test_an_answer_is_shown_as_what_it_means(shown: Shown) -> None:
    """Guards marks on the screen, and lists, tables and quotations that lose their shape."""
    out = shown(SAMPLE, columns=40)
    assert out.rows == [
        "A title of words",
        "",
        "Some bold, italic, struck and inline",
        "words, 2*3*4, x**2 and a_b_c, for $5 or",
        r"\(a_1 * b_1\).",
        "",
        "1. A first item that is long enough to",
        "   be broken into two lines of a narrow",
        "   terminal",
        "   • nested code",
        "     • deeper",
        "2. second",
        "",
        "│ A quotation that is long enough to be",
        "│ broken on a narrow terminal",
        "",
        "```python",
        "def f(x):  # a comment",
        '    return "text"',
        "",
        *[LONG[i : i + 40] for i in range(0, len(LONG), 40)],
        "```",
        "",
        "Name │ Cost",
        "─────┼─────",
        "a    │   12",
        "b    │    3",
        "",
        "数が大きい場合は、注意してください。",
        r"\[",
        "a_1 * b_1 * c_1",
        r"\]",
        "End with **an open mark",
    ]


@pytest.mark.parametrize("columns", range(20, 60))
def test_broken_lines_hang_to_the_last_word(columns: int, shown: Shown) -> None:
    """Guards the last word of an item or a quotation, which began its line at the edge."""
    text = (
        "> A quotation that is long enough to be broken into lines.\n\n- an item of a list that is broken\n\n1. more\n"
    )
    quotation, item, _ = "\n".join(shown(text, columns).rows).split("\n\n")
    assert all(row.startswith("│ ") for row in quotation.split("\n"))
    assert all(row.startswith("  ") for row in item.split("\n")[1:])


@pytest.mark.parametrize("options", [{}, {"markdown": False}, {"color": False}, {"wrap": False}])
@pytest.mark.parametrize("lines", [5, 12, 60])
@pytest.mark.parametrize("columns", [24, 40, 80, 120])
def test_what_was_held_back_leaves_no_trace(columns: int, lines: int, options: Any, shown: Shown) -> None:
    """Guards text that stands twice, or that is missing, where a part of it was shown before it was settled: in low
    and narrow windows and in what has scrolled out."""
    for seed in range(3):
        wanted = shown(SAMPLE, columns, 200, seed, **options).rows
        assert shown(SAMPLE, columns, lines, seed, **options).rows == wanted
    plain = "".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b.", "", shown(SAMPLE, columns, lines, **options).getvalue()))
    assert plain.count("second") >= 1


@pytest.mark.parametrize("options", [{}, {"markdown": False}, {"color": False}, {"wrap": False}])
@pytest.mark.parametrize("columns", [24, 80, 120])
def test_lines_of_code_are_copied_whole(columns: int, options: Any, shown: Shown) -> None:
    """Guards line breaks inside of code: what is selected there is no code any more."""
    out = shown(SAMPLE, columns, **options).getvalue()
    written = re.sub(r"\x1b7.*?\x1b8|\x1b\[[0-9;?]*[a-zA-Z]|\x1b.", "", out, flags=re.DOTALL)
    assert LONG in written.split("\n")
    assert all(line == line.rstrip() for line in written.split("\n") if "print" in line)


def test_without_wrap_no_line_is_broken(shown: Shown) -> None:
    """Guards --no-wrap that is heard for code alone."""
    text = "many words " * 30
    out = shown(f"{text}\n- {text}\n", columns=20, wrap=False).getvalue()
    written = re.sub(r"\x1b7.*?\x1b8|\x1b\[[0-9;?]*[a-zA-Z]|\x1b.", "", out, flags=re.DOTALL)
    assert written.split("\n")[:2] == [text, f"• {text}"]


def test_code_is_in_colours_and_words_are_their_authors(shown: Shown) -> None:
    """Guards code whose colours tell nothing, and prose that loses its authors to Markdown."""
    cells = shown(SAMPLE).cells
    by_row = {"".join(cell.data for cell in row).rstrip(): row for row in cells}
    row = by_row['    return "text"']
    assert len({row[4].fg, row[11].fg, row[0].fg}) == 3
    assert {cell.fg for cell in by_row["def f(x):  # a comment"][4:9]} == {"default"}
    bold = [cell for row in cells[2:4] for cell in row if cell.bold]
    assert "".join(cell.data for cell in bold) == "bold"
    prose = {cell.fg for row in cells[2:4] for cell in row if cell.data.isalpha()}
    assert {"default", "5f5fff"} <= prose


@pytest.mark.parametrize("language", ["", "nonsense", "text"])
def test_code_of_no_known_language_shows_its_authors(language: str, shown: Shown) -> None:
    """Guards a block without a language, or with one that nobody knows, that fails or is guessed at."""
    out = shown(f"```{language}\nsome code here\n```\n")
    assert out.rows == [f"```{language}", "some code here", "```"]


def test_without_colour_code_keeps_its_backticks(shown: Shown) -> None:
    """Guards code inside of a line that cannot be told from its words."""
    out = shown("Use `ls -l` **now**.", color=False)
    assert out.rows == ["Use `ls -l` now."]
    assert not any(cell.fg != "default" for cell in out.cells[0])


def test_markdown_can_be_switched_off(shown: Shown) -> None:
    """Guards a text that is not what the models wrote where that is asked for."""
    text = "# A title\n\n**bold** `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n"
    assert shown(text, markdown=False).rows == text.rstrip().split("\n")


def test_a_dumb_terminal_gets_the_text_as_it_is(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards escape sequences, and text that is held back and cannot be shown meanwhile."""
    monkeypatch.setenv("TERM", "dumb")
    text = f"**bold**\n\n```python\n{LONG}\n"
    assert shown(text, columns=30).getvalue() == f"{text}```\n"


def test_text_is_on_the_screen_as_soon_as_it_is_written(shown: Shown) -> None:
    """Guards words that are held back unseen until a mark is closed, a table ends or a line of code is whole."""
    for text in ("so **bold words", "`some code", "| a | b |\n| c", "```python\nreturn 12", "> quoted ", "- **item"):
        out = Terminal(60, 20)
        view = TextView(Screen(out=out), True)
        view.feed(text, DRAFT, False)
        view.show_open()
        letters = re.sub(r"[\W_]", "", text)
        assert re.sub(r"[\W_]", "", "".join(out.rows)) == letters, text


@pytest.mark.parametrize("columns", [10, 24])
def test_a_narrow_terminal_shows_a_table(columns: int, shown: Shown) -> None:
    """Guards tables that are wider than the terminal, or that lose words there."""
    text = "| Name | What it does |\n|---|---|\n| sort | sorts in place and returns nothing |\n| 数 | 大きい |\n"
    out = shown(text, columns=columns)
    assert max(wcswidth(row.replace("  ", " ")) for row in out.rows) <= columns
    assert set("sortsinplacendrteghu") <= set("".join(out.rows))


def test_earlier_messages_keep_their_lines_and_authors(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards code of a question or of reasoning that is broken, loses its indentation or changes its author where it
    is shown again: after /load, and by /think last."""
    code = f"```sh\n    {LONG}\n```"
    content = f"<think>\nso\n{code}\n</think>\n\nIt is 5."
    answer = Message("assistant", content, [("draft", len(content) - 20), ("leader", 20)])
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((40, 50)))
    out = Terminal(40, 50)
    screen = Screen(out=out)
    show_loaded(SimpleNamespace(notes=[], messages=[Message("user", code), answer]), screen)  # type: ignore[arg-type]
    show_again(answer, screen, markdown=False, reasoning=True)
    written = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).split("\n")
    assert written[1:] == [*f">>> {code}".split("\n"), "It is 5.", "so", *code.split("\n"), ""]
    colours = {"".join(cell.data for cell in row).rstrip(): row[0].fg for row in out.cells}
    assert (colours["It is 5."], colours["so"]) == ("5f5fff", "767676")


# ---------------------------------------------------------------- blocks of code
def test_blocks_of_code_are_found() -> None:
    """Guards a block with fences inside, in a list, of tildes, or without an end."""
    text = "a\n```py\nx\n\ny\n```\n1. b\n   ```\n   z\n   ```\n~~~\n```\n~~~\n````md\n```\n````\n```sh\nls"
    found = [(block.fence.language, block.code, block.closed) for block in blocks_in(text)]
    assert found == [
        ("py", "x\n\ny\n", True),
        ("", "z\n", True),
        ("", "```\n", True),
        ("md", "```\n", True),
        ("sh", "ls\n", False),
    ]


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        *(("```py\nx", "\n```"), ("```py\nx\n", "\n```"), ("```", "\n```"), ("a\n~~~~\n```", "\n~~~~"), ("a", "")),
        *(("", ""), ("```\nx\n```", ""), ("```\nx\n```\nb", ""), ("  ```\n  x", "\n  ```"), ("`a", "")),
        ("```\nx\n``", "\n```"),
    ],
)
def test_an_open_fence_is_closed(text: str, ending: str, shown: Shown) -> None:
    """Guards an answer that was cut inside of code, and makes code of all that follows it, on the screen and in a
    file."""
    assert closed(text) == (f"{text.rstrip()}{ending}" if ending else text)
    if text:
        assert shown(text).rows == closed(text).split("\n") or "`a" in text or "```\nx\n```\nb" in text
    written = "".join(markdown([Message("user", text), Message("assistant", text, [], "cancelled")]))
    assert not [block for block in blocks_in(written) if not block.closed]
