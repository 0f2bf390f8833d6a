"""Token choice, against the definitions written out slowly in reference.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from reference import slow_choice

from foreal_local.config import Sampling
from foreal_local.method.sampling import choose, filtered, penalised, top1

Floats = npt.NDArray[np.float32]


def logits_of(seed: int, n_vocab: int = 60) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=n_vocab) * rng.choice([0.1, 1, 4])).astype(np.float32)


def probabilities(values: list[float]) -> Floats:
    """Logits whose probabilities are these."""
    return np.log(np.array(values, np.float32))


SETTINGS = [
    Sampling(),
    Sampling(0.0),
    Sampling(1.0, top_p=1.0),
    Sampling(1.3, top_k=5, top_p=1.0),
    Sampling(0.8, top_k=1),
    Sampling(0.8, top_k=60, top_p=0.5),
    Sampling(0.8, top_k=1000, top_p=0.8),
    Sampling(1.0, top_p=1e-6),
    Sampling(2.0, top_p=0.999),
    Sampling(1.0, top_p=1.0, min_p=0.2),
    Sampling(1.0, top_k=20, top_p=0.9, min_p=0.05),
    Sampling(1.0, top_p=1.0, min_p=1.0),
    Sampling(0.7, repeat_penalty=1.4, repeat_last_n=6),
    Sampling(0.0, repeat_penalty=3.0, repeat_last_n=6),
    Sampling(0.9, repeat_penalty=0.5, repeat_last_n=0),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_slow_definition(settings: Sampling) -> None:
    """Guards filters in the wrong order, a nucleus too small or too large, a draw from the wrong end."""
    rng, slow_rng = np.random.default_rng(5), np.random.default_rng(5)
    for seed in range(150):
        logits = logits_of(seed)
        recent = [int(x) for x in np.random.default_rng(seed).integers(0, 60, size=seed % 12)]
        assert choose(logits, settings, recent, rng) == slow_choice(logits, settings, recent, slow_rng)


def test_the_logits_are_left_as_they_are() -> None:
    """Guards a view into the model's memory that is changed: later checks would read it."""
    for settings in SETTINGS:
        logits = logits_of(1)
        logits.setflags(write=False)
        before = logits.copy()
        choose(logits, settings, [1, 2, 3], np.random.default_rng(0))
        assert (logits == before).all()


def test_one_random_number_for_a_token_and_none_when_greedy() -> None:
    """Guards streams that drift apart: restarts and neighbours count on one number a token."""
    for settings in SETTINGS:
        rng, twin = np.random.default_rng(3), np.random.default_rng(3)
        choose(logits_of(2), settings, [1], rng)
        if not settings.greedy:
            twin.random()
        assert rng.random() == twin.random()


@pytest.mark.parametrize(
    "settings", [Sampling(1.0, top_p=1.0), Sampling(0.6), Sampling(1.2, top_k=4, min_p=0.1)], ids=str
)
def test_the_draws_follow_the_distribution(settings: Sampling) -> None:
    """Guards a biased draw: chi-square over 20,000 tokens, its 0.1 % point."""
    logits = probabilities([0.02, 0.3, 0.05, 0.2, 0.03, 0.4])
    rng = np.random.default_rng(8)
    drawn = np.bincount([choose(logits, settings, [], rng) for _ in range(20_000)], minlength=6)
    tokens, kept = filtered(logits, settings)
    weights = np.exp(kept.astype(float) / settings.temp)
    expected = np.zeros(6)
    expected[tokens] = 20_000 * weights / weights.sum()
    assert drawn[expected == 0].sum() == 0
    used = expected > 0
    chi_square = float(((drawn[used] - expected[used]) ** 2 / expected[used]).sum())
    assert chi_square < {2: 13.8, 3: 16.3, 4: 18.5, 5: 20.5}[int(used.sum()) - 1]


# ---------------------------------------------------------------- edges
def test_among_equals_the_lowest_id_is_first() -> None:
    """Guards results that hang on the sorting algorithm."""
    flat = np.zeros(8, np.float32)
    assert top1(flat) == 0
    assert choose(flat, Sampling(0.0), [], np.random.default_rng(0)) == 0
    for settings in (Sampling(1.0, top_k=3, top_p=1.0), Sampling(1.0, top_p=0.37), Sampling(1.0, top_k=3)):
        assert filtered(flat, settings)[0].tolist() == [0, 1, 2]
    tied = np.array([1, 5, 2, 5, 5, 0], np.float32)
    assert top1(tied) == 1
    assert filtered(tied, Sampling(1.0, top_k=2, top_p=1.0))[0].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (Sampling(1.0, top_p=0.49), [1]),
        (Sampling(1.0, top_p=0.51), [1, 3]),
        (Sampling(1.0, top_p=0.81), [1, 3, 0]),
        (Sampling(1.0, top_p=0.99), [1, 3, 0, 2]),
        (Sampling(1.0, top_p=1.0), [1, 3, 0, 2]),
        (Sampling(1.0, top_k=1, top_p=1.0), [1]),
        (Sampling(1.0, top_k=4, top_p=1.0), [1, 3, 0, 2]),
        (Sampling(1.0, top_k=99, top_p=1.0), [1, 3, 0, 2]),
        (Sampling(1.0, top_k=2, top_p=0.6), [1]),  # of what top-k left, token 1 has 0.625
        (Sampling(1.0, top_k=2, top_p=0.64), [1, 3]),
        (Sampling(1.0, top_p=1.0, min_p=0.59), [1, 3]),
        (Sampling(1.0, top_p=1.0, min_p=0.61), [1]),
        (Sampling(1.0, top_p=1.0, min_p=1.0), [1]),
    ],
    ids=str,
)
def test_what_the_filters_leave(settings: Sampling, kept: list[int]) -> None:
    """Guards the edges: the token that crosses top_p stays, top-p is of what top-k left, min-p is of the best."""
    assert filtered(probabilities([0.15, 0.5, 0.05, 0.3]), settings)[0].tolist() == kept


