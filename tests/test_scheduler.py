"""Slots, turns and batches: who gets in, who gets the turn, who fails alone, and where a response ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import DRAFT, END, LEADER, SHAPES, FakeModel, FakePair, ids_of
from runs import drawn_gates, new_sequence, outcome, run_all

from foreal_local.config import MODES
from foreal_local.errors import EvaluationError
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason
from foreal_local.runtime.model import Row
from foreal_local.runtime.scheduler import Scheduler


def alone(index: int, **settings: Any) -> dict[str, Any]:
    sequence = new_sequence(index, **settings)
    run_all(FakePair(truncation="remove").scheduler(), [sequence])
    return outcome(sequence)


# ---------------------------------------------------------------- getting in
def test_more_prompts_than_slots_all_finish() -> None:
    """Guards a queue that loses or repeats a sequence."""
    pair = FakePair(n_slots=2, truncation="remove")
    sequences = [new_sequence(i, max_tokens=20) for i in range(25)]
    scheduler = pair.scheduler()
    run_all(scheduler, sequences)
    assert [outcome(s) for s in sequences] == [alone(i, max_tokens=20) for i in range(25)]
    assert pair.n_held == 0


def test_waiting_sequences_get_in_as_soon_as_a_slot_is_free_and_in_order() -> None:
    """Guards slots that stay empty while others wait, and a queue that is a stack."""
    pair = FakePair(n_slots=2, truncation="remove")
    scheduler = pair.scheduler()
    sequences = [new_sequence(i, mode="leader", max_tokens=5, prompt=[2 + i]) for i in range(6)]
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        n_open = scheduler.n_open
        scheduler.step()
        assert len(pair.models[LEADER].records[-1]) == min(2, n_open)
    prompts = [row.tokens[0] for rows in pair.models[LEADER].records for row in rows if row.before == 0]
    assert prompts == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_prompt_that_is_too_long_or_empty_fails_alone(position: int) -> None:
    """Guards a run that ends, or a slot that is lost, with a prompt that can never run."""
    pair = FakePair(n_slots=2, n_ctx=60, truncation="remove")
    sequences = [new_sequence(i, max_tokens=10) for i in range(4)]
    long = new_sequence(50, prompt=[2] * 61)
    long_for_draft = new_sequence(51, prompt=[2] * 10, draft_prompt=[2] * 61)
    empty = new_sequence(52, prompt=[])
    run_all(pair.scheduler(), [*sequences[:position], long, long_for_draft, empty, *sequences[position:]])
    for sequence, words in ((long, ("61", "60", "leader")), (long_for_draft, ("61", "60", "draft"))):
        assert sequence.finish_reason is FinishReason.ERROR
        assert all(word in (sequence.error or "") for word in words)
        assert not sequence.tokens
    assert empty.finish_reason is FinishReason.ERROR
    assert "empty" in (empty.error or "")
    assert [outcome(s) for s in sequences] == [alone(i, max_tokens=10) for i in range(4)]


def test_a_role_that_is_not_loaded_fails_its_sequences_only() -> None:
    """Guards a KeyError for a mode whose model is missing."""
    pair = FakePair(truncation="remove")
    scheduler = Scheduler({LEADER: pair.models[LEADER]}, pair.vocabulary, SHAPES)
    refused, fine = new_sequence(0), new_sequence(1, mode="leader")
    run_all(scheduler, [refused, fine])
    assert (refused.finish_reason, refused.error) == (FinishReason.ERROR, "the draft is not loaded")
    assert outcome(fine) == alone(1, mode="leader")


def test_the_smaller_number_of_slots_counts() -> None:
    """Guards a slot id that one of the models does not have."""
    pair = FakePair(n_slots=2, truncation="remove")
    pair.models[LEADER] = FakeModel(LEADER, n_slots=5, truncation="remove")
    sequences = [new_sequence(i) for i in range(6)]
    run_all(pair.scheduler(), sequences)
    assert [outcome(s) for s in sequences] == [alone(i) for i in range(6)]


# ---------------------------------------------------------------- leaving
def test_cancelling_frees_the_slot_at_once_and_keeps_what_was_written() -> None:
    """Guards a cancelled sequence that goes on, or that waits in the queue for ever."""
    pair = FakePair(n_slots=2, truncation="remove")
    scheduler = pair.scheduler()
    running, other, waiting, next_one = (new_sequence(i, max_tokens=60) for i in range(1, 5))
    for sequence in (running, other, waiting, next_one):
        scheduler.add(sequence)
    for _ in range(9):
        scheduler.step()
    scheduler.cancel(waiting)
    scheduler.cancel(running)
    scheduler.check()
    n_written = len(running.tokens)
    assert n_written
    while not scheduler.idle:
        assert all(event.sequence not in (running, waiting) for event in scheduler.step())
        scheduler.check()
    assert running.finish_reason is waiting.finish_reason is FinishReason.CANCELLED
    assert len(running.tokens) == n_written
    assert not waiting.tokens
    assert [outcome(other), outcome(next_one)] == [alone(2, max_tokens=60), alone(4, max_tokens=60)]


def test_cancelling_what_has_finished_changes_nothing() -> None:
    scheduler = FakePair(truncation="remove").scheduler()
    sequence = new_sequence(1)
    run_all(scheduler, [sequence])
    before = outcome(sequence)
    scheduler.cancel(sequence)
    scheduler.check()
    assert outcome(sequence) == before


def fails_with_prompt(first: int) -> Callable[[FakeModel, Row], bool]:
    """Rows of a sequence whose prompt begins with `first` fail once the slot holds three tokens."""

    def fails(model: FakeModel, row: Row) -> bool:
        held = model.held(row.slot)
        return len(held) >= 3 and held[0] == first

    return fails


@pytest.mark.parametrize("role", [LEADER, DRAFT])
@pytest.mark.parametrize("n_batch", [3, 64])
def test_one_failing_sequence_does_not_stop_the_others(role: Role, n_batch: int) -> None:
    """Guards a full KV cache that ends the run: the row that has no room fails with its reason, alone."""
    pair = FakePair(n_slots=3, n_batch=n_batch, truncation="remove")
    pair.models[role].fails = fails_with_prompt(30)
    sequences = [new_sequence(i, max_tokens=40) for i in range(8)]
    doomed = [new_sequence(20 + i, prompt=[30, 2, 3][: i + 1], n=1, p=1.0, k=1) for i in range(3)]
    mixed = [*sequences[:1], doomed[0], *sequences[1:3], *doomed[1:], *sequences[3:]]
    scheduler = pair.scheduler()
    run_all(scheduler, mixed)
    assert [outcome(s) for s in sequences] == [alone(i, max_tokens=40) for i in range(8)]
    for sequence in doomed:
        assert sequence.finish_reason is FinishReason.ERROR
        assert "no room" in (sequence.error or "")
    assert pair.n_held == 0


@pytest.mark.parametrize("error", [EvaluationError("broken"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", [1, 2, 5, 9, 30])
def test_an_error_of_the_model_is_passed_on_and_close_frees_all(error: BaseException, call: int) -> None:
    """Guards an interrupt that is swallowed, or after which slots stay taken."""
    pair = FakePair(n_slots=3, n_batch=8, truncation="remove")
    pair.models[LEADER].raise_at[call] = error
    scheduler = pair.scheduler()
    with pytest.raises(type(error)):
        run_all(scheduler, [new_sequence(i) for i in range(6)])
    scheduler.close()
    scheduler.check()
    assert scheduler.idle
    assert pair.n_held == 0


# ---------------------------------------------------------------- where it ends
@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("n_prompt", [1, 7, 19, 20])
def test_a_full_context_ends_with_the_token_that_no_longer_fits(mode: str, n_prompt: int) -> None:
    """Guards the last place: n_ctx tokens are evaluated, the token after them is the response's last."""
    pair = FakePair(n_ctx=20, truncation="remove")
    sequence = new_sequence(2, mode=mode, max_tokens=None, prompt=ids_of(" the" * n_prompt), temp=0.5)
    for model in pair.models.values():
        model.script(sequence.views[LEADER if mode == "leader" else DRAFT].ids, ids_of(" x we get" * 9))
    run_all(pair.scheduler(), [sequence])
    assert sequence.finish_reason is FinishReason.CONTEXT
    n_beyond = 2 if mode == "cue" and n_prompt == 20 else 1  # a cue is not cut
    assert n_prompt + len(sequence.tokens) == 20 + n_beyond


