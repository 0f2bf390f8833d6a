"""Log-probabilities of what was written and of what was asked: whatever the mode and the memories, each is what its
model held at that place, and asking for them changes nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import DRAFT, LEADER, FakePair
from runs import AHEAD, SETTINGS, new_sequence, outcome, run_all

from foreal_local.method.opinion import Opinion
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import Likelihood
from foreal_local.storage.saved_sequence import as_dict, from_dict

N_TOP = 3


def asking(sequence: Sequence, **names: int) -> Sequence:
    sequence.settings = replace(sequence.settings, **names)  # type: ignore[arg-type]
    return sequence


def log_softmax(pair: FakePair, role: Role, ids: list[int]) -> np.ndarray[Any, Any]:
    logits = pair.models[role].logits(ids).astype(np.float64)
    return np.asarray(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())


def is_of(likelihood: Likelihood | None, expected: np.ndarray[Any, Any], token: int) -> bool:
    """Whether it is what a distribution says of a token and of its best."""
    if likelihood is None or len(likelihood.top) != N_TOP:
        return False
    best = sorted(range(expected.size), key=lambda each: (-expected[each], each))[:N_TOP]
    same = all(abs(logprob - expected[each]) < 1e-4 for each, logprob in likelihood.top)
    return same and [each for each, _ in likelihood.top] == best and abs(likelihood.logprob - expected[token]) < 1e-4


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize("truncation", ["remove", "clear", "refuse"])
@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_each_token_has_its_authors_and_nothing_else_changes(settings: dict[str, Any], truncation: str) -> None:
    """Guards another place's logits, another model's, logits after filters or a grammar, and none at all where a token
    was known before it was asked for; and another text because somebody wants to know."""
    if truncation == "refuse" and settings in AHEAD:
        return  # tokens are taken back there, whoever asks
    different = truncation == "remove"
    pair = FakePair(truncation=truncation, different=different)
    plain = [new_sequence(i, seed=i, **settings) for i in range(5)]
    asked = [asking(new_sequence(i, seed=i, **settings), logprobs=N_TOP) for i in range(5)]
    run_all(FakePair(truncation="remove", different=different).scheduler(), plain)
    run_all(pair.scheduler(), asked)
    for sequence, other in zip(asked, plain, strict=True):
        assert outcome(sequence) == outcome(other)
        assert all(token.likelihood is None for token in other.tokens)
        for i, token in enumerate(sequence.tokens):
            view = sequence.views[token.author]
            if token.inserted:
                assert token.likelihood is None
            else:
                expected = log_softmax(pair, token.author, view.ids[: view.starts[i]])
                assert is_of(token.likelihood, expected, token.id), (i, token)


def test_they_outlast_a_restart() -> None:
    """Guards likelihoods that a checkpoint forgets, of tokens and of one that is held back."""
    settings: dict[str, Any] = {"n": 2, "k": 1, "p": 0.6, "temp": 0.6}
    whole = asking(new_sequence(3, **settings), logprobs=N_TOP, prompt_logprobs=N_TOP)
    run_all(FakePair().scheduler(), [whole])
    sequence = asking(new_sequence(3, **settings), logprobs=N_TOP, prompt_logprobs=N_TOP)
    while not sequence.finished:
        scheduler = FakePair().scheduler()
        scheduler.add(sequence)
        for _ in range(5):
            scheduler.step()
        scheduler.withdraw(sequence)
        sequence = from_dict(json.loads(json.dumps(as_dict(sequence))))
    assert outcome(sequence) == outcome(whole)
    assert [token.likelihood for token in sequence.tokens] == [token.likelihood for token in whole.tokens]
    assert sequence.prompt_likelihoods == whole.prompt_likelihoods


# ---------------------------------------------------------------- what was asked
@pytest.mark.parametrize("mode", ["leader", "draft", "foreal", "speculative", "cue"])
@pytest.mark.parametrize("bite", [1, 4, 512])
@pytest.mark.parametrize("n_batch", [3, 32])
@pytest.mark.parametrize("truncation", ["remove", "clear"])
def test_a_prompts_tokens_have_theirs(mode: str, bite: int, n_batch: int, truncation: str) -> None:
    """Guards places that a cache, a batch or a bite passes over, and prompts of one token; neighbours ask for none."""
    pair = FakePair(n_slots=3, n_batch=n_batch, truncation=truncation)
    scheduler = pair.scheduler()
    prompts = [[5], [3, 4], [2 + i % 13 for i in range(41)], [2 + i % 13 for i in range(41)], [7, 8, 9] * 5]
    sequences = [new_sequence(i, mode=mode, prompt=prompt, max_tokens=12) for i, prompt in enumerate(prompts)]
    alone = [new_sequence(i, mode=mode, prompt=prompt, max_tokens=12) for i, prompt in enumerate(prompts)]
    for i, sequence in enumerate(sequences):
        asking(sequence, **({"prompt_logprobs": N_TOP} if i != 3 else {}))
        scheduler.add(sequence, bite=bite, reuse=True, reads={role: len(prompts[i]) - 1 for role in sequence.views})
    while not scheduler.idle:
        scheduler.step()
        scheduler.check()
    run_all(FakePair(truncation="remove").scheduler(), alone)
    reader = LEADER if LEADER in sequences[0].views else DRAFT
    for i, sequence in enumerate(sequences):
        assert outcome(sequence) == outcome(alone[i])
        found = sequence.prompt_likelihoods
        assert len(found) == (len(prompts[i]) - 1 if i != 3 else 0)
        for at, likelihood in enumerate(found, 1):
            assert is_of(likelihood, log_softmax(pair, reader, prompts[i][:at]), prompts[i][at])


def test_opinions_tell_likelihoods() -> None:
    """Guards an order by id, equals in any order, and a wish for more than there are."""
    logits = np.array([0.0, 2.0, 1.0, 2.0], np.float32)
    found = Opinion(LEADER, 1, logits).likelihood(2, 9)
    assert [token for token, _ in found.top] == [1, 3, 2, 0]
    assert sum(np.exp(logprob) for _, logprob in found.top) == pytest.approx(1.0)
    assert found.logprob == pytest.approx(1.0 - np.log(np.exp(logits).sum()))
    assert Opinion(LEADER, 1, logits).likelihood(0, 0).top == ()
