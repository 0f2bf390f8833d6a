"""Who opens the next sentence."""

from __future__ import annotations

import numpy as np
import pytest

from foreal_local.config import MODES, Generation, Method
from foreal_local.method.gates import RandomGate, SentenceStart
from foreal_local.method.modes import gate_of


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_gate_uses_no_random_number(p: float) -> None:
    """Guards the promise that p of 0 and 1 leave the stream as it is."""
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert [RandomGate(p).opens(SentenceStart(rng)) for _ in range(50)] == [p == 1.0] * 50
    assert rng.random() == twin.random()


@pytest.mark.parametrize("p", [0.001, 0.2, 0.6, 0.999])
def test_an_uncertain_gate_uses_one_number_and_opens_with_chance_p(p: float) -> None:
    """Guards a gate the wrong way round: within 4 sigma of p in 20,000 sentences."""
    rng, twin = np.random.default_rng(2), np.random.default_rng(2)
    n_open = sum(RandomGate(p).opens(SentenceStart(rng)) for _ in range(20_000))
    assert abs(n_open - 20_000 * p) < 4 * (20_000 * p * (1 - p)) ** 0.5
    twin.random(20_000)
    assert rng.random() == twin.random()


def test_each_modes_gate() -> None:
    """Guards a p that changes what one role alone writes."""
    gates = {mode: gate_of(Generation(mode=mode, method=Method(p=0.3))).p for mode in MODES}
    always = {"leader": 1.0, "speculative": 1.0, "auto": 1.0, "draft": 0.0}
    assert gates == {"foreal": 0.3, "cue": 0.3, **always}
