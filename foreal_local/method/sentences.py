"""Text pieces in, sentence ends out.

Knows how written text marks the end of a sentence: stops, abbreviations, list numbers, fenced code, display
maths. Does not know tokens, models, who writes, or how a piece that is not yet committed came about.

The robust rule reads one character at a time. A stop does not end a sentence by itself: it asks for something
to follow (see `_After`), and the next characters settle that. Closing quotes, brackets and emphasis may stand
between. Inside fenced code and display maths only line ends count, and a block lasts over the sentences in it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from enum import Enum
from typing import Literal, get_args

from .reasoning import DEFAULT_TAGS

Boundaries = Literal["robust", "whole-blocks", "simple"]
BOUNDARIES: tuple[Boundaries, ...] = get_args(Boundaries)

_NEWLINES = "\n\r\u2028\u2029"
_STOPS = ".?!…"
_WIDE_DOT = "．"
_WIDE_STOPS = "。？！｡।؟"  # these end a sentence without white space after them
_SIMPLE_ENDS = frozenset(".?!。．？！｡" + _NEWLINES)
_CLOSERS = frozenset("\"'”’)]}»*_`$\\」』）】》")  # $ and \ because inline maths may close after a full stop
_NOT_YET_TEXT = _CLOSERS | frozenset(_STOPS + _WIDE_STOPS + _WIDE_DOT)

_NOT_PLAIN = frozenset(_STOPS + _WIDE_DOT + _WIDE_STOPS + _NEWLINES + "`~$[}") | _CLOSERS
_NOT_PLAIN_IN_BLOCK = frozenset(_NEWLINES + "`~$]}")  # line ends, and the last characters of what closes a block

Block = tuple[str, str]
"""Fenced code or maths that we are in: what closes it, and the last characters; see OUTSIDE for other text."""
OUTSIDE: Block = ("", "\n")

_TAIL = 64  # characters remembered: more than any word, pair of words or opening mark asked about below

_NEVER_LAST = re.compile(
    r"Mr|Mrs|Ms|Messrs|Dr|Prof|St|Mt|Gen|Col|Capt|Lt|Rev|Hon|[Ff]igs?|[Ee]qs?|"
    r"vs|[Cc]f|approx|viz|[Ee]\.g|[Ii]\.e|a\.k\.a|w\.r\.t|s\.t"
)
_LAST_BEFORE_CAPITAL = re.compile(
    r"etc|al|resp|incl|[Ee]st|[Dd]ept|Inc|Ltd|Co|Corp|Bros|Jr|Sr|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|"
    r"(?:[A-Za-z]{1,2}\.)+[A-Za-z]{1,2}"  # U.S, p.m, Ph.D
)
_GOES_ON_WITH_NUMBER = re.compile(r"[Nn]os?|pp?|[Vv]ols?|[Cc]h|[Ss]ec")

# A tail that still begins with its "\n" goes back to the sentence start, which is how "first" is known.
_LIST_NUMBER = re.compile(
    r"\n[\W_]*(?:\d{1,3}(?:\.\d{1,3})*|[a-z]|(?=[ivx])x{0,3}(?:ix|iv|v?i{0,3}))[)\]]?[.．]$", re.IGNORECASE
)
# A lone capital behind a capitalised word: "Robert A. Heinlein", but not "the angle A. Then".
_INITIAL = re.compile(r"\s[\W_]*[A-ZÀ-ÖØ-Þ][\w.'’-]*\s+[\W_]*[A-ZÀ-ÖØ-Þ]\.$")

# What opens a block of code or maths, and what closes it.
_BLOCKS = (
    (re.compile(r"```$"), "```"),
    (re.compile(r"\n[\W_]*~~~$"), "~~~"),  # only first on its line: "fine~~~" is no fence
    (re.compile(r"(?<!\\)\$\$$"), "$$"),
    (re.compile(r"(?<!\\)\\\[$"), r"\\]"),
    (re.compile(r"\\begin\{(\w+\*?)\}$"), r"\\end{\1}"),
)
_HALF_OPEN = re.compile(r"(?:[`~$]|\\(?:b\w*\{?\w*\*?)?)$")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n$")


class Verdict(Enum):
    """What a detector says about the point right after the text it was fed."""

    NO = "no sentence end"
    MAYBE = "the next text decides"
    END = "a sentence end"


class _After(Enum):
    """What must follow a stop to make it a sentence end; a line end always does."""

    SPACE = "white space"
    CAPITAL = "white space, then a letter that is not lower case"
    NO_DIGIT = "white space, then anything but a digit"
    NO_DIGIT_AT_ONCE = "anything but a digit, white space or not"
    NEWLINE = "a line end"


class SentenceDetector:
    """Finds the sentence ends of one sequence; owns the few characters and flags this takes, nothing else.

    "robust" reads stops in their context, and finds nothing but line ends in fenced code and display maths;
    "whole-blocks" finds nothing at all there; "simple" takes every . ? ! (full-width too) and newline for an end.
    """

    def __init__(self, rule: Boundaries = "robust", end_of_reasoning: str = DEFAULT_TAGS.closing) -> None:
        assert rule in BOUNDARIES, f"unknown sentence rule {rule!r}"
        self._simple = rule == "simple"
        self._whole_blocks = rule == "whole-blocks"
        self._end_of_reasoning = end_of_reasoning
        self._not_plain_in_block = _NOT_PLAIN_IN_BLOCK | {end_of_reasoning[-1]}
        self.start(OUTSIDE)

    @property
    def block(self) -> Block:
        """The block that we are in."""
        return self._closing, self._tail

    def start(self, block: Block | None = None) -> None:
        """A new sentence starts here: forget everything but the block that it is in, or was in if `block` is given."""
        if block is not None:
            self._closing, self._tail = block
        if self._whole_blocks or not self._closing:
            self._forget()
        else:
            self._begin()

    def reread(self, pieces: Iterable[tuple[int, str]]) -> list[Block]:
        """Feed a text from its beginning: pieces, each with the number of its sentence.

        Returns the block that each sentence starts in; the last is that of the sentence which starts after them.
        """
        blocks: list[Block] = []
        self.start(OUTSIDE)
        last = None
        for sentence, text in pieces:
            if sentence != last:
                self.start()
                blocks.append(self.block)
                last = sentence
            self.feed(text)
        self.start()
        return [*blocks, self.block]

    def _forget(self) -> None:
        """A sentence starts outside of blocks."""
        self._closing, self._tail = OUTSIDE
        self._begin()

    def _begin(self) -> None:
        """A sentence has no text yet."""
        self._has_text = False  # anything but white space, and outside of blocks but stops and closing marks
        self._after: _After | None = None  # what the last stop still needs
        self._spaced = False  # white space has followed that stop
        self._held = False  # an end inside the last piece waits for the rest of a half-written block mark

    def feed(self, text: str) -> Verdict:
        """Take committed text, of any length; an end inside it is reported as an end after it.

        With "whole-blocks" an end is dropped when its piece goes on to open a block, which would be forgotten there.
        """
        if self._simple:
            return Verdict.NO if _SIMPLE_ENDS.isdisjoint(text) else Verdict.END
        not_plain = self._not_plain_in_block if self._closing else _NOT_PLAIN
        if self._after is None and not self._held and not_plain.isdisjoint(text):
            return self._pass(text)
        ended = self._held
        for char in text:
            ended = self._step(char) or ended
        if self._closing and self._whole_blocks:
            ended = False
        self._held = ended and not self._closing and _HALF_OPEN.search(self._tail) is not None
        if ended and not self._held:
            return Verdict.END
        return Verdict.MAYBE if self._held or self._after not in (None, _After.NEWLINE) else Verdict.NO

    def confirms(self, following: str) -> bool:
        """After MAYBE: whether this next text, not yet committed, makes the point before it a sentence end.

        Changes nothing. Where generation ends there is nothing to ask: the caller takes MAYBE for an end.
        """
        if self._held:
            ahead = copy.copy(self)
            return ahead.feed(following[:1]) is Verdict.END and not ahead._closing
        if self._after is None:
            return False
        spaced = self._spaced
        for char in following:
            settled = _settles(self._after, char, spaced)
            if settled is not None:
                return settled
            if not char.isspace():
                return False  # a stop or a closing mark still belongs to this sentence
            spaced = True
        return False

    def _step(self, char: str) -> bool:
        """Read one character; whether a sentence ended before it or with it."""
        if self._closing:
            return self._step_in_block(char)
        ended = False
        if self._after is not None:
            settled = _settles(self._after, char, self._spaced)
            if settled:
                self._forget()
                ended = True
            elif settled is False:
                self._after = None
        if char.isspace():
            return self._step_space(char) or ended
        self._remember(char)
        self._has_text = self._has_text or char not in _NOT_YET_TEXT
        if self._opens_block(char):
            return ended
        if self._has_text and char in _WIDE_STOPS:
            self._forget()
            return True
        if self._has_text and (char in _STOPS or char == _WIDE_DOT):
            self._after, self._spaced = _needs(self._tail), False
        return ended

    def _pass(self, text: str) -> Verdict:
        """Words between stops and marks, read at once: nearly all text."""
        if not self._has_text:
            visible = text.lstrip()
            self._has_text = bool(visible)
            text = text if self._closing else visible
        self._tail = (self._tail + text)[-_TAIL:]
        return Verdict.NO

    def _step_space(self, char: str) -> bool:
        """White space: a line end after text is a sentence end; before any text it is skipped."""
        if self._has_text and char in _NEWLINES:
            self._forget()
            return True
        if self._has_text:
            self._spaced = True
            self._remember(char)
        return False

    def _step_in_block(self, char: str) -> bool:
        """A line end after text is a sentence end, unless blocks are whole; else only the block's own end matters."""
        ended = self._has_text and char in _NEWLINES and not self._whole_blocks
        self._has_text = not ended and (self._has_text or not char.isspace())
        fence = self._closing[0] in "`~"
        if fence and not self._tail and char == self._closing[0]:
            self._closing = (self._closing + char)[:_TAIL]  # a longer fence needs as long a closing one
            return False
        self._remember(char)
        ends_reasoning = not self._whole_blocks and self._tail.endswith(self._end_of_reasoning)
        if ends_reasoning or self._tail.endswith(self._closing):
            self._closing = self._tail = ""  # no block that was left open goes on in the answer
        elif not fence and char == "\n" and _BLANK_LINE.search(self._tail):
            self._forget()  # maths left open: TeX allows no blank line there
            return ended or self._whole_blocks
        return ended

    def _opens_block(self, char: str) -> bool:
        """Whether this character completes an opening mark."""
        if char not in "`~$[}":
            return False
        for opening, closing in _BLOCKS:
            if found := opening.search(self._tail):
                self._closing, self._tail = found.expand(closing), ""
                self._has_text, self._after = True, None
                return True
        return False

    def _remember(self, char: str) -> None:
        self._tail = (self._tail + char)[-_TAIL:]


