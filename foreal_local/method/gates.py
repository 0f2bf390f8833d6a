"""Who opens the next sentence: the table of gates. A gate says whether the leader leads it.

To add a gate, write a class with `role` and `opens` and give it a row of GATES; a setting of its own is a field of
config.Method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ..config import Method
    from .opinion import Opinion
    from .roles import Role


@dataclass(frozen=True)
class SentenceStart:
    """What a gate may look at.

    rng: the response's generator for gates; a gate draws from it or leaves it alone
    opinion: what the gate's role thinks of the sentence's first token; None for a gate that asks no role
    """

    rng: np.random.Generator
    opinion: Opinion | None = None


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


GATES: dict[str, Callable[[Method], Gate]] = {
    "random": lambda method: RandomGate(method.p),
    "always": lambda method: RandomGate(1.0),
    "never": lambda method: RandomGate(0.0),
}
"""The gates by name, each made from the method's settings."""
