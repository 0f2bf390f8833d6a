"""The figures of misalignment: along the response, along the sentence, by word, by entropy, and what it promises.

Knows flags, opinions and sentence numbers (judging.py), and where sentences are handed over (handoffs.py). Knows no
models, no files and no screen. Responses are what is drawn again for intervals: positions of one response are not
independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...config import Method
from ..statistics import Estimate, Floats, Trend, paired_bootstrap, trend, wilson
from .handoffs import GRID, Handoffs, foresee
from .judging import Bools, Judgement
from .words import Word, misaligned_words

Direction = Literal["grows", "stays", "falls", "unknown"]

N_PLACES = 20  # of a sentence, in the local curve
FACTOR_PLACE = 10  # the local curve's fall is told from place 1 to this one
N_DRAWS = 2000  # resamples for an interval
_STEADY = 0.2  # a change by less than this share of the mean is none
_FEWEST = 5  # responses, below which no direction is told
_REACHED = 0.1  # share of the responses that must reach a place before it counts in a trend


# ---------------------------------------------------------------- what is found
@dataclass(frozen=True)
class Curve:
    """The share of misaligned positions by place: places[i] is the first of its bin, counted from 1.

    `share`, `low` and `high` (nan where unknown) and `n` positions go with `places`. `change`: from the first place
    to the last, by a line through each response (or sentence) of its own, so that who goes on longer changes
    nothing; `p_value`: how often chance alone gives as much. `direction`: "stays" where it does not fall by more
    than a fifth of its mean. `trend` is Spearman's over the bins that a tenth of the responses reach: of the curve
    as drawn, each place weighing the same.
    """

    places: list[int]
    n: list[int]
    share: list[float]
    low: list[float]
    high: list[float]
    change: Estimate
    p_value: float
    direction: Direction
    trend: Trend


@dataclass(frozen=True)
class Unsureness:
    """Means over n positions: each model's entropy in nats, and the chance each gave the token written."""

    n: int
    leader_entropy: Estimate
    draft_entropy: Estimate
    leader_chance: Estimate
    draft_chance: Estimate


@dataclass(frozen=True)
class Misalignment:
    """Everything about one draft. `own`: the share of tokens that are the leader's top-1. `factor`: how much more
    often token 1 of a sentence is misaligned than token 10, in the sentences that have a tenth; infinite, with a
    lower bound, where no tenth is misaligned."""

    n_responses: int
    n_tokens: int
    n_sentences: int
    own: Estimate
    overall: Estimate
    along_response: Curve
    along_sentence: Curve
    factor: Estimate
    words: list[Word]
    aligned: Unsureness
    misaligned: Unsureness
    handoffs: Handoffs
    grid: list[Handoffs]

    @property
    def rebounds(self) -> bool | None:
        """Whether it stays or grows along the response (the paper's global rebound); None: cannot be told."""
        direction = self.along_response.direction
        return None if direction == "unknown" else direction != "falls"

    def as_dict(self) -> dict[str, Any]:
        """Numbers, texts and lists, fit for JSON: null is what is unknown or infinite."""
        return dict(plain(asdict(self) | {"rebounds": self.rebounds}))


