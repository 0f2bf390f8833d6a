"""What is counted of a response's tokens: sentences, authors, handoffs, reviews. Knows tokens alone."""

from __future__ import annotations

from itertools import pairwise

from .roles import Role
from .sentences import Verdict
from .tokens import FinishReason, TakenBack, Token


class TokenCounts:
    """The counts of a response; a `Sequence` has them.

    tokens: as they stand
    taken_back: those that do not
    rewrites: whether tokens may be taken back
    finish_reason: why the response has ended; None while it goes on
    opening: a sentence is open that has no token yet
    verdict: whether the sentence has ended with the last token
    """

    tokens: list[Token]
    taken_back: list[TakenBack]
    rewrites: bool
    finish_reason: FinishReason | None
    opening: bool
    verdict: Verdict
    _n_settled: int

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def n_settled(self) -> int:
        """Tokens that will not be taken back."""
        return self._n_settled if self.rewrites and not self.finished else len(self.tokens)

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def n_sentences(self) -> int:
        """Sentences with at least one token."""
        return self.tokens[-1].sentence + 1 if self.tokens else 0

    @property
    def n_led(self) -> int:
        """Sentences that the leader leads."""
        return sum(self.led_before)

    @property
    def n_handoffs(self) -> int:
        """Led sentences in which the draft has taken over."""
        return len(
            {
                after.sentence
                for before, after in pairwise(self.tokens)
                if after.led and after.author is Role.DRAFT and before.author is Role.LEADER
                if before.sentence == after.sentence
            }
        )

    @property
    def n_before_open(self) -> int:
        """Tokens before the open sentence; all of them where none is open."""
        first = len(self.tokens)
        if self.opening or self.verdict is Verdict.END:
            return first
        number = self.tokens[-1].sentence
        while first and self.tokens[first - 1].sentence == number:
            first -= 1
        return first

    def open_tokens(self) -> list[Token]:
        """The tokens of the sentence that has not ended."""
        return self.tokens[self.n_before_open :]

    def n_written(self, role: Role) -> int:
        return sum(token.author is role and not token.inserted for token in self.tokens)

    @property
    def n_inserted(self) -> int:
        return sum(token.inserted for token in self.tokens)

    @property
    def led_before(self) -> list[bool]:
        """Of each sentence so far, whether it was led."""
        return [
            token.led for i, token in enumerate(self.tokens) if not i or self.tokens[i - 1].sentence != token.sentence
        ]

    @property
    def stand_reviewed(self) -> list[bool]:
        """Of each token, whether the leader has read it to accept or to refuse it: the draft's that were settled before
        the response ended. Where it was stopped, those behind them were not read."""
        n_read = self._n_settled if self.rewrites else 0
        return [i < n_read and token.author is Role.DRAFT for i, token in enumerate(self.tokens)]

    @property
    def n_reviewed(self) -> int:
        """The draft's tokens that the leader has read to accept or to refuse them, and those that were dropped."""
        return self.n_dropped + sum(self.stand_reviewed)

    @property
    def n_rewritten(self) -> int:
        """How often the leader has taken tokens back."""
        return len(self.taken_back)

    @property
    def n_dropped(self) -> int:
        """Tokens that were taken back."""
        return sum(len(each.tokens) for each in self.taken_back)

    def tail(self, n_characters: int, n_tokens: int | None = None) -> str:
        """The last characters of the text (of its first n_tokens), at least that many where there are so many."""
        parts: list[str] = []
        for token in reversed(self.tokens[:n_tokens] if n_tokens is not None else self.tokens):
            if n_characters <= 0:
                break
            parts.append(token.text)
            n_characters -= len(token.text)
        return "".join(reversed(parts))
