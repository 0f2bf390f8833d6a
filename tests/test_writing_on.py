"""Writing on: a sequence that is alone gets several tokens within a step, and nothing else changes.

The measure is the same scheduler with a stretch of 0, which gives each token a turn of its own.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from fakes import DRAFT, END, LEADER, FakeModel, FakePair
from runs import SETTINGS, new_sequence, outcome, prompt_of, run_all

from foreal_local.config import Mode, Sampling
from foreal_local.method.sequence import FinishReason, Sequence
from foreal_local.runtime.model import Row
from foreal_local.storage.saved_sequence import as_dict, from_dict

pytestmark = pytest.mark.usefixtures("clock_of_the_fakes")


STRETCHES = [1.0, 2.0, 7.0, 1000.0]
"""Seconds; the fakes take one for each call."""
WRITERS = {Mode.LEADER: LEADER, Mode.DRAFT: DRAFT}


def everything(sequence: Sequence) -> dict[str, Any]:
    """What must be the same: the response, what each token's author wanted, the random numbers used, the work."""
    return {
        **outcome(sequence),
        "top1": [token.top1 for token in sequence.tokens],
        "random": str(sequence.token_rng.bit_generator.state),
        "cost": {role: {**cost.as_dict(), "prompt": cost.flops_prompt} for role, cost in sequence.cost.items()},
    }


def run_with(
    stretch: float, count: int = 12, n_ctx: int = 512, different: bool = False, **settings: Any
) -> tuple[list[Any], FakePair]:
    """`count` sequences one after the other, each alone."""
    pair = FakePair(n_slots=1, n_ctx=n_ctx, different=different, truncation="remove")
    sequences = [new_sequence(i, seed=i % 3, **settings) for i in range(count)]
    for sequence in sequences:
        run_all(pair.scheduler(stretch=stretch), [sequence])
    return [everything(sequence) for sequence in sequences], pair


def n_written_on(pair: FakePair) -> int:
    return sum(model.n_written_on for model in pair.models.values())


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("mode", WRITERS)
@pytest.mark.parametrize(
    "settings",
    [
        {"temp": 0.0},
        {"temp": 0.9},
        {"temp": 0.0, "boundaries": "simple"},
        {"temp": 0.0, "max_tokens": 1},
        {"temp": 0.7, "max_tokens": 2},
        {"temp": 0.7, "max_tokens": None},
    ],
    ids=str,
)
def test_it_writes_what_turns_of_one_token_write(settings: dict[str, Any], mode: Mode, stretch: float) -> None:
    """Guards tokens, sentence ends, random numbers and costs that differ when tokens are taken in together."""
    wanted, _ = run_with(0.0, mode=mode, **settings)
    found, pair = run_with(stretch, mode=mode, **settings)
    assert found == wanted
    assert n_written_on(pair) or settings.get("max_tokens") == 1


def test_it_is_worth_something() -> None:
    """Guards a stretch that is given up at every sentence end."""
    sequence = new_sequence(mode=Mode.LEADER, max_tokens=60, prompt=prompt_of(4))
    pair = FakePair(n_slots=1)
    pair.models[LEADER].script(sequence.views[LEADER].ids, ids_without_end(60))
    scheduler = pair.scheduler(stretch=1000.0)
    scheduler.add(sequence)
    events = scheduler.step()
    assert sequence.finish_reason is FinishReason.LENGTH
    assert sequence.n_sentences > 3
    assert [len(event.tokens) for event in events] == [60]


def ids_without_end(n: int) -> list[int]:
    """A text with many sentences in it."""
    sequence = new_sequence(mode=Mode.LEADER, max_tokens=n, temp=1.0, seed=8)
    model = FakePair(n_slots=1)
    run_all(model.scheduler(), [sequence])
    ids = [token.id for token in sequence.tokens if token.id != END]
    return (ids * n)[:n]