def test_max_tokens_counts_every_token() -> None:
    """Guards off by one, also where a peeked token is added without an evaluation."""
    full = alone(6, max_tokens=400)["tokens"]
    for n in range(1, 40):
        sequence = new_sequence(6, max_tokens=n)
        run_all(FakePair(truncation="remove").scheduler(), [sequence])
        stopped = sequence.finish_reason is FinishReason.STOP
        assert len(sequence.tokens) == n or (stopped and len(sequence.tokens) < n)
        assert sequence.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
        assert [t[0] for t in outcome(sequence)["tokens"]] == [t[0] for t in full[:n]]


@pytest.mark.parametrize("author", [LEADER, DRAFT])
@pytest.mark.parametrize("before", ["So we get", "So we get.", "So we get.\n"])
def test_either_roles_end_of_generation_ends_the_response(author: Role, before: str) -> None:
    """Guards an end that is dropped: within a sentence, after one that it settles, and at a new one's start."""
    pair = FakePair(truncation="remove")
    led = author is LEADER
    sequence = new_sequence(0, prompt=[2], p=float(led), n=20)
    pair.models[author].script([2], [*ids_of(before), END])
    run_all(pair.scheduler(), [sequence])
    assert sequence.finish_reason is FinishReason.STOP
    assert sequence.text == before
    last = sequence.tokens[-1]
    assert (last.id, last.author, last.text, last.led) == (END, author, "", led)
    assert sequence.views[author].ids == [2, *ids_of(before)]
    assert sequence.n_sentences == (1 if before.endswith("get") else 2)


