"""One response in the making: roles, finish reasons, and `Sequence`, which owns all that lasts.

Knows tokens, authors, text and counters. Knows no model, slot or cache: those can be lost at any time
and be made again from what is here.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..config import Generation
from .ledger import Cost
from .sentences import SentenceDetector, Verdict


class Role(str, Enum):
    LEADER = "leader"
    DRAFT = "draft"

    __hash__ = str.__hash__  # Enum's is a Python function, called for every look-up by role

    def __str__(self) -> str:
        return self.value

    @property
    def other(self) -> Role:
        return Role.DRAFT if self is Role.LEADER else Role.LEADER


class FinishReason(str, Enum):
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    CANCELLED = "cancelled"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value


@dataclass(slots=True)
class Token:
    """One token of the stream, in its author's ids. `text`: the characters it completed.

    `top1` is the author's most likely token there; `hit` and `hits` are the alignment check's flag (None:
    not checked) and the hit counter after this token. `given`: no model chose it, it only is in its author's ids.
    """

    id: int
    author: Role
    text: str
    sentence: int
    led: bool
    top1: int
    hit: bool | None = None
    hits: int = 0
    given: bool = False


@dataclass(slots=True)
class View:
    """The stream as one role's ids: its prompt, then the response. starts[i]: where token i begins."""

    ids: list[int]
    n_prompt: int
    starts: list[int] = field(default_factory=list)


class Choice(NamedTuple):
    """A role's next token, chosen at view length `at` and not (yet) part of the stream."""

    role: Role
    at: int
    token: int
    top1: int


class Spelled(NamedTuple):
    """A token of a text that no model chose, as `Sequence.append` takes it."""

    choice: Choice
    piece: bytes
    ids: dict[Role, tuple[int, ...]]


