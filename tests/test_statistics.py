"""Intervals and tests against known figures, and against what they promise on simulated data."""

from __future__ import annotations

import math
import time
import tracemalloc
from itertools import permutations

import numpy as np
import pytest

from foreal_local.evaluation.statistics import bootstrap_mean, paired_bootstrap, per_problem, trend, wilson

# ---- shares ----


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0, 0.1611),
        (20, 20, 0.8389, 1.0),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_wilson_gives_the_known_figures(n_right: int, n: int, low: float, high: float) -> None:
    """Guards the formula: 81 of 263 is the example of Newcombe 1998, the others from R's prop.test(correct=F)."""
    found = wilson(n_right, n)
    assert (found.value, found.low, found.high) == pytest.approx((n_right / n, low, high), abs=1e-4)


def test_wilson_at_its_edges() -> None:
    """Guards a division by zero for a mode without problems, and counts that were swapped."""
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert wilson(5, 10, level=0.99).low < wilson(5, 10).low
    with pytest.raises(ValueError, match="11 of 10"):
        wilson(11, 10)


# ---- means and pairs ----


def test_samples_of_a_problem_are_averaged_first() -> None:
    """Guards samples that are counted as problems: the interval would shrink with every repetition."""
    values = np.random.default_rng(3).random(60) < 0.6
    once = bootstrap_mean(values)
    assert bootstrap_mean([[value] * 8 for value in values]) == once
    assert per_problem([[1, 0], [1], [0, 0, 1, 1]]).tolist() == [0.5, 1.0, 0.5]
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_mean([[1.0], []])


@pytest.mark.parametrize("n_problems", [20, 200])
def test_the_bootstrap_agrees_with_the_normal_interval(n_problems: int) -> None:
    """Guards the width: mean +- 1.96 standard errors, where that holds."""
    values = np.random.default_rng(7).normal(10, 3, n_problems)
    found = bootstrap_mean(values)
    error = values.std() / math.sqrt(n_problems)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * error, found.value + 1.96 * error), abs=0.1 * error
    )


def test_intervals_hold_as_often_as_they_say() -> None:
    """Guards a level that is taken for a tail: 95 % of 200 intervals must hold the true difference and ratio."""
    rng, n_held = np.random.default_rng(11), np.zeros(2)
    for seed in range(200):
        hard = rng.random(150)
        a, b = rng.random(150) > hard * 0.5, rng.random(150) > hard
        difference, ratio = (paired_bootstrap(a, b, kind, n=500, seed=seed) for kind in ("difference", "ratio"))
        n_held += [difference.low <= 0.25 <= difference.high, ratio.low <= 1.5 <= ratio.high]
    assert (n_held / 200 > 0.90).all()
    assert (n_held / 200 < 0.99).all()


def test_pairs_are_kept() -> None:
    """Guards two sets that are drawn apart: what is hard for both must not widen the interval of the difference."""
    hard = np.random.default_rng(5).normal(100, 30, 80)
    found = paired_bootstrap(hard - 2, hard)
    assert (found.value, found.low, found.high) == pytest.approx((-2, -2, -2))
    ratio = paired_bootstrap(hard * 0.6, hard, "ratio")
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.6, 0.6, 0.6))
    with pytest.raises(ValueError, match="80 problems cannot be paired with 79"):
        paired_bootstrap(hard, hard[1:])


def test_the_ratio_is_one_of_means() -> None:
    """Guards a mean of ratios, which one short response decides."""
    assert paired_bootstrap([10, 1000], [1, 1000], "ratio").value == pytest.approx(1010 / 1001)


def test_a_ratio_to_nothing() -> None:
    """Guards an interval that is nan, or an exception, where the leader solved no problem or just one."""
    assert paired_bootstrap([1, 0], [0, 0], "ratio").value == math.inf
    assert math.isnan(paired_bootstrap([0, 0], [0, 0], "ratio").low)
    one = paired_bootstrap([1, 1, 0, 0], [1, 0, 0, 0], "ratio")
    assert one.value == 2
    assert one.low < 2 < one.high == math.inf


def test_nothing_to_draw_from() -> None:
    """Guards an exception for a mode that has no problems yet."""
    assert math.isnan(bootstrap_mean([]).value)
    assert math.isnan(paired_bootstrap([], []).high)


def test_a_seed_gives_the_same_interval() -> None:
    """Guards figures that change between two reports of one run, or that do not depend on the seed at all."""
    values = np.random.default_rng(1).random(50)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_it_is_quick_and_small() -> None:
    """Guards a loop over resamples, and all rows of a large set held at once: these would take 120 MB."""
    values = np.random.default_rng(1).random((2, 5_000))
    started = time.perf_counter()
    paired_bootstrap(values[0, :400], values[1, :400], "ratio")
    assert time.perf_counter() - started < 1.0
    tracemalloc.start()
    bootstrap_mean(values[0], n=3_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


# ---- trends ----


def test_trend_agrees_with_all_permutations() -> None:
    """Guards the p-value: that of all 720 orders of six values, one of them tied."""
    values = [5.0, 4.0, 4.5, 2.0, 2.0, 1.0]
    found = trend(values, n=20_000)
    assert found.rho == pytest.approx(-0.9276, abs=1e-4)
    places = np.arange(6)
    ranks = np.array([5, 3, 4, 1.5, 1.5, 0])
    as_large = [abs(np.corrcoef(order, places)[0, 1]) >= abs(found.rho) - 1e-9 for order in permutations(ranks)]
    assert found.p_value == pytest.approx(np.mean(as_large), abs=0.003)


def test_trend_follows_the_order_alone() -> None:
    """Guards a test for straight lines: the local curve falls at once and then flattens."""
    falling = [1 / (1 + place**3) for place in range(12)]
    assert trend(falling).rho == pytest.approx(-1)
    assert trend(falling).p_value == pytest.approx(1 / 10_001)
    assert trend(falling[::-1]).rho == pytest.approx(1)


def test_no_trend_is_found_in_noise() -> None:
    """Guards a test that cries wolf: of 300 curves without a trend, about 5 % may fall below 0.05."""
    rng = np.random.default_rng(2)
    share = np.mean([trend(rng.random(15), n=400, seed=seed).p_value < 0.05 for seed in range(300)])
    assert 0.02 < share < 0.09


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 9, [[], [1.0], [], [2.0]]])
def test_trend_of_too_little(values: list[float]) -> None:
    """Guards nan as a p-value, or certainty from two positions or a flat curve."""
    found = trend(values)
    assert math.isnan(found.rho)
    assert found.p_value == 1.0


def test_trend_takes_observations_of_each_position() -> None:
    """Guards positions that weigh by how often they occur, and empty ones that count as zero."""
    assert trend([[1, 1, 0], [], [1, 0, 0, 0], [0] * 50, [0, 0, -1]]) == trend([2 / 3, 1 / 4, 0, -1 / 3])
