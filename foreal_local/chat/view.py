"""One answer on the screen: its reasoning and its text, from the first token to the last."""

from __future__ import annotations

import io
import shutil
import time
from copy import copy, deepcopy

from wcwidth import wcswidth

from ..method.reasoning import ReasoningSplitter
from ..method.roles import Role
from ..results import Chunk
from .figures import count
from .markdown import Features, Formatter, Piece, Table
from .screen import Screen
from .tables import drawn

_SKETCH_EVERY = 0.05
"""Seconds between two pictures of what the leader may still take back."""
_SHARE = 0.1
"""Of the time, at most, for pictures of what Markdown holds back."""
Look = tuple[Role | None, bool]
"""Who wrote it (None while it may be taken back), and whether it is reasoning."""


class TextView:
    """A text on the screen while it is written, as Markdown or as it is; what is not settled is a sketch.

    markdown: whether it is shown as what it means
    """

    def __init__(self, screen: Screen, markdown: bool) -> None:
        self._screen = screen
        self._formatter: Formatter[Look] = Formatter(
            Features(markdown and screen.styled, screen.colored, tables=screen.wrap)
        )
        self._next_sketch = 0.0  # when the time has come

    def on(self, screen: Screen) -> TextView:
        """The same, to be continued on another screen."""
        other = copy(self)
        other._screen, other._formatter = screen, self._formatter.copy()
        return other

    def feed(self, text: str, author: Role | None, thinking: bool) -> None:
        if not self._screen.is_terminal:
            self._screen.words(text, author, thinking)
            return
        for piece in self._formatter.feed(text, (author, thinking)):
            self._write(piece)

    def show_rest(self) -> None:
        """Write what is not settled yet."""
        for piece in self._formatter.copy().rest():
            self._write(piece)

    def show_open(self) -> None:
        """Show what is not settled yet behind what is, until something else is written."""
        started = time.monotonic()
        is_wanted = self._formatter.is_open or self._screen.has_sketch
        if self._screen.is_terminal and is_wanted and started >= self._next_sketch:
            sketch = Sketch(self._screen)
            self.on(sketch).show_rest()
            self._screen.sketch(sketch.text)
            self._next_sketch = time.monotonic() + (time.monotonic() - started) * (1 / _SHARE - 1)

    def end(self) -> None:
        if self._screen.is_terminal:
            for piece in self._formatter.end():
                self._write(piece)
        self._screen.clear_status()
        self._screen.end_line()

    def _write(self, piece: Piece[Look] | Table[Look]) -> None:
        screen = self._screen
        if isinstance(piece, Table):
            for line in drawn(piece, self._styled, shutil.get_terminal_size().columns):
                screen.styled_line(line)
            return
        author, thinking = piece.look
        if piece.wrap:
            screen.words(piece.text, author, thinking, piece.marks, piece.hang)
        else:
            screen.verbatim(piece.text, author, thinking, piece.marks)

    def _styled(self, piece: Piece[Look]) -> str:
        return self._screen.style(piece.text, *self._screen.codes(*piece.look, piece.marks))


class Sketch(Screen):
    """What a screen would write next, as `text`."""

    def __init__(self, screen: Screen) -> None:
        self.__dict__.update(vars(screen))
        self._written = self._out = io.StringIO()
        self._word, self._live, self.last_status = list(self._word), "", ""

    def verbatim(self, text: str, author: Role | None, thinking: bool, marks: tuple[str, ...] = ()) -> None:
        """As the terminal breaks its lines: a sketch has its line breaks."""
        columns = shutil.get_terminal_size().columns
        self.flush()
        line = ""
        for character in text.expandtabs():
            width = max(0, wcswidth(character))
            if self._column + width > columns and character != "\n":
                super().verbatim(line + "\n", author, thinking, marks)
                line = ""
            line += character
            self._column = 0 if character == "\n" else self._column + width
        column = self._column
        super().verbatim(line, author, thinking, marks)
        self._column = column

    def status(self, text: str) -> None:
        self.last_status = text

    @property
    def text(self) -> str:
        self.flush()
        return self._written.getvalue()


class AnswerView:
    """One answer on the screen, from its first token to its figures.

    n_tokens: of the answer that were shown
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._splitter: ReasoningSplitter | None = None
        self._author: Role | None = Role.LEADER
        self._text: TextView | None = None  # of the part that was shown last
        self._thinking: bool | None = None  # whether that is reasoning
        self._n_hidden = self.n_tokens = 0
        self._sketched = -_SKETCH_EVERY  # when it was last

    def feed(self, chunk: Chunk) -> None:
        self._feed(chunk, settled=True)
        if self._text:
            self._text.show_open()

    def _feed(self, chunk: Chunk, settled: bool) -> None:
        if self._splitter is None:
            self._splitter = ReasoningSplitter(chunk.tags)
        for token in chunk.tokens:
            self.n_tokens += 1
            self._author = token.author if settled else None
            if self._splitter.thinking:
                self._n_hidden += 1
            for thinking, text in self._splitter.feed(token.text):
                self._show(thinking, text)

    def sketch(self, chunk: Chunk) -> None:
        """Show what comes next and may still be taken back, until something else is shown; only in colour can it be
        told from what stands."""
        if not self._screen.colored:
            return
        if not chunk.tokens:
            self._screen.sketch("")
            if self._text:
                self._text.show_open()
            return
        now = time.monotonic()
        if now < self._sketched + _SKETCH_EVERY:
            return
        self._sketched = now
        view, screen = copy(self), Sketch(self._screen)
        view._screen, view._splitter = screen, deepcopy(self._splitter)
        view._text = self._text.on(screen) if self._text else None
        view._feed(chunk, settled=False)
        if view._text:
            view._text.show_rest()
        text = screen.text
        if screen.last_status and not text:
            self._screen.status(screen.last_status)
        else:
            self._screen.sketch(text)

    def end(self) -> None:
        for thinking, text in self._splitter.rest() if self._splitter else ():
            self._show(thinking, text)
        self._screen.clear_status()
        if self._text:
            self._text.end()
        self._screen.end_line()
        if self._thinking is None and not self._screen.is_terminal:
            self._screen.line()  # an answer line of its own, even when it is empty

    def _show(self, thinking: bool, text: str) -> None:
        if thinking and not self._screen.show_thinking:
            self._screen.status(f"thinking: {count(self._n_hidden, 'token')}")
            return
        if self._text is None or self._thinking != thinking:
            text = text.lstrip("\n")
            if not text:
                return
            if self._text:
                self._text.end()
                self._screen.line()  # colours alone do not tell the answer from the reasoning
            self._text = TextView(self._screen, self._screen.markdown and not thinking)
        self._thinking = thinking
        self._text.feed(text, self._author, thinking)
