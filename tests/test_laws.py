"""The three laws of the scheduler: batched equals alone, restarted equals uninterrupted, stopped frees every slot.

And what follows from the method: leading always is leader mode, never is draft mode, a perfect draft costs no
quality.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from fakes import DRAFT, LEADER, FakePair
from runs import AHEAD, SETTINGS, new_sequence, outcome, run_all

from foreal_local.method.roles import Role
from foreal_local.method.sentences import Verdict
from foreal_local.method.sequence import Sequence
from foreal_local.storage.saved_sequence import as_dict, from_dict


def batch(settings: dict[str, Any], n: int = 9) -> list[Sequence]:
    return [new_sequence(i, seed=i % 4, **settings) for i in range(n)]


# ---------------------------------------------------------------- first law
@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_batched_equals_alone(settings: dict[str, Any], different: bool) -> None:
    """Guards a neighbour's logits, position, random numbers or judgements taken for one's own."""
    outcomes = []
    for n_slots, n_batch in ((1, 512), (2, 7), (4, 1), (8, 32)):
        pair = FakePair(n_slots=n_slots, n_batch=n_batch, truncation="remove", different=different)
        sequences = batch(settings)
        run_all(pair.scheduler(), sequences)
        outcomes.append([outcome(sequence) for sequence in sequences])
    alone, *others = outcomes
    for other in others:
        assert other == alone


def test_neighbours_with_other_settings_change_nothing() -> None:
    """Guards state shared between sequences: all settings side by side, in an order of their own."""
    every = [*SETTINGS, *AHEAD]
    mixed = [new_sequence(i, seed=5, **every[i % len(every)]) for i in range(30)]
    shuffled = copy.deepcopy(mixed)
    random.Random(2).shuffle(shuffled)
    run_all(FakePair(n_slots=1, truncation="remove").scheduler(), mixed)
    run_all(FakePair(n_slots=7, truncation="remove").scheduler(), shuffled)
    found = {sequence.id: outcome(sequence) for sequence in shuffled}
    assert found == {sequence.id: outcome(sequence) for sequence in mixed}


def test_the_same_seed_and_index_draw_the_same_and_others_differ() -> None:
    """Guards seeds that are ignored: prompts are equal here, so only the draws can differ."""
    keys = [(1, 0), (1, 0), (2, 0), (1, 1)]
    sequences = [new_sequence(index, seed=seed, prompt=[2, 3], temp=1.0) for seed, index in keys]
    for name, sequence in enumerate(sequences):
        sequence.id = str(name)
    run_all(FakePair(truncation="remove").scheduler(), sequences)
    first, again, other_seed, other_index = (outcome(sequence)["tokens"] for sequence in sequences)
    assert first == again
    assert len({str(tokens) for tokens in (first, other_seed, other_index)}) == 3


# ---------------------------------------------------------------- second law
def save_points(sequence: Sequence, pair: FakePair) -> list[Sequence]:
    """Copies of the sequence at every sentence end, while it runs to its end."""
    scheduler = pair.scheduler()
    scheduler.add(sequence)
    copies = []
    while not scheduler.idle:
        scheduler.step()
        if sequence.verdict is Verdict.END and not sequence.finished:
            copies.append(copy.deepcopy(sequence))
    return copies


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_restarted_at_a_sentence_end_equals_uninterrupted(settings: dict[str, Any]) -> None:
    """Guards lasting state kept in a flow, a job or a cache: counters, the peeked token, random state."""
    n_restarts = 0
    for index in range(4):
        sequence = new_sequence(index, seed=3, **settings)
        different = bool(index % 2)
        for saved in save_points(sequence, FakePair(n_slots=1, truncation="remove", different=different)):
            run_all(FakePair(n_slots=2, truncation="remove", different=different).scheduler(), [saved])
            assert outcome(saved) == outcome(sequence)
            n_restarts += 1
    assert n_restarts > 4


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_stopped_anywhere_and_restored_equals_uninterrupted(settings: dict[str, Any], truncation: str) -> None:
    """Guards a flow that does not find its place inside a sentence, and saved states of another moment."""
    rng, n_inside = random.Random(str(settings)), 0
    for index in range(3):
        options: dict[str, Any] = {"truncation": truncation, "different": bool(index % 2)}
        sequence, scheduler = new_sequence(index, seed=3, **settings), FakePair(n_slots=1, **options).scheduler()
        scheduler.add(sequence)
        points = []
        while not scheduler.idle:
            scheduler.step()
            if not sequence.finished:
                points.append((json.dumps(as_dict(sequence)), scheduler.save(sequence)))
        for values, states in rng.sample(points, min(8, len(points))):
            saved, again = (from_dict(json.loads(values)) for _ in range(2))
            assert json.dumps(as_dict(saved)) == values
            n_inside += bool(saved.open_tokens())
            pair = FakePair(n_slots=2, **options)
            run_all(pair.scheduler(), [again])
            assert outcome(again) == outcome(sequence)
            restored = pair.scheduler()
            restored.add(saved, states)
            while not restored.idle:
                restored.step()
                restored.check()
            assert outcome(saved) == outcome(sequence)
    assert n_inside > 6 or settings.get("n") == 0


def test_a_restored_state_is_not_evaluated_again() -> None:
    """Guards states that are saved and then ignored: each model goes on after what it had evaluated."""
    first, second = FakePair(n_slots=1), FakePair(n_slots=3)
    sequence = new_sequence(2, n=3, k=1, p=0.8)
    scheduler = first.scheduler()
    scheduler.add(sequence)
    while len(sequence.tokens) < 40:
        scheduler.step()
    states, saved = scheduler.save(sequence), copy.deepcopy(sequence)
    assert saved.seconds > 0
    scheduler = second.scheduler()
    scheduler.add(saved, states)
    while not scheduler.idle:
        scheduler.step()
        scheduler.check()
    going_on = {role: model.records[0][0].before for role, model in second.models.items() if model.records}
    assert going_on
    assert going_on == {role: states[role].n_tokens for role in going_on}


def test_a_state_that_a_model_refuses_costs_time_only() -> None:
    """Guards a sequence that fails, or goes on from nothing, because its saved state cannot be put back."""
    pair = FakePair(n_slots=1)
    sequence = new_sequence(1)
    scheduler = pair.scheduler()
    scheduler.add(sequence)
    while len(sequence.tokens) < 30:
        scheduler.step()
    saved, states = copy.deepcopy(sequence), scheduler.save(sequence)
    while not scheduler.idle:
        scheduler.step()
    other = FakePair(n_slots=1)
    other.models[LEADER].refuses_states = True
    scheduler = other.scheduler()
    scheduler.add(saved, states)
    while not scheduler.idle:
        scheduler.step()
    assert outcome(saved) == outcome(sequence)
    assert other.models[LEADER].records[0][0].before == 0
    assert other.models[DRAFT].records[0][0].before == states[DRAFT].n_tokens


def test_a_peeked_token_is_kept_over_a_restart() -> None:
    """Guards a second draw for a token that had been drawn: there must be such save points."""
    copies = [
        saved for i in range(6) for saved in save_points(new_sequence(i, temp=1.0), FakePair(truncation="remove"))
    ]
    assert any(saved.peek is not None for saved in copies)
    assert any(saved.peek is None for saved in copies)


def test_seconds_of_a_saved_copy_are_what_had_passed() -> None:
    """Guards a clock reading left in `seconds` while the sequence is in a slot: the copy's time made no sense."""
    sequence = new_sequence(1)
    for saved in save_points(sequence, FakePair(truncation="remove")):
        assert 0 <= saved.seconds < 60
        run_all(FakePair(truncation="remove").scheduler(), [saved])
        assert 0 <= saved.seconds < 60
    assert 0 < sequence.seconds < 60


