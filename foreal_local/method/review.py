"""Review: the leader reads what the draft wrote, and takes back what its rule (rules.py) does not accept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .requests import RoleRequest, Wanted
from .rules import RULES, Reading, first_fallen, reading_of
from .tokens import Token

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion


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
        job.ahead.choices[self.role][fallen.choice.at] = fallen.choice
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


def read_token(job: Job, opinion: Opinion, index: int) -> Reading:
    """What the leader, by its opinion of the place, thinks of the response's token of this index."""
    sequence, role = job.sequence, opinion.role
    token = sequence.tokens[index]
    written, n_drawn = _id_for(job, token, index, opinion), token.n_drawn
    rng = None if sequence.settings.sampling.greedy else sequence.random_at(n_drawn)
    choice = job.choice_from(opinion, sequence.views[role].ids[: opinion.at], n_drawn, rng)
    return reading_of(opinion, index, written, choice, sequence.settings.method)


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
