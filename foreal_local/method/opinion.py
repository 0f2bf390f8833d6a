"""What a model thinks of the next place of a response: its most likely token, and what else is asked of its logits."""

from __future__ import annotations

import math

import numpy as np

from .roles import Role
from .vocabulary import Logits


class Opinion:
    """What one role thinks of the place after the first `at` ids of its view.

    role: whose it is
    at: how many ids of its view, proposals behind them included, it has evaluated
    top1: the most likely token, in its own ids; the lowest id among equals
    logits: (n_vocab,), valid only until the model's next evaluation

    The other figures are computed where the logits are and only when asked for, so ask before the next evaluation.
    """

    __slots__ = ("at", "logits", "role", "top1")

    def __init__(self, role: Role, at: int, logits: Logits) -> None:
        self.role, self.at, self.logits = role, at, logits
        self.top1 = int(logits.argmax())

    def relative(self, token: int) -> float:
        """The token's probability divided by that of the most likely one: 1 for the top-1."""
        return math.exp(min(0.0, float(self.logits[token]) - float(self.logits[self.top1])))

    def entropy(self, n_top: int) -> float:
        """Entropy in nats over the n_top most likely tokens, their probabilities made to add up to 1 (GlimpRouter,
        arXiv 2601.05110, takes 20)."""
        n = min(n_top, self.logits.size)
        top = np.partition(self.logits, self.logits.size - n)[-n:].astype(np.float64)
        weights = np.exp(top - top.max())
        weights /= weights.sum()
        positive = weights[weights > 0]
        return float(max(0.0, -(positive * np.log(positive)).sum()))

    def kept(self) -> Opinion:
        """A copy that stays valid after the model's next evaluation."""
        return Opinion(self.role, self.at, self.logits.copy())
