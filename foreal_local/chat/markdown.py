"""An answer as Markdown, while it is written: pieces with their marks, each given out once nothing can change it.

A line begins to be given out as soon as it is known what it is; marks inside of it are held back until they are closed,
lines of a table until it ends, and lines of code in a known language until they are whole. What is held back is `rest`.
Knows no terminal, and nothing of the looks that it carries along: a value for each character, such as its author.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from .fences import Fence, fence_in
from .highlight import SOFT, last_line, lexer_for
from .inline import BOLD, Part, settle

if TYPE_CHECKING:
    from pygments.lexer import Lexer

L = TypeVar("L")
_FENCE_BEGINS = re.compile(r" *(`*|~*)")
_PREFIX_BEGINS = re.compile(r"\s*(#{0,6}|[-+*]|\d{1,9}[.)]?|>[> ]*|`+|~+|([-*_])(\s*\2)*)?\s*")
_HEADING = re.compile(r" {0,3}#{1,6} +")
_BULLET = re.compile(r"(\s*)[-+*] +")
_NUMBER = re.compile(r"\s*\d{1,9}[.)] +")
_QUOTE = re.compile(r" {0,3}(> ?)+")
_RULE = re.compile(r" {0,3}([-*_])( *\1){2,} *")
_DELIMITERS = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?\s*")
_MATHS = {r"\[": r"\]", "$$": "$$"}


@dataclass(frozen=True)
class Piece(Generic[L]):
    """A text that stands.

    look: of all its characters
    marks: what Markdown makes of it
    wrap: whether its lines are broken between words; those of code are not
    hang: what stands at the beginning of the lines that it is broken into
    """

    text: str
    look: L
    marks: tuple[str, ...] = ()
    wrap: bool = True
    hang: str = ""


Cell = list[Piece[L]]


@dataclass(frozen=True)
class Table(Generic[L]):
    """Rows of cells, the heading first, as soon as all of them are known."""

    rows: list[list[Cell[L]]]
    right: list[bool]


@dataclass(frozen=True)
class Features:
    """What is made of Markdown.

    marks: headings, lists, bold and others; otherwise the text is as it was written, and only code is told from it
    colours: of code in known languages; without them inline code keeps its backticks
    tables: drawn with columns
    """

    marks: bool = True
    colours: bool = True
    tables: bool = True


class Formatter(Generic[L]):
    """Makes pieces of a text that is fed part by part."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._look: L | None = None  # the last one
        self._text, self._looks = "", list[L]()  # of the line that is being written
        self._kind, self._n_done = "", 0  # what the line is, "" while that is open; how much of it was given out
        self._marks: tuple[str, ...] = ()
        self._hang = ""
        self._fence: Fence | None = None  # of the block of code that is open
        self._lexer: Lexer | None = None
        self._code: list[str] = []
        self._rows: list[tuple[str, list[L]]] = []  # of a table
        self._maths = ""  # what ends a block of mathematics

    def copy(self) -> Formatter[L]:
        """Another one in the same state."""
        other = copy(self)
        other._looks, other._code, other._rows = list(self._looks), list(self._code), list(self._rows)
        return other

    def feed(self, text: str, look: L) -> Iterator[Piece[L] | Table[L]]:
        self._look = look
        for i, line in enumerate(text.split("\n")):
            if i:
                yield from self._end_line(look)
            self._text += line
            self._looks += [look] * len(line)
            yield from self._go_on(final=False)

    @property
    def is_open(self) -> bool:
        """Whether something is held back."""
        return bool(self._rows) or self._n_done < len(self._text)

    def rest(self) -> Iterator[Piece[L] | Table[L]]:
        """What is held back, as it is shown until it is settled."""
        rows, self._rows = self._rows, []
        for text, looks in rows:
            yield from _pieces(text, looks, 0, len(text))
            yield Piece("\n", looks[0])
        yield from self._raw(wrap=self._fence is None)

    def end(self) -> Iterator[Piece[L] | Table[L]]:
        """What is left at the end of the text. A block of code that is open is closed."""
        yield from self._go_on(final=True)
        yield from self._end_table()
        fence = fence_in(self._text) if self._kind == "opening" else self._fence
        if fence and self._kind != "closing":
            assert self._look is not None
            break_ = "\n" if self._text else ""
            yield Piece(f"{break_}{fence.closing}", self._look, (SOFT,) if self._features.marks else (), wrap=False)

    # ---------------------------------------------------------------- a line
    def _go_on(self, final: bool) -> Iterator[Piece[L] | Table[L]]:
        """Give out what of the line is settled; final: it is whole."""
        if not self._kind:
            self._kind = self._kind_of_line(final)
            if self._kind and self._kind != "row":
                yield from self._end_table()
            if self._kind == "text":
                yield from self._prefix()
        if self._kind == "text":
            parts, end = settle(self._text, self._n_done, final, not self._features.colours)
            yield from self._of_parts(parts)
            self._n_done = end
        elif self._kind in ("plain", "code"):
            yield from self._raw(wrap=self._kind == "plain")
        elif final and self._kind:
            yield from self._whole_line()

    def _end_line(self, look: L) -> Iterator[Piece[L] | Table[L]]:
        yield from self._go_on(final=True)
        kind, line = self._kind, self._text
        if kind != "row":
            yield Piece("\n", look, hang=self._hang)  # for the last word, which is not on the screen yet
        if kind == "opening":
            self._fence, self._code = fence_in(line), []
            assert self._fence is not None
            self._lexer = lexer_for(self._fence.language) if self._features.colours and self._features.marks else None
        elif kind == "closing":
            self._fence = None
        elif self._maths and self._maths in line:
            self._maths = ""
        elif not self._maths and kind == "text":
            self._maths = _MATHS.get(line.strip(), "")
        self._text, self._looks, self._n_done, self._kind, self._marks, self._hang = "", [], 0, "", (), ""

    def _kind_of_line(self, final: bool) -> str:
        """What the line is; "" while that is open."""
        line, marks = self._text, self._features.marks
        if self._fence:
            if not final and not line.strip(f" {self._fence.marks[0]}"):
                return ""
            return "closing" if self._fence.is_closed_by(line) else "coloured" if self._lexer else "code"
        if not final and (_PREFIX_BEGINS if marks else _FENCE_BEGINS).fullmatch(line):
            return ""
        if fence_in(line):
            return "opening" if final else ""
        if not marks or self._maths:
            return "plain"
        if self._features.tables and line.lstrip().startswith("|"):
            return "row"
        return "rule" if final and _RULE.fullmatch(line) else "text"

    def _whole_line(self) -> Iterator[Piece[L]]:
        if self._kind in ("opening", "closing"):
            yield from self._raw(wrap=False, marks=(SOFT,) if self._features.marks else ())
        elif self._kind == "rule":
            yield Piece("─" * 24, self._looks[0], (SOFT,), wrap=False)
        elif self._kind == "row":
            self._rows.append((self._text, self._looks))
        elif self._lexer:
            self._code.append(self._text)
            at = 0
            for text, mark in last_line(self._lexer, self._code):
                for piece in _pieces(self._text, self._looks, at, at + len(text)):
                    yield replace(piece, marks=(mark,), wrap=False)
                at += len(text)
        self._n_done = len(self._text)

    def _prefix(self) -> Iterator[Piece[L]]:
        """What stands before the words of a line: of a heading, an item of a list, a quotation."""
        line, look = self._text, self._looks[0] if self._looks else None
        if look is None:
            return
        if match := _HEADING.match(line):
            self._marks = (BOLD,)
        elif match := _BULLET.match(line):
            yield Piece(f"{match[1]}• ", look)
            self._hang = " " * (len(match[1]) + 2)
        elif match := _NUMBER.match(line):
            yield Piece(match[0], look)
            self._hang = " " * len(match[0])
        elif match := _QUOTE.match(line):
            self._hang = "│ " * match[0].count(">")
            yield Piece(self._hang, look, (SOFT,), wrap=False)
        else:
            self._hang = " " * (len(line) - len(line.lstrip(" ")))
        self._n_done = match.end() if match else 0

    # ---------------------------------------------------------------- pieces
    def _raw(self, wrap: bool, marks: tuple[str, ...] = ()) -> Iterator[Piece[L]]:
        begin, self._n_done = self._n_done, len(self._text)
        for piece in _pieces(self._text, self._looks, begin, self._n_done):
            yield replace(piece, wrap=wrap, marks=(*marks, *self._marks), hang=self._hang)

    def _of_parts(self, parts: list[Part]) -> Iterator[Piece[L]]:
        for begin, end, marks in parts:
            for piece in _pieces(self._text, self._looks, begin, end):
                yield replace(piece, marks=(*self._marks, *marks), hang=self._hang)

    def _end_table(self) -> Iterator[Piece[L] | Table[L]]:
        """Give out the rows that have come: as a table, where the second one says that they are one."""
        rows, self._rows = self._rows, []
        if len(rows) > 1 and _DELIMITERS.fullmatch(rows[1][0]):
            cells = [self._cells(text, looks) for text, looks in (rows[0], *rows[2:])]
            yield Table(cells, [mark.strip().endswith(":") for mark in rows[1][0].strip().strip("|").split("|")])
            return
        for text, looks in rows:
            for begin, end, marks in settle(text, 0, True, not self._features.colours)[0]:
                for piece in _pieces(text, looks, begin, end):
                    yield replace(piece, marks=marks)
            yield Piece("\n", looks[0])

    def _cells(self, text: str, looks: list[L]) -> list[Cell[L]]:
        row: list[Cell[L]] = []
        begin = text.index("|") + 1
        for match in re.finditer(r"(?:\\.|[^|\\])*(?:\||$)", text[begin:].rstrip()):
            start, stop = begin + match.start(), begin + match.end() - match[0].endswith("|")
            if start == stop and not match[0]:
                continue
            while start < stop and text[start].isspace():
                start += 1
            while stop > start and text[stop - 1].isspace():
                stop -= 1
            parts = settle(text[:stop], start, True, not self._features.colours)[0]
            row.append([replace(p, marks=m) for b, e, m in parts for p in _pieces(text, looks, b, e)])
        return row


def _pieces(text: str, looks: list[L], begin: int, end: int) -> Iterator[Piece[L]]:
    """A part of a line, piece by piece with its looks."""
    at = begin
    for look, group in itertools.groupby(looks[begin:end]):
        n = sum(1 for _ in group)
        yield Piece(text[at : at + n], look)
        at += n
