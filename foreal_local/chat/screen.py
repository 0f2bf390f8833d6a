"""What a chat shows: answers in their authors' styles, a status line, notes. Knows no conversation."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import textwrap
import time
from copy import copy, deepcopy
from typing import IO

from wcwidth import wcswidth

from ..method.reasoning import ReasoningSplitter
from ..method.roles import Role
from ..results import Chunk
from .figures import count

_RESET = "\x1b[0m"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PARTS = re.compile(r"\s+|\S+")
_DIM, _BOLD, _ITALIC, _UNDERLINE, _CYAN = "2", "1", "3", "4", "36"
_ERASE_LINE, _ERASE_BELOW = "\r\x1b[K", "\x1b[J"
_DOWN, _KEEP_CURSOR, _CURSOR_BACK, _CUT_LINES, _WRAP_LINES = "\x1bD", "\x1b7", "\x1b8", "\x1b[?7l", "\x1b[?7h"
_SKETCH_EVERY = 0.05
"""Seconds between two pictures of what may still be taken back."""


class Screen:
    """Writes answers and notes to a terminal, or plain answers to a pipe.

    is_terminal: otherwise there are no styles, no reasoning and no status line
    styled: whether the terminal shows styles: the draft's words are plain, the leader's are not, and reasoning is dim
    colored: the leader's words are bold and cyan; otherwise bold and underlined
    show_thinking: whether reasoning is shown
    """

    def __init__(self, color: bool | None = None, show_thinking: bool = True, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self.is_terminal = self._out.isatty()
        self.styled = self.is_terminal and os.environ.get("TERM") != "dumb"
        self.colored = self.styled and (color if color is not None else not os.environ.get("NO_COLOR"))
        self.show_thinking = show_thinking and self.is_terminal
        self._live = ""  # what erases text that the next output replaces; "" where there is none
        self._at_line_start = True
        self._word: list[str] = []  # the styled parts of the last word, which may not be whole yet
        self._word_width = self._column = 0

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
            self.paragraph(text, _DIM)
        else:
            print(text, file=sys.stderr, flush=True)

    def paragraph(self, text: str, *codes: str) -> None:
        """Write a text that is no part of an answer, with its lines broken between words."""
        for line in _harmless(text).split("\n"):
            for part in textwrap.wrap(line, max(10, shutil.get_terminal_size().columns - 1)) or [""]:
                self.line(self.style(part, *codes))

    def style(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}" if self.styled and codes and text else text

    def status(self, text: str) -> None:
        """Show a line that the next output replaces."""
        if self.styled:
            width = shutil.get_terminal_size().columns
            if self._live == _ERASE_BELOW:
                self.clear_status()
            self._live = _ERASE_LINE
            self._write(f"\r{self.style(text[: width - 1], _DIM)}\x1b[K")

    def sketch(self, text: str) -> None:
        """Show a text, which has its line breaks, behind what stands here, until the next output replaces it.

        The cursor stays where it is, and the terminal breaks no line meanwhile: so what is behind the cursor is the
        sketch, however wide its characters are.
        """
        columns, n_rows = shutil.get_terminal_size()
        text = text.rstrip()
        if not text or not self.colored or self._column >= columns:  # at the edge it would erase a settled character
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
    def words(self, text: str, author: Role | None, thinking: bool) -> None:
        """Write a part of an answer, in its author's style."""
        codes = self._codes(author, thinking)
        self.clear_status()
        if not self.is_terminal:
            self._put(text)
            return
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

    def _codes(self, author: Role | None, thinking: bool) -> list[str]:
        codes = [_DIM] if thinking else []
        if author is Role.LEADER:
            if self.colored:
                codes += [_CYAN] if thinking else [_BOLD, _CYAN]
            else:
                codes += [_UNDERLINE] if thinking else [_BOLD, _UNDERLINE]
        return codes

    def flush(self) -> None:
        """Write the last word, which was held back until its width was known: it may not fit the line."""
        if not self._word:
            return
        if self._column and self._column + self._word_width > shutil.get_terminal_size().columns:
            self._put("\n")
            self._column = 0
        self._put("".join(self._word))
        self._column += self._word_width
        self._word, self._word_width = [], 0

    def _space(self, text: str) -> None:
        before, newline, after = text.rpartition("\n")
        if newline:
            self._put(before + newline)
            self._column = 0
        for character in after:
            self._space_character(character)

    def _space_character(self, after: str) -> None:
        width = 8 - self._column % 8 if after == "\t" else 1
        if self._column + width >= shutil.get_terminal_size().columns:
            self._put("\n")
            self._column = 0
        else:
            self._put(after)
            self._column += width

    def answer(self) -> AnswerView:
        """A view for the next answer."""
        return AnswerView(self)


class _Sketch(Screen):
    """What a screen would write next, as `text`: dim and in italics, since it may still be taken back."""

    def __init__(self, screen: Screen) -> None:
        self.__dict__.update(vars(screen))
        self._written = self._out = io.StringIO()
        self._word, self._live, self.last_status = list(self._word), "", ""

    def _codes(self, author: Role | None, thinking: bool) -> list[str]:
        return [_DIM, _ITALIC]

    def status(self, text: str) -> None:
        self.last_status = text

    @property
    def text(self) -> str:
        self.flush()
        return self._written.getvalue()


def _harmless(text: str) -> str:
    """The text without control characters, which would change the terminal's state."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class AnswerView:
    """One answer on the screen, from its first token to its figures.

    n_tokens: of the answer that were shown
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._splitter: ReasoningSplitter | None = None
        self._author = Role.LEADER
        self._thinking: bool | None = None  # whether the text that was shown last is reasoning
        self._n_hidden = self.n_tokens = 0
        self._sketched = -_SKETCH_EVERY  # when it was last

    def feed(self, chunk: Chunk) -> None:
        if self._splitter is None:
            self._splitter = ReasoningSplitter(chunk.tags)
        for token in chunk.tokens:
            self.n_tokens += 1
            self._author = token.author
            if self._splitter.thinking:
                self._n_hidden += 1
            for thinking, text in self._splitter.feed(token.text):
                self._show(thinking, text)

    def sketch(self, chunk: Chunk) -> None:
        """Show what comes next and may still be taken back, until something else is shown."""
        if not chunk.tokens:
            self._screen.sketch("")
            return
        now = time.monotonic()
        if now < self._sketched + _SKETCH_EVERY:
            return
        self._sketched = now
        view, screen = copy(self), _Sketch(self._screen)
        view._screen, view._splitter = screen, deepcopy(self._splitter)
        view.feed(chunk)
        text = screen.text
        if screen.last_status and not text:
            self._screen.status(screen.last_status)
        else:
            self._screen.sketch(text)

    def end(self) -> None:
        for thinking, text in self._splitter.rest() if self._splitter else ():
            self._show(thinking, text)
        self._screen.clear_status()
        self._screen.end_line()
        if self._thinking is None and not self._screen.is_terminal:
            self._screen.line()  # an answer line of its own, even when it is empty

    def _show(self, thinking: bool, text: str) -> None:
        if thinking and not self._screen.show_thinking:
            self._screen.status(f"thinking: {count(self._n_hidden, 'token')}")
            return
        if self._thinking != thinking:
            text = text.lstrip("\n")
            if not text:
                return
            self._screen.end_line()
        self._thinking = thinking
        self._screen.words(text, self._author, thinking)
