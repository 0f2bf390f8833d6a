"""A response's text as its readers get it: reasoning and content apart, each piece with its author.

The same for a whole response and for one that is streamed, piece by piece: what a stream's pieces join to is what the
whole response says. Knows tokens, tags and results; no engine, and nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..method.reasoning import ReasoningSplitter, ReasoningTags
from ..method.roles import Role
from ..method.tokens import Token
from ..results import Result


class Piece(NamedTuple):
    """A text of one author, of the reasoning or of the content."""

    is_reasoning: bool
    author: Role
    text: str


@dataclass
class _Channel:
    """What has come of the reasoning, or of the content.

    spans: author, first character and the one behind the last, of what was given on
    blank: white space that is dropped where nothing follows it
    """

    spans: list[tuple[Role, int, int]] = field(default_factory=list)
    blank: list[tuple[Role, str]] = field(default_factory=list)

    @property
    def n(self) -> int:
        return self.spans[-1][2] if self.spans else 0

    def add(self, author: Role, text: str) -> None:
        begin, end = self.n, self.n + len(text)
        if self.spans and self.spans[-1][0] is author:
            self.spans[-1] = (author, self.spans[-1][1], end)
        else:
            self.spans.append((author, begin, end))

    def stripped(self, author: Role, text: str) -> Iterable[tuple[Role, str]]:
        """The text without white space at the beginning and at the end of all that comes."""
        body = text.rstrip()
        if not self.spans:
            text, body = text.lstrip(), body.lstrip()
        if body:
            yield from self.blank
            self.blank.clear()
            yield author, body
        if text[len(body) :]:
            self.blank.append((author, text[len(body) :]))

    def as_list(self) -> list[dict[str, Any]]:
        return [{"author": str(author), "from": begin, "to": end} for author, begin, end in self.spans]


class Parts:
    """Splits a response while its tokens come.

    tags: what stands around its reasoning; None: all is content
    n_reasoning_tokens: tokens that came inside the reasoning, its closing tag among them
    """

    def __init__(self, tags: ReasoningTags | None) -> None:
        self._splitter = ReasoningSplitter(tags) if tags else None
        self._channels = {True: _Channel(), False: _Channel()}
        self._held: list[tuple[Role, str]] = []  # what the splitter holds back, which may be the beginning of a tag
        self.n_reasoning_tokens = 0
        self._content_tokens: list[Token] = []
        self._undecided: list[Token] = []  # their texts are held back, or may be cut off

    def feed(self, tokens: Iterable[Token]) -> list[Piece]:
        """What may be shown now, neighbours of one kind and one author joined."""
        found: list[Piece] = []
        for token in tokens:
            thought = self._thinks
            self.n_reasoning_tokens += thought
            for piece in self._split(token.author, token.text):
                self._give(piece, found)
            self._undecided.append(token)
            if token.text and not self._held:
                self._decide(not thought and not self._thinks)
        return found

    @property
    def _thinks(self) -> bool:
        return self._splitter is not None and self._splitter.thinking

    def _decide(self, is_content: bool) -> None:
        if is_content:
            self._content_tokens += self._undecided
        self._undecided.clear()

    def end(self, result: Result) -> list[Piece]:
        """What was held back, when nothing more comes."""
        found: list[Piece] = []
        while result.stopped_by is not None and self._undecided and not self._undecided[-1].text:
            self._undecided.pop()  # its text is of the stop text
        self._decide(not self._thinks)
        for is_reasoning, text in self._splitter.rest() if self._splitter else ():
            for piece in self._authored(is_reasoning, text, self._held[-1][0]):
                self._give(piece, found)
        return found

    def take_content_tokens(self) -> list[Token]:
        """Those of the content that have come since the last time."""
        tokens, self._content_tokens = self._content_tokens, []
        return tokens

    def spans(self, of_reasoning: bool = False) -> list[dict[str, Any]]:
        """Who wrote which characters of the content, or of the reasoning."""
        return self._channels[of_reasoning].as_list()

    # ---------------------------------------------------------------- splitting
    def _split(self, author: Role, text: str) -> Iterable[Piece]:
        if self._splitter is None:
            yield Piece(False, author, text)
            return
        for is_reasoning, part in self._splitter.feed(text):
            yield from self._authored(is_reasoning, part, author)
        held = self._splitter.held
        if not held:
            self._held.clear()
        elif "".join(each for _, each in self._held) + text == held:
            self._held.append((author, text))
        else:
            self._held = [(author, held)]

    def _authored(self, is_reasoning: bool, text: str, author: Role) -> Iterable[Piece]:
        """A part of the splitter's, whose beginning may be what was held back, and its author's."""
        if not text.startswith("".join(each for _, each in self._held)):
            self._held.clear()
        for writer, each in self._held:
            yield Piece(is_reasoning, writer, each)
            text = text[len(each) :]
        self._held.clear()
        if text:
            yield Piece(is_reasoning, author, text)

    def _give(self, piece: Piece, found: list[Piece]) -> None:
        """Add a piece to those that are shown, without the white space around the reasoning and behind it."""
        channel = self._channels[piece.is_reasoning]
        strips = self._splitter is not None and self._splitter.reasoned
        shown = channel.stripped(piece.author, piece.text) if strips else [(piece.author, piece.text)]
        for author, text in shown:
            if not text:
                continue
            channel.add(author, text)
            last = found[-1] if found else None
            if last and (last.is_reasoning, last.author) == (piece.is_reasoning, author):
                found[-1] = last._replace(text=last.text + text)
            else:
                found.append(Piece(piece.is_reasoning, author, text))
