"""The figures of misalignment: along the response and the sentence, by word, by entropy, and what to expect of a pair.

Knows flags, predictions and sentence numbers (judging.py), where sentences are handed over (handoffs.py) and what is
rewritten (rewrites.py). Knows no models, no files and no screen. Intervals come from resampling whole responses,
because positions of one response are not independent.
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
from .rewrites import TAUS, Rewrites, foretell
from .words import Word, misaligned_words

Direction = Literal["grows", "stays", "falls", "unknown"]

N_PLACES = 20  # of a sentence, in the local curve
FACTOR_PLACE = 10  # the place of a sentence that its first token is compared with
N_DRAWS = 2000  # resamples for an interval
_STEADY = 0.2  # a fall by less than this share of the mean counts as none
_FEWEST = 5  # responses, below which no direction is given
_REACHED = 0.1  # share of the responses that must reach a place before it counts in a trend


# ---------------------------------------------------------------- figures
@dataclass(frozen=True)
class Curve:
    """The share of misaligned positions by place in the response, or in the sentence.

    places: the first place of each bin, counted from 1
    n: positions in each bin
    share: the misaligned share of them, with its interval from `low` to `high`; nan where unknown
    change: of the share, from the first place to the last. A line is laid through each response (or sentence) of its
        own, so that longer ones do not change the result.
    p_value: how often chance alone gives as large a change
    direction: where the curve goes; "stays" also where it falls by less than a fifth of its mean
    trend: of the curve as drawn, each bin weighing the same; only bins that a tenth of the responses reach
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
class Uncertainty:
    """How uncertain both models are; means over n positions.

    leader_entropy, draft_entropy: of the model's distribution, in nats
    leader_chance, draft_chance: the probability the model gives to the token that is written
    """

    n: int
    leader_entropy: Estimate
    draft_entropy: Estimate
    leader_chance: Estimate
    draft_chance: Estimate


@dataclass(frozen=True)
class Misalignment:
    """All figures of one draft.

    own: the share of tokens that are the leader's top-1
    overall: the share of positions that are misaligned
    factor: how many times as often token 1 of a sentence is misaligned as token 10, in the sentences that have both.
        Infinite, with a lower bound, where no token 10 is misaligned.
    words: the most frequent misaligned words
    aligned, misaligned: the models' uncertainty where they agree, and where they do not
    handoffs: to expect with the settings that were asked for
    grid: to expect with other n and k
    rewrites: to expect of review with rule ratio, by tau, the one that was asked for among them
    """

    n_responses: int
    n_tokens: int
    n_sentences: int
    own: Estimate
    overall: Estimate
    along_response: Curve
    along_sentence: Curve
    factor: Estimate
    words: list[Word]
    aligned: Uncertainty
    misaligned: Uncertainty
    handoffs: Handoffs
    grid: list[Handoffs]
    rewrites: list[Rewrites]

    @property
    def rebounds(self) -> bool | None:
        """Whether it stays or grows along the response (the paper's global rebound); None: cannot be told."""
        direction = self.along_response.direction
        return None if direction == "unknown" else direction != "falls"

    def as_dict(self) -> dict[str, Any]:
        """Numbers, texts and lists, fit for JSON, where null stands for what is unknown or infinite."""
        return dict(plain(asdict(self) | {"rebounds": self.rebounds}))


