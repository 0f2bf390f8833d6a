"""Speculation: the draft proposes (proposals.py), and the leader reads ahead what the draft is about to write.

Their answers say whether there is more to evaluate ahead; what is written, and by whom, does not hang on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .hits import first_unknown
from .proposals import has_room, note_place, proposal_at, propose_known, read_place, with_proposals
from .requests import RoleRequest, Wanted
from .rules import has_fallen

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion


@dataclass(frozen=True)
class Propose(RoleRequest):
    """`role` proposes a token behind the stream and its earlier proposals; the answer: may it propose another?

    There is none where the leader's next token is known, or where a proposal would have no room or no use: the leader
    then writes, or reads, with those that there are.

    n_unjudged: how many of the stream's last tokens are to be judged, so that its top-1 is wanted at their places, too
    own_part: it proposes what it is about to write itself, for the leader to read
    """

    n_unjudged: int = 0
    own_part: bool = False
    lasting: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        sequence = job.sequence
        if self._is_known(job) or (self.own_part and not job.vocabulary.is_shared):
            return False
        n_behind = len(job.ahead.behind(self.role, sequence.views[self.role]))
        if max(n_behind, job.n_proposed) >= job.plan.most_proposals(sequence, self.own_part) or not has_room(job):
            return False
        if proposal_at(job, self.role, len(sequence.views[self.role].ids) + n_behind) is None:
            return None
        job.n_proposed += 1
        return propose_known(job, self.role)

    def _is_known(self, job: Job) -> bool:
        """Whether it is known already what comes next, or what the leader thinks of it."""
        leader = self.role.other
        if self.own_part:
            if job.holds(self.role):
                return True
            job.sequence.drop_peek()  # the leader's, if there is one: this place is the draft's
            return has_fallen(job) or len(job.sequence.views[leader].ids) in job.ahead.readings
        return job.choice_ahead(leader) is not None or job.holds(leader)

    def wanted(self, job: Job) -> Wanted:
        view = job.sequence.views[self.role]
        ids = view.ids + job.ahead.behind(self.role, view)
        first = first_unknown(job, self.role, self.n_unjudged) if self.n_unjudged else None
        return Wanted(ids, 1 if first is None else len(ids) - first + 1)

    def take(self, job: Job, opinion: Opinion) -> None:
        note_place(job, opinion)

    def mark_at(self, job: Job) -> int | None:
        if job.ahead.behind(self.role, job.sequence.views[self.role]):
            return None
        ids, n_outputs, _ = self.wanted(job)
        return len(ids) - n_outputs


@dataclass(frozen=True)
class ReadAhead(RoleRequest):
    """`role`, the leader, reads what the draft is about to write, so that no review need evaluate it. The answer: does
    all that was written since the last review stand, as far as that is known?"""

    lasting: ClassVar[bool] = False
    decodes: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        views, ahead = job.sequence.views, job.ahead
        if has_fallen(job):
            return False
        is_of_use = job.vocabulary.is_shared and ahead.is_one_to_one and len(views[self.role].ids) not in ahead.readings
        return None if is_of_use and job.proposed_to(self.role) else True

    def wanted(self, job: Job) -> Wanted:
        return Wanted(*with_proposals(job, self.role))

    def take(self, job: Job, opinion: Opinion) -> None:
        read_place(job, opinion)

    def mark_at(self, job: Job) -> int | None:
        return len(job.sequence.views[self.role].ids) - 1
