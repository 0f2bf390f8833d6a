"""Slots, turns and batches: drives the flows of many sequences over two models.

A step admits waiting sequences, picks the role whose turn it is, evaluates what that role has not seen
yet of every sequence waiting on it (so catch-up is just a longer row), and resumes their flows
(serving.py). Knows slots, rows and the model protocol; no llama.cpp, no text rules, no command line.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from .decode import Judge, OpenSentence, Write, flow_for
from .errors import SequenceError
from .gate import gate_for
from .ledger import Cost, Shape
from .model import Model, Output, PairVocabulary, Row
from .sampling import top1
from .sentences import Verdict
from .sequence import FinishReason, Role, Sequence, Token
from .serving import Fresh, Job, resume


class Event(NamedTuple):
    """What a step did to a sequence: tokens that may be shown now, and whether it is finished."""

    sequence: Sequence
    tokens: list[Token]
    finished: bool


class Scheduler:
    """Owns the slots (the same ids in both models) and the jobs in them.

    `skip_limit`: a sequence is passed over at most this many steps before its role gets the turn.
    """

    def __init__(
        self,
        models: dict[Role, Model],
        vocabulary: PairVocabulary,
        shapes: dict[Role, Shape],
        skip_limit: int = 16,
    ) -> None:
        self._models = models
        self._vocabulary = vocabulary
        self._shapes = shapes
        self._skip_limit = skip_limit
        self._n_slots = min(model.n_slots for model in models.values())
        self._free = list(range(self._n_slots))[::-1]
        self._waiting: deque[Sequence] = deque()
        self._jobs: list[Job] = []
        self._untold: list[Sequence] = []
        self.cost = {role: Cost() for role in models}

    # ---------------------------------------------------------------- what callers do
    @property
    def idle(self) -> bool:
        return not self._waiting and not self._jobs and not self._untold

    @property
    def n_open(self) -> int:
        """Sequences waiting or in a slot."""
        return len(self._waiting) + len(self._jobs)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence: a new one, or one that was stopped at a sentence end."""
        assert not sequence.finished
        assert sequence.verdict is Verdict.END
        self._waiting.append(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; what it has written stays."""
        sequence.finish(FinishReason.CANCELLED)
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        for job in [job for job in self._jobs if job.sequence is sequence]:
            self._retire(job)

    def close(self) -> None:
        """Cancel everything and free every slot."""
        for sequence in [*self._waiting, *(job.sequence for job in self._jobs)]:
            self.cancel(sequence)
        self._untold.clear()

    def step(self) -> list[Event]:
        """Give one role its turn; the events of all sequences that something happened to.

        After an exception the scheduler goes on with the next step, which also tells what happened before it.
        """
        try:
            self._admit()
            for job in self._jobs:
                if isinstance(job.request, OpenSentence):
                    self._untold.append(job.sequence)
                    resume(job, self._vocabulary)
            self._retire_finished()
            role = self._next_role()
            if role is not None:
                self._take_turn(role, [job for job in self._jobs if self._waits_for(job) is role])
        finally:
            self._retire_finished()
        untold, self._untold = self._untold, []
        return self._events(untold)

    def _retire_finished(self) -> None:
        for job in [job for job in self._jobs if job.sequence.finished]:
            self._retire(job)

    # ---------------------------------------------------------------- a step's parts
    def _admit(self) -> None:
        """Waiting sequences into free slots; those that can never run are finished at once."""
        while self._waiting and self._free:
            sequence = self._waiting.popleft()
            problem = self._unservable(sequence)
            if problem:
                sequence.finish(FinishReason.ERROR, problem)
                self._untold.append(sequence)
                continue
            flow = flow_for(sequence.settings)
            job = Job(sequence, self._free.pop(), flow, gate_for(sequence.settings), next(flow))
            self._jobs.append(job)

    def _unservable(self, sequence: Sequence) -> str | None:
        for role, view in sequence.views.items():
            if role not in self._models:
                return f"the {role} is not loaded"
            if not view.ids:
                return "the prompt is empty: there is no token to continue from"
            n_ctx = self._models[role].n_ctx
            if len(view.ids) > n_ctx:
                return f"the prompt has {len(view.ids)} tokens for the {role}, the context {n_ctx}: raise --ctx-size"
        return None

    @staticmethod
    def _waits_for(job: Job) -> Role | None:
        return job.request.role if isinstance(job.request, (Write, Judge)) else None

    def _next_role(self) -> Role | None:
        """The role that most sequences wait for, unless one has been passed over too often."""
        n_waiting = dict.fromkeys(self._models, 0)
        longest: Job | None = None
        for job in self._jobs:
            role = self._waits_for(job)
            if role is None:
                continue
            n_waiting[role] += 1
            if longest is None or job.skipped > longest.skipped:
                longest = job
        if longest is None:
            return None
        if longest.skipped >= self._skip_limit:
            return self._waits_for(longest)
        return max(n_waiting, key=lambda role: n_waiting[role])

    def _take_turn(self, role: Role, jobs: list[Job]) -> None:
        for job in self._jobs:
            job.skipped += 1
        served: list[Job] = []
        rows: list[Row] = []
        for job in jobs:
            self._untold.append(job.sequence)
            job.skipped = 0
            row = self._row(job, role)
            if row is not None:
                served.append(job)
                rows.append(row)
        if not rows:
            return
        model = self._models[role]
        before = [model.cached(row.slot) for row in rows]
        calls = model.n_calls
        seconds = 0.0
        outputs = iter(model.evaluate(rows))
        while True:
            started = time.perf_counter()
            output = next(outputs, None)
            seconds += time.perf_counter() - started
            if output is None:
                break
            job = served[output.row]
            self._receive(job, role, rows[output.row], before[output.row], output)
        self._account(role, served, rows, before, model.n_calls - calls, seconds)

    def _row(self, job: Job, role: Role) -> Row | None:
        """What `role` must evaluate to serve the request; None when its context is full."""
        sequence, model = job.sequence, self._models[role]
        view = sequence.views[role]
        if len(view.ids) > model.n_ctx:
            sequence.finish(FinishReason.CONTEXT)
            return None
        cached = model.cached(job.slot)
        if isinstance(job.request, Judge):
            first = view.starts[-job.request.n_tokens] - 1  # its logits predict the first judged token
            job.judged.clear()
            if first < cached:
                at, token = sequence.frontier_top1.get(role, (-1, -1))
                if at == cached == first + 1:
                    job.judged[first] = token
                else:
                    cached = model.truncate(job.slot, first)
            return Row(job.slot, view.ids[cached:], len(view.ids) - max(first, cached))
        if cached == len(view.ids):
            cached = model.truncate(job.slot, cached - 1)
        pending = view.ids[cached:]
        return Row(job.slot, pending, 1, decode=len(pending) == 1)

    def _receive(self, job: Job, role: Role, row: Row, before: int, output: Output) -> None:
        sequence = job.sequence
        if sequence.finished:
            return
        if output.logits is None:
            sequence.finish(FinishReason.ERROR, str(output.failure))
            return
        best = top1(output.logits)
        if isinstance(job.request, Judge):
            job.judged[before + output.index] = best
        if output.index < len(row.tokens) - 1:
            return
        sequence.frontier_top1[role] = (before + len(row.tokens), best)
        if isinstance(job.request, Judge) and sequence.verdict is Verdict.MAYBE:
            # The leader's next token may end the sentence before it, and the judge then be asked to write here.
            job.kept = Fresh(role, output.logits.copy(), best)
        try:
            resume(job, self._vocabulary, Fresh(role, output.logits, best))
        except SequenceError as error:
            sequence.finish(FinishReason.ERROR, str(error))

    def _account(
        self, role: Role, jobs: list[Job], rows: list[Row], before: list[int], n_calls: int, seconds: float
    ) -> None:
        n_all = sum(len(row.tokens) for row in rows)
        for job, row, n_before in zip(jobs, rows, before, strict=True):
            n_tokens = len(row.tokens)
            share = seconds * n_tokens / n_all
            flops = self._shapes[role].flops(n_tokens, n_before)
            job.sequence.cost[role].count(n_tokens, row.decode, n_calls, share, flops)
            self.cost[role].count(n_tokens, row.decode, 0, share, flops)
        self.cost[role].calls += n_calls

    # ---------------------------------------------------------------- leaving
    def _retire(self, job: Job) -> None:
        try:
            job.flow.close()
        finally:
            self._jobs.remove(job)
            job.sequence.seconds += time.perf_counter() - job.started
            for model in self._models.values():
                model.release(job.slot)
            self._free.append(job.slot)

    @staticmethod
    def _events(touched: Iterable[Sequence]) -> list[Event]:
        events = []
        for sequence in dict.fromkeys(touched):
            tokens = sequence.take_ready()
            if tokens or sequence.finished:
                events.append(Event(sequence, tokens, sequence.finished))
        return events

    def check(self) -> None:
        """Assert what must hold between steps; the stress tests call it after each."""
        used = [job.slot for job in self._jobs]
        assert sorted(used + self._free) == list(range(self._n_slots)), "a slot is lost or used twice"
        for model in self._models.values():
            assert all(model.cached(slot) == 0 for slot in self._free), "a free slot holds tokens"
        for job in self._jobs:
            sequence = job.sequence
            assert not sequence.finished, "a finished sequence holds a slot"
            for role, view in sequence.views.items():
                assert self._models[role].cached(job.slot) <= len(view.ids), "a cache is ahead of the stream"
                assert len(view.starts) == len(sequence.tokens), "a view misses a token"
            assert sequence.n_led <= sequence.n_sentences
            assert sequence.n_handoffs <= sequence.n_led
