"""How many tokens are proposed at a time: from times that were measured, and how these are measured."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakePair
from runs import new_sequence, outcome, run_all

from foreal_local.config import Generation, Method
from foreal_local.method.plan import UNMEASURED_PLAN, Plan, Speed
from foreal_local.method.roles import Role
from foreal_local.runtime import speed
from foreal_local.runtime.hardware import padded_size
from foreal_local.runtime.model import Output, Row
from foreal_local.storage.saved_sequence import as_dict, from_dict

LEADER, DRAFT = Role.LEADER, Role.DRAFT
BY_FOURS = Speed({1: 1.0, 4: 1.8, 8: 3.5, 16: 5.0})
"""A CPU's kernels: four tokens at once, and what is left over one by one."""


def test_only_sizes_that_were_measured_are_proposed() -> None:
    """Guards a straight line between 4 and 8 tokens, on which 5 seem cheap, and cost one more than 4."""
    plan = Plan({LEADER: BY_FOURS, DRAFT: Speed({1: 0.12})})
    for acceptance in (0.0, 0.3, 0.6, 0.8, 0.9, 0.99, 1.0):
        assert plan.best(acceptance)[0] in (3, 7, 15)
    assert plan.expected == (3, pytest.approx((1 + 0.8 + 0.64 + 0.512) / (3 * 0.12 + 1.8)))
    assert Plan({LEADER: Speed({1: 1.0}), DRAFT: Speed({1: 0.1})}).expected[0] == 1


def test_none_are_proposed_where_none_pay() -> None:
    """Guards a draft that works for nothing; mode speculative proposes always, and a number that is given stands."""
    dear = Plan({LEADER: Speed({1: 1.0, 4: 4.0}), DRAFT: Speed({1: 0.5})})
    for mode, proposals, most in (("auto", None, 0), ("foreal", None, 0), ("auto", 2, 2), ("speculative", None, 3)):
        settings = Generation(mode, Method(proposals=proposals))
        told = SimpleNamespace(n_accepted=0, n_rejected=0, tokens=[], settings=settings)
        assert dear.most_proposals(told) == most  # type: ignore[arg-type]
        assert dear.decides(settings) == (proposals is None)
        assert not UNMEASURED_PLAN.decides(settings)


@pytest.mark.parametrize(
    ("sizes", "gpu"),
    [
        ({1: 1, 3: 3, 4: 4, 7: 8, 11: 12, 12: 12, 13: 16, 15: 16, 16: 16, 17: 17, 29: 32, 63: 64, 64: 64}, False),
        ({1: 1, 3: 3, 4: 16, 15: 16, 16: 32, 31: 32, 32: 64, 63: 64, 64: 64, 500: 500}, True),
    ],
)
def test_short_evaluations_are_filled_up_to_what_takes_no_longer(sizes: dict[int, int], gpu: bool) -> None:
    assert {size: padded_size(size, gpu) for size in sizes} == sizes


def test_a_draft_that_failed_is_tried_again() -> None:
    """Guards a response that goes on without proposals because its first words were hard to guess."""
    plan = Plan({LEADER: BY_FOURS, DRAFT: Speed({1: 0.12})})

    def asked(n_accepted: int, n_rejected: int, n_written: int) -> int:
        told = SimpleNamespace(
            n_accepted=n_accepted, n_rejected=n_rejected, tokens=range(n_written), settings=Generation()
        )
        return plan.most_proposals(told)  # type: ignore[arg-type]

    assert asked(0, 0, 0) == 3
    assert asked(3, 14, 20) == 0
    assert asked(3, 14, 800) == 3
    assert asked(40, 160, 300) == 0  # it has failed for long
    # One that never guesses right is tried for a small part of the tokens.
    n_rejected, n_proposed = 0, 0
    for n_written in range(2000):
        n_rejected += asked(0, n_rejected, n_written) > 0
        n_proposed += asked(0, n_rejected, n_written) > 0
    assert 0 < n_proposed < 2000 / 20


# ---------------------------------------------------------------- measuring
class Clocked:
    """A model whose evaluations take seconds(tokens of a row) of a clock; it holds n_ctx tokens."""

    def __init__(self, clock: list[float], seconds: Any, n_ctx: int = 4096, n_slots: int = 1) -> None:
        self.clock, self.seconds, self.n_ctx, self.n_slots = clock, seconds, n_ctx, n_slots
        self.held = [0] * n_slots
        self.sizes: list[int] = []

    def cached(self, slot: int) -> int:
        return self.held[slot]

    def release(self, slot: int) -> None:
        self.held[slot] = 0

    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        for row in rows:
            self.held[row.slot] += len(row.tokens)
            assert self.held[row.slot] <= self.n_ctx
        self.sizes.append(len(rows[0].tokens))
        self.clock[0] += self.seconds(len(rows[0].tokens))
        return iter(())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_a_large_leader_is_measured_at_more_than_one_size(clock: list[float]) -> None:
    """Guards a plan without proposals only because timing one token took a second: 0.12 s a token, 0.22 s for four."""
    leader = Clocked(clock, lambda n: {1: 0.12, 4: 0.22, 16: 0.6}.get(n, n * 0.05))
    draft = Clocked(clock, lambda n: 0.016 if n == 1 else 0.3)
    plan = speed.measure({LEADER: leader, DRAFT: draft}, 20)  # type: ignore[dict-item]
    assert {1, 4, 16} <= plan.speeds[LEADER].seconds.keys()
    best, gain = plan.expected
    assert best == 3
    assert gain > 1.2
    assert clock[0] < 6
    assert set(leader.held + draft.held) == {0}


@pytest.mark.parametrize("n_slots", [1, 3])
@pytest.mark.parametrize("n_ctx", [2, 8, 20, 64, 100])
def test_small_contexts_are_never_overfilled(n_ctx: int, n_slots: int, clock: list[float]) -> None:
    """Guards an error of llama.cpp before the first answer."""
    models = {role: Clocked(clock, lambda n: 0.001 * n, n_ctx, n_slots) for role in Role}
    plan = speed.measure(models, 20)  # type: ignore[arg-type]
    found = plan.speeds[LEADER].seconds
    assert found[1] == pytest.approx(0.001, rel=0.2)
    assert all(size <= n_ctx for size in found)
    assert (16 in found) == (n_ctx >= 32)
    assert set(models[LEADER].held) == {0}


def test_a_response_goes_on_under_another_plan() -> None:
    """Guards recorded answers that a flow is not asked for because the machine was timed anew (AssertionError)."""
    plans = [Plan({LEADER: Speed({1: 1.0, 4: seconds}), DRAFT: Speed({1: 0.1})}) for seconds in (1.2, 4.0)]
    settings: dict[str, Any] = {"n": 2, "p": 0.8, "k": 1, "review": "ratio", "proposals": None, "max_tokens": 50}
    whole = new_sequence(0, **settings)
    run_all(FakePair(truncation="remove").scheduler(), [whole])
    n_stopped = 0
    for first, second in (plans, plans[::-1]):
        assert (first.expected[1] > 1.05) != (second.expected[1] > 1.05)
        for at in range(1, 60):
            scheduler, sequence = FakePair(truncation="remove").scheduler(), new_sequence(0, **settings)
            scheduler.plan = first
            scheduler.add(sequence)
            for _ in range(at):
                if not scheduler.idle:
                    scheduler.step()
            if sequence.finished:
                break
            n_stopped += 1
            scheduler.withdraw(sequence)
            sequence = from_dict(as_dict(sequence))
            scheduler.plan = second
            run_all(scheduler, [sequence])
            assert outcome(sequence) == outcome(whole)
    assert n_stopped > 20
