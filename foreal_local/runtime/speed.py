"""How long both models' evaluations take here, measured before anything is answered. Knows models and a clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..method.plan import Plan, Speed
from ..method.roles import Role
from .model import Model, Row

_SIZES = {Role.LEADER: (1, 4, 8, 16), Role.DRAFT: (1,)}
"""Tokens of each sequence in an evaluation."""
_ENOUGH = 1.0
"""Seconds after which no larger size is measured."""
_AROUND = 1.5e-4
"""Seconds that go by around each evaluation, in flows and scheduler; only the smallest models feel them."""
_CONTEXT, _MOST_SEQUENCES = 32, 8
_FEWEST, _MOST, _SETTLED = 3, 12, 0.05
"""Repetitions of an evaluation: the fewest, the most, and the seconds after which there are enough of them."""


def measure(models: Mapping[Role, Model], token: int) -> Plan:
    """A plan for these models, whose slots must be empty; `token` is one that both have."""
    started = time.perf_counter()
    speeds = {}
    for role, sizes in _SIZES.items():
        found: dict[int, float] = {}
        for size in sizes:
            if not found or time.perf_counter() - started < _ENOUGH:
                found[size] = _seconds(models[role], size, token)
        speeds[role] = Speed(found)
    return Plan(speeds)


def _seconds(model: Model, size: int, token: int) -> float:
    """Of an evaluation with so many tokens of each sequence, logits for all: the shortest of a few, and what is around
    it."""
    n_sequences = min(model.n_slots, _MOST_SEQUENCES)
    times: list[float] = []
    try:
        for slot in range(n_sequences):
            _evaluate(model, [Row(slot, [token] * min(_CONTEXT, model.n_ctx // 2), 1)])
        started = time.perf_counter()
        while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() - started < _SETTLED):
            rows = [Row(slot, [token] * size, size) for slot in range(n_sequences)]
            if any(model.cached(row.slot) + size > model.n_ctx for row in rows):
                break
            before = time.perf_counter()
            _evaluate(model, rows)
            times.append(time.perf_counter() - before)
            if times[-1] > _ENOUGH / 4:
                break
    finally:
        for slot in range(n_sequences):
            model.release(slot)
    return min(times, default=float("inf")) + _AROUND


def _evaluate(model: Model, rows: list[Row]) -> None:
    for output in model.evaluate(rows):
        if output.failure is not None:
            raise output.failure
