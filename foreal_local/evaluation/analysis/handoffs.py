"""What n and k would do along responses that the leader wrote alone: the gain to expect before running anything.

Knows hit flags, sentences and the handoff rule of method.md; that what the draft would write there is as long as
what the leader wrote is an assumption, not a measurement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...config import HitsFrom, Method
from ..statistics import Estimate
from .judging import Judgement

GRID = tuple((n, k) for n in (0, 5, 15, 25) for k in (1, 3, 5))
Share = Callable[[list[int], list[int]], Estimate]


@dataclass(frozen=True)
class Handoffs:
    """What n and k would do in sentences all led: counts[i] of them are handed over after the leader's token at[i].

    `handed`: their share; `written`: the share of all tokens that the draft would write then; `expected`: the same
    where the leader leads a sentence with chance p, and the draft writes the others whole.
    """

    n: int
    k: int
    p: float
    n_sentences: int
    at: list[int]
    counts: list[int]
    handed: Estimate
    written: Estimate
    expected: Estimate

    @property
    def median(self) -> float:
        """The token after which the middle one of the handed-over sentences is; nan without any."""
        return float(np.median(np.repeat(self.at, self.counts))) if self.at else math.nan

    def handed_by(self, token: int) -> float:
        """The share of sentences that are handed over after this token at the latest."""
        n_handed = sum(n for at, n in zip(self.at, self.counts, strict=True) if at <= token)
        return n_handed / self.n_sentences if self.n_sentences else math.nan


def handoff(hits: Sequence[bool], n: int, k: int, hits_from: HitsFrom = "lead") -> int | None:
    """The leader's token (from 1) after which a sentence with these flags is handed over; None: never.

    The first m > n whose trailing run of hits, counted from token n + 1 (or from the sentence's start), is k or
    longer, as decode.lead counts. After the sentence's last token there is nothing left to hand over.
    """
    run, counted_from = 0, n + 1 if hits_from == "lead" else 1
    for m, hit in enumerate(hits[:-1], 1):
        if m >= counted_from:
            run = run + 1 if hit else 0
        if m > n and run >= k:
            return m
    return None


def foresee(judgements: Sequence[Judgement], method: Method, share: Share) -> Handoffs:
    """Where every sentence would be handed over if the leader led it. `share` is Meter.share."""
    at: Counter[int] = Counter()
    handed, n_sentences, written, sizes = [], [], [], []
    for one in judgements:
        hits = one.agrees if method.compare == "sampled" else one.aligned
        sentences = np.split(hits, np.flatnonzero(one.reading.places == 1)[1:])
        found = [handoff(sentence.tolist(), method.n, method.k, method.hits_from) for sentence in sentences]
        at.update(m for m in found if m is not None)
        handed.append(sum(m is not None for m in found))
        n_sentences.append(len(found))
        written.append(sum(s.size - m for s, m in zip(sentences, found, strict=True) if m is not None))
        sizes.append(hits.size)
    tokens, draft = sorted(at), share(written, sizes)
    return Handoffs(
        n=method.n,
        k=method.k,
        p=method.p,
        n_sentences=sum(n_sentences),
        at=tokens,
        counts=[at[token] for token in tokens],
        handed=share(handed, n_sentences),
        written=draft,
        expected=Estimate(*(1 - method.p * (1 - value) for value in (draft.value, draft.low, draft.high))),
    )