def _needs(tail: str) -> _After:
    """What the stop at the end of `tail` needs after it, by the word it stands behind."""
    word = tail.split()[-1]
    body = word.rstrip(_STOPS + _WIDE_DOT)
    stops = word[len(body) :]
    name = re.sub(r"^[\W_]+", "", body)
    if "?" in stops or "!" in stops:
        return _After.SPACE
    if "…" in stops or len(stops) > 2:
        return _After.CAPITAL
    if len(stops) == 2 or _NEVER_LAST.fullmatch(name) or _LIST_NUMBER.search(tail) or _INITIAL.search(tail):
        return _After.NEWLINE
    if _LAST_BEFORE_CAPITAL.fullmatch(name):
        return _After.CAPITAL
    if stops == _WIDE_DOT:
        return _After.NO_DIGIT_AT_ONCE
    return _After.NO_DIGIT if _GOES_ON_WITH_NUMBER.fullmatch(name) else _After.SPACE


def _settles(after: _After, char: str, spaced: bool) -> bool | None:
    """Whether `char` makes the stop before it a sentence end; None where the character behind it decides."""
    if char in _NEWLINES:
        return True
    if char.isspace():
        return None if after in (_After.CAPITAL, _After.NO_DIGIT) else after is not _After.NEWLINE
    if not spaced and char in _CLOSERS:
        return None
    if after is _After.CAPITAL:
        return spaced and char.isalpha() and not char.islower()
    if after is _After.NO_DIGIT:
        return spaced and not char.isdecimal()
    return after is _After.NO_DIGIT_AT_ONCE and not char.isdecimal()
