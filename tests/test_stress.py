"""Ten thousand steps of anything: additions, cancellations, failures and interrupts, checked after each."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakes import FakeModel, FakePair
from runs import AHEAD, SETTINGS, assert_empty_when_closed, new_sequence, outcome, run_all

from foreal_local.errors import EvaluationError
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason
from foreal_local.runtime.model import Row
from foreal_local.runtime.scheduler import Scheduler

FINISHED_BY_ITSELF = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT)


class Driver:
    """Does something random to a scheduler at every step. Owns the sequences and what was shown of them."""

    def __init__(self, seed: int, truncation: str, reuse: bool) -> None:
        self.rng = random.Random(seed)
        self.n_ctx = 90
        self.pair = FakePair(n_slots=5, n_batch=11, n_ctx=self.n_ctx, truncation=truncation)
        self.scheduler: Scheduler = self.pair.scheduler(skip_limit=3)
        self.reuse = reuse
        self.sequences: dict[str, tuple[Sequence, dict[str, Any]]] = {}
        self.shown: dict[str, str] = {}
        self.finished: list[str] = []
        self.doomed: set[int] = set()
        self.n_raised = 0
        for model in self.pair.models.values():
            model.fails = self.fails

    def fails(self, model: FakeModel, row: Row) -> bool:
        return row.slot in self.doomed and self.rng.random() < 0.5

    def step(self) -> None:
        self.doomed = {self.rng.randrange(5)} if self.rng.random() < 0.02 else set()
        most = self.rng.choice([1, 9])  # often one that is alone
        if self.scheduler.n_open < most and self.rng.random() < 0.3:
            self.add()
        if self.sequences and self.rng.random() < 0.02:
            self.scheduler.cancel(self.rng.choice(list(self.sequences.values()))[0])
            self.scheduler.check()
        if self.rng.random() < 0.002:
            self.scheduler.close()
            self.scheduler.check()
            assert self.scheduler.idle
            assert self.pair.n_held == 0
        if self.rng.random() < 0.03:
            model = self.pair.models[self.rng.choice(list(Role))]
            error = EvaluationError("broken") if self.rng.random() < 0.5 else KeyboardInterrupt()
            model.raise_at = {model.n_calls + self.rng.randrange(1, 4): error}
        try:
            events = self.scheduler.step()
        except (EvaluationError, KeyboardInterrupt):
            self.n_raised += 1
            events = []
        self.scheduler.check()
        for event in events:
            name = event.sequence.id
            assert name not in self.finished, "an event after the end"
            self.shown[name] += "".join(token.text for token in event.tokens)
            self.finished += [name] * event.finished

    def add(self) -> None:
        index = len(self.sequences)
        settings = {**self.rng.choice([*SETTINGS, *AHEAD]), "max_tokens": self.rng.choice([3, 30, 90, None])}
        if self.rng.random() < 0.03:
            settings["prompt"] = [3] * self.rng.choice([0, self.n_ctx, self.n_ctx + 1])
        sequence = new_sequence(index, **settings)
        self.sequences[sequence.id] = sequence, settings
        self.shown[sequence.id] = ""
        self.scheduler.add(sequence, reuse=self.reuse)

    def finish(self) -> None:
        """No more trouble: everything that is open comes to its end."""
        self.doomed, self.rng = set(), random.Random(0)
        for model in self.pair.models.values():
            model.raise_at.clear()
            model.fails = lambda _model, _row: False
        while not self.scheduler.idle:
            for event in self.scheduler.step():
                self.shown[event.sequence.id] += "".join(token.text for token in event.tokens)
                self.finished += [event.sequence.id] * event.finished
            self.scheduler.check()
        assert_empty_when_closed(self.scheduler, self.pair)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("truncation", ["remove", "clear"])
def test_ten_thousand_random_steps(truncation: str, reuse: bool) -> None:
    """Guards everything at once: slots, caches and counters after each step, and untouched responses.

    What came to its own end in all this trouble must be what it is alone: a lost cache costs time only.
    """
    driver = Driver(seed=1, truncation=truncation, reuse=reuse)
    for _ in range(5_000):
        driver.step()
    driver.finish()
    assert driver.n_raised > 30
    reasons = [sequence.finish_reason for sequence, _ in driver.sequences.values()]
    assert set(reasons) == set(FinishReason)
    assert len(driver.finished) == len(set(driver.finished))
    for name, (sequence, settings) in driver.sequences.items():
        if sequence.finish_reason not in FINISHED_BY_ITSELF:
            continue
        assert driver.shown[name] == sequence.text
        assert driver.finished.count(name) == 1
        if sequence.index % 4 == 0:
            alone = new_sequence(sequence.index, **settings)
            run_all(FakePair(n_ctx=driver.n_ctx, truncation="remove").scheduler(), [alone])
            assert outcome(sequence) == outcome(alone)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("hits_from", ["lead", "sentence"])
def test_an_interrupt_at_any_call_costs_time_only(truncation: str, hits_from: str, reuse: bool, n: int) -> None:
    """Guards judgements and positions left from an evaluation that was broken off half-way."""
    settings: dict[str, Any] = {"n": 2, "k": 3, "p": 0.9, "hits_from": hits_from, "max_tokens": 40}
    expected = [new_sequence(i, **settings) for i in range(n)]
    run_all(FakePair(truncation="remove").scheduler(), expected)
    for call in range(1, 60, 2):
        for role in Role:
            pair = FakePair(n_slots=2, n_batch=3, truncation=truncation)
            pair.models[role].raise_at[call] = KeyboardInterrupt()
            scheduler = pair.scheduler()
            sequences = [new_sequence(i, **settings) for i in range(n)]
            for sequence in sequences:
                scheduler.add(sequence, reuse=reuse)
            while not scheduler.idle:
                try:
                    scheduler.step()
                except KeyboardInterrupt:
                    continue
            assert [outcome(s) for s in sequences] == [outcome(s) for s in expected]
