"""What evaluations cost here, and what each way to write would cost therefore.

How often a way asks each model does not depend on the machine: those figures are of pairs that were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..method.plan import LEAST_GAIN, Plan, Speed
from ..method.roles import Role
from ..runtime.loaded import LoadedPair
from ..runtime.speed import Sizes
from .findings import Expected, Problem

SIZES: Sizes = {Role.LEADER: (1, 8, 32, 4, 16, 2, 12), Role.DRAFT: (1, 8, 4, 16)}
ENOUGH = 4.0
"""Seconds of a model after which no more sizes are measured."""


@dataclass(frozen=True)
class Work:
    """What one model does for each token of a response.

    singly: evaluations of one token
    rows: evaluations of several, of what the other has written or proposes
    row: tokens of one of these, in the mean
    """

    singly: float
    rows: float = 0.0
    row: float = 1.0

    def seconds(self, speed: Speed) -> float:
        return self.singly * speed.of(1) + self.rows * speed.of(self.row)


WORK: Mapping[str, Mapping[Role, Work]] = {
    "paper": {Role.LEADER: Work(0.438, 0.026, 16.6), Role.DRAFT: Work(0.505, 0.027, 16.6)},
    "faithful": {Role.LEADER: Work(0.081, 0.121, 7.9), Role.DRAFT: Work(1.233, 0.039, 3.0)},
    "fast": {Role.LEADER: Work(0.0, 0.081, 9.4), Role.DRAFT: Work(1.074)},
}
"""By preset: of Qwen2.5-Coder 1.5 B leading 0.5 B on word problems (docs/measurements.md); other pairs agree more, or
less."""
_ALONE = {Role.LEADER: "--mode leader", Role.DRAFT: "--mode draft"}


def measured(loaded: LoadedPair) -> Plan:
    """How long the loaded models take, measured now."""
    return loaded.measured_plan(SIZES, ENOUGH)


def expected_of(plan: Plan) -> Iterator[Expected]:
    """What ways to write would cost, for each token of a response."""
    for role, speed in plan.speeds.items():
        yield Expected(
            _ALONE[role], speed.of(1), plan.speeds[Role.LEADER].of(1) / speed.of(1) if _has_both(plan) else 1.0
        )
    if not _has_both(plan):
        return
    alone, (best, gain) = plan.speeds[Role.LEADER].of(1), plan.expected
    pays = gain >= LEAST_GAIN
    basis = f"proposing {best}, 4 of 5 accepted" if pays else "leaves the draft out"
    yield Expected("--mode auto", alone / gain if pays else alone, gain if pays else 1.0, basis)
    for name, work in WORK.items():
        seconds = sum(work[role].seconds(speed) for role, speed in plan.speeds.items())
        yield Expected(f"--preset {name}", seconds, alone / seconds)


def _has_both(plan: Plan) -> bool:
    return len(plan.speeds) == len(Role)


def advice_of(expected: list[Expected]) -> str:
    """Which way pays."""
    by_name = {each.name: each for each in expected}
    auto = by_name.get("--mode auto")
    if auto is None:
        return ""
    best = max((each for each in expected if each.name.startswith("--preset")), key=lambda each: each.against)
    own = f"--mode auto keeps the leader's own text, {auto.against:.1f} times as fast as without the draft"
    if auto.against < LEAST_GAIN:
        own = "the draft does not speed up the leader's own text here, and --mode auto leaves it out"
    if best.against < max(auto.against, 1.0) * LEAST_GAIN:
        if auto.against < LEAST_GAIN:
            return "no way to use both models pays here: --mode leader, or --mode draft if it is good enough"
        return f"{own}; no preset is faster"
    preset = f"{best.name} is about {best.against:.1f} times as fast, and may be wrong more often"
    return f"{own}; {preset}: foreal bench measures that"


def busy_problem(load: float, cores: int) -> Problem | None:
    """Other programs that keep cores from the models.

    load: processes that ran in the last minute, in the mean
    """
    if load < 0.5 * cores:
        return None
    return Problem(
        f"other programs keep about {load:.1f} of {cores} cores busy: models are slower meanwhile",
        "end them, or take fewer threads (--threads)",
    )
