"""Slots, turns and batches: drives the flows of many sequences over two models.

A step admits waiting sequences, picks the role whose turn it is, evaluates what that role has not seen yet of every
sequence waiting on it (so catch-up is just a longer row), and lets their flows go on. Knows slots, rows and the model
protocol; no kind of request, no llama.cpp, no text rules, no command line.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import SequenceError
from ..method.job import Job, begin
from ..method.ledger import Cost, Shape
from ..method.opinion import Opinion
from ..method.requests import Read
from ..method.roles import Role
from ..method.sequence import Sequence
from ..method.tokens import FinishReason, Token
from ..method.vocabulary import PairVocabulary
from .accounting import Accounts
from .model import Model, Output, Row, Snapshot
from .rows import row_for
from .shared_prefix import SharedPrefix
from .slots import Slots

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


class Turn(NamedTuple):
    """A job's part in an evaluation: its row, after `before` cached tokens."""

    job: Job
    row: Row
    before: int


class Scheduler:
    """Owns the slots (the same ids in both models) and the jobs in them.

    skip_limit: a sequence is passed over at most this many turns before its role gets the turn
    prefixes: ids that many of each role's prompts begin with; they are evaluated once and copied into the slots
    """

    def __init__(
        self,
        models: dict[Role, Model],
        vocabulary: PairVocabulary,
        shapes: dict[Role, Shape],
        skip_limit: int = 16,
        prefixes: dict[Role, list[int]] | None = None,
    ) -> None:
        self._models = models
        self._vocabulary = vocabulary
        self._skip_limit = skip_limit
        self._n_ctx = {role: model.n_ctx for role, model in models.items()}
        self.slots = Slots(models)
        self._accounts = Accounts({role: shapes[role] for role in models})
        self._prefix = SharedPrefix(models, prefixes or {})
        self._waiting: deque[Waiting] = deque()
        self._jobs: list[Job] = []
        self._touched: dict[Sequence, None] = {}  # to whom something happened, in order
        self._n_turns = 0
        self._role: Role | None = None  # whose turn was last

    # ---------------------------------------------------------------- what callers do
    @property
    def cost(self) -> dict[Role, Cost]:
        """Each role's work for all sequences so far."""
        return self._accounts.cost

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._jobs and not self._touched

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
        self._prefix.close()
        self._prefix = SharedPrefix(self._models, prefixes)

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
            self._trim(job)
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
        self._prefix.close()

    def step(self) -> list[Update]:
        """Give one role its turn; what happened to whom.

        After an exception the scheduler goes on with the next step, which also tells what happened before it.
        """
        try:
            self._admit()
            role, jobs = self._next_turn()
            if role is not None:
                self._take_turn(role, jobs)
        finally:
            self._retire_finished()
        touched, self._touched = self._touched, {}
        return self._events(touched)

    # ---------------------------------------------------------------- a step's parts
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
            job = begin(sequence, slot, self._vocabulary, self._n_ctx, served=self._n_turns)
            job.leaves_prefix = waiting.reuse
            self._jobs.append(job)
            for role, state in waiting.states.items():
                self._restore(job, role, state)
            if job.request.asks(job) is not None:
                job.advance()  # resumed inside a sentence: what needs no evaluation is answered at once, as ever
            self._plan_reading(job, waiting)

    def _restore(self, job: Job, role: Role, state: Snapshot) -> None:
        model, view = self._models.get(role), job.sequence.views.get(role)
        if model is not None and view is not None and state.n_tokens <= min(model.n_ctx, len(view.ids)):
            with contextlib.suppress(SequenceError):  # then its tokens are evaluated again
                model.restore(job.slot, state)
                if state.top1 is not None:
                    job.frontier[role] = (state.n_tokens, state.top1)

    def _plan_reading(self, job: Job, waiting: Waiting) -> None:
        """Read each role's prompt first where that is asked for; a place that is reached already is only marked."""
        reads = []
        for role, n_tokens in waiting.reads.items():
            model = self._models[role]
            if model.cached(job.slot) < n_tokens:
                reads.append(Read(role, n_tokens, waiting.bite))
            elif model.cached(job.slot) == n_tokens:
                model.mark(job.slot)
        n_all = sum(read.n_tokens - self._models[read.role].cached(job.slot) for read in reads)
        job.read_first(reads, n_all)

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
            if job.request.asks(job) is None:
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
        return role, waiting[role]

    def _answer_without_role(self, job: Job) -> None:
        """In mode cue no row is built between cues, so that only this notices a context that is full."""
        self._touched[job.sequence] = None
        if all(len(view.ids) > self._n_ctx[role] for role, view in job.sequence.views.items()):
            job.sequence.finish(FinishReason.CONTEXT)
            return
        job.advance()
        self._trim(job)

    def _take_turn(self, role: Role, jobs: list[Job]) -> None:
        """Evaluate what the role has not seen of these jobs' sequences, and let their flows go on."""
        self._n_turns += 1
        turns: list[Turn] = []
        for job in sorted(jobs, key=lambda job: job.slot):  # slots side by side can share a graph
            self._touched[job.sequence] = None
            job.served = self._n_turns
            turn = self._turn(role, job)
            if turn is not None:
                turns.append(turn)
        try:
            for turn, output in self._evaluate(role, turns):
                self._receive(turn, role, output)
        except BaseException:
            for turn in turns:
                turn.job.forget_proposals()
            raise
        finally:
            for turn in turns:
                self._trim(turn.job)

    def _turn(self, role: Role, job: Job) -> Turn | None:
        """The job's row; None where its sequence cannot go on."""
        model, view = self._models[role], job.sequence.views[role]
        n_reused = self._prefix.copy(role, job.slot, view.ids, lambda row: self._fill(role, job, row))
        if n_reused:
            self._accounts.reuse(role, job.sequence, n_reused)
        if len(view.ids) > model.n_ctx:
            job.sequence.finish(FinishReason.CONTEXT)
            return None
        mark_at = job.request.mark_at(job) if model.needs_marks else None
        if mark_at is not None:
            tokens = view.ids[model.cached(job.slot) : mark_at]
            if tokens and not self._fill(role, job, Row(job.slot, tokens, 1)):
                job.sequence.finish(FinishReason.ERROR, "no room in the KV cache for its tokens: lower --parallel")
                return None
            model.mark(job.slot)
        return Turn(job, row_for(job, role, model), model.cached(job.slot))

    def _fill(self, role: Role, job: Job, row: Row) -> bool:
        """Evaluate a row whose logits nobody wants, for a job; False where there is no room."""
        turn = Turn(job, row, self._models[role].cached(row.slot))
        failures = [output.failure for _, output in self._evaluate(role, [turn]) if output.logits is None]
        return not failures

    def _evaluate(self, role: Role, turns: list[Turn]) -> Iterator[tuple[Turn, Output]]:
        """Evaluate the rows of these turns and charge their sequences."""
        if not turns:
            return
        model = self._models[role]
        n_calls, seconds = model.n_calls, model.seconds
        for output in model.evaluate([turn.row for turn in turns]):
            yield turns[output.row], output
        work = [(job.sequence, len(row.tokens), before, row.decode) for job, row, before in turns]
        self._accounts.charge(role, work, model.n_calls - n_calls, model.seconds - seconds)

    def _receive(self, turn: Turn, role: Role, output: Output) -> None:
        """Hand the job's request an opinion; after the last one its flow goes on."""
        job, row, before = turn
        sequence = job.sequence
        if sequence.finish_reason is not None:
            return
        if output.logits is None:
            sequence.finish(FinishReason.ERROR, str(output.failure))
            return
        opinion = Opinion(role, before + output.index + 1, output.logits)
        is_last = output.index == len(row.tokens) - 1
        if is_last and opinion.at <= len(sequence.views[role].ids):  # else behind the stream, in proposals
            job.frontier[role] = (opinion.at, opinion.top1)
        try:
            job.request.take(job, opinion)
            if is_last:
                if job.request.leaves_mark:
                    self._models[role].mark(job.slot)
                job.advance(opinion)
        except SequenceError as error:
            sequence.finish(FinishReason.ERROR, str(error))

    def _trim(self, job: Job) -> None:
        """Take back what the job's caches hold that is not part of its stream."""
        for role, n_tokens in job.take_surplus().items():
            if self._models[role].cached(job.slot) > n_tokens:
                self._models[role].truncate(job.slot, n_tokens)

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
            self._trim(job)
            if not job.leaves_prefix or job.sequence.finish_reason is FinishReason.ERROR:
                for model in self._models.values():
                    model.release(job.slot)
            self.slots.give_back(job.slot, job.sequence)

    def _events(self, touched: Iterable[Sequence]) -> list[Update]:
        reading = {job.sequence: self._n_read(job) for job in self._jobs if job.n_to_read}
        events = []
        for sequence in touched:
            tokens = sequence.take_ready()
            if tokens or sequence.finished or sequence in reading:
                events.append(Update(sequence, tokens, sequence.finished, reading.get(sequence)))
        return events

    def _n_read(self, job: Job) -> tuple[int, int]:
        n_all = job.n_to_read
        left = sum(max(0, read.n_tokens - self._models[read.role].cached(job.slot)) for read in job.reads)
        if not job.is_reading:
            job.n_to_read = 0  # this is said once more
        return n_all - left, n_all

    def check(self) -> None:
        """Assert what must hold between steps; the stress tests call it after each."""
        self.slots.check()
        for job in self._jobs:
            sequence = job.sequence
            assert not sequence.finished, "a finished sequence holds a slot"
            for role, view in sequence.views.items():
                n_ahead = len(job.proposals.ids[role])
                assert self._models[role].cached(job.slot) <= len(view.ids) + n_ahead, "a cache is ahead of the stream"
                assert len(view.starts) == len(sequence.tokens), "a view misses a token"
            assert sequence.n_led <= sequence.n_sentences
            assert sequence.n_handoffs <= sequence.n_led