class Sequence:
    """A response: settings, tokens, both views, text, random state, counters, costs, finish reason.

    Owner of all lasting state; the scheduler changes it through `open_sentence`, `append`, `judge` and
    `finish`. Between two of its changes it can be copied or saved, and a fresh flow goes on from there.
    """

    def __init__(
        self,
        id: str,
        index: int,
        settings: Generation,
        prompt: dict[Role, list[int]],
    ) -> None:
        assert settings.seed is not None, "the seed is drawn before a sequence is made"
        self.id = id
        self.index = index
        self.settings = settings
        self.views = {role: View(list(ids), len(ids)) for role, ids in prompt.items()}
        self.tokens: list[Token] = []
        self._entropy = [settings.seed, index]
        self.n_sentences = 0
        self.n_led = 0
        self.n_handoffs = 0
        self.n_proposed = self.n_accepted = 0  # of mode speculative, in the leader's ids
        self.cost = {role: Cost() for role in Role}
        self.finish_reason: FinishReason | None = None
        self.error: str | None = None
        self.led = False
        self.verdict = Verdict.END
        self.peek: Choice | None = None
        self.frontier_top1: dict[Role, tuple[int, int]] = {}
        self.n_shown = 0
        self.seconds = 0.0  # wall clock while in a slot
        self._detector = SentenceDetector(settings.method.boundaries)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._half = False  # whether the decoder holds half a character
        self.opening = False
        self._hold = max((len(stop) for stop in settings.stop), default=0)

    @cached_property
    def gate_rng(self) -> np.random.Generator:
        """Draws the gates. Made when it is first asked for, as the other: greedy decoding needs none."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(0,)))

    @cached_property
    def token_rng(self) -> np.random.Generator:
        """Draws the tokens."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(1,)))

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def n_written(self, role: Role) -> int:
        return sum(token.author is role and not token.given for token in self.tokens)

    @property
    def n_given(self) -> int:
        return sum(token.given for token in self.tokens)

    def open_tokens(self) -> list[Token]:
        """The tokens of the sentence that has not ended."""
        if self.opening or self.verdict is Verdict.END:
            return []
        first = len(self.tokens)
        while first and self.tokens[first - 1].sentence == self.n_sentences - 1:
            first -= 1
        return self.tokens[first:]

    # ---------------------------------------------------------------- changes
    def open_sentence(self, led: bool) -> None:
        self.led = led
        self.verdict = Verdict.NO
        self._detector.start()
        self.opening = True  # counted with its first token: a full context may leave it without one

    def append(self, choice: Choice, piece: bytes, ids: dict[Role, tuple[int, ...]], given: bool = False) -> None:
        """Add the author's token; `ids` are its ids in each view. Sets `verdict`, may finish."""
        role, led = choice.role, self.led
        text = self._decode(piece)
        hits = 0
        if self.opening:
            self.opening = False
            self.n_sentences += 1
            self.n_led += led
        else:
            previous = self.tokens[-1]
            hits = previous.hits
            self.n_handoffs += led and role is Role.DRAFT and previous.author is Role.LEADER
        self.tokens.append(Token(choice.token, role, text, self.n_sentences - 1, led, choice.top1, None, hits, given))
        for reader, view in self.views.items():
            view.starts.append(len(view.ids))
            view.ids.extend(ids[reader])
        self.verdict = self._detector.feed(text)
        if self._hold and text:
            self._cut_at_stop(len(text))
        if not self.finished and len(self.tokens) == self.settings.max_tokens:
            self.finish(FinishReason.LENGTH)

    def _decode(self, piece: bytes) -> str:
        if not self._half and piece.isascii():
            return piece.decode()
        text = self._decoder.decode(piece)
        self._half = bool(self._decoder.getstate()[0])
        return text

    def append_end(self, choice: Choice) -> None:
        """The author's end-of-generation token: part of the response, its piece is empty."""
        self.append(choice, b"", dict.fromkeys(self.views, ()))
        self.finish_reason = None
        self.finish(FinishReason.STOP)

    def insert(self, tokens: list[Spelled]) -> None:
        """Add tokens that neither model chose to a sentence that is open."""
        self.peek = None
        for choice, piece, ids in tokens:
            if not self.finished:
                self.append(choice, piece, ids, given=True)

    def close_with(self, tokens: list[Spelled]) -> None:
        """Add tokens that neither model chose, as the end of a sentence; no flow may be running."""
        if self.verdict is Verdict.END:
            self.open_sentence(led=False)
        self.insert(tokens)
        self.verdict = Verdict.END

    def confirms_end(self, piece: bytes) -> bool:
        """Whether a next token of these bytes would show that the sentence has ended before it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate(self._decoder.getstate())
        return self._detector.confirms(decoder.decode(piece))

    @property
    def half_character(self) -> bytes:
        """Bytes at the end of the stream that do not make a character yet."""
        return self._decoder.getstate()[0]

    def go_on(self, opening: bool, verdict: Verdict, half_character: bytes) -> None:
        """Take the detector and the decoder to the end of tokens that were put back."""
        self.opening, self.verdict = opening, verdict
        self._decoder.setstate((half_character, 0))
        self._half = bool(half_character)
        self._detector.start()
        for token in self.open_tokens():
            self._detector.feed(token.text)

    def judge(self, hits: tuple[bool, ...]) -> None:
        """Note the alignment checks of the last len(hits) tokens."""
        first = len(self.tokens) - len(hits)
        counter = self.tokens[first].hits
        for token, hit in zip(self.tokens[first:], hits, strict=True):
            counter = counter + 1 if hit else 0
            token.hit, token.hits = hit, counter

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """End the response once and for all; half a character at its end is shown as U+FFFD."""
        if self.finished:
            return
        self.finish_reason, self.error = reason, error
        if self._half:
            self._half = False
            self.tokens[-1].text += self._decoder.decode(b"", final=True)

    # ---------------------------------------------------------------- text that may be shown
    def take_ready(self) -> list[Token]:
        """Tokens not shown before whose text no stop string can take back any more."""
        ready = len(self.tokens)
        if self._half:
            ready -= 1  # half a character is pending: if nothing follows, the last token shows it
        if self._hold and not self.finished:
            held = self._held_characters() - sum(len(token.text) for token in self.tokens[ready:])
            while ready > self.n_shown and held > 0:
                ready -= 1
                held -= len(self.tokens[ready].text)
        taken = self.tokens[self.n_shown : ready]
        self.n_shown = max(self.n_shown, ready)
        return taken

    def tail(self, n_characters: int) -> str:
        """The text's last characters, at least that many where there are so many."""
        parts: list[str] = []
        for token in reversed(self.tokens):
            if n_characters <= 0:
                break
            parts.append(token.text)
            n_characters -= len(token.text)
        return "".join(reversed(parts))

    def _held_characters(self) -> int:
        tail = self.tail(self._hold)
        for length in range(min(self._hold - 1, len(tail)), 0, -1):
            if any(stop.startswith(tail[-length:]) for stop in self.settings.stop):
                return length
        return 0

    def _cut_at_stop(self, n_new: int) -> None:
        tail = self.tail(self._hold - 1 + n_new)
        found = [at for at in (tail.find(stop) for stop in self.settings.stop) if at >= 0]
        if not found:
            return
        surplus = len(tail) - min(found)
        for token in reversed(self.tokens):
            if surplus <= 0:
                break
            keep = max(0, len(token.text) - surplus)
            surplus -= len(token.text) - keep
            token.text = token.text[:keep]
        self._decoder.reset()
        self._half = False
        self.finish(FinishReason.STOP)


def n_common(one: list[int], other: list[int]) -> int:
    """How many ids two lists begin with alike."""
    n = min(len(one), len(other))
    if one[:n] == other[:n]:
        return n
    return next(i for i in range(n) if one[i] != other[i])