def plain(value: Any) -> Any:
    """The same without nan and infinity, which JSON does not have."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- finding it
class Meter:
    """Measures judgements: the settings that all figures share. `n_draws` resamples from `seed` for each interval."""

    def __init__(self, method: Method, width: int = 32, n_draws: int = N_DRAWS, seed: int = 0) -> None:
        self._method, self._width, self._n_draws, self._seed = method, width, n_draws, seed
        self._ratio = partial(paired_bootstrap, statistic="ratio", n=n_draws, seed=seed)

    def measure(self, judgements: Sequence[Judgement]) -> Misalignment:
        """One draft's judgements, one for each response of at least one token."""
        missed = [~one.aligned for one in judgements]
        sizes = np.array([flags.size for flags in missed])
        own = [int(one.reading.own.sum()) for one in judgements]
        return Misalignment(
            n_responses=len(judgements),
            n_tokens=int(sizes.sum()),
            n_sentences=sum(one.reading.sentences[-1] + 1 for one in judgements),
            own=self.share(own, sizes),
            overall=self.share([int(flags.sum()) for flags in missed], sizes),
            along_response=self._along_response(missed),
            along_sentence=self._along_sentence(missed, judgements),
            factor=self._factor(missed, [one.reading.places for one in judgements]),
            words=misaligned_words(judgements),
            aligned=self._unsureness(judgements, aligned=True),
            misaligned=self._unsureness(judgements, aligned=False),
            handoffs=foresee(judgements, self._method, self.share),
            grid=[foresee(judgements, replace(self._method, n=n, k=k), self.share) for n, k in GRID],
        )

    def share(self, found: Sequence[int] | Floats, n: Sequence[int] | Floats | NDArray[np.int64]) -> Estimate:
        """Sum of found / sum of n, one of each for a response; Wilson's interval where responses do not differ."""
        estimate = self._ratio(np.asarray(found), np.asarray(n))
        same = estimate.low == estimate.high
        return wilson(int(np.sum(found)), int(np.sum(n))) if same else estimate

    # ---------------------------------------------------------------- curves
    def _along_response(self, missed: list[Bools]) -> Curve:
        bins = [np.arange(flags.size) // self._width for flags in missed]
        lines = [_line(np.arange(f.size) / max(1, f.size - 1), f, np.zeros(f.size, np.int64)) for f in missed]
        return self._curve(missed, bins, self._width, lines)

    def _along_sentence(self, missed: list[Bools], judgements: Sequence[Judgement]) -> Curve:
        flags, bins, lines = [], [], []
        for found, one in zip(missed, judgements, strict=True):
            near = one.reading.places <= N_PLACES
            flags.append(found[near])
            bins.append(one.reading.places[near] - 1)
            lines.append(_line(bins[-1] / (N_PLACES - 1), flags[-1], np.array(one.reading.sentences)[near]))
        return self._curve(flags, bins, 1, lines)

    def _curve(
        self,
        missed: list[Bools],
        bins: list[NDArray[np.int64]],
        width: int,
        lines: list[tuple[float, float]],
    ) -> Curve:
        """`lines`: each response's covariance of place and flag, and variance of place."""
        n_bins = max((int(b.max()) + 1 for b in bins if b.size), default=0)
        n = np.array([np.bincount(b, minlength=n_bins) for b in bins]).reshape(-1, n_bins)
        found = np.array([np.bincount(b, f, n_bins) for b, f in zip(bins, missed, strict=True)]).reshape(-1, n_bins)
        shares = [self.share(found[:, i], n[:, i]) for i in range(n_bins)]
        reached = (n > 0).sum(axis=0) >= min(len(n), max(2, math.ceil(_REACHED * len(n))))
        change = self._ratio([a for a, _ in lines], [b for _, b in lines])
        return Curve(
            places=[i * width + 1 for i in range(n_bins)],
            n=n.sum(axis=0).tolist(),
            share=[one.value for one in shares],
            low=[one.low for one in shares],
            high=[one.high for one in shares],
            change=change,
            p_value=sign_flip([a for a, _ in lines], self._n_draws, self._seed),
            direction=direction(change, float(found.sum() / max(1, n.sum())), len(n)),
            trend=trend([one.value for one, enough in zip(shares, reached, strict=True) if enough], seed=self._seed),
        )

    def _factor(self, missed: list[Bools], places: list[NDArray[np.int64]]) -> Estimate:
        first, tenth = [], []
        for flags, place in zip(missed, places, strict=True):
            at = np.flatnonzero(place == FACTOR_PLACE)
            tenth.append(flags[at])
            first.append(flags[at - FACTOR_PLACE + 1])
        sums = [[int(each.sum()) for each in flags] for flags in (first, tenth)]
        factor = self._ratio(*sums)
        if math.isinf(factor.value):  # resamples know nothing of a rate that was never seen
            n = sum(each.size for each in tenth)
            factor = replace(factor, low=wilson(sum(sums[0]), n).low / wilson(0, n).high)
        return factor

    # ---------------------------------------------------------------- entropy
    def _unsureness(self, judgements: Sequence[Judgement], aligned: bool) -> Unsureness:
        chosen = [one.aligned == aligned for one in judgements]
        n = [int(mask.sum()) for mask in chosen]

        def mean(values: list[Floats]) -> Estimate:
            return self._ratio([float(v[mask].sum()) for v, mask in zip(values, chosen, strict=True)], n)

        leaders, drafts = [one.reading.leader for one in judgements], [one.draft for one in judgements]
        return Unsureness(
            sum(n),
            mean([said.entropy for said in leaders]),
            mean([said.entropy for said in drafts]),
            mean([said.chance for said in leaders]),
            mean([said.chance for said in drafts]),
        )


# ---------------------------------------------------------------- rules
def direction(change: Estimate, mean: float, n_responses: int) -> Direction:
    """Where a curve goes, as far as the interval of its change tells."""
    if n_responses < _FEWEST or mean == 0 or not math.isfinite(change.low + change.high):
        return "unknown"
    if change.low > 0:
        return "grows"
    if change.low > -_STEADY * mean:
        return "stays"
    return "falls" if change.high < 0 else "unknown"


def sign_flip(values: Sequence[float], n_draws: int = N_DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of a sum, if each response's part were as likely to have the other sign (Fisher 1935)."""
    parts = np.asarray(values, np.float64)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (n_draws, parts.size))
    n_as_large = int((np.abs(signs @ parts) >= abs(parts.sum()) - 1e-12).sum())
    return (1 + n_as_large) / (1 + n_draws)


def _line(x: Floats, flags: Bools, groups: NDArray[np.int64]) -> tuple[float, float]:
    """Covariance of x and flags, and variance of x, inside the groups (times their sizes); their ratio is a slope."""
    if not x.size:
        return 0.0, 0.0
    _, group = np.unique(groups, return_inverse=True)
    inside = x - (np.bincount(group, x) / np.bincount(group))[group]
    return float(inside @ flags), float(inside @ inside)
