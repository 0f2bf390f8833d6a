"""Stop texts: where one ends a response, and what of its end may still become one.

They end the answer. Inside the reasoning they sleep, and wake with the first visible character behind its closing tag,
since white space comes there that nobody means. A stop text with a tag in it is meant for the reasoning, and is looked
for everywhere; so are all with `in_reasoning`, and all in a response without reasoning. Knows text, no tokens.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

from .reasoning import ReasoningSplitter, ReasoningTags


class Found(NamedTuple):
    """Where a stop text begins, counted in characters of the response, and which one."""

    at: int
    text: str


class _Search:
    """Looks for texts in a text that comes in pieces.

    n_read: characters that have come
    found: the text that was completed first, and where in them it begins
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.n_read = 0
        self.found: Found | None = None
        self._longest = max(map(len, texts), default=1)
        self._tail = ""
        self._least_end: int | None = 0  # a text that ends before is none; None: white space alone has come

    def skip_space(self) -> None:
        """A text must have something of what follows the white space that comes first."""
        self._least_end = None

    def feed(self, piece: str) -> None:
        text = self._tail + piece
        self.n_read += len(piece)
        first = self.n_read - len(text)
        if self._least_end is None and (visible := piece.lstrip()):
            self._least_end = self.n_read - len(visible) + 1
        if self.found is None and self._least_end is not None:
            places = ((text.find(each, max(0, self._least_end - len(each) - first)), each) for each in self.texts)
            self.found = min((Found(first + at, each) for at, each in places if at >= 0), default=None)
        self._tail = text[len(text) - min(len(text), self._longest - 1) :]

    @property
    def n_held(self) -> int:
        """How many characters at the end are of a text, or may be the beginning of one."""
        if self.found is not None:
            return self.n_read - self.found.at
        for size in range(len(self._tail), 0, -1):
            begun = [each[size:] for each in self.texts if each.startswith(self._tail[-size:])]
            if any(begun if self._least_end is not None else map(str.strip, begun)):
                return size
        return 0


class StopTexts:
    """The stop texts of one response while its text comes.

    stops: the texts
    tags: what stands around its reasoning
    in_reasoning: they do not sleep
    """

    def __init__(self, stops: tuple[str, ...], tags: ReasoningTags, in_reasoning: bool) -> None:
        awake = [stop for stop in stops if in_reasoning or tags.opening in stop or tags.closing in stop]
        self._everywhere = _Search(awake)
        self._in_answer = _Search([stop for stop in stops if stop not in awake])
        self._answer_at = 0
        self._splitter = ReasoningSplitter(tags)

    def feed(self, text: str) -> None:
        self._everywhere.feed(text)
        if self._in_answer.texts:
            self._feed_answer(self._splitter.feed(text))

    def _feed_answer(self, parts: list[tuple[bool, str]]) -> None:
        for thinking, part in parts:
            if thinking:
                continue
            if not self._in_answer.n_read:
                self._answer_at = self._everywhere.n_read - len(part)
                if self._splitter.reasoned:
                    self._in_answer.skip_space()
            self._in_answer.feed(part)

    @property
    def found(self) -> Found | None:
        """The stop text that ends the response; None while there is none."""
        in_answer = self._in_answer.found
        shifted = in_answer and Found(self._answer_at + in_answer.at, in_answer.text)
        return min((each for each in (self._everywhere.found, shifted) if each), default=None)

    @property
    def found_at_end(self) -> Found | None:
        """The same if no more text comes: what may be the beginning of a tag is none then."""
        return self._at_end().found

    @property
    def n_held(self) -> int:
        """How many characters at the end may still be cut off."""
        now = self._at_end()
        return max(now._everywhere.n_held, now._in_answer.n_held)

    def _at_end(self) -> StopTexts:
        if not self._in_answer.texts or self._splitter.reasoned or self._in_answer.n_read:
            return self
        ended = copy.deepcopy(self)
        ended._feed_answer(ended._splitter.rest())
        return ended
