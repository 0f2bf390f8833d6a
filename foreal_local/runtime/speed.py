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
_CONTEXT, _MOST_SEQUENCES, _REPEATS = 32, 8, 3


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
    """Of an evaluation with so many tokens of each sequence, logits for all: the shortest of a few."""
    n_sequences = min(model.n_slots, _MOST_SEQUENCES)
    times = []
    try:
        for slot in range(n_sequences):
            _evaluate(model, [Row(slot, [token] * min(_CONTEXT, model.n_ctx // 2), 1)])
        for _ in range(_REPEATS):
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
    return min(times, default=float("inf"))


def _evaluate(model: Model, rows: list[Row]) -> None:
    for output in model.evaluate(rows):
        if output.failure is not None:
            raise output.failure