def plain(value: Any) -> Any:
    """The same with None for nan and infinity, which JSON does not have, and numbers rounded to 6 places."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- measuring
class Meter:
    """Measures judgements.

    method: whose handoffs and tau are foreseen
    width: tokens of a bin along the response
    n_draws: resamples for each interval, drawn from `seed`
    """

    def __init__(self, method: Method, width: int = 32, n_draws: int = N_DRAWS, seed: int = 0) -> None:
        self._method, self._width, self._n_draws, self._seed = method, width, n_draws, seed
        self._ratio = partial(paired_bootstrap, statistic="ratio", n=n_draws, seed=seed)

    def measure(self, judgements: Sequence[Judgement]) -> Misalignment:
        """One draft's judgements, one for each response of at least one token."""
        missed = [~judgement.aligned for judgement in judgements]
        sizes = np.array([flags.size for flags in missed])
        own = [int(judgement.reading.is_top1.sum()) for judgement in judgements]
        return Misalignment(
            n_responses=len(judgements),
            n_tokens=int(sizes.sum()),
            n_sentences=sum(judgement.reading.sentences[-1] + 1 for judgement in judgements),
            own=self.share(own, sizes),
            overall=self.share([int(flags.sum()) for flags in missed], sizes),
            along_response=self._along_response(missed),
            along_sentence=self._along_sentence(missed, judgements),
            factor=self._factor(missed, [judgement.reading.places for judgement in judgements]),
            words=misaligned_words(judgements),
            aligned=self._uncertainty(judgements, aligned=True),
            misaligned=self._uncertainty(judgements, aligned=False),
            handoffs=foresee(judgements, self._method, self.share),
            grid=[foresee(judgements, replace(self._method, n=n, k=k), self.share) for n, k in GRID],
            rewrites=[foretell(judgements, tau, self.share, self._ratio) for tau in sorted({*TAUS, self._method.tau})],
        )

    def share(self, counts: Sequence[int] | Floats, totals: Sequence[int] | Floats | NDArray[np.int64]) -> Estimate:
        """Sum of counts / sum of totals, with one of each for a response.

        The interval is Wilson's where all responses have the same share.
        """
        estimate = self._ratio(np.asarray(counts), np.asarray(totals))
        same = estimate.low == estimate.high
        return wilson(int(np.sum(counts)), int(np.sum(totals))) if same else estimate

    # ---------------------------------------------------------------- curves
    def _along_response(self, missed: list[Bools]) -> Curve:
        bins = [np.arange(flags.size) // self._width for flags in missed]
        lines = [_line(np.arange(f.size) / max(1, f.size - 1), f, np.zeros(f.size, np.int64)) for f in missed]
        return self._curve(missed, bins, self._width, lines)

    def _along_sentence(self, missed: list[Bools], judgements: Sequence[Judgement]) -> Curve:
        flags, bins, lines = [], [], []
        for all_flags, judgement in zip(missed, judgements, strict=True):
            reading = judgement.reading
            near = reading.places <= N_PLACES
            flags.append(all_flags[near])
            bins.append(reading.places[near] - 1)
            lines.append(_line(bins[-1] / (N_PLACES - 1), flags[-1], np.array(reading.sentences)[near]))
        return self._curve(flags, bins, 1, lines)

    def _curve(
        self,
        missed: list[Bools],
        bins: list[NDArray[np.int64]],
        width: int,
        lines: list[tuple[float, float]],
    ) -> Curve:
        """The curve of `missed` flags by their `bins`, with one array of each for a response.

        lines: each response's covariance of place and flag, and variance of place.
        """
        n_bins = max((int(b.max()) + 1 for b in bins if b.size), default=0)
        n = np.array([np.bincount(b, minlength=n_bins) for b in bins]).reshape(-1, n_bins)
        counts = np.array([np.bincount(b, f, n_bins) for b, f in zip(bins, missed, strict=True)]).reshape(-1, n_bins)
        shares = [self.share(counts[:, i], n[:, i]) for i in range(n_bins)]
        reached = (n > 0).sum(axis=0) >= min(len(n), max(2, math.ceil(_REACHED * len(n))))
        change = self._ratio([a for a, _ in lines], [b for _, b in lines])
        return Curve(
            places=[i * width + 1 for i in range(n_bins)],
            n=n.sum(axis=0).tolist(),
            share=[share.value for share in shares],
            low=[share.low for share in shares],
            high=[share.high for share in shares],
            change=change,
            p_value=sign_flip([a for a, _ in lines], self._n_draws, self._seed),
            direction=direction(change, float(counts.sum() / max(1, n.sum())), len(n)),
            trend=trend([share.value for share, keep in zip(shares, reached, strict=True) if keep], seed=self._seed),
        )

    def _factor(self, missed: list[Bools], places: list[NDArray[np.int64]]) -> Estimate:
        """How many times as often the first token of a sentence is misaligned as the tenth."""
        first, tenth = [], []
        for flags, place in zip(missed, places, strict=True):
            at = np.flatnonzero(place == FACTOR_PLACE)
            tenth.append(flags[at])
            first.append(flags[at - FACTOR_PLACE + 1])
        sums = [[int(each.sum()) for each in flags] for flags in (first, tenth)]
        factor = self._ratio(*sums)
        if math.isinf(factor.value):  # no resample has a misaligned tenth token either
            n = sum(each.size for each in tenth)
            factor = replace(factor, low=wilson(sum(sums[0]), n).low / wilson(0, n).high)
        return factor

    # ---------------------------------------------------------------- entropy
    def _uncertainty(self, judgements: Sequence[Judgement], aligned: bool) -> Uncertainty:
        """Over the positions that are aligned, or over those that are not."""
        chosen = [judgement.aligned == aligned for judgement in judgements]
        n = [int(mask.sum()) for mask in chosen]

        def mean(values: list[Floats]) -> Estimate:
            return self._ratio([float(v[mask].sum()) for v, mask in zip(values, chosen, strict=True)], n)

        leader = [judgement.reading.leader for judgement in judgements]
        draft = [judgement.draft for judgement in judgements]
        return Uncertainty(
            sum(n),
            leader_entropy=mean([predictions.entropy for predictions in leader]),
            draft_entropy=mean([predictions.entropy for predictions in draft]),
            leader_chance=mean([predictions.chance for predictions in leader]),
            draft_chance=mean([predictions.chance for predictions in draft]),
        )


# ---------------------------------------------------------------- rules
def direction(change: Estimate, mean: float, n_responses: int) -> Direction:
    """Where a curve goes, as far as the interval of its change decides it."""
    if n_responses < _FEWEST or mean == 0 or not math.isfinite(change.low + change.high):
        return "unknown"
    if change.low > 0:
        return "grows"
    if change.low > -_STEADY * mean:
        return "stays"
    return "falls" if change.high < 0 else "unknown"


def sign_flip(values: Sequence[float], n_draws: int = N_DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of a sum if each value may as well have had the other sign (Fisher 1935)."""
    parts = np.asarray(values, np.float64)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (n_draws, parts.size))
    n_as_large = int((np.abs(signs @ parts) >= abs(parts.sum()) - 1e-12).sum())
    return (1 + n_as_large) / (1 + n_draws)


def _line(x: Floats, flags: Bools, groups: NDArray[np.int64]) -> tuple[float, float]:
    """Sums of (x - mean) * flag and of (x - mean)**2, where mean is that of x's group; their ratio is a slope."""
    if not x.size:
        return 0.0, 0.0
    _, group = np.unique(groups, return_inverse=True)
    inside = x - (np.bincount(group, x) / np.bincount(group))[group]
    return float(inside @ flags), float(inside @ inside)