@pytest.mark.parametrize("n_ctx", range(20, 40))
def test_a_full_context_ends_it_where_it_ends_turns_of_one_token(n_ctx: int) -> None:
    """Guards evaluations past the context, and a last token that is lost there."""
    wanted, _ = run_with(0.0, 1, n_ctx, mode=Mode.LEADER, max_tokens=None, prompt=prompt_of(3), temp=1.0)
    found, _ = run_with(1000.0, 1, n_ctx, mode=Mode.LEADER, max_tokens=None, prompt=prompt_of(3), temp=1.0)
    assert found == wanted


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        *SETTINGS,
        {"mode": Mode.LEADER, "stop": ("sum of", "x?")},
        {"mode": Mode.DRAFT, "sampling": Sampling(0.0, repeat_penalty=1.3)},
        {"mode": Mode.LEADER, "sampling": Sampling(0.8, repeat_penalty=1.3, repeat_last_n=8)},
        {"p": 1.0, "max_tokens": None},
        {"p": 0.0},
    ],
    ids=str,
)
def test_every_setting_writes_and_evaluates_the_same(settings: dict[str, Any], different: bool, stretch: float) -> None:
    """Guards work that a stop string throws away, penalties that miss the last tokens, gates and checks too late."""
    wanted, _ = run_with(0.0, 6, different=different, **settings)
    found, pair = run_with(stretch, 6, different=different, **settings)
    assert found == wanted
    assert n_written_on(pair)


def test_marks_are_set_at_every_sentence_end() -> None:
    """Guards a chat that cannot take back a sentence which one role wrote in a stretch with the next."""
    marked = []
    for stretch in (0.0, 1000.0):
        pair, places = FakePair(n_slots=1), list[int]()
        model = pair.models[LEADER]
        model.mark = lambda slot, model=model, places=places: places.append(model.cached(slot))  # type: ignore[method-assign]
        run_all(pair.scheduler(stretch=stretch, marks=True), [new_sequence(3, mode=Mode.LEADER, temp=1.0, seed=6)])
        marked.append(places)
    assert marked[0] == marked[1]
    assert len(marked[0]) > 4


def test_a_sequence_with_neighbours_takes_turns() -> None:
    """Guards neighbours that wait for a whole stretch."""
    pair = FakePair(n_slots=2)
    sequences = [new_sequence(i, mode=Mode.LEADER, max_tokens=30 + 30 * i) for i in range(2)]
    scheduler = pair.scheduler(stretch=1000.0)
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.step()
    scheduler.check()
    assert [sequence.finished for sequence in sequences] == [True, False]
    assert not n_written_on(pair)


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("n_slots", [2, 4])
def test_batches_are_the_same_however_long_a_step_is(n_slots: int, stretch: float) -> None:
    """Guards batches, and with them rounding, that hang on the clock: the same run must give the same text again."""
    found = []
    for length in (0.0, stretch):
        pair = FakePair(n_slots=n_slots, truncation="remove")
        sequences = [new_sequence(i, seed=i, **settings) for i, settings in enumerate(SETTINGS * 2)]
        for i in (1, 7, 8):
            sequences[i] = new_sequence(i, prompt=[])  # it fails before it has a slot
        scheduler, waiting = pair.scheduler(stretch=length), sequences[::-1]
        while waiting or not scheduler.idle:  # as the engine does: the next comes when one has ended
            while waiting and scheduler.has_room:
                scheduler.add(waiting.pop())
            while not any(event.finished for event in scheduler.step()):
                pass
        batches = {role: model.records for role, model in pair.models.items()}
        found.append((batches, [everything(sequence) for sequence in sequences]))
    assert found[0] == found[1]


