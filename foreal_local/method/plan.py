"""How many tokens to propose at a time: what is written does not hang on it, only how fast.

A round of m proposals costs m tokens of the draft's and one evaluation of m + 1 tokens by the leader. Where each
proposal is accepted with chance a, it writes 1 + a + ... + a^m tokens (arXiv 2211.17192). The plan is the m that writes
the most tokens in a second, of those that were timed. Knows times and counts; no model and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .modes import MODES
from .roles import Role

if TYPE_CHECKING:
    from ..config import Generation
    from .sequence import Sequence

UNMEASURED = 5
"""Proposals at a time in mode speculative, where nothing is known of the models' speed; elsewhere there are none."""
MOST = 31
FEWEST_OWN = 16
"""Tokens of its own that the draft proposes at a time where a number is given: a sentence's, or the leader would read
more often than once for each."""
LEAST_GAIN = 1.05
"""How much faster than the leader alone a plan with the draft must be, to be worth its noise."""
_STEPS = 50
_PRIOR_ACCEPTANCE, _PRIOR_TOKENS = 0.8, 10
"""What is assumed of the draft before a response has shown it, and for how many tokens that counts."""
_TOKENS_PER_DOUBT = 16
"""Tokens that are written without a proposal until the assumption counts for one token more: the draft is tried
again after a while, seldom enough to cost little where it goes on to fail."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one model's evaluations, by tokens of each sequence, as many sequences side by side as there are.

    seconds: at the sizes that were measured, 1 among them
    """

    seconds: Mapping[int, float]

    def of(self, n_tokens: float) -> float:
        """Of so many tokens, or as many in the mean: between two sizes on the straight line between them, beyond the
        largest in proportion to it."""
        sizes = sorted(self.seconds)
        above = next((size for size in sizes if size >= n_tokens), None)
        if above is None:
            return self.seconds[sizes[-1]] * n_tokens / sizes[-1]
        below = max((size for size in sizes if size <= n_tokens), default=above)
        if below == above:
            return self.seconds[above]
        share = (n_tokens - below) / (above - below)
        return self.seconds[below] * (1 - share) + self.seconds[above] * share


@dataclass(frozen=True)
class Plan:
    """Decides for the responses of a scheduler.

    speeds: of both models; {}: not measured
    choice: why mode auto writes in the way it does, where it had several to choose from
    """

    speeds: Mapping[Role, Speed]
    choice: str = ""

    def most_proposals(self, sequence: Sequence, own_part: bool = False) -> int:
        """Tokens to propose to the leader at a time.

        own_part: they are what the draft will write itself, nearly all of which the leader lets stand
        """
        settings, wanted = sequence.settings, sequence.settings.method.proposals
        if wanted is not None:
            return max(wanted, FEWEST_OWN) if own_part and wanted else wanted
        always = settings.mode == "speculative"
        if len(self.speeds) < len(Role):
            return UNMEASURED if always else 0
        n_tested = sequence.n_accepted + sequence.n_rejected
        weight = _PRIOR_TOKENS + max(0, len(sequence.tokens) - n_tested) / _TOKENS_PER_DOUBT
        acceptance = (sequence.n_accepted + _PRIOR_ACCEPTANCE * weight) / (n_tested + weight)
        best, gain = self._bests[round(_STEPS * acceptance)]
        return best if always or gain >= LEAST_GAIN else 0

    def decides(self, settings: Generation) -> bool:
        """Whether it is the plan, and times that were measured, that say how many are proposed with these settings."""
        return bool(self.speeds) and settings.method.proposals is None and MODES[settings.mode].speculates

    @cached_property
    def _bests(self) -> list[tuple[int, float]]:
        """`best` for shares of acceptance from 0 to 1: it is asked before each of the leader's tokens."""
        return [self.best(i / _STEPS) for i in range(_STEPS + 1)]

    def best(self, acceptance: float) -> tuple[int, float]:
        """The fastest number of proposals, at least one, and its speed against the leader alone.

        Only numbers for which the leader's evaluation was measured: its time does not rise evenly with its tokens.
        """
        sizes = [size for size in self.speeds[Role.LEADER].seconds if 1 < size <= MOST + 1]
        gains = {m: self.gain(m, acceptance) for m in ([size - 1 for size in sizes] or [1])}
        best = max(gains, key=lambda m: gains[m])
        return best, gains[best]

    def gain(self, n_proposals: int, acceptance: float) -> float:
        """Speed with so many proposals against the leader alone."""
        leader, draft = self.speeds[Role.LEADER], self.speeds[Role.DRAFT]
        n_written = sum(acceptance**i for i in range(n_proposals + 1))
        seconds = n_proposals * draft.of(1) + leader.of(n_proposals + 1)
        return n_written * leader.of(1) / seconds

    @property
    def expected(self) -> tuple[int, float]:
        """The best before anything is written."""
        return self.best(_PRIOR_ACCEPTANCE)

    def describe(self) -> str:
        """What was measured, and what follows from it, in a sentence."""
        leader, draft = self.speeds[Role.LEADER], self.speeds[Role.DRAFT]
        best, gain = self.expected
        costs = (
            f"a draft's token takes {draft.of(1) / leader.of(1):.2f} of a leader's, reading {best + 1} at once "
            f"{leader.of(best + 1) / leader.of(1):.1f}"
        )
        if gain < LEAST_GAIN:
            return f"none pay here: {costs}"
        return f"up to {best} at a time: {costs}; {gain:.1f} times as fast as the leader alone, if 4 of 5 are accepted"

    def as_dict(self) -> dict[str, Any]:
        """What was measured, in milliseconds, and the number of proposals that follows from it."""
        best, gain = self.expected
        found: dict[str, Any] = {"proposals": best if gain >= LEAST_GAIN else 0, "gain": round(gain, 3)}
        for role, speed in self.speeds.items():
            found[f"{role}_ms"] = {str(size): round(1e3 * speed.seconds[size], 3) for size in sorted(speed.seconds)}
        return found


UNMEASURED_PLAN = Plan({})
