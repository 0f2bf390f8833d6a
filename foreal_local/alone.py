"""How long the leader alone would have taken for responses that both models wrote: measured where it has written alone
here, else predicted from how long its evaluations took, else not known.

For responses that were written one at a time: in a batch, an evaluation's time is shared by sequences that the leader
alone would have put together otherwise. Knows finished responses and a plan's times; measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .method.modes import MODES
from .method.plan import Plan
from .method.roles import Role
from .results import Result

_ENOUGH = 16
"""Tokens of the leader, each evaluated by itself, that tell how long one takes."""


@dataclass(frozen=True)
class Alone:
    """Seconds of the leader alone, and how they are known: "measured" or "predicted"."""

    seconds: float
    how: str

    def share(self, seconds: float) -> str:
        """So many seconds against it, in words."""
        return f"{seconds / self.seconds:.0%} of the leader alone ({self.how})"


@dataclass
class _Pace:
    """Tokens of the leader and the seconds that they took, one by one."""

    n_tokens: int = 0
    seconds: float = 0.0

    def of_one(self) -> float | None:
        """Seconds of a token; None where too few are known."""
        return self.seconds / self.n_tokens if self.n_tokens >= _ENOUGH and self.seconds else None


class LeaderAlone:
    """What responses show of the leader's pace. They must be of the same models, run in the same way."""

    def __init__(self) -> None:
        self._measured, self._evaluated = _Pace(), _Pace()
        self._results: list[tuple[float, float, int, bool]] = []
        """Of each response: its seconds, those in which the leader read its prompt, tokens, whether it can be told."""

    def add(self, result: Result) -> None:
        """Learn from a response that has ended."""
        n_tokens, cost = len(result.tokens), result.cost[Role.LEADER]
        evaluated = sum(each.seconds for each in result.cost.values())
        n_calls = sum(each.calls for each in result.cost.values())
        if _is_alone(result):
            self._measured.n_tokens += n_tokens
            self._measured.seconds += max(0.0, result.seconds - cost.prompt_seconds)
        elif n_calls:
            around = max(0.0, result.seconds - evaluated) / n_calls  # sampling, the method, the screen
            self._evaluated.n_tokens += cost.decode_tokens
            self._evaluated.seconds += cost.decode_seconds + around * cost.decode_tokens
        if n_tokens and not _is_alone(result):
            self._results.append((result.seconds, cost.prompt_seconds, n_tokens, bool(cost.calls)))

    def of(self, result: Result, plan: Plan) -> Alone | None:
        """How long the leader alone would have taken for this response; None where that is not known, and for its own.

        plan: with both models' times, where they were measured
        """
        cost = result.cost[Role.LEADER]
        if _is_alone(result) or not cost.calls:
            return None
        return self._alone(cost.prompt_seconds, len(result.tokens), plan)

    def of_all(self, plan: Plan) -> tuple[float, Alone] | None:
        """Seconds of all responses that were not written by the leader alone, and how long it would have taken."""
        if not self._results or not all(is_known for *_, is_known in self._results):
            return None
        seconds, prompts, numbers, _ = zip(*self._results, strict=True)
        alone = self._alone(sum(prompts), sum(numbers), plan)
        return (sum(seconds), alone) if alone else None

    def _alone(self, prompt_seconds: float, n_tokens: int, plan: Plan) -> Alone | None:
        pace, how = self._measured.of_one(), "measured"
        if pace is None:
            pace, how = self._evaluated.of_one(), "predicted"
        if pace is None and Role.LEADER in plan.speeds:
            pace = plan.speeds[Role.LEADER].of(1)
        return Alone(prompt_seconds + n_tokens * pace, how) if pace and n_tokens else None


def _is_alone(result: Result) -> bool:
    return MODES[result.sequence.settings.mode].roles == (Role.LEADER,)
