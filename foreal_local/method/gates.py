"""Who opens the next sentence: the table of gates. A gate says whether the leader leads it.

To add a gate, write a class with `role` and `opens` and give it a row of GATES; a setting of its own is a field of
config.Method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from .roles import Role

if TYPE_CHECKING:
    import numpy as np

    from ..config import Method
    from .opinion import Opinion


@dataclass(frozen=True)
class SentenceStart:
    """What a gate may look at.

    rng: the response's generator for gates; a gate draws from it or leaves it alone
    opinion: what the gate's role thinks of the sentence's first token; None for a gate that asks no role
    led: whether each of the response's sentences before this one was led
    """

    rng: np.random.Generator
    opinion: Opinion | None = None
    led: Sequence[bool] = ()


class Gate(Protocol):
    """`role`: whose opinion of the first token it asks for, which costs an evaluation; None: nobody's."""

    @property
    def role(self) -> Role | None: ...

    def opens(self, start: SentenceStart) -> bool:
        """True when the leader leads the sentence."""
        ...


@dataclass(frozen=True)
class RandomGate:
    """The paper's gate, g ~ Bernoulli(p); p of 0 and 1 use no random number."""

    p: float
    role: ClassVar[None] = None

    def opens(self, start: SentenceStart) -> bool:
        if self.p in (0.0, 1.0):
            return self.p == 1.0
        return bool(start.rng.random() < self.p)


@dataclass(frozen=True)
class EntropyGate:
    """The leader leads where the draft does not know how to begin (GlimpRouter, arXiv 2601.05110).

    threshold: the least entropy of the draft's first token, in nats over its top 20, at which the leader leads
    share: the share of sentences to lead; the threshold is then only where learning begins

    Learning: each sentence moves the threshold up where it was led and down where it was not, by steps that get
    smaller with 1 / sqrt(sentences) and cancel out at this share (Robbins and Monro, 1951). A response learns from its
    own sentences alone, so that it does not depend on its neighbours.
    """

    threshold: float
    share: float | None = None
    role: ClassVar[Role] = Role.DRAFT

    def opens(self, start: SentenceStart) -> bool:
        assert start.opinion is not None
        return start.opinion.uncertainty() >= self.learned(start.led)

    def learned(self, led: Sequence[bool]) -> float:
        """The threshold after these sentences."""
        if self.share is None:
            return self.threshold
        steps = sum((each - self.share) / math.sqrt(i) for i, each in enumerate(led, 1))
        return self.threshold * math.exp(_STEP * steps)


_STEP = 2.0
"""Of the threshold's logarithm, in a response's first sentence."""


GATES: dict[str, Callable[[Method], Gate]] = {
    "random": lambda method: RandomGate(method.p),
    "entropy": lambda method: EntropyGate(method.gate_entropy, method.lead_share),
    "always": lambda method: RandomGate(1.0),
    "never": lambda method: RandomGate(0.0),
}
"""The gates by name, each made from the method's settings."""
