"""Speculation: what the draft proposes behind the stream, how the leader verifies it, and how it is taken back.

A proposal is the draft's top-1 after the stream and the proposals before it. The leader evaluates the proposals in one
row and writes its own token at each place, as far as they are the same, and one more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .requests import RoleRequest, Wanted, Written
from .roles import Role
from .view import n_common

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion


@dataclass(slots=True)
class Proposals:
    """Tokens behind the stream that both caches may have evaluated.

    ids: the proposals as each role reads them
    base: the length of each role's view when the first was made
    n_accepted: how many of them the leader has written itself so far; None once it wrote another token
    verified: the leader has read them all, and the flow is to hear of it
    """

    ids: dict[Role, list[int]] = field(default_factory=lambda: {role: [] for role in Role})
    base: dict[Role, int] = field(default_factory=dict)
    n_accepted: int | None = 0
    verified: bool = False

    def behind(self, role: Role, view: list[int]) -> list[int]:
        """The role's view with the proposals behind it."""
        return view + self.ids[role]

    def n_in_stream(self, role: Role, view: list[int]) -> int | None:
        """How many ids a cache that has read proposals shares with the stream; None where nothing is proposed."""
        if not self.ids[role]:
            return None
        base = self.base[role]
        return base + n_common(self.ids[role], view[base:])

    def forget(self) -> None:
        for ids in self.ids.values():
            ids.clear()
        self.n_accepted = 0


@dataclass(frozen=True)
class Propose(RoleRequest):
    """`role` proposes a token behind the stream and its earlier proposals; the answer: may it propose another?

    There is none where it would have no room, or no use: the leader then writes without another.
    """

    lasting: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        sequence, proposals = job.sequence, job.proposals
        n_ids = len(sequence.views[self.role].ids) + len(proposals.ids[self.role])
        if opinion is None or opinion.role is not self.role or opinion.at != n_ids:
            return None if self._has_room(job) else False
        if job.vocabulary.piece(self.role, opinion.top1) is None:
            return False  # it would end the response
        for reader, ids in proposals.ids.items():
            if not ids:
                proposals.base[reader] = len(sequence.views[reader].ids)
            ids += job.vocabulary.translate(self.role, opinion.top1, reader)
        return True

    @staticmethod
    def _has_room(job: Job) -> bool:
        sequence, ids = job.sequence, job.proposals.ids
        most, n_coming = sequence.settings.max_tokens, len(sequence.tokens) + len(ids[Role.LEADER]) + 1
        full = any(len(sequence.views[role].ids) + len(ids[role]) >= job.n_ctx[role] for role in ids)
        return not full and (most is None or n_coming < most)

    def wanted(self, job: Job) -> Wanted:
        return Wanted(job.proposals.behind(self.role, job.sequence.views[self.role].ids))

    def mark_at(self, job: Job) -> int | None:
        return None if job.proposals.ids[self.role] else len(job.sequence.views[self.role].ids) - 1


@dataclass(frozen=True)
class Verify(RoleRequest):
    """`role` writes its own tokens: along the proposals as far as they are the same, then one more.

    Sentences that end on the way are followed by others at once. The answer says nothing.
    """

    def answer(self, job: Job, opinion: Opinion | None) -> Written | None:
        if not job.proposals.verified:
            return None
        job.proposals.verified = False
        return Written(ends_sentence=False)

    def wanted(self, job: Job) -> Wanted:
        view, proposed = job.sequence.views[self.role].ids, job.proposals.ids[self.role]
        del proposed[max(0, job.n_ctx[self.role] - len(view)) :]  # a token of the draft can be several of the leader's
        return Wanted(job.proposals.behind(self.role, view), len(proposed) + 1)

    def mark_at(self, job: Job) -> int | None:
        return len(job.sequence.views[self.role].ids) - 1

    def take(self, job: Job, opinion: Opinion) -> None:
        """Write the leader's token at this place, if all proposals before it were its own."""
        proposals, sequence = job.proposals, job.sequence
        proposed = proposals.ids[self.role]
        n_places = opinion.at - proposals.base.get(self.role, opinion.at) if proposed else 0
        if proposals.n_accepted is not None and not sequence.finished:
            self._write(job, opinion)
        if n_places == len(proposed):
            job.forget_proposals()
            proposals.verified = True

    def _write(self, job: Job, opinion: Opinion) -> None:
        proposals, sequence = job.proposals, job.sequence
        assert proposals.n_accepted is not None
        proposed = proposals.ids[self.role]
        if proposals.n_accepted == 0:
            sequence.count_proposals(n_proposed=len(proposed))
        choice = job.choice_from(opinion)
        written = Written(ends_sentence=True, added=False)
        while not written.added:
            written = job.commit_or_hold(choice)
            if written.ends_sentence and not sequence.finished:
                job.open_next_sentence()
        same = proposed[proposals.n_accepted : proposals.n_accepted + 1] == [choice.token]
        sequence.count_proposals(n_accepted=int(same))
        proposals.n_accepted = proposals.n_accepted + 1 if same else None
