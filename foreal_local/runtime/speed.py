"""How long both models' evaluations take here, measured before anything is answered. Knows models and a clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..method.plan import Plan, Speed
from ..method.roles import Role
from .model import Model, Row

Sizes = Mapping[Role, tuple[int, ...]]
SIZES: Sizes = {Role.LEADER: (1, 4, 16, 8, 12, 2, 32), Role.DRAFT: (1,)}
"""Tokens of each sequence in an evaluation, those first that tell most: kernels on CPUs take four or sixteen tokens at
once, and what is left over one by one."""
ENOUGH = 2.0
"""Seconds of a model after which no more sizes are measured, but for the first three."""
_AROUND = 1.5e-4
"""Seconds that go by around each evaluation, in flows and scheduler; only the smallest models feel them."""
MOST_SEQUENCES = 8
"""Sequences that are evaluated together at most."""
_CONTEXT = 32
_FEWEST, _MOST, _SETTLED = 3, 12, 0.05
"""Repetitions of an evaluation: the fewest, the most, and the seconds after which there are enough of them."""
_LONG = 0.3
"""Seconds of an evaluation that is not repeated."""


def measure(models: Mapping[Role, Model], token: int, sizes: Sizes = SIZES, enough: float = ENOUGH) -> Plan:
    """A plan for these models, whose slots must be empty; `token` is one that all have.

    sizes: tokens of each sequence in an evaluation, those first that tell most
    enough: seconds of a model after which no more sizes are measured, but for the first three
    """
    return Plan({role: Speed(_seconds(model, sizes[role], token, enough)) for role, model in models.items()})


def _seconds(model: Model, sizes: tuple[int, ...], token: int, enough: float) -> dict[int, float]:
    """By size: of an evaluation with so many tokens of each sequence, logits for all, the shortest of a few, and what
    is around it."""
    n_sequences, started = min(model.n_slots, MOST_SEQUENCES), time.perf_counter()
    found: dict[int, float] = {}
    try:
        _begin(model, n_sequences, token)
        for number, size in enumerate(sizes):
            if number < 3 or time.perf_counter() - started < enough:
                found[size] = _shortest(model, n_sequences, size, token)
    finally:
        for slot in range(n_sequences):
            model.release(slot)
    return {size: seconds + _AROUND for size, seconds in found.items() if seconds < float("inf")}


def _shortest(model: Model, n_sequences: int, size: int, token: int) -> float:
    """Seconds of the fastest of a few evaluations; inf where the context has no room for one."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() - started < _SETTLED):
        rows = [Row(slot, [token] * size, size) for slot in range(n_sequences)]
        if model.cached(0) + size > model.n_ctx:
            _begin(model, n_sequences, token)
            if model.cached(0) + size > model.n_ctx:
                break
        before = time.perf_counter()
        _evaluate(model, rows)
        times.append(time.perf_counter() - before)
        if times[-1] > _LONG:
            break
    return min(times, default=float("inf"))


def _begin(model: Model, n_sequences: int, token: int) -> None:
    """Give each slot a short text, as if it were a prompt."""
    for slot in range(n_sequences):
        model.release(slot)
        _evaluate(model, [Row(slot, [token] * min(_CONTEXT, model.n_ctx // 2), 1)])


def _evaluate(model: Model, rows: list[Row]) -> None:
    for output in model.evaluate(rows):
        if output.failure is not None:
            raise output.failure
