"""What a chat shows: answers in their authors' styles, a status line, notes. Knows no conversation."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import IO

from wcwidth import wcswidth

from ..method.roles import Role
from ..palette import Palette, palette_of
from ..wrapping import wrapped

_RESET = "\x1b[0m"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PARTS = re.compile(r"\s+|\S+")
_ITALIC, _UNDERLINE = "3", "4"
_ATTRIBUTES = {"bold": "1", "italic": _ITALIC, "strike": "9"}
_ERASE_LINE, _ERASE_BELOW = "\r\x1b[K", "\x1b[J"
_DOWN, _KEEP_CURSOR, _CURSOR_BACK, _CUT_LINES, _WRAP_LINES = "\x1bD", "\x1b7", "\x1b8", "\x1b[?7l", "\x1b[?7h"


class Screen:
    """Writes answers and notes to a terminal, or plain answers to a pipe.

    is_terminal: otherwise there are no styles, no reasoning and no status line
    styled: whether the terminal shows styles: the draft's words are plain, the leader's are not
    colored: the leader's words are in colour, and reasoning grey; otherwise they are underlined, it in italics
    show_thinking: whether reasoning is shown
    palette: the colours
    wrap: whether lines are broken between words; otherwise the terminal breaks them
    markdown: whether Markdown is shown as what it means
    """

    def __init__(
        self,
        color: bool | None = None,
        show_thinking: bool = True,
        out: IO[str] | None = None,
        palette: Palette | None = None,
        wrap: bool = True,
        markdown: bool = True,
    ) -> None:
        self._out = out or sys.stdout
        self.is_terminal = self._out.isatty()
        self.styled = self.is_terminal and os.environ.get("TERM") != "dumb"
        self.colored = self.styled and (color if color is not None else not os.environ.get("NO_COLOR"))
        self.show_thinking = show_thinking and self.is_terminal
        self.palette, self.wrap, self.markdown = palette or palette_of("auto"), wrap, markdown
        self._live = ""  # what erases text that the next output replaces; "" where there is none
        self._at_line_start = True
        self._word: list[str] = []  # the styled parts of the last word, which may not be whole yet
        self._word_width = self._column = 0
        self._hang, self._hang_width = "", 0  # what stands before the words of a line that was broken

    @property
    def switches(self) -> dict[str, bool]:
        """What /set changes here, and a session keeps."""
        return {"markdown": self.markdown, "wrap": self.wrap}

    # ---------------------------------------------------------------- lines
    def line(self, text: str = "") -> None:
        """Write a line that is no part of an answer."""
        self.clear_status()
        self.flush()
        self._put(f"{text}\n" if self._at_line_start else f"\n{text}\n")
        self._column = 0

    def end_line(self) -> None:
        """End the line, unless nothing stands in it."""
        self.flush()
        if not self._at_line_start:
            self._put("\n")
            self._column = 0

    def note(self, text: str) -> None:
        """Write a dim line; on a pipe it goes to stderr, so that stdout has only answers."""
        if self.is_terminal:
            self.paragraph(text, *self.soft)
        else:
            print(text, file=sys.stderr, flush=True)

    def paragraph(self, text: str, *codes: str) -> None:
        """Write a text that is no part of an answer, with its lines broken between words."""
        for line in _harmless(text).split("\n"):
            for part in wrapped(line, max(10, shutil.get_terminal_size().columns - 1)) or [""]:
                self.line(self.style(part, *codes))

    def style(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}" if self.styled and codes and text else text

    @property
    def soft(self) -> list[str]:
        """The codes of what stands back: notes, reasoning. Dim text would not be readable on every terminal."""
        return [_foreground(self.palette.soft) if self.colored else _ITALIC]

    def legend(self) -> None:
        """Show how the words of each author look, in a line."""
        if self.styled:
            self.line(" ".join(self.style(str(role), *self.codes(role, False)) for role in Role))

    def terminal_codes(self, codes: str) -> None:
        """Send codes to the terminal that show nothing."""
        self.clear_status()
        self._write(codes)

    def status(self, text: str) -> None:
        """Show a line that the next output replaces."""
        if self.styled:
            width = shutil.get_terminal_size().columns
            if self._live == _ERASE_BELOW:
                self.clear_status()
            self._live = _ERASE_LINE
            self._write(f"\r{self.style(text[: width - 1], *self.soft)}\x1b[K")

    def sketch(self, text: str) -> None:
        """Show a text, which has its line breaks, behind what stands here, until the next output replaces it.

        The cursor stays where it is, and the terminal breaks no line meanwhile: so what is behind the cursor is the
        sketch, however wide its characters are.
        """
        columns, n_rows = shutil.get_terminal_size()
        text = text.rstrip()
        if not text or not self.styled or self._column >= columns:  # at the edge it would erase a settled character
            if self._live == _ERASE_BELOW:
                self.clear_status()
            return
        lines = text.split("\n")
        if len(lines) >= n_rows:
            lines = ["…", *lines[len(lines) - max(0, n_rows - 2) :]]
        n_below = len(lines) - 1
        room = f"{_DOWN * n_below}\x1b[{n_below}A" if n_below else ""
        before, self._live = self._live, _ERASE_BELOW
        self._write(before + room + _KEEP_CURSOR + _CUT_LINES + "\n".join(lines) + _WRAP_LINES + _CURSOR_BACK)

    @property
    def has_sketch(self) -> bool:
        return self._live == _ERASE_BELOW

    def clear_status(self) -> None:
        """Erase a status or a sketch."""
        if self._live:
            self._write(self._live)
            self._live = ""

    def _put(self, text: str) -> None:
        if text:
            self.clear_status()
            self._at_line_start = text.endswith("\n")
            self._write(text)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    # ---------------------------------------------------------------- answers
    def words(
        self, text: str, author: Role | None, thinking: bool, marks: tuple[str, ...] = (), hang: str = ""
    ) -> None:
        """Write a part of an answer, in the style of its author and its marks.

        author: None while it may still be taken back
        hang: what stands before the words of lines that it is broken into
        """
        codes = self.codes(author, thinking, marks)
        self.clear_status()
        if not self.is_terminal:
            self._put(text)
            return
        self._hang_width = wcswidth(hang)
        self._hang = self.style(hang, *self.soft) if hang.strip() else hang
        text = _harmless(text)
        for part in _PARTS.findall(text):
            if part.isspace():
                self.flush()
                self._space(part)
                continue
            self._word.append(self.style(part, *codes))
            self._word_width += max(0, wcswidth(part))
            if not part.isascii() and wcswidth(part[-1]) == 2:
                self.flush()  # words of wide characters have no spaces between them

    def verbatim(self, text: str, author: Role | None, thinking: bool, marks: tuple[str, ...] = ()) -> None:
        """Write a part of an answer whose lines only the terminal breaks, so that they are copied whole."""
        self.flush()
        for part in re.split(r"(\n)", _harmless(text)):
            self._put("\n" if part == "\n" else self.style(part, *self.codes(author, thinking, marks)))
            self._column = 0 if part == "\n" else self._column + max(0, wcswidth(part.expandtabs()))

    def styled_line(self, text: str) -> None:
        """Write a line that has its codes."""
        self.flush()
        self._put(f"{text}\n")
        self._column = 0

    def codes(self, author: Role | None, thinking: bool, marks: tuple[str, ...] = ()) -> list[str]:
        """The codes of a text's style."""
        attributes = [_ATTRIBUTES[mark] for mark in dict.fromkeys(marks) if mark in _ATTRIBUTES]
        if author is None:
            return [*self.soft, *([_ITALIC] if self.colored else []), *attributes]
        if "soft" in marks:
            return [*self.soft, *attributes]
        if not self.colored:
            return [*([_ITALIC] if thinking else []), *([_UNDERLINE] if author is Role.LEADER else []), *attributes]
        kinds = [_IN_CODE[mark] for mark in marks if mark in _IN_CODE]
        if kinds:
            colour = getattr(self.palette, kinds[-1]) if kinds[-1] else None
        else:
            colour = self.palette.leader if author is Role.LEADER else self.palette.soft if thinking else None
        return [*([_foreground(colour)] if colour is not None else []), *attributes]

    def flush(self) -> None:
        """Write the last word, which was held back until its width was known: it may not fit the line."""
        if not self._word:
            return
        columns = shutil.get_terminal_size().columns
        if self.wrap and self._column and self._column + self._word_width > columns:
            self._break_line(columns)
        self._put("".join(self._word))
        self._column += self._word_width
        self._word, self._word_width = [], 0

    def _break_line(self, columns: int) -> None:
        hangs = self._hang_width <= columns // 2
        self._put(f"\n{self._hang if hangs else ''}")
        self._column = self._hang_width if hangs else 0

    def _space(self, text: str) -> None:
        before, newline, after = text.rpartition("\n")
        if newline:
            self._put(before + newline)
            self._column = 0
        for character in after:
            self._space_character(character)

    def _space_character(self, after: str) -> None:
        width = 8 - self._column % 8 if after == "\t" else 1
        columns = shutil.get_terminal_size().columns
        if self.wrap and self._column + width >= columns:
            self._break_line(columns)
        else:
            self._put(after)
            self._column += width


_IN_CODE = {"code": "string", "string": "string", "keyword": "keyword", "number": "number", "plain": ""}
"""Which colour of the palette a mark of code has, whoever wrote it; "": the default colour."""


def _foreground(colour: int) -> str:
    return f"38;5;{colour}"


def _harmless(text: str) -> str:
    """The text without control characters, which would change the terminal's state."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
