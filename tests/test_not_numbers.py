"""Logits that are no numbers: one response fails, its neighbours are what they would have been."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import DRAFT, ID, LEADER, N_VOCAB, FakePair
from runs import AHEAD, SETTINGS, assert_empty_when_closed, new_sequence, outcome, prompt_of, run_all

from foreal_local.errors import ModelFileError
from foreal_local.method.modes import roles_of
from foreal_local.method.opinion import Opinion
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason

BAD = ID[b" e.g"]
"""A word that models write now and then, and that no prompt has unless it is put there."""


def pair_with_nan(role: Role, **options: Any) -> FakePair:
    pair = FakePair(truncation="remove", **options)
    pair.models[role].nan_tokens = frozenset({BAD})
    return pair


def batch(settings: dict[str, Any], n: int = 9) -> list[Sequence]:
    """Every fourth has the word in its prompt."""
    return [
        new_sequence(i, seed=i % 4, prompt=[*prompt_of(i), BAD, 5] if i % 4 == 1 else prompt_of(i), **settings)
        for i in range(n)
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.nan])
def test_one_value_among_the_logits_that_is_no_number_is_seen(value: float) -> None:
    """Guards logits that nobody looks at."""
    for place in (0, 7, N_VOCAB - 1):
        logits = np.linspace(-3, 3, N_VOCAB).astype(np.float32)
        assert Opinion(LEADER, 1, logits).is_of_numbers
        logits[place] = value
        assert not Opinion(LEADER, 1, logits).is_of_numbers
    assert not Opinion(LEADER, 1, np.full(N_VOCAB, -np.inf, np.float32)).is_of_numbers
    hidden = np.where(np.arange(N_VOCAB) < 5, -np.inf, 1.0).astype(np.float32)
    assert Opinion(LEADER, 1, hidden).is_of_numbers, "tokens that can never come are no fault"


@pytest.mark.parametrize("role", [LEADER, DRAFT])
@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_a_response_without_numbers_fails_alone(settings: dict[str, Any], role: Role) -> None:
    """Guards NaN that spreads in the cache: to those evaluated beside it, and to the next in its slot."""
    alone = batch(settings)
    run_all(pair_with_nan(role, n_slots=1).scheduler(), alone)
    failed = [sequence for sequence in alone if sequence.finish_reason is FinishReason.ERROR]
    assert all(f"the {role} gives no numbers" in (sequence.error or "") for sequence in failed)
    assert all(BAD in sequence.views[role].ids for sequence in failed)
    asked = any(sequence.cost[role].calls for sequence in alone)
    assert bool(failed) == asked
    for n_slots, n_batch in ((3, 7), (9, 512)):
        pair = pair_with_nan(role, n_slots=n_slots, n_batch=n_batch)
        together, scheduler = batch(settings), pair.scheduler()
        run_all(scheduler, together)
        for one, other in zip(alone, together, strict=True):
            # What is read ahead, and may fall before the word, differs with the evaluations.
            is_same = outcome(one) == outcome(other)
            assert is_same or (one.rewrites and BAD in one.views[role].ids and BAD in other.views[role].ids)
        assert_empty_when_closed(scheduler, pair)
    healthy = [sequence for sequence in alone if BAD not in sequence.views[next(iter(sequence.views))].ids]
    again = [new_sequence(s.index, seed=s.index % 4, prompt=prompt_of(s.index), **settings) for s in healthy]
    run_all(FakePair(n_slots=1, truncation="remove").scheduler(), again)
    assert [outcome(sequence) for sequence in again] == [outcome(sequence) for sequence in healthy]


@pytest.mark.parametrize("mode", ["leader", "draft", "foreal", "speculative"])
def test_a_model_that_never_gives_numbers_ends_the_run_at_once(mode: str) -> None:
    """Guards a damaged model that fails prompt after prompt."""
    role = roles_of(mode)[-1]
    pair = FakePair(truncation="remove")
    pair.models[role].nan_tokens = frozenset(range(N_VOCAB))
    settings: dict[str, Any] = {"mode": mode, "proposals": 4, "gate": "never" if mode == "foreal" else "random"}
    with pytest.raises(ModelFileError, match=rf"the {role} gives no numbers .* whatever it reads: a damaged file"):
        run_all(pair.scheduler(), [new_sequence(i, **settings) for i in range(3)])


def test_proposals_that_give_no_numbers_cost_nothing_but_time() -> None:
    """Guards a response that fails for a token that was only proposed."""
    settings: dict[str, Any] = {"mode": "speculative", "proposals": 4}
    for index in range(40):
        plain, other = new_sequence(index, **settings), new_sequence(index, **settings)
        run_all(FakePair(n_slots=1, truncation="remove", agreement=0.5).scheduler(), [plain])
        pair = pair_with_nan(LEADER, n_slots=1, agreement=0.5)
        run_all(pair.scheduler(), [other])
        if BAD not in plain.views[LEADER].ids and pair.models[LEADER].n_cleared:
            assert outcome(other) == outcome(plain)
            return
    raise AssertionError("nothing was tried")
