"""Mode auto, told how much accuracy may be lost: the leader's own text, or a setting of both models that foreal bench
has measured, whichever is written fastest here.

What a setting loses, and how often it asks each model, comes from the bench's file, wherever that was measured; how
long the models take is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .config import Generation
from .errors import UsageError
from .method.modes import MODES
from .method.plan import LEAST_GAIN, Plan
from .method.roles import Role

FIELDS = ("responses", "points_lost", "leader_calls", "leader_tokens", "draft_calls", "draft_tokens")
"""What the table [measured] of a bench's file has. Calls and tokens are for each token of the responses, without
those of the prompts: evaluations of the model, and the tokens that it evaluated in them."""


@dataclass(frozen=True)
class Measured:
    """What foreal bench has found of a setting.

    mode: the setting's
    responses: how many it was measured with
    points_lost: percentage points of accuracy below the leader alone; negative where it had more right
    work: each model's calls, and tokens evaluated, for each token of a response
    """

    mode: str
    responses: int
    points_lost: float
    work: Mapping[Role, tuple[float, float]]

    @classmethod
    def of(cls, mode: object, table: object) -> Measured:
        """From a file's mode and its table [measured]; UsageError where something is missing."""
        values = {name.replace("-", "_"): value for name, value in table.items()} if isinstance(table, dict) else {}
        wrong = [name for name in FIELDS if not _is_number(values.get(name))]
        if mode not in MODES or wrong:
            what = f"{wrong[0].replace('_', '-')} = {values.get(wrong[0])!r}" if wrong else f"mode = {mode!r}"
            raise UsageError(f"the measured setting has {what}: write the file anew with foreal bench --recommend")
        work = {role: (float(values[f"{role}_calls"]), float(values[f"{role}_tokens"])) for role in Role}
        return cls(str(mode), int(values["responses"]), float(values["points_lost"]), work)

    def gain(self, plan: Plan) -> float:
        """Speed against the leader alone, by the plan's times."""
        seconds = 0.0
        for role, (n_calls, n_tokens) in self.work.items():
            if n_calls > 0:
                seconds += n_calls * plan.speeds[role].of(max(1.0, n_tokens / n_calls))
        return plan.speeds[Role.LEADER].of(1) / seconds if seconds else 1.0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def choose(plan: Plan, settings: Generation, measured: Measured, loss: float) -> tuple[Generation, str]:
    """The settings with the mode that writes fastest here, and why.

    plan: with both models' times
    settings: in mode auto, the method's being those that were measured
    loss: percentage points of accuracy that may be lost
    """
    _, lossless = plan.expected
    lossless = lossless if lossless >= LEAST_GAIN else 1.0
    own = f"the leader's own text, {lossless:.2f} times as fast as without the draft"
    found = f"the measured setting ({measured.mode}, {measured.responses} responses)"
    if measured.points_lost > loss:
        return settings, f"{own}: {found} loses {measured.points_lost:.1f} points, more than {loss:g}"
    gain = measured.gain(plan)
    if gain <= lossless:
        return settings, f"{own}: {found} would be {gain:.2f} times as fast"
    lost = f"{measured.points_lost:.1f} points" if measured.points_lost > 0 else "nothing"
    why = f"{found} loses {lost} and is {gain:.2f} times as fast as the leader alone"
    return replace(settings, mode=measured.mode), f"{why}; the leader's own text: {lossless:.2f} times"


def measured_of(records: Iterable[Mapping[str, Any]], points_lost: float) -> dict[str, Any]:
    """The table [measured] of a setting, from the records of its responses, one for each problem or more."""
    n_tokens, n_records = 0, 0
    calls, tokens = dict.fromkeys(Role, 0), dict.fromkeys(Role, 0)
    for record in records:
        n_records += 1
        n_tokens += record["usage"]["completion_tokens"]
        for role in Role:
            cost = record["cost"][role]
            n_evaluated = cost["decode_tokens"] + cost["prefill_tokens"]
            n_prompt_read = record["usage"]["prompt_tokens"] - cost.get("reused_tokens", 0)
            tokens[role] += max(0, n_evaluated - n_prompt_read)
            calls[role] += max(0, cost["calls"] - 1)  # the prompt
    found: dict[str, Any] = {"responses": n_records, "points-lost": round(points_lost, 2)}
    for role in Role:
        found[f"{role}-calls"] = round(calls[role] / max(1, n_tokens), 4)
        found[f"{role}-tokens"] = round(tokens[role] / max(1, n_tokens), 4)
    return found