def test_one_that_waits_for_a_slot_does_not_wait_for_a_stretch_to_be_admitted() -> None:
    """Guards a scheduler that writes on although another sequence has come."""
    pair = FakePair(n_slots=1)
    scheduler = pair.scheduler(stretch=3.0)
    sequences = [new_sequence(i, mode=Mode.LEADER, max_tokens=12) for i in range(3)]
    shown = run_all(scheduler, sequences)
    assert shown == {sequence.id: sequence.text for sequence in sequences}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [2, 3, 9, 20])
def test_what_was_chosen_before_an_exception_is_kept(at: int, error: BaseException) -> None:
    """Guards tokens that are evaluated and then forgotten: the caches would be ahead of the stream."""
    wanted, _ = run_with(0.0, 1, mode=Mode.LEADER, temp=0.8)
    pair = FakePair(n_slots=1, truncation="remove")
    pair.models[LEADER].raise_at[at] = error
    sequence = new_sequence(0, seed=0, mode=Mode.LEADER, temp=0.8)
    scheduler = pair.scheduler(stretch=1000.0)
    scheduler.add(sequence)
    with pytest.raises(type(error)):
        scheduler.step()
    assert len(sequence.tokens) == at - 1
    scheduler.check()
    (event,) = scheduler.step()
    assert event.tokens == sequence.tokens, "what was written before the exception is not told"
    while not scheduler.idle:
        scheduler.step()
    assert {**everything(sequence), "cost": None} == {**wanted[0], "cost": None}


def test_no_room_for_the_next_token_ends_it_as_ever() -> None:
    """Guards a sequence that asks for ever, or loses what it has, when the cache is full."""

    def fails(model: FakeModel, row: Row) -> bool:
        return model.cached(row.slot) + len(row.tokens) > 25

    outcomes = []
    for stretch in (0.0, 1000.0):
        pair = FakePair(n_slots=1)
        pair.models[LEADER].fails = fails
        sequence = new_sequence(0, mode=Mode.LEADER, prompt=[2, 3, 4], temp=1.0, seed=8)
        run_all(pair.scheduler(stretch=stretch), [sequence])
        assert sequence.finish_reason is FinishReason.ERROR
        outcomes.append(outcome(sequence))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("stretch", [1.0, 5.0])
def test_saved_between_steps_it_goes_on_the_same(stretch: float) -> None:
    """Guards a state that is taken while tokens wait to be taken in."""
    settings: dict[str, Any] = {"mode": Mode.DRAFT, "temp": 0.9, "seed": 12}
    wanted = new_sequence(0, **settings)
    run_all(FakePair(n_slots=1).scheduler(), [wanted])
    n_steps, ended = 0, False
    while not ended:
        n_steps += 1
        pair = FakePair(n_slots=1)
        scheduler = pair.scheduler(stretch=stretch)
        sequence = new_sequence(0, **settings)
        scheduler.add(sequence)
        for _ in range(n_steps):
            scheduler.step()
        ended = sequence.finished
        if ended:
            continue
        states = copy.deepcopy(scheduler.save(sequence))
        again = from_dict(json.loads(json.dumps(as_dict(sequence))))
        again_on = FakePair(n_slots=1).scheduler(stretch=stretch)
        again_on.add(again, states)
        while not again_on.idle:
            again_on.step()
            again_on.check()
        assert outcome(again) == outcome(wanted)
    assert n_steps > 3


def test_totals_are_the_sum_of_the_sequences() -> None:
    """Guards work that is counted for the sequence and not for the run, or twice."""
    pair = FakePair(n_slots=1)
    scheduler = pair.scheduler(stretch=5.0)
    sequences = [new_sequence(i, mode=Mode.LEADER, max_tokens=40) for i in range(4)]
    run_all(scheduler, sequences)
    for name in ("decode_tokens", "prefill_tokens", "calls", "seconds", "flops"):
        total = sum(getattr(sequence.cost[LEADER], name) for sequence in sequences)
        assert getattr(scheduler.cost[LEADER], name) == pytest.approx(total), name
    assert scheduler.cost[LEADER].calls == pair.models[LEADER].n_calls