def test_an_end_that_settled_a_sentence_is_dropped_where_the_other_role_goes_on() -> None:
    """Guards a peeked token of the wrong role: the draft would end, but the gate says the leader leads."""
    pair = FakePair(truncation="remove")
    seeds = (i for i in range(99) if drawn_gates(new_sequence(seed=i, p=0.5), 2) == [False, True])
    sequence = new_sequence(0, prompt=[2], seed=next(seeds), p=0.5)
    pair.models[DRAFT].script([2], [*ids_of("So we get."), END])
    pair.models[LEADER].script([2, *ids_of("So we get.")], [*ids_of(" x two"), END])
    run_all(pair.scheduler(), [sequence])
    assert sequence.text == "So we get. x two"
    assert [t.author for t in sequence.tokens[-3:]] == [LEADER] * 3


@pytest.mark.parametrize(
    ("text", "sentences"), [(" x2. the sum", [0, 0, 0, 1, 1]), (" x2.1 the sum", [0, 0, 0, 0, 0, 0])]
)
def test_a_peeked_token_that_settles_a_sentence_opens_the_next(text: str, sentences: list[int]) -> None:
    """Guards a peek that is committed to the old sentence, and a stop that is an end without a peek."""
    pair = FakePair(truncation="remove")
    sequence = new_sequence(0, prompt=[2], p=0.0)
    pair.models[DRAFT].script([2], [*ids_of(text), END])
    run_all(pair.scheduler(), [sequence])
    assert sequence.text == text
    assert [t.sentence for t in sequence.tokens[:-1]] == sentences


# ---------------------------------------------------------------- a shared prefix
@pytest.mark.parametrize("n_slots", [1, 3])
@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_a_shared_prefix_is_evaluated_once_and_changes_nothing(n_slots: int, temp: float) -> None:
    """Guards prompts whose beginning is evaluated for each of them, and a prefix that another prompt does not have."""
    prefix = {LEADER: [3, 4, 5, 6, 7, 8, 9, 10], DRAFT: [3, 4, 5, 6, 7]}
    prompts = [[3, 4, 5, 6, 7, 8, 9, 10, 2 + i] for i in range(6)] + [[2, 3], [3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 2]]

    def sequences() -> list[Sequence]:
        return [new_sequence(i, prompt=prompt, max_tokens=30, temp=temp) for i, prompt in enumerate(prompts)]

    plain, shared = sequences(), sequences()
    run_all(FakePair(n_slots=n_slots).scheduler(), plain)
    pair = FakePair(n_slots=n_slots)
    scheduler = pair.scheduler(prefixes=prefix)
    run_all(scheduler, shared)
    assert [outcome(s) for s in shared] == [outcome(s) for s in plain]
    for role in (LEADER, DRAFT):
        n_reused = sum(s.cost[role].reused_tokens for s in shared)
        assert n_reused == scheduler.cost[role].reused_tokens
        assert n_reused >= 3 * len(prefix[role])
        assert n_reused % len(prefix[role]) == 0
        assert sum(s.cost[role].tokens for s in shared) == sum(s.cost[role].tokens for s in plain) - n_reused
    scheduler.close()
    assert pair.n_held == 0


def test_a_shared_prefix_that_has_no_room_is_done_without() -> None:
    """Guards sequences that fail because of a saving that did not work out."""
    pair = FakePair(n_slots=2)
    for model in pair.models.values():
        model.fails = lambda model, row: row.slot == model.n_slots
    prompts = [[3, 4, 5, 6, 2 + i] for i in range(4)]
    plain, shared = ([new_sequence(i, prompt=p, max_tokens=20) for i, p in enumerate(prompts)] for _ in range(2))
    run_all(FakePair(n_slots=2).scheduler(), plain)
    run_all(pair.scheduler(prefixes={LEADER: [3, 4, 5], DRAFT: [3, 4, 5]}), shared)
    assert [outcome(s) for s in shared] == [outcome(s) for s in plain]
    assert all(s.cost[role].reused_tokens == 0 for s in shared for role in (LEADER, DRAFT))
