"""What a model thinks of the next place of a response: its most likely token, and what else is asked of its logits."""

from __future__ import annotations

import math

import numpy as np

from .roles import Role
from .tokens import Likelihood
from .vocabulary import Logits

_UNCERTAINTY_TOP = 20
_NEGLIGIBLE = 20.0
"""Logits this far below the top-1's are left out of an entropy of the top few: 2e-9 of its probability."""


class Opinion:
    """What one role thinks of the place after the first `at` ids of its view.

    role: whose it is
    at: how many ids of its view, proposals behind them included, it has evaluated
    top1: the most likely token, in its own ids; the lowest id among equals
    logits: (n_vocab,), valid only until the model's next evaluation

    The other figures are computed where the logits are and only when asked for, so ask before the next evaluation.
    """

    __slots__ = ("_sum", "at", "logits", "role", "top1")

    def __init__(self, role: Role, at: int, logits: Logits) -> None:
        self.role, self.at, self.logits = role, at, logits
        self.top1 = int(logits.argmax())
        self._sum: float | None = None

    @property
    def is_of_numbers(self) -> bool:
        """Whether the logits are numbers: one NaN among them, or an infinite one, is the argmax."""
        return math.isfinite(self.logits[self.top1])

    def relative(self, token: int) -> float:
        """The token's probability divided by that of the most likely one: 1 for the top-1."""
        return math.exp(min(0.0, float(self.logits[token]) - float(self.logits[self.top1])))

    def probability(self, token: int) -> float:
        """The token's probability, at temperature 1 and without any filter."""
        return self.relative(token) / self._mass()

    def likelihood(self, token: int, n_top: int) -> Likelihood:
        """Of the token, with as many of the most likely ones beside it; ids in order among equals."""
        logits, total = self.logits, float(self.logits[self.top1]) + math.log(self._mass())
        n_top = min(n_top, logits.size)
        best = np.argpartition(logits, logits.size - n_top)[logits.size - n_top :] if n_top else np.zeros(0, np.int64)
        best = best[np.lexsort((best, -logits[best]))]
        top = tuple((int(each), float(logits[each]) - total) for each in best)
        return Likelihood(float(logits[token]) - total, top)

    def _mass(self) -> float:
        """The sum of all probabilities relative to the most likely token's."""
        if self._sum is None:
            self._sum = float(np.exp(self.logits - self.logits[self.top1]).sum(dtype=np.float64))
        return self._sum

    def uncertainty(self) -> float:
        """Entropy in nats over the 20 most likely tokens, made to add up to 1 (GlimpRouter, arXiv 2601.05110)."""
        return self.entropy(_UNCERTAINTY_TOP)

    def entropy(self, n_top: int | None = None, *, of_all: bool = False) -> float:
        """Entropy in nats.

        n_top: over so many of the most likely tokens; None: over all
        of_all: their probabilities are those among all tokens; else they are made to add up to 1 first
        """
        below = self.logits - self.logits[self.top1]
        if n_top is not None:
            below = below[below > -_NEGLIGIBLE]
            if below.size > n_top:
                below = np.partition(below, below.size - n_top)[-n_top:]
        relative = np.exp(below.astype(np.float64))
        chances = relative / (self._mass() if of_all else relative.sum())
        chances = chances[chances > 0]
        return float(max(0.0, -(chances * np.log(chances)).sum()))

    def kept(self) -> Opinion:
        """A copy that stays valid after the model's next evaluation."""
        return Opinion(self.role, self.at, self.logits.copy())
