"""Who opens the next sentence: the gate g ~ Bernoulli(p) of the method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config import Generation, Mode


@dataclass(frozen=True)
class Gate:
    """Open (the leader leads the sentence) with chance p; p of 0 and 1 use no random number."""

    p: float

    def opens(self, rng: np.random.Generator) -> bool:
        if self.p in (0.0, 1.0):
            return self.p == 1.0
        return bool(rng.random() < self.p)


def gate_for(settings: Generation) -> Gate:
    """The gate of a mode: always open, always closed, or open by chance p."""
    always = {Mode.LEADER: 1.0, Mode.SPECULATIVE: 1.0, Mode.DRAFT: 0.0}
    return Gate(always.get(settings.mode, settings.method.p))