def test_temperature_comes_after_the_filters() -> None:
    """Guards a temperature that widens the nucleus (llama.cpp's order)."""
    logits = probabilities([0.6, 0.3, 0.1])
    assert filtered(logits, Sampling(0.1, top_p=0.7))[0].tolist() == [0, 1]
    assert filtered(logits, Sampling(9.0, top_p=0.7))[0].tolist() == [0, 1]


def test_masked_tokens_are_never_drawn() -> None:
    logits = np.full(50, -np.inf, np.float32)
    logits[[7, 9]] = 0.0
    rng = np.random.default_rng(1)
    for settings in (Sampling(1.0, top_p=1.0), Sampling(5.0), Sampling(1.0, top_k=10, top_p=1.0)):
        assert {choose(logits, settings, [], rng) for _ in range(200)} == {7, 9}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e30])
def test_any_scale_of_logits(scale: float) -> None:
    """Guards overflow: exp of large logits, and differences divided by a tiny temperature."""
    logits = (logits_of(3) * scale).astype(np.float32)
    for temp in (1e-3, 0.6, 50.0):
        token = choose(logits, Sampling(temp), [], np.random.default_rng(0))
        assert 0 <= token < logits.size
        if temp * 100 < scale:
            assert token == top1(logits)


def test_penalties_hold_repeated_tokens_down_whatever_their_sign() -> None:
    """Guards a division that lifts negative logits; each token once, however often it was written."""
    logits = np.array([2.0, -2.0, 0.0, 1.0], np.float32)
    assert penalised(logits, [0, 1, 1, 1, 2], 2.0).tolist() == [1.0, -4.0, 0.0, 1.0]
    assert penalised(logits, [0, 99], 2.0).tolist() == [1.0, -2.0, 0.0, 1.0]  # an id the model has no logit for
    assert choose(logits, Sampling(0.0, repeat_penalty=3.0), [0], np.random.default_rng(0)) == 3


def test_only_the_last_tokens_are_penalised() -> None:
    logits = np.array([2.0, 1.5, 1.0], np.float32)
    settings = Sampling(0.0, repeat_penalty=4.0, repeat_last_n=1)
    assert choose(logits, settings, [0, 1], np.random.default_rng(0)) == 0
    assert choose(logits, Sampling(0.0, repeat_penalty=4.0, repeat_last_n=2), [0, 1], np.random.default_rng(0)) == 2


def test_a_large_vocabulary_loses_nothing_of_the_nucleus() -> None:
    """Guards the shortcut that leaves out unlikely tokens before sorting."""
    rng = np.random.default_rng(2)
    for flat in (0.01, 1.0, 3.0):
        logits = (rng.normal(size=20_000) * flat).astype(np.float32)
        for top_p in (0.05, 0.95, 0.9999):
            order = np.argsort(-logits.astype(float), kind="stable")
            chances = np.exp(logits[order].astype(float) - float(logits.max()))
            mass = np.cumsum(chances) / chances.sum()
            n_kept = len(filtered(logits, Sampling(1.0, top_p=top_p))[0])
            assert abs(n_kept - (int(np.searchsorted(mass, top_p)) + 1)) <= 1
            assert filtered(logits, Sampling(1.0, top_p=top_p))[0].tolist() == order[:n_kept].tolist()


@pytest.mark.parametrize("penalty", [1e-300, 1e6, 1e300])
def test_a_penalty_makes_no_logit_infinite(penalty: float) -> None:
    """Guards an answer that fails because no token is left of those that a grammar lets come."""
    logits = np.array([-1e35, 1e35, -np.inf, 5.0], dtype=np.float32)
    changed = penalised(logits, [0, 1, 2], penalty)
    assert np.isfinite(changed).tolist() == [True, True, False, True]
    only = np.array([-np.inf, -3e38, -np.inf, -np.inf], dtype=np.float32)
    assert choose(only, Sampling(0.8, repeat_penalty=1e6), [1], np.random.default_rng(0)) == 1