# ---------------------------------------------------------------- third law
def test_closing_early_frees_every_slot() -> None:
    """Guards a slot that stays taken or a cache that stays full when generation is stopped at any step."""
    expected = {s.id: s for s in batch(SETTINGS[1], 8)}
    run_all(FakePair(n_slots=3, truncation="remove").scheduler(), expected.values())
    for n_steps in [*range(12), 25, 50, 75, 100]:
        pair = FakePair(n_slots=3, truncation="remove")
        scheduler, sequences = pair.scheduler(), batch(SETTINGS[1], 8)
        for sequence in sequences:
            scheduler.add(sequence)
        for _ in range(n_steps):
            scheduler.step()
        scheduler.close()
        scheduler.check()
        assert scheduler.idle
        assert pair.n_held == 0
        for sequence in sequences:
            assert sequence.finished
            n_written = len(sequence.tokens)
            written = [(t.id, t.author) for t in sequence.tokens]
            assert written == [(t.id, t.author) for t in expected[sequence.id].tokens[:n_written]]
        more = new_sequence(0)
        run_all(scheduler, [more])
        assert outcome(more) == outcome(run_alone(new_sequence(0)))


def run_alone(sequence: Sequence) -> Sequence:
    run_all(FakePair(truncation="remove").scheduler(), [sequence])
    return sequence


