"""What review with rule `ratio` would rewrite along responses that the leader wrote alone, before anything is reviewed.

Knows the leader's relative probabilities of the draft's top-1, and sentences. Every position is one of the leader's own
text, as if the draft were always put back on the leader's path. In a run only refused tokens put it back; after an
accepted one the text may be another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...method.plan import FEWEST_OWN
from ..statistics import Estimate
from .judging import Judgement

TAUS = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
Quotient = Callable[[list[int], list[int]], Estimate]


@dataclass(frozen=True)
class Rewrites:
    """What the leader would refuse with this tau, if the draft wrote all sentences.

    refused: the share of positions at which p(draft's top-1) < tau * max p, p being the leader's (method/rules.py)
    sentences: the share of sentences that have at least one such position
    calls: evaluations by the leader for each token, where it reads ahead: one for FEWEST_OWN tokens, or for those up to
        the next that it refuses, which is all with rewrite_n = rewrite_k = 0
    calls_by_sentence: the same with proposals = 0: of each sentence one, and one more for each token that it refuses.
        A run needs none after a sentence's refused last token, and more in a sentence of more than review_every tokens
    """

    tau: float
    refused: Estimate
    sentences: Estimate
    calls: Estimate
    calls_by_sentence: Estimate


def foretell(judgements: Sequence[Judgement], tau: float, share: Quotient, ratio: Quotient) -> Rewrites:
    """What would be rewritten with this tau. `share`, `ratio`: of sums over responses (misalignment.Meter)."""
    n_tokens, n_refused, n_sentences, n_rewritten, n_ahead = [], [], [], [], []
    for judgement in judgements:
        refused = judgement.relative < tau
        numbers = np.array(judgement.reading.sentences, np.int64)
        n_tokens.append(refused.size)
        n_refused.append(int(refused.sum()))
        n_sentences.append(int(numbers[-1]) + 1)
        n_rewritten.append(int(np.unique(numbers[refused]).size))
        n_ahead.append(_n_calls(refused.tolist()))
    n_calls = [reviews + rewrites for reviews, rewrites in zip(n_sentences, n_refused, strict=True)]
    return Rewrites(
        tau,
        refused=share(n_refused, n_tokens),
        sentences=share(n_rewritten, n_sentences),
        calls=ratio(n_ahead, n_tokens),
        calls_by_sentence=ratio(n_calls, n_tokens),
    )


def _n_calls(refused: list[bool]) -> int:
    """Evaluations along a response where each reads so many tokens ahead, and the next begins behind a refused one."""
    n_calls = at = 0
    while at < len(refused):
        read = refused[at : at + FEWEST_OWN]
        at += read.index(True) + 1 if True in read else FEWEST_OWN
        n_calls += 1
    return n_calls
