"""Token choice. Knows logits and settings; the order of the filters is llama.cpp's.

penalties, top-k, top-p, min-p, temperature, draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..config import Sampling
from .vocabulary import Logits

_LEAST = float(np.finfo(np.float32).min)


def top1(logits: Logits) -> int:
    """The most likely token of logits (n_vocab,); the lowest id among equals."""
    return int(logits.argmax())


def choose(logits: Logits, settings: Sampling, recent: list[int], rng: np.random.Generator) -> int:
    """A token of logits (n_vocab,), which are left as they are; uses one random number unless greedy.

    `recent`: the ids that the repetition penalty holds down (at most the last repeat_last_n are used).
    """
    if settings.repeat_penalty != 1.0 and settings.repeat_last_n and recent:
        logits = penalised(logits, recent[-settings.repeat_last_n :], settings.repeat_penalty)
    if settings.greedy:
        return top1(logits)
    tokens, kept = filtered(logits, settings)
    weights = np.exp((kept - kept[0]) / settings.temp)
    cumulative = weights.cumsum()
    drawn = int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
    return int(tokens[min(drawn, len(tokens) - 1)])


def penalised(logits: Logits, recent: list[int], penalty: float) -> Logits:
    """Repetition penalty of CTRL (arXiv 1909.05858): positive logits divided, others multiplied.

    No logit becomes infinite: what a grammar refuses is minus infinity, and stays it.
    """
    logits = logits.copy()
    ids = np.unique(np.asarray(recent))
    ids = ids[ids < logits.size]
    values = logits[ids].astype(np.float64)
    with np.errstate(over="ignore"):
        changed = np.where(values > 0, values / penalty, values * penalty).clip(_LEAST, -_LEAST)
    logits[ids] = np.where(np.isfinite(values), changed, values)
    return logits


def filtered(logits: Logits, settings: Sampling) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Tokens that pass top-k, top-p and min-p with their logits, the most likely first."""
    n_vocab = logits.size
    maximum = float(logits.max())
    total = 0.0  # sum of exp(logit - maximum) over what top-k leaves
    if 0 < settings.top_k < n_vocab:
        threshold = float(np.partition(logits, n_vocab - settings.top_k)[n_vocab - settings.top_k])
    elif settings.top_p < 1.0:
        # Sorting a whole vocabulary would cost milliseconds. Tokens less likely than (1 - top_p) / n_vocab
        # add up to less than 1 - top_p, so the nucleus needs none of them.
        total = float(np.exp(logits - maximum).sum(dtype=np.float64))
        threshold = maximum + min(0.0, float(np.log((1.0 - settings.top_p) / n_vocab * total)))
    else:
        threshold = -np.inf
    tokens = np.flatnonzero(logits >= max(threshold, _LEAST))  # minus infinity is no token at all
    kept = logits[tokens].astype(np.float64)
    order = np.lexsort((tokens, -kept))
    tokens, kept = tokens[order], kept[order]
    if settings.top_k:
        tokens, kept = tokens[: settings.top_k], kept[: settings.top_k]
    if settings.top_p < 1.0:
        cumulative = np.exp(kept - maximum).cumsum()
        nucleus = settings.top_p * (total or cumulative[-1])
        n_kept = min(int(cumulative.searchsorted(nucleus)) + 1, tokens.size)
        tokens, kept = tokens[:n_kept], kept[:n_kept]
    if settings.min_p > 0.0:
        passing = kept >= maximum + np.log(settings.min_p)
        tokens, kept = tokens[passing], kept[passing]
    return tokens, kept
