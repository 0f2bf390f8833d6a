"""The handoffs to expect of n and k along responses that the leader wrote alone, before anything is run with a draft.

Knows hit flags and sentences; where a sentence is handed over it asks the decoder's flow (method/flows.py). That the
draft would write as many tokens as the leader wrote there is an assumption, not a measurement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...config import Method
from ...method.flows import lead
from ...method.requests import Answer, Judge, Written
from ..statistics import Estimate
from .judging import Judgement

GRID = tuple((n, k) for n in (0, 5, 15, 25) for k in (1, 3, 5))
_GOES_ON, _ENDS = Written(ends_sentence=False), Written(ends_sentence=True)
Share = Callable[[list[int], list[int]], Estimate]


@dataclass(frozen=True)
class Handoffs:
    """Where sentences would be handed over with these n and k, if the leader led all of them.

    p: the chance that the leader leads a sentence; for `expected` only
    n_sentences: all of them
    at: the leader's tokens of a sentence, from 1, after which any are handed over
    counts: how many sentences are handed over after each of `at`
    handed: the share of sentences that are handed over
    written: the share of all tokens that the draft would write
    expected: the same where the leader leads a sentence with chance p, and the draft writes the others whole
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
        """The median of the tokens after which sentences are handed over; nan if none is."""
        return float(np.median(np.repeat(self.at, self.counts))) if self.at else math.nan

    def handed_by(self, token: int) -> float:
        """The share of sentences that are handed over after this token at the latest."""
        n_handed = sum(n for at, n in zip(self.at, self.counts, strict=True) if at <= token)
        return n_handed / self.n_sentences if self.n_sentences else math.nan


def handoff(hits: Sequence[bool], method: Method) -> int | None:
    """The leader's token (from 1) after which the decoder hands over a sentence with these hit flags; None: never.

    Runs the decoder's own flow for a led sentence, and answers its requests with what is recorded: each token is
    written, the last one ends the sentence, and a check of the last tokens gets their flags.
    """
    flow, n_written = lead(replace(method, proposals=0), method.n, method.k), 0
    answer: Answer | None = None
    try:
        while True:
            request = flow.send(answer)
            if isinstance(request, Judge):
                answer = tuple(hits[n_written - request.n_tokens : n_written])
            else:
                n_written += 1
                answer = _GOES_ON if n_written < len(hits) else _ENDS
    except StopIteration as stop:
        return None if stop.value else n_written


def foresee(judgements: Sequence[Judgement], method: Method, share: Share) -> Handoffs:
    """Where every sentence would be handed over if the leader led it. `share` is misalignment.Meter.share."""
    at: Counter[int] = Counter()
    handed, n_sentences, written, sizes = [], [], [], []
    for judgement in judgements:
        hits = judgement.agrees if method.compare == "sampled" else judgement.aligned
        sentences = np.split(hits, np.flatnonzero(judgement.reading.places == 1)[1:])
        handoffs = [handoff(sentence.tolist(), method) for sentence in sentences]
        at.update(m for m in handoffs if m is not None)
        handed.append(sum(m is not None for m in handoffs))
        n_sentences.append(len(handoffs))
        written.append(sum(s.size - m for s, m in zip(sentences, handoffs, strict=True) if m is not None))
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
