"""The draft proposes while the leader reads: nothing that is written changes, and no cache is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import DRAFT, LEADER, FakeModel, FakePair
from runs import AHEAD, new_sequence, outcome, run_all

from foreal_local.runtime.model import Output, Row


@pytest.fixture
def slow_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that takes long enough for a few of the draft's evaluations."""
    evaluate = FakeModel.evaluate

    def slowly(model: FakeModel, rows: list[Row]) -> Iterator[Output]:
        if model.role is LEADER:
            time.sleep(0.002)
        for output in evaluate(model, rows):  # kept: the fakes' logits are gone when the iterator goes on
            yield Output(output.row, output.index, None if output.logits is None else output.logits.copy())

    monkeypatch.setattr(FakeModel, "evaluate", slowly)


@pytest.mark.usefixtures("slow_leader")
@pytest.mark.parametrize("settings", [*AHEAD, {**AHEAD[3], "temp": 0.0, "proposals": 2}], ids=str)
def test_what_is_written_is_the_same(settings: dict[str, Any]) -> None:
    """Guards proposals that outlive a refused token, or that a memory keeps behind the stream."""
    n_saved = 0
    for agreement in (0.5, 0.95, 1.0):
        found = []
        for beside in (False, True):
            pair = FakePair(n_slots=1, agreement=agreement, truncation="remove", different=agreement == 0.5)
            for model in pair.models.values():
                model.runs_beside = beside
            sequences = [new_sequence(i, seed=i, **settings) for i in range(3)]
            run_all(pair.scheduler(), sequences)
            found.append([outcome(sequence) for sequence in sequences])
            n_saved += beside and pair.models[DRAFT].n_calls
        assert found[0] == found[1]
    assert n_saved


@pytest.mark.usefixtures("slow_leader")
def test_what_was_proposed_meanwhile_is_the_next_sentence() -> None:
    """Guards a draft that idles while the leader reads what it wrote."""
    settings = {"gate": "never", "review": "ratio", "tau": 0.0, "proposals": 4}
    calls = []
    for beside in (False, True):
        pair = FakePair(n_slots=1, truncation="remove")
        for model in pair.models.values():
            model.runs_beside = beside
        scheduler, sequence = pair.scheduler(), new_sequence(2, **settings)
        scheduler.add(sequence)
        n_waits = 0
        while not scheduler.idle:
            before = {role: model.n_calls for role, model in pair.models.items()}
            scheduler.step()
            scheduler.check()
            has_read = pair.models[LEADER].n_calls > before[LEADER]
            n_waits += pair.models[DRAFT].n_calls > before[DRAFT] and not has_read
        calls.append(n_waits)
    assert calls[1] < 0.8 * calls[0], "the leader waits for the draft less often"


@pytest.mark.usefixtures("slow_leader")
def test_an_error_of_either_model_costs_time_only() -> None:
    """Guards a leader that is left alone in its thread while its context is changed."""
    settings = {"gate": "never", "review": "exact", "proposals": 3}
    expected = new_sequence(1, **settings)
    run_all(FakePair(n_slots=1, truncation="remove").scheduler(), [expected])
    for role in (LEADER, DRAFT):
        for call in range(1, 40, 3):
            pair = FakePair(n_slots=1, truncation="remove")
            for model in pair.models.values():
                model.runs_beside = True
            pair.models[role].raise_at[call] = KeyboardInterrupt()
            sequence, scheduler = new_sequence(1, **settings), pair.scheduler()
            scheduler.add(sequence)
            while not scheduler.idle:
                try:
                    scheduler.step()
                except KeyboardInterrupt:
                    pass
                scheduler.check()
            assert outcome(sequence) == outcome(expected)
            scheduler.close()
