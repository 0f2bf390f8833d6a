"""Slots, turns and batches: drives the flows of many sequences over two models.

A step admits waiting sequences, picks the role whose turn it is, evaluates what that role has not seen
yet of every sequence waiting on it (so catch-up is just a longer row), and resumes their flows. Knows
flows, sequences and the model protocol; no llama.cpp, no text rules, no command line.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .decode import Answer, Flow, Judge, OpenSentence, Request, Write, Written, flow_for
from .errors import SequenceError
from .gate import Gate, gate_for
from .ledger import Cost, Shape
from .model import Logits, Model, Output, PairVocabulary, Row
from .sampling import choose, top1
from .sentences import Verdict
from .sequence import Choice, FinishReason, Role, Sequence, Token


@dataclass(frozen=True)
class Event:
    """What a step did to a sequence: tokens that may be shown now, and whether it is finished."""

    sequence: Sequence
    tokens: list[Token]
    finished: bool


@dataclass(slots=True)
class Job:
    """A sequence in a slot. `request` is what its flow waits for; `skipped`: steps since it was served."""

    sequence: Sequence
    slot: int
    flow: Flow
    gate: Gate
    request: Request
    skipped: int = 0
    judged: dict[int, int] = field(default_factory=dict)


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
        self.cost = {role: Cost() for role in models}

    # ---------------------------------------------------------------- what callers do
    @property
    def idle(self) -> bool:
        return not self._waiting and not self._jobs

    @property
    def n_open(self) -> int:
        """Sequences waiting or in a slot."""
        return len(self._waiting) + len(self._jobs)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence: a new one, or one that was stopped at a sentence end."""
        assert not sequence.finished and sequence.verdict is Verdict.END
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

    def step(self) -> list[Event]:
        """Give one role its turn; the events of all sequences that something happened to."""
        touched = self._admit()
        for job in list(self._jobs):
            if isinstance(job.request, OpenSentence):
                self._resume(job, None)
                touched.append(job.sequence)
        role = self._next_role()
        if role is not None:
            jobs = [job for job in self._jobs if self._waits_for(job) is role]
            self._take_turn(role, jobs)
            touched += [job.sequence for job in jobs]
        for job in [job for job in self._jobs if job.sequence.finished]:
            self._retire(job)
        return self._events(touched)

    # ---------------------------------------------------------------- a step's parts
    def _admit(self) -> list[Sequence]:
        """Waiting sequences into free slots; returns those that can never run."""
        refused = []
        while self._waiting and self._free:
            sequence = self._waiting.popleft()
            problem = self._unservable(sequence)
            if problem:
                sequence.finish(FinishReason.ERROR, problem)
                refused.append(sequence)
                continue
            flow = flow_for(sequence.settings)
            job = Job(sequence, self._free.pop(), flow, gate_for(sequence.settings), next(flow))
            job.sequence.seconds -= time.perf_counter()
            self._jobs.append(job)
        return refused

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
        n_waiting = {role: 0 for role in self._models}
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
        try:
            self._resume(job, (role, output.logits, best))
        except SequenceError as error:
            sequence.finish(FinishReason.ERROR, str(error))

    def _account(
        self, role: Role, jobs: list[Job], rows: list[Row], before: list[int], n_calls: int, seconds: float
    ) -> None:
        n_all = sum(len(row.tokens) for row in rows)
        for job, row, n_before in zip(jobs, rows, before, strict=True):
            n_tokens = len(row.tokens)
            cost = Cost(
                decode_tokens=n_tokens if row.decode else 0,
                prefill_tokens=0 if row.decode else n_tokens,
                calls=n_calls,
                seconds=seconds * n_tokens / n_all,
                flops=self._shapes[role].flops(n_tokens, n_before),
            )
            job.sequence.cost[role].add(cost)
            cost.calls = 0
            self.cost[role].add(cost)
        self.cost[role].calls += n_calls

    # ---------------------------------------------------------------- resuming flows
    def _resume(self, job: Job, fresh: tuple[Role, Logits, int] | None) -> None:
        """Answer the flow's requests for as long as no evaluation is needed.

        `fresh`: the role that has just evaluated its whole view, its logits and top-1 at the end of it.
        """
        sequence = job.sequence
        while not sequence.finished:
            answer = self._answer(job, fresh)
            if answer is None:
                return
            if sequence.finished:
                return
            job.request = job.flow.send(answer)
            if isinstance(job.request, OpenSentence):
                return  # a save point: the next step asks the gate

    def _answer(self, job: Job, fresh: tuple[Role, Logits, int] | None) -> Answer | None:
        sequence, request = job.sequence, job.request
        if isinstance(request, OpenSentence):
            led = job.gate.opens(sequence.gate_rng)
            sequence.open_sentence(led)
            return led
        if isinstance(request, Judge):
            return self._judged(job) if fresh and fresh[0] is request.role else None
        choice = sequence.peek
        n_view = len(sequence.views[request.role].ids)
        if choice is None or (choice.role, choice.at) != (request.role, n_view):
            if fresh is None or fresh[0] is not request.role or sequence.frontier_top1[request.role][0] != n_view:
                return None
            choice = self._choose(sequence, fresh)
        return self._write(sequence, choice)

    def _choose(self, sequence: Sequence, fresh: tuple[Role, Logits, int]) -> Choice:
        role, logits, best = fresh
        settings, ids = sequence.settings.sampling, sequence.views[role].ids
        if settings.greedy and settings.repeat_penalty == 1.0:
            return Choice(role, len(ids), best, best)
        recent = ids[-settings.repeat_last_n :] if settings.repeat_penalty != 1.0 else []
        return Choice(role, len(ids), choose(logits, settings, recent, sequence.token_rng), best)

    def _write(self, sequence: Sequence, choice: Choice) -> Written:
        """Commit the token, or keep it back when it shows that the sentence has ended before it."""
        role, token = choice.role, choice.token
        is_end = self._vocabulary.is_end(role, token)
        piece = b"" if is_end else self._vocabulary.piece(role, token)
        if sequence.verdict is Verdict.MAYBE and (is_end or sequence.confirms_end(piece)):
            sequence.peek = choice
            sequence.verdict = Verdict.END
            return Written(ends_sentence=True, added=False)
        sequence.peek = None
        if is_end:
            sequence.append_end(choice)
        else:
            readers = sequence.views
            sequence.append(choice, piece, {r: self._vocabulary.translate(role, token, r) for r in readers})
        return Written(ends_sentence=sequence.verdict is Verdict.END)

    def _judged(self, job: Job) -> tuple[bool, ...]:
        """Whether the judging role's top-1 is the leader's, for each of the last tokens."""
        sequence, request = job.sequence, job.request
        assert isinstance(request, Judge)
        view, sampled = sequence.views[request.role], sequence.settings.method.compare == "sampled"
        hits = []
        for token, start in zip(
            sequence.tokens[-request.n_tokens :], view.starts[-request.n_tokens :], strict=True
        ):
            compared = token.id if sampled else token.top1
            wanted = self._vocabulary.translate(token.author, compared, request.role)
            hits.append(wanted[:1] == (job.judged[start - 1],))
        sequence.judge(tuple(hits))
        return tuple(hits)

    # ---------------------------------------------------------------- leaving
    def _retire(self, job: Job) -> None:
        try:
            job.flow.close()
        finally:
            self._jobs.remove(job)
            job.sequence.seconds += time.perf_counter()
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
            assert sequence.n_led <= sequence.n_sentences and sequence.n_handoffs <= sequence.n_led
