"""Slots, turns and batches: drives the flows of many sequences over two models.

A step admits waiting sequences, picks the role whose turn it is, evaluates what that role has not seen yet of every
sequence waiting on it (so catch-up is just a longer row), and lets their flows go on. Knows slots, rows and the model
protocol; no kind of request, no llama.cpp, no text rules, no command line.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import SequenceError, WorkerError
from ..method.begin import begin
from ..method.job import Job
from ..method.ledger import Cost, Shape
from ..method.plan import UNMEASURED_PLAN, Plan
from ..method.roles import Role
from ..method.sequence import Sequence
from ..method.tokens import FinishReason, Token
from ..method.vocabulary import PairVocabulary
from .model import Model, Snapshot
from .reading import plan_reading
from .shared_prefix import SharedPrefix
from .slots import Slots
from .turns import Turns

States = dict[Role, Snapshot]


class Update(NamedTuple):
    """What a step did to a sequence.

    tokens: those that may be shown now
    finished: whether the response is
    read: tokens of the prompts that are read, and all that must be, while that takes more than one step
    """

    sequence: Sequence
    tokens: list[Token]
    finished: bool
    read: tuple[int, int] | None = None


@dataclass(frozen=True)
class Waiting:
    """A sequence without a slot.

    states: what each model had evaluated of it when it was stopped
    reads: how many ids of its prompt each role reads first, to be able to come back to there
    bite: most tokens of a prompt that are read in one evaluation
    reuse: what a slot still holds of it is not evaluated again, and its slot keeps what it holds at its end; else all
        is evaluated anew and forgotten
    """

    sequence: Sequence
    states: States = field(default_factory=dict)
    reads: dict[Role, int] = field(default_factory=dict)
    bite: int = 512
    reuse: bool = False


class Scheduler:
    """Owns the slots (the same ids in both models) and the jobs in them.

    skip_limit: a sequence is passed over at most this many turns before its role gets the turn
    prefixes: ids that many of each role's prompts begin with; they are evaluated once and copied into the slots
    plan: how many tokens to propose at a time
    """

    def __init__(
        self,
        models: dict[Role, Model],
        vocabulary: PairVocabulary,
        shapes: dict[Role, Shape],
        skip_limit: int = 16,
        prefixes: dict[Role, list[int]] | None = None,
        plan: Plan | None = None,
    ) -> None:
        self._models = models
        self._vocabulary = vocabulary
        self._skip_limit = skip_limit
        self.plan = plan or UNMEASURED_PLAN
        self._n_ctx = {role: model.n_ctx for role, model in models.items()}
        self.slots = Slots(models)
        self._turns = Turns(models, vocabulary, shapes, SharedPrefix(models, prefixes or {}))
        self._waiting: deque[Waiting] = deque()
        self._jobs: list[Job] = []
        self._touched: dict[Sequence, None] = {}  # to whom something happened, in order
        self._n_turns = 0
        self._role: Role | None = None  # whose turn was last

    # ---------------------------------------------------------------- what callers do
    @property
    def cost(self) -> dict[Role, Cost]:
        """Each role's work for all sequences so far."""
        return self._turns.accounts.cost

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._jobs and not self._touched

    def needs_marks(self, role: Role) -> bool:
        """Whether the role's memory can go back to marked places alone."""
        return role in self._models and self._models[role].needs_marks

    @property
    def n_open(self) -> int:
        """Sequences waiting or in a slot."""
        return len(self._waiting) + len(self._jobs)

    @property
    def has_room(self) -> bool:
        """Whether one more sequence would get a slot at once."""
        return self.n_open < self.slots.n

    def share(self, prefixes: dict[Role, list[int]]) -> None:
        """From now on these ids are what many prompts begin with."""
        self._turns.prefix.close()
        self._turns.prefix = SharedPrefix(self._models, prefixes)

    def add(self, sequence: Sequence, states: States | None = None, **options: object) -> None:
        """Queue a sequence: a new one, or one that was stopped, with its saved states where there are any.

        Without them, or where a model refuses one, its tokens are evaluated again. `options` as in Waiting.
        """
        assert not sequence.finished
        self._waiting.append(Waiting(sequence, states or {}, **options))  # type: ignore[arg-type]

    def save(self, sequence: Sequence) -> States:
        """What each model has evaluated of a sequence; none for one without a slot. Call it between steps."""
        states: States = {}
        for job in self._jobs:
            if job.sequence is not sequence:
                continue
            job.note_time()
            job.forget_proposals()
            self._turns.trim(job)
            for role, model in self._models.items():
                if role in sequence.views and model.cached(job.slot):
                    at, top1 = job.frontier.get(role, (0, 0))
                    state = model.save(job.slot)
                    states[role] = Snapshot(state.n_tokens, state.data, top1 if at == state.n_tokens else None)
        return states

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; what it has written stays."""
        sequence.finish(FinishReason.CANCELLED)
        self.withdraw(sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """Take an unfinished sequence out, to change it or to resume it elsewhere."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.sequence is not sequence)
        for job in [job for job in self._jobs if job.sequence is sequence]:
            self._retire(job)

    def close(self) -> None:
        """Cancel everything and empty every slot."""
        for sequence in [*(item.sequence for item in self._waiting), *(job.sequence for job in self._jobs)]:
            self.cancel(sequence)
        self._touched.clear()
        self.slots.clear()
        self._turns.close()

    def step(self, report_every: float = 0.0) -> list[Update]:
        """Give one role its turn; what happened to whom.

        report_every: seconds for which turns follow, unless a sequence ends before

        The turns are the same ones however many of them a step has. After an exception the scheduler goes on with the
        next step, which also tells what happened before it.
        """
        until = time.perf_counter() + report_every
        try:
            while self._take_turn() and time.perf_counter() < until and not self._has_ended():
                pass
        finally:
            self._retire_finished()
        touched, self._touched = self._touched, {}
        return self._updates(touched)

    # ---------------------------------------------------------------- a step's parts
    def _take_turn(self) -> bool:
        """Whether there was anything to do."""
        if self._waiting:
            self._admit()
        role, jobs = self._next_turn()
        if role is None:
            return False
        self._n_turns += 1
        for job in jobs:
            self._touched[job.sequence] = None
            job.served = self._n_turns
        try:
            taken = self._turns.take(role, jobs)
        except WorkerError:  # its caches are gone
            self.slots.forget(role)
            raise
        if not taken:
            self.slots.forget(role)
        return True

    def _has_ended(self) -> bool:
        """Whether a sequence has ended that nobody knows of: its room may be for another, at once."""
        return any(sequence.finish_reason is not None for sequence in self._touched)

    def _admit(self) -> None:
        """Waiting sequences into free slots; those that can never run are finished at once."""
        while self._waiting and self.slots.free:
            waiting = self._waiting.popleft()
            sequence = waiting.sequence
            problem = self._unservable(sequence)
            if problem:
                sequence.finish(FinishReason.ERROR, problem)
                self._touched[sequence] = None
                continue
            ids = {role: view.ids for role, view in sequence.views.items()}
            slot = self.slots.take(ids, waiting.reuse)
            job = begin(sequence, slot, self._vocabulary, self._n_ctx, self.plan, served=self._n_turns)
            job.leaves_prefix = waiting.reuse
            self._jobs.append(job)
            for role, state in waiting.states.items():
                self._restore(job, role, state)
            self._touched[sequence] = None
            if job.request.asks(job) is not None:
                job.advance()  # resumed inside a sentence: what needs no evaluation is answered at once, as ever
            plan_reading(job, self._models, waiting.reads, waiting.bite)

    def _restore(self, job: Job, role: Role, state: Snapshot) -> None:
        model, view = self._models.get(role), job.sequence.views.get(role)
        if model is not None and view is not None and state.n_tokens <= min(model.n_ctx, len(view.ids)):
            with contextlib.suppress(SequenceError):  # then its tokens are evaluated again
                model.restore(job.slot, state)
                if state.top1 is not None:
                    job.frontier[role] = (state.n_tokens, state.top1)

    def _unservable(self, sequence: Sequence) -> str | None:
        for role, view in sequence.views.items():
            if role not in self._models:
                return f"the {role} is not loaded"
            if not view.ids:
                return "the prompt is empty: there is no token to continue from"
            n_ctx = self._models[role].n_ctx
            if view.n_prompt > n_ctx:
                return f"the prompt has {view.n_prompt} tokens for the {role}, the context {n_ctx}: raise --ctx-size"
        return None

    def _next_turn(self) -> tuple[Role | None, list[Job]]:
        """Whose turn it is, and the sequences that wait for it; requests that need no role are answered on the way.

        A role goes on until nobody waits for it: the others gather meanwhile, and batches are wider than with the
        role that most wait for (a tenth less time, scripts/compare_parallel.py). One that was passed over too
        often ends that.
        """
        waiting: dict[Role, list[Job]] = {role: [] for role in self._models}
        longest: Job | None = None
        for job in self._jobs:
            role = job.request.asks(job)
            if role is None:
                self._answer_without_role(job)
                role = job.request.asks(job)
            if role is None or job.sequence.finish_reason is not None:
                continue
            waiting[role].append(job)
            if longest is None or job.served < longest.served:
                longest = job
        if longest is None:
            return None, []
        role = self._role
        if role is None or not waiting[role]:
            role = max(waiting, key=lambda role: len(waiting[role]))
        if self._n_turns - longest.served >= self._skip_limit:
            role = longest.request.asks(longest)
        assert role is not None
        self._role = role
        waiting[role].sort(key=lambda job: job.slot)  # slots side by side can share a graph
        return role, waiting[role]

    def _answer_without_role(self, job: Job) -> None:
        """Answer requests that need no evaluation, such as a random gate's.

        In mode cue no row is built between cues, so that only this notices a full context.
        """
        self._touched[job.sequence] = None
        if all(len(view.ids) > self._n_ctx[role] for role, view in job.sequence.views.items()):
            job.sequence.finish(FinishReason.CONTEXT)
            return
        job.advance()
        self._turns.trim(job)

    # ---------------------------------------------------------------- leaving
    def _retire_finished(self) -> None:
        for job in tuple(self._jobs):
            if job.sequence.finish_reason is not None:
                self._retire(job)

    def _retire(self, job: Job) -> None:
        try:
            job.close()
        finally:
            self._jobs.remove(job)
            job.note_time()
            job.forget_proposals()
            self._turns.trim(job)
            if not job.leaves_prefix or job.sequence.finish_reason is FinishReason.ERROR:
                for model in self._models.values():
                    model.release(job.slot)
            self.slots.give_back(job.slot, job.sequence)

    def _updates(self, touched: Iterable[Sequence]) -> list[Update]:
        reading = {job.sequence: self._n_read(job) for job in self._jobs if job.n_to_read}
        events = []
        for sequence in touched:
            tokens = sequence.take_ready()
            if tokens or sequence.finished or sequence in reading:
                events.append(Update(sequence, tokens, sequence.finished, reading.get(sequence)))
        return events

    def _n_read(self, job: Job) -> tuple[int, int]:
        """How much of the prompt is read, in tokens of one prompt: each role's reading is a part of the way."""
        n_all = job.n_to_read
        left = sum(max(0, read.n_tokens - self._models[read.role].cached(job.slot)) for read in job.reads)
        if not job.is_reading:
            job.n_to_read = 0  # this is said once more
        return job.n_longest_read * (n_all - left) // n_all, job.n_longest_read

    def check(self) -> None:
        """Assert what must hold between steps; the stress tests call it after each."""
        self.slots.check()
        for job in self._jobs:
            sequence = job.sequence
            assert not sequence.finished, "a finished sequence holds a slot"
            for role, view in sequence.views.items():
                n_ahead = len(job.ahead.behind(role, view))
                assert self._models[role].cached(job.slot) <= len(view.ids) + n_ahead, "a cache is ahead of the stream"
                assert len(view.starts) == len(sequence.tokens), "a view misses a token"
            assert sequence.n_led <= sequence.n_sentences
            assert sequence.n_handoffs <= sequence.n_led
