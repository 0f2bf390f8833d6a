"""The draft goes on while the leader reads: it proposes what would come next if the leader accepts all it reads.

A GPU that computes for one of them has room for the other, above all for a draft, whose time is that of its launches.
Nothing that is written hangs on how far the draft comes. Knows the jobs' places ahead and the model protocol.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

from ..errors import SequenceError
from ..method.job import Job
from ..method.plan import MOST
from ..method.proposals import has_room, is_of_use, note_place, proposal_at, propose_known
from ..method.roles import Role
from .accounting import Accounts, Turn
from .model import Model, Output, Row


class Beside:
    """Evaluates for the leader in a thread of its own, and lets the draft propose meanwhile."""

    def __init__(self, models: dict[Role, Model], accounts: Accounts) -> None:
        self._models, self._accounts = models, accounts
        self._threads: ThreadPoolExecutor | None = None

    def is_possible(self, role: Role, jobs: list[Job]) -> bool:
        """Whether both models can run side by side now, and the draft has something to do for the only job."""
        draft = self._models.get(Role.DRAFT)
        if role is not Role.LEADER or draft is None or len(jobs) != 1 or draft.needs_marks:
            return False
        return draft.runs_beside and self._models[role].runs_beside and is_of_use(jobs[0])

    def evaluate(self, turn: Turn) -> list[Output]:
        """The leader's outputs; the draft has proposed as many tokens as it had time for."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "leader")
        leader = self._models[Role.LEADER]
        reading: Future[list[Output]] = self._threads.submit(lambda: list(leader.evaluate([turn.row])))
        try:
            while not reading.done() and self._propose(turn.job):
                pass
        finally:
            wait([reading])  # nothing may touch the leader's context before
        return reading.result()

    def _propose(self, job: Job) -> bool:
        """One more evaluation or proposal of the draft's; False where there is none to make."""
        view = job.sequence.views[Role.DRAFT]
        behind = job.ahead.behind(Role.DRAFT, view)
        if len(behind) >= MOST or not has_room(job):
            return False
        if proposal_at(job, Role.DRAFT, len(view.ids) + len(behind)) is not None:
            return propose_known(job, Role.DRAFT)
        draft, ids = self._models[Role.DRAFT], view.ids + behind
        before = min(draft.cached(job.slot), len(ids) - 1)
        if draft.cached(job.slot) > before:
            before = draft.truncate(job.slot, before)
        row = Row(job.slot, ids[before:], 1, decode=len(ids) - before == 1)
        n_calls, seconds = draft.n_calls, draft.seconds
        for output in draft.evaluate([row]):
            if output.logits is None:
                return False
            try:
                opinion = job.opinion(Role.DRAFT, len(ids), output.logits)
            except SequenceError:  # the leader may come another way
                return False
            if not opinion.is_of_numbers:  # its next evaluation says so again, where that is dealt with
                return False
            note_place(job, opinion)
        used = draft.n_calls - n_calls, draft.seconds - seconds
        self._accounts.charge(Role.DRAFT, [Turn(job, row, before)], *used, draft.row_calls)
        return True

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
