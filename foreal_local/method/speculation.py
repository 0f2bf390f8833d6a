"""Speculation: what is evaluated behind the stream before it is written.

A proposal is the draft's top-1 after the stream and the proposals before it. The leader reads all of them in one row
and chooses its own token at each place, as far as they are the same, and one more. None of this decides who writes
what: requests are answered from it where they can be, as evaluations token by token would answer them (up to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .requests import RoleRequest, Wanted
from .roles import Role
from .tokens import Choice
from .view import View, n_common

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion


@dataclass(slots=True)
class Ahead:
    """What is known of the places behind the stream. It lasts as long as the stream goes along the proposals.

    ids: the proposals as each role reads them, also those that are part of the stream by now
    base: the length of each role's view when the first of them was made
    top1s: each role's most likely token after so many ids of its view, at places that were asked about
    choices: the leader's own tokens along the proposals, by the number of ids before each
    """

    ids: dict[Role, list[int]] = field(default_factory=lambda: {role: [] for role in Role})
    base: dict[Role, int] = field(default_factory=dict)
    top1s: dict[Role, dict[int, int]] = field(default_factory=lambda: {role: {} for role in Role})
    choices: dict[int, Choice] = field(default_factory=dict)

    def behind(self, role: Role, view: View) -> list[int]:
        """The proposals that are not part of the role's view yet."""
        ids = self.ids[role]
        return ids[len(view.ids) - self.base[role] :] if ids else ids

    def add(self, ids: dict[Role, tuple[int, ...]], views: dict[Role, View]) -> None:
        """One more proposal, as each role reads it."""
        for role, own in ids.items():
            if not self.ids[role]:
                self.base[role] = len(views[role].ids)
            self.ids[role] += own

    def cut(self, role: Role, n_ids: int) -> None:
        """Leave out the last of the proposals, so that n_ids are left behind the first `base` ids of the view."""
        del self.ids[role][n_ids:]

    def goes_on(self, views: dict[Role, View]) -> bool:
        """Whether the stream goes along the proposals, and some are still behind it."""
        for role, ids in self.ids.items():
            if ids:
                base = self.base[role]
                n = len(views[role].ids) - base
                if n >= len(ids) or views[role].ids[base:] != ids[:n]:
                    return False
        return True

    def drop(self, views: dict[Role, View]) -> dict[Role, int]:
        """Forget what is not part of the stream; how many ids each role's cache has in common with it."""
        common = {}
        for role, view in views.items():
            n = len(view.ids)
            if self.ids[role]:
                base = self.base[role]
                n = common[role] = min(n, base + n_common(self.ids[role], view.ids[base:]))
            self.top1s[role] = {at: token for at, token in self.top1s[role].items() if at <= n}
            self.choices = {
                at: choice for at, choice in self.choices.items() if choice.role is not role or len(view.ids) <= at <= n
            }
        for ids in self.ids.values():
            ids.clear()
        return common


@dataclass(frozen=True)
class Propose(RoleRequest):
    """`role` proposes a token behind the stream and its earlier proposals; the answer: may it propose another?

    There is none where the leader's next token is known, or where a proposal would have no room or no use: the leader
    then writes with those that there are.

    n_unjudged: how many of the stream's last tokens are to be judged, so that its top-1 is wanted at their places, too
    """

    n_unjudged: int = 0
    lasting: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        n_behind = len(job.ahead.behind(self.role, job.sequence.views[self.role]))
        leader = self.role.other
        is_known = job.choice_ahead(leader) is not None or job.holds(leader)
        if is_known or max(n_behind, job.n_proposed) >= job.plan.most_proposals(job.sequence) or not has_room(job):
            return False
        if job.top1_at(self.role, len(job.sequence.views[self.role].ids) + n_behind) is None:
            return None
        job.n_proposed += 1
        return propose_known(job, self.role)

    def wanted(self, job: Job) -> Wanted:
        view = job.sequence.views[self.role]
        ids = view.ids + job.ahead.behind(self.role, view)
        first = job.first_unknown(self.role, self.n_unjudged) if self.n_unjudged else None
        return Wanted(ids, 1 if first is None else len(ids) - first + 1)

    def take(self, job: Job, opinion: Opinion) -> None:
        job.ahead.top1s[self.role][opinion.at] = opinion.top1

    def mark_at(self, job: Job) -> int | None:
        if job.ahead.behind(self.role, job.sequence.views[self.role]):
            return None
        ids, n_outputs, _ = self.wanted(job)
        return len(ids) - n_outputs


def propose_known(job: Job, role: Role) -> bool:
    """Propose the role's top-1 behind the stream and its proposals, where it is known; False where it is an end."""
    views = job.sequence.views
    top1 = job.top1_at(role, len(views[role].ids) + len(job.ahead.behind(role, views[role])))
    if top1 is None or job.vocabulary.piece(role, top1) is None:
        return False  # it would end the response
    job.ahead.add({reader: job.vocabulary.translate(role, top1, reader) for reader in views}, views)
    return True


def has_room(job: Job) -> bool:
    """Whether one more proposal fits both contexts and the response."""
    sequence, views = job.sequence, job.sequence.views
    n_behind = {role: len(job.ahead.behind(role, view)) for role, view in views.items()}
    most, n_coming = sequence.settings.max_tokens, len(sequence.tokens) + n_behind[Role.LEADER] + 1
    full = any(len(view.ids) + n_behind[role] >= job.n_ctx[role] for role, view in views.items())
    return not full and (most is None or n_coming < most)


def is_of_use(job: Job) -> bool:
    """Whether what the draft proposes while the leader reads may be used: the leader reads its text, or proposals."""
    sequence = job.sequence
    if sequence.settings.method.proposals == 0 or sequence.ending is not None:
        return False
    reads_draft = sequence.n_settled < len(sequence.tokens) and sequence.settings.sampling.takes_top1
    return reads_draft or bool(job.proposed_to(Role.LEADER))