# ---------------------------------------------------------------- what follows from the method
@pytest.mark.parametrize("temp", [0.0, 0.7])
def test_leading_always_and_without_end_is_leader_mode(temp: float) -> None:
    """Guards a gate or a check that takes from the tokens' random stream."""
    for i in range(6):
        alone = run_alone(new_sequence(i, mode="leader", temp=temp))
        foreal = run_alone(new_sequence(i, n=10**6, p=1.0, k=3, temp=temp))
        assert outcome(foreal)["tokens"] == outcome(alone)["tokens"]
        assert foreal.views[LEADER].ids == alone.views[LEADER].ids
        assert foreal.n_written(DRAFT) == 0


@pytest.mark.parametrize("temp", [0.0, 0.7])
def test_leading_never_is_draft_mode(temp: float) -> None:
    for i in range(6):
        alone = run_alone(new_sequence(i, mode="draft", temp=temp))
        foreal = run_alone(new_sequence(i, p=0.0, temp=temp))
        assert outcome(foreal)["tokens"] == outcome(alone)["tokens"]
        assert foreal.n_written(LEADER) == 0


def author_runs(sequence: Sequence) -> list[list[tuple[Role, int]]]:
    """For each sentence: authors in a row with the number of their tokens."""
    sentences = groupby(sequence.tokens, key=lambda token: token.sentence)
    return [
        [(role, len(list(run))) for role, run in groupby(token.author for token in tokens)] for _, tokens in sentences
    ]


@pytest.mark.parametrize("hits_from", ["lead", "sentence"])
@pytest.mark.parametrize(("n", "k"), [(0, 0), (0, 1), (3, 0), (3, 1), (4, 3), (2, 6)])
def test_a_perfect_draft_takes_over_exactly_when_due(n: int, k: int, hits_from: str) -> None:
    """Guards n + k off by one through the whole scheduler, and the same text as the leader's alone."""
    due = max(n + 1, n + k if hits_from == "lead" else k)
    seen: Counter[str] = Counter()
    for i in range(8):
        pair = FakePair(agreement=1.0, truncation="remove")
        sequence = new_sequence(i, n=n, k=k, hits_from=hits_from, max_tokens=120)
        run_all(pair.scheduler(), [sequence])
        alone = run_alone(new_sequence(i, mode="leader", max_tokens=120))
        assert [t.id for t in sequence.tokens] == [t.id for t in alone.tokens]
        for runs in author_runs(sequence):
            led, n_first = runs[0][0] is LEADER, runs[0][1]
            assert len(runs) <= 2
            if led and len(runs) == 2:
                assert n_first == due
                seen["handed over"] += 1
            elif led:
                assert n_first <= due
                seen["ended before"] += 1
            else:
                assert len(runs) == 1
                seen["not led"] += 1
        assert sequence.n_handoffs == sum(len(runs) == 2 for runs in author_runs(sequence))
    assert seen["handed over"] > 5
    assert set(seen) >= {"not led", "ended before"} - ({"ended before"} if due == 1 else set())


@pytest.mark.parametrize("p", [0.2, 0.6, 0.9])
def test_the_share_of_led_sentences_is_p(p: float) -> None:
    """Guards a gate that is asked too often or not for every sentence: 200 responses, within 3 sigma."""
    sequences = [new_sequence(i, seed=11, p=p, n=1, k=1, max_tokens=40) for i in range(200)]
    run_all(FakePair(n_slots=16, n_batch=256, truncation="remove").scheduler(), sequences)
    n_led, n_all = sum(s.n_led for s in sequences), sum(s.n_sentences for s in sequences)
    assert n_all > 600
    assert abs(n_led - p * n_all) < 3 * (n_all * p * (1 - p)) ** 0.5
    by_token = {(s.id, t.sentence): t.led for s in sequences for t in s.tokens}
    assert abs(sum(by_token.values()) - n_led) <= len(sequences)  # the last one may have no token yet
