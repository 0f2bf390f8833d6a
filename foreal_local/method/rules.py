"""Rules: which of the draft's tokens the leader lets stand, and what it thinks of one.

To add a rule, write a class with `accepts` and give it a row of RULES; a knob of its own is a field of
method/settings.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from .roles import Role
from .tokens import Choice

if TYPE_CHECKING:
    from ..config import Method
    from .job import Job
    from .opinion import Opinion
    from .view import Tail


class Rule(Protocol):
    """Which of the draft's tokens stand, although the leader would have written another.

    n_own_after: such a token stands only if the leader would have written the next so many itself
    """

    @property
    def n_own_after(self) -> int: ...

    def accepts(self, opinion: Opinion, token: int) -> bool:
        """Whether the token (the leader's id) may stand at the place of the leader's opinion."""
        ...


@dataclass(frozen=True)
class Exact:
    """None: what stands is what the leader would have written."""

    n_own_after: ClassVar[int] = 0

    def accepts(self, opinion: Opinion, token: int) -> bool:
        return False


@dataclass(frozen=True)
class Ratio:
    """p(x) >= tau * max p: the token-wise deferral rule of speculative cascades (arXiv 2405.19261, TokenV3) with
    alpha = 1 - tau."""

    tau: float
    n_own_after: ClassVar[int] = 0

    def accepts(self, opinion: Opinion, token: int) -> bool:
        return opinion.relative(token) >= self.tau


@dataclass(frozen=True)
class Fly:
    """The leader is undecided (the entropy of its top 3 tokens, in nats, is theta or more), and goes on as the draft
    did for the next tokens (FLy, arXiv 2511.22972). Where fewer follow in what is reviewed, the token falls."""

    theta: float
    n_own_after: int

    def accepts(self, opinion: Opinion, token: int) -> bool:
        return opinion.entropy(3, of_all=True) >= self.theta


@dataclass(frozen=True)
class Typical:
    """p(x) > min(eps, delta * exp(-H(p))): typical acceptance (Medusa, arXiv 2401.10774)."""

    eps: float
    delta: float
    n_own_after: ClassVar[int] = 0

    def accepts(self, opinion: Opinion, token: int) -> bool:
        return opinion.probability(token) > min(self.eps, self.delta * math.exp(-opinion.entropy()))


OFF = "off"
RULES: dict[str, Callable[[Method], Rule]] = {
    "exact": lambda method: Exact(),
    "ratio": lambda method: Ratio(method.tau),
    "fly": lambda method: Fly(method.fly_theta, method.fly_window),
    "typical": lambda method: Typical(method.typical_eps, method.typical_delta),
}
"""The rules by name, each made from the method's settings; OFF is none of them."""


class Reading(NamedTuple):
    """What the leader thinks of one of the draft's tokens.

    token: its place among the response's tokens
    id: the token as the leader reads it
    choice: the leader's token for this place
    own: whether they are the same
    accepted: whether the rule accepts it, where they are not
    reason: why it falls, if it does
    """

    token: int
    id: int | None
    choice: Choice
    own: bool
    accepted: bool = False
    reason: str = ""


def reading_of(opinion: Opinion, index: int, written: int | None, choice: Choice, method: Method) -> Reading:
    """What the leader thinks of the draft's token `written` (the leader's id) where it would write `choice` itself."""
    if choice.token == written:
        return Reading(index, written, choice, own=True)
    rule = RULES[method.review](method)
    accepted = written is not None and rule.accepts(opinion, written)
    may_fall = not accepted or rule.n_own_after > 0
    return Reading(
        index, written, choice, False, accepted, _reason(opinion, written, choice, method) if may_fall else ""
    )


def first_fallen(readings: list[Reading], n_own_after: int) -> Reading | None:
    """The first token that does not stand."""
    for i, reading in enumerate(readings):
        following = readings[i + 1 : i + 1 + n_own_after]
        if not reading.own and not (
            reading.accepted and len(following) == n_own_after and all(after.own for after in following)
        ):
            return reading
    return None


def note_read(job: Job, choice: Choice, ids: Mapping[Role, tuple[int, ...] | Tail]) -> None:
    """The draft's token that is about to be written need not be read in a review, if nothing before it must be read and
    the leader has read it ahead, or has chosen the same itself.

    ids: the token as each role reads it
    """
    sequence, leader = job.sequence, Role.LEADER
    if choice.role is leader or not sequence.rewrites:
        return
    at, index = len(sequence.views[leader].ids), len(sequence.tokens)
    reading, own = job.ahead.readings.get(at), job.ahead.choices[leader].get(at)
    if reading is None and own is not None:
        reading = Reading(index, own.token, own, own=True)
    if reading is None or (reading.id,) != ids[leader] or reading.choice.n_drawn != choice.n_drawn:
        return
    first = sequence.n_settled
    if job.reading and job.reading[0].token != first:  # of another part
        job.reading = []
    if index == first + len(job.reading):
        job.reading.append(reading)


def has_fallen(job: Job) -> bool:
    """Whether a token that is written, and not reviewed yet, is known to fall."""
    readings = job.reading
    is_of_this_part = bool(readings) and readings[0].token == job.sequence.n_settled
    return is_of_this_part and not (readings[-1].own or readings[-1].accepted)


def _reason(opinion: Opinion, token: int | None, choice: Choice, method: Method) -> str:
    """For the trace: the rule, and the probabilities of the draft's token and the leader's."""
    written = 0.0 if token is None else opinion.probability(token)
    return (
        f"review {method.review}: probability {written:.3g}, the leader's token {opinion.probability(choice.token):.3g}"
    )
