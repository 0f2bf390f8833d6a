"""Intervals and tests for what an experiment measured: shares, means, paired ratios, trends.

Knows numbers, one value or several samples for each problem. Does not know what they mean, which run they
come from or how they are shown. All draws come from a seed, so the same figures give the same intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | NDArray[np.generic]
Statistic = Literal["difference", "ratio"]

_AT_A_TIME = 1 << 21  # so many drawn numbers are held at once: 16 MB


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; nan where there was nothing to estimate it from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Trend:
    """Whether values rise or fall with their position.

    rho: Spearman's rank correlation of position and value; 1: always rising
    p_value: how often chance alone gives as much
    n_positions: how many positions have a value
    """

    rho: float
    p_value: float
    n_positions: int


def wilson(n_right: float, n: int, level: float = 0.95) -> Estimate:
    """The share n_right / n with Wilson's score interval (Wilson 1927, JASA 22:209, without continuity correction).

    Holds near 0 and 1 and for few problems, where the normal interval leaves [0, 1]. Nothing is known at n = 0. n_right
    need not be whole: of several samples of a problem, their share counts.
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"{n_right} of {n} cannot be right")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0)
    z, share = NormalDist().inv_cdf((1 + level) / 2), n_right / n
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)
    return Estimate(share, 0.0 if n_right == 0 else low, 1.0 if n_right == n else high)


def bootstrap_mean(values: Values, n: int = 10_000, seed: int = 0, level: float = 0.95) -> Estimate:
    """The mean over problems with the percentile bootstrap interval (Efron 1979, Annals of Statistics 7:1).

    Problems are drawn again, not samples: several samples of one problem are averaged first, because they
    share its difficulty. `n` resamples. A share near 0 or 1 is better served by `wilson`.
    """
    means = per_problem(values)
    if means.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    draws = np.concatenate([means[chosen].mean(axis=1) for chosen in _resamples(means.size, n, seed)])
    return _interval(float(means.mean()), draws, level)


def paired_bootstrap(
    a: Values,
    b: Values,
    statistic: Statistic = "difference",
    n: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """mean(a) - mean(b) or mean(a) / mean(b) over the same problems, with a percentile bootstrap interval.

    Each resample takes the same problems from both (Efron and Tibshirani 1993, An Introduction to the Bootstrap,
    chapters 8 and 13), so what makes a problem hard for both does not widen the interval. Several samples of a
    problem are averaged first. The ratio is one of means, not a mean of ratios. Where mean(b) is 0 it is
    infinite, or nan if mean(a) is 0 too; resamples without a value are left out.
    """
    left, right = per_problem(a), per_problem(b)
    if left.size != right.size:
        raise ValueError(f"{left.size} problems cannot be paired with {right.size}")
    if left.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    compare: Callable[[Floats, Floats], Floats] = np.subtract if statistic == "difference" else _ratio
    draws = [
        compare(left[chosen].mean(axis=1), right[chosen].mean(axis=1)) for chosen in _resamples(left.size, n, seed)
    ]
    value = compare(left.mean(keepdims=True), right.mean(keepdims=True))
    return _interval(float(value[0]), np.concatenate(draws), level)


def without_certainty(difference: Estimate, n_problems: int) -> Estimate:
    """A difference of shares whose problems are all alike, with the rule of three instead of an interval of nothing.

    What was not seen in n problems happens in up to 3 / n of them, 95 % sure (Hanley and Lippman-Hand 1983).
    """
    if difference.low != difference.high or not n_problems:
        return difference
    value, reach = difference.value, 3 / n_problems
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach))


def trend(values_by_position: Values, n: int = 10_000, seed: int = 0) -> Trend:
    """Do values rise or fall with their position? Spearman's rank correlation with a permutation test.

    Only the order counts, so a curve need not be straight; ties share their rank (Spearman 1904). Two-sided:
    p is the share of `n` shuffles whose |rho| is as large, the observed order counted among them, so it is never
    0 (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585). Several observations of a position are averaged first,
    and positions without any are left out; each position then weighs the same, so put thin ones into one bin.
    """
    values = per_problem(values_by_position, keep_empty=True)
    values = values[np.isfinite(values)]
    if values.size < 3 or np.ptp(values) == 0:
        return Trend(math.nan, 1.0, int(values.size))
    ranks = _ranks(values)
    positions = np.arange(values.size, dtype=np.float64)
    positions = (positions - positions.mean()) / positions.std()
    ranks = (ranks - ranks.mean()) / ranks.std()
    rho = float(ranks @ positions) / values.size
    rng, n_as_large, done = np.random.default_rng(seed), 0, 0
    while done < n:
        rows = min(n - done, max(1, _AT_A_TIME // values.size))
        shuffled = rng.permuted(np.broadcast_to(ranks, (rows, values.size)), axis=1)
        n_as_large += int((np.abs(shuffled @ positions) / values.size >= abs(rho) - 1e-12).sum())
        done += rows
    return Trend(rho, (1 + n_as_large) / (1 + n), int(values.size))


def per_problem(values: Values, keep_empty: bool = False) -> Floats:
    """One number for each problem: the mean of its samples; nan (or an error) where it has none."""
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in values]
    if not keep_empty and any(row.size == 0 for row in rows):
        raise ValueError("a problem has no samples")
    return np.array([row.mean() if row.size else math.nan for row in rows], dtype=np.float64)


def _resamples(n_problems: int, n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`n` rows of problems drawn with replacement, some rows at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_A_TIME // n_problems)
    for done in range(0, n, rows):
        yield rng.integers(0, n_problems, (min(rows, n - done), n_problems))


def _ratio(a: Floats, b: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b, dtype=np.float64)


def _interval(value: float, draws: Floats, level: float) -> Estimate:
    draws = draws[~np.isnan(draws)]
    if draws.size == 0:
        return Estimate(value, math.nan, math.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, (tail, 1 - tail), method="inverted_cdf")  # takes draws: infinity has no middle
    return Estimate(value, float(low), float(high))


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[inverse.reshape(-1)], dtype=np.float64)
