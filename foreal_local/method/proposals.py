"""Proposals: what is evaluated behind the stream before it is written.

A proposal is what the draft has behind the stream and the proposals before it: its top-1, or where its tokens are
reviewed what it would write itself, with that place's random number. The leader reads all of them in one row. It
chooses its own token at each place, as far as they are the same, and one more; and where the draft's tokens are
reviewed, it judges them as far as they stand, whatever sentences they make. None of this decides who writes what:
requests are answered from it where they can be, as evaluations token by token would answer them (up to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .roles import Role
from .rules import Reading, reading_of
from .tokens import Choice
from .view import View, n_common

if TYPE_CHECKING:
    import numpy as np

    from .job import Job
    from .opinion import Opinion
    from .sequence import Sequence


@dataclass(slots=True)
class Ahead:
    """What is known of the places behind the stream. It lasts as long as the stream goes along the proposals.

    ids: the proposals as each role reads them, also those that are part of the stream by now
    base: the length of each role's view when the first of them was made
    top1s: each role's most likely token after so many ids of its view, at places that were asked about
    choices: each role's own tokens along the proposals, by the number of ids before each
    readings: what the leader thinks of the proposals, by the number of its ids before each
    along, stands: while it reads them: whether all so far were its own; whether its rule has accepted all so far
    rng: the random numbers that its own are drawn with
    """

    ids: dict[Role, list[int]] = field(default_factory=lambda: {role: [] for role in Role})
    base: dict[Role, int] = field(default_factory=dict)
    top1s: dict[Role, dict[int, int]] = field(default_factory=lambda: {role: {} for role in Role})
    choices: dict[Role, dict[int, Choice]] = field(default_factory=lambda: {role: {} for role in Role})
    readings: dict[int, Reading] = field(default_factory=dict)
    along: bool = False
    stands: bool = False
    rng: np.random.Generator | None = None

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

    def put(self, role: Role, ids: list[int], views: dict[Role, View]) -> None:
        """All proposals, as the role reads them together."""
        self.base[role], self.ids[role] = len(views[role].ids), ids

    @property
    def is_one_to_one(self) -> bool:
        """Whether the leader reads each proposal as one token of its own."""
        return len(self.ids[Role.LEADER]) == len(self.ids[Role.DRAFT])

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
            chosen = self.choices[role]
            self.choices[role] = {at: choice for at, choice in chosen.items() if len(view.ids) <= at <= n}
        for ids in self.ids.values():
            ids.clear()
        self.readings.clear()
        return common


def with_proposals(job: Job, role: Role) -> tuple[list[int], int]:
    """A role's view and what is proposed behind it, and at how many of the last of these ids an opinion is wanted: all
    is read in one row."""
    view, proposed = job.sequence.views[role], job.proposed_to(role)
    job.n_offered = len(proposed)  # more may follow while they are read
    return (view.ids + proposed, len(proposed) + 1) if proposed else (view.ids, 1)


def note_place(job: Job, opinion: Opinion) -> None:
    """What the draft proposes after the ids that the opinion is about."""
    sequence, ahead, role = job.sequence, job.ahead, opinion.role
    ahead.top1s[role][opinion.at] = opinion.top1
    if _are_drawn(sequence):
        view = sequence.views[role]
        ids = (view.ids + ahead.behind(role, view))[: opinion.at]
        n_drawn = sequence.n_drawn + max(0, opinion.at - len(view.ids))
        rng = None if sequence.settings.sampling.greedy else sequence.random_at(n_drawn)
        ahead.choices[role][opinion.at] = job.choice_from(opinion, ids, n_drawn, rng)


def _are_drawn(sequence: Sequence) -> bool:
    """Whether a proposal is what the draft would write, and that may be another token than its top-1."""
    return sequence.rewrites and not sequence.settings.sampling.takes_top1


def proposal_at(job: Job, role: Role, at: int) -> int | None:
    """What the draft proposes after so many ids of its view and its proposals, where that is known."""
    if _are_drawn(job.sequence):
        choice = job.ahead.choices[role].get(at)
        return None if choice is None else choice.token
    return job.top1_at(role, at)


def propose_known(job: Job, role: Role) -> bool:
    """Propose what the role has behind the stream and its proposals, where that is known; False where it is an end."""
    views = job.sequence.views
    token = proposal_at(job, role, len(views[role].ids) + len(job.ahead.behind(role, views[role])))
    if token is None or job.vocabulary.piece(role, token) is None:
        return False  # it would end the response
    vocabulary = job.vocabulary
    if vocabulary.is_shared:
        job.ahead.add({reader: vocabulary.translate(role, token, reader) for reader in views}, views)
        return True
    if not job.ahead.ids[role]:
        job.forget_proposals()  # the leader's are of other ones
    job.ahead.add({role: (token,)}, views)
    pieces = [vocabulary.piece(role, own) or b"" for own in job.ahead.behind(role, views[role])]
    text = b"".join(pieces).decode("utf-8", "ignore")  # half a character waits for its other half
    job.ahead.put(role.other, vocabulary.encode(role.other, text), views)
    return True


def read_place(job: Job, opinion: Opinion) -> None:
    """What the leader thinks of one place of the proposals: its own token there, if all before it were its own; and of
    the draft's token there, if its rule has accepted all before it."""
    sequence, ahead, role = job.sequence, job.ahead, opinion.role
    view, proposed = sequence.views[role].ids, job.proposed_to(role)
    n, greedy = opinion.at - len(view), sequence.settings.sampling.greedy
    if n == 0:
        sequence.count_proposals(n_proposed=job.n_offered)
        ahead.along = True
        ahead.stands = sequence.rewrites and job.vocabulary.is_shared and ahead.is_one_to_one
        ahead.rng = None if greedy else sequence.random_at(sequence.n_drawn)
    if not (ahead.along or ahead.stands):
        return
    n_drawn = sequence.n_drawn if greedy else sequence.n_drawn + n
    choice = job.choice_from(opinion, view + proposed[:n], n_drawn, ahead.rng)
    if ahead.along:
        ahead.choices[role][opinion.at] = choice
        ahead.along = proposed[n : n + 1] == [choice.token]
    if ahead.stands and n < len(proposed):
        reading = reading_of(opinion, len(sequence.tokens) + n, proposed[n], choice, sequence.settings.method)
        ahead.readings[opinion.at] = reading
        ahead.stands = reading.own or reading.accepted
    if n < job.n_offered:
        is_accepted = ahead.along or ahead.stands
        sequence.count_proposals(n_accepted=int(is_accepted), n_rejected=int(not is_accepted))


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
    if sequence.settings.method.proposals == 0 or sequence.ending is not None or not job.vocabulary.is_shared:
        return False
    reads_draft = sequence.n_settled < len(sequence.tokens) and sequence.settings.sampling.takes_top1
    return reads_draft or bool(job.proposed_to(Role.LEADER))
