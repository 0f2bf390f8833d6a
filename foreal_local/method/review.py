"""Review: the leader reads what the draft wrote, and takes back what its rule does not accept.

To add a rule, write a class with `accepts` and give it a row of RULES; a knob of its own is a field of config.Method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from .requests import RoleRequest, Wanted
from .roles import Role
from .tokens import Choice, Token

if TYPE_CHECKING:
    from ..config import Method
    from .job import Job
    from .opinion import Opinion


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
    own: whether it is the leader's own choice, too
    accepted: whether the rule accepts it, where it is not
    choice: the leader's token for this place
    reason: why it falls, if it does
    """

    token: int
    own: bool
    accepted: bool = False
    choice: Choice | None = None
    reason: str = ""


@dataclass(frozen=True)
class Review(RoleRequest):
    """`role` reads the last `n_tokens` tokens, which the draft wrote; the answer: do they all stand?

    If not, the first that does not and what follows it are taken back, and the role's own token for that place is
    known.
    """

    n_tokens: int
    decodes: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        sequence = job.sequence
        if job.reading and job.reading[0].token != len(sequence.tokens) - self.n_tokens:  # of another part
            job.reading = []
        if self._first_unread(job) is not None:
            return None
        rule = RULES[sequence.settings.method.review](sequence.settings.method)
        readings, job.reading = job.reading, []
        fallen = first_fallen(readings, rule.n_own_after)
        if fallen is None:
            sequence.settle()
            return True
        sequence.rewind(fallen.token, fallen.reason, by_flow=True)
        sequence.settle()
        job.forget_ahead()
        assert fallen.choice is not None
        job.ahead.choices[fallen.choice.at] = fallen.choice
        return False

    def _first_unread(self, job: Job) -> int | None:
        """The first of the tokens that the role has not read yet."""
        first = len(job.sequence.tokens) - self.n_tokens + len(job.reading)
        return first if first < len(job.sequence.tokens) else None

    def wanted(self, job: Job) -> Wanted:
        """All but the last token's ids: what the role thinks after it is not asked."""
        view, first = job.sequence.views[self.role], self._first_unread(job)
        ids = view.ids[: view.starts[-1]]
        return Wanted(ids, 1 if first is None else len(ids) - view.starts[first] + 1)

    def mark_at(self, job: Job) -> int | None:
        ids, n_outputs, _ = self.wanted(job)
        return len(ids) - n_outputs

    def take(self, job: Job, opinion: Opinion) -> None:
        first = self._first_unread(job)
        if first is not None and opinion.at == job.sequence.views[self.role].starts[first]:
            job.reading.append(read_token(job, opinion, first))


def note_own(job: Job, choice: Choice, ids: Mapping[Role, tuple[int, ...]]) -> None:
    """The draft's token that is about to be written need not be read in a review, if nothing before it must be read and
    the leader, when it read the draft's proposals, has chosen the same.

    ids: the token as each role reads it
    """
    sequence, leader = job.sequence, Role.LEADER
    if choice.role is leader or not job.ahead.choices or not sequence.rewrites:
        return
    known = job.ahead.choices.get(len(sequence.views[leader].ids))
    if known is None or known.role is not leader or known.n_drawn != choice.n_drawn or (known.token,) != ids[leader]:
        return
    first, index = sequence.n_settled, len(sequence.tokens)
    if job.reading and job.reading[0].token != first:  # of another part
        job.reading = []
    if index == first + len(job.reading):
        job.reading.append(Reading(index, own=True))


def first_fallen(readings: list[Reading], n_own_after: int) -> Reading | None:
    """The first token that does not stand."""
    for i, reading in enumerate(readings):
        following = readings[i + 1 : i + 1 + n_own_after]
        if not reading.own and not (
            reading.accepted and len(following) == n_own_after and all(after.own for after in following)
        ):
            return reading
    return None


def read_token(job: Job, opinion: Opinion, index: int) -> Reading:
    """What the leader, by its opinion of the place, thinks of the response's token of this index."""
    sequence, role = job.sequence, opinion.role
    token = sequence.tokens[index]
    written, n_drawn = _id_for(job, token, index, opinion), token.n_drawn
    rng = None if sequence.settings.sampling.greedy else sequence.random_at(n_drawn)
    choice = job.choice_from(opinion, sequence.views[role].ids[: opinion.at], n_drawn, rng)
    if choice.token == written:
        return Reading(index, own=True)
    method = sequence.settings.method
    rule = RULES[method.review](method)
    accepted = written is not None and rule.accepts(opinion, written)
    may_fall = not accepted or rule.n_own_after > 0
    return Reading(index, False, accepted, choice, _reason(opinion, written, choice, method) if may_fall else "")


def _id_for(job: Job, token: Token, index: int, opinion: Opinion) -> int | None:
    """The token as the leader's id: the first where it reads it as several; None where it has none like it.

    Any end is the leader's end, where that is its most likely token.
    """
    role, view = opinion.role, job.sequence.views[opinion.role]
    if job.vocabulary.piece(token.author, token.id) is not None:
        return view.ids[view.starts[index]]
    if job.vocabulary.piece(role, opinion.top1) is None:
        return opinion.top1
    return token.id if job.vocabulary.piece(role, token.id) is None else None


def _reason(opinion: Opinion, token: int | None, choice: Choice, method: Method) -> str:
    """For the trace: the rule, and the probabilities of the draft's token and the leader's."""
    written = 0.0 if token is None else opinion.probability(token)
    return (
        f"review {method.review}: probability {written:.3g}, the leader's token {opinion.probability(choice.token):.3g}"
    )
