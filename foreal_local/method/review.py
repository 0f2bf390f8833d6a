"""Review: the leader reads what the draft wrote, and takes back what its rule (rules.py) does not accept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .borders import token_of
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
        job.take_back(fallen.token, fallen.reason)
        sequence.settle()
        if len(sequence.views[self.role].ids) == fallen.choice.at:  # else it falls inside one of the draft's tokens
            job.ahead.choices[self.role][fallen.choice.at] = fallen.choice
        return False

    def _places(self, job: Job) -> Sequence[int]:
        """The places in the role's view that it has to look at, as the number of ids before each: where the tokens
        begin, or, where its words are others, where its own ids begin that stand for their text; and the end."""
        sequence, view = job.sequence, job.sequence.views[self.role]
        first = len(sequence.tokens) - self.n_tokens
        if job.vocabulary.is_shared:
            return view.starts[first:]
        end = len(view.ids) + (job.vocabulary.piece(sequence.tokens[-1].author, sequence.tokens[-1].id) is None)
        return range(view.starts[first], max(end, view.starts[first] + 1))

    def _first_unread(self, job: Job) -> int | None:
        """The first of the places that the role has not looked at yet."""
        places, n_read = self._places(job), len(job.reading)
        return places[n_read] if n_read < len(places) else None

    def wanted(self, job: Job) -> Wanted:
        """All ids before the last place: what the role thinks after that is not asked."""
        view, first, last = job.sequence.views[self.role], self._first_unread(job), self._places(job)[-1]
        return Wanted(view.ids[:last], 1 if first is None else last - first + 1)

    def mark_at(self, job: Job) -> int | None:
        ids, n_outputs, _ = self.wanted(job)
        return len(ids) - n_outputs

    def take(self, job: Job, opinion: Opinion) -> None:
        if opinion.at == self._first_unread(job):
            first = len(job.sequence.tokens) - self.n_tokens
            job.reading.append(read_token(job, opinion, _index_of(job, opinion, first, len(job.reading))))


def _index_of(job: Job, opinion: Opinion, first: int, n_read: int) -> int:
    """The response's token that the opinion is about, the n-th that is read of those from `first` on."""
    if job.vocabulary.is_shared:
        return first + n_read
    sequence = job.sequence
    view = sequence.views[opinion.role]
    return token_of(view, opinion.at, opinion.role, sequence.tokens, first, job.vocabulary)


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
        return view.ids[opinion.at] if opinion.at < len(view.ids) else None
    if job.vocabulary.piece(role, opinion.top1) is None:
        return opinion.top1
    return token.id if job.vocabulary.piece(role, token.id) is None else None
