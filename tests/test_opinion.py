"""What a model thinks of the next place, against distributions whose figures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fakes import DRAFT, LEADER

from foreal_local.method.opinion import Opinion


def opinion(*probabilities: float, at: int = 3) -> Opinion:
    return Opinion(LEADER, at, np.log(np.array(probabilities, np.float64)).astype(np.float32))


def test_the_top1_is_the_lowest_id_among_equals() -> None:
    """Guards two models that are the same and differ."""
    assert opinion(0.2, 0.4, 0.4).top1 == 1


@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_a_tokens_probability_is_relative_to_the_top(shift: float) -> None:
    """Guards logits taken for probabilities, and an overflow for large ones."""
    found = opinion(0.5, 0.25, 0.2, 0.05)
    found = Opinion(LEADER, 3, found.logits + np.float32(shift))
    for token, wanted in enumerate((1.0, 0.5, 0.4, 0.1)):
        assert found.relative(token) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("probabilities", "n_top", "wanted"),
    [
        ((0.25, 0.25, 0.25, 0.25), 20, math.log(4)),
        ((0.25, 0.25, 0.25, 0.25), 2, math.log(2)),
        ((0.5, 0.5, 1e-30, 1e-30), 3, math.log(2)),
        ((1.0, 1e-38), 20, 0.0),
        ((0.6, 0.3, 0.1), 2, -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)),
        ((0.6, 0.3, 0.1), 1, 0.0),
    ],
)
def test_the_entropy_is_of_the_top_few_made_to_add_up_to_one(
    probabilities: tuple[float, ...], n_top: int, wanted: float
) -> None:
    """Guards an entropy over all of a vocabulary, in bits, or of weights that do not add up."""
    assert opinion(*probabilities).entropy(n_top) == pytest.approx(wanted, abs=1e-5)


def test_a_kept_opinion_outlives_the_logits() -> None:
    """Guards a view of logits that the next evaluation overwrites."""
    logits = np.array([0.0, 2.0, 1.0], np.float32)
    now = Opinion(DRAFT, 7, logits)
    kept = now.kept()
    logits[:] = np.nan
    assert (kept.role, kept.at, kept.top1) == (DRAFT, 7, 1)
    assert kept.relative(2) == pytest.approx(math.exp(-1))
