"""Slots, turns and batches: drives the flows of many sequences over two models.

A step admits waiting sequences, picks the role whose turn it is, evaluates what that role has not seen
yet of every sequence waiting on it (so catch-up is just a longer row), and resumes their flows
(serving.py). Knows slots, rows and the model protocol; no llama.cpp, no text rules, no command line.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import SequenceError
from ..method.flows import OPEN_SENTENCE, Judge, Propose, Verify, Write, Written
from ..method.ledger import Cost, Shape
from ..method.sampling import top1
from ..method.sentences import Verdict
from ..method.sequence import FinishReason, Role, Sequence, Token
from ..method.serving import Fresh, Job, begin, chosen, may_look_ahead, resume, verify
from ..method.vocabulary import Logits, PairVocabulary
from .model import Model, Output, Row, Snapshot
from .rows import before_mark, row_for, take_back_proposals

States = dict[Role, Snapshot]


class Event(NamedTuple):
    """What a step did to a sequence: tokens that may be shown now, and whether it is finished."""

    sequence: Sequence
    tokens: list[Token]
    finished: bool


class Waiting(NamedTuple):
    """A sequence without a slot, and what each model had evaluated of it when it was stopped."""

    sequence: Sequence
    states: States


class Turn(NamedTuple):
    """A job's part in an evaluation: its row, after `before` cached tokens."""

    job: Job
    row: Row
    before: int


class Scheduler:
    """Owns the slots (the same ids in both models) and the jobs in them. `cost`: each role's work for all of them.

    `skip_limit`: a sequence is passed over at most this many turns before its role gets the turn. `prefixes`:
    ids that many of each role's prompts begin with; they are evaluated once and copied into the slots. `marks`:
    keep what it takes to come back to the last sentence ends, for callers that take text back. `keep`: slots
    stay filled when their sequence ends, for a caller that goes on from there. `stretch`: how many seconds a step
    goes on, at least one turn; the turns are the same ones.
    """

    def __init__(
        self,
        models: dict[Role, Model],
        vocabulary: PairVocabulary,
        shapes: dict[Role, Shape],
        skip_limit: int = 16,
        prefixes: dict[Role, list[int]] | None = None,
        marks: bool = False,
        keep: bool = False,
        stretch: float = 0.0,
    ) -> None:
        self._models = models
        self._vocabulary = vocabulary
        self._shapes = shapes
        self._skip_limit, self._marks, self._keep, self._stretch = skip_limit, marks, keep, stretch
        self._n_slots = min(model.n_slots for model in models.values())
        self._free = list(range(self._n_slots))[::-1]
        self._waiting: deque[Waiting] = deque()
        self._jobs: list[Job] = []
        self._untold: dict[Sequence, None] = {}  # whom something happened to, in order
        self._prefixes = {role: ids for role, ids in (prefixes or {}).items() if ids and models[role].has_spare}
        self._n_turns = 0
        self._role: Role | None = None  # whose turn was last
        self.cost = {role: Cost() for role in models}

    # ---------------------------------------------------------------- what callers do
    @property
    def idle(self) -> bool:
        return not self._waiting and not self._jobs and not self._untold

    @property
    def n_open(self) -> int:
        """Sequences waiting or in a slot."""
        return len(self._waiting) + len(self._jobs)

    @property
    def has_room(self) -> bool:
        """Whether one more sequence would get a slot at once."""
        return self.n_open < self._n_slots

    def add(self, sequence: Sequence, states: States | None = None) -> None:
        """Queue a sequence: a new one, or one that was stopped, with its saved states where there are any.

        Without them, or where a model refuses one, its tokens are evaluated again.
        """
        assert not sequence.finished
        self._waiting.append(Waiting(sequence, states or {}))

    def save(self, sequence: Sequence) -> States:
        """What each model has evaluated of a sequence; none for one without a slot. Call it between steps."""
        for job in self._jobs:
            if job.sequence is sequence:
                job.note_time()
                take_back_proposals(job, self._models)
                return {role: m.save(job.slot) for role, m in self._models.items() if m.cached(job.slot)}
        return {}

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; what it has written stays."""
        sequence.finish(FinishReason.CANCELLED)
        self.withdraw(sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """Take an unfinished sequence out, to change it or to go on elsewhere."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.sequence is not sequence)
        for job in [job for job in self._jobs if job.sequence is sequence]:
            self._retire(job)

    def close(self) -> None:
        """Cancel everything and free every slot."""
        for sequence in [*(item.sequence for item in self._waiting), *(job.sequence for job in self._jobs)]:
            self.cancel(sequence)
        self._untold.clear()
        for role in self._prefixes:
            self._models[role].release(self._n_slots)

    def step(self) -> list[Event]:
        """Give a role its turn, and others for `stretch` seconds or until a sequence ends; the events of all that.

        After an exception the scheduler goes on with the next step, which also tells what happened before it.
        """
        until = time.perf_counter() + self._stretch if self._stretch else 0.0
        try:
            going_on = True
            while going_on:
                if self._waiting:
                    self._admit()
                role, jobs = self._next_turn()
                if role is None:
                    break
                self._take_turn(role, jobs)
                if until and len(self._jobs) == 1 and not self._waiting and not self._has_ended():
                    self._write_on(jobs[0], role, until)
                going_on = time.perf_counter() < until and not self._has_ended()
        finally:
            self._retire_finished()
        untold, self._untold = self._untold, {}
        return self._events(untold)

    # ---------------------------------------------------------------- a step's parts
    def _write_on(self, job: Job, role: Role, until: float) -> None:
        """More tokens of a sequence that is alone, while its role goes on: what a step costs is paid once for them.

        Where one role writes everything, tokens are chosen one after the other and taken in together: between two
        evaluations Python's code falls out of the processor's caches, and fetching it again for every token costs
        more than running it (scripts/compare_llama.py).
        """
        model, sequence, slot, ahead = self._models[role], job.sequence, job.slot, job.ahead
        ids, most = sequence.views[role].ids, sequence.settings.max_tokens
        first, n_calls, seconds = model.cached(slot), model.n_calls, model.seconds
        room = model.n_ctx - first if most is None else min(model.n_ctx - first, most - len(sequence.tokens))
        if not self._writes(job, role) or first != len(ids) - 1 or not room:
            return
        piece, greedy, n_evaluated = self._vocabulary.piece, sequence.settings.sampling.greedy, 0

        def look_ahead(logits: Logits) -> int | None:
            nonlocal n_evaluated
            n_evaluated += 1
            token = best = int(logits.argmax())
            if not greedy:
                token = chosen(sequence, Fresh(role, logits, best))
            ahead.append((token, best))
            return token if piece(role, token) is not None else None

        def write(logits: Logits) -> int | None:
            nonlocal n_evaluated
            n_evaluated += 1
            n_view = len(ids)
            self._go_on(job, Fresh(role, logits, top1(logits)), n_view)
            return ids[-1] if len(ids) == n_view + 1 and self._writes(job, role) else None

        take = look_ahead if may_look_ahead(job) and not self._marks else write
        try:
            model.write_on(slot, ids[-1], take, room, until - time.perf_counter())
        finally:
            n_calls, seconds = model.n_calls - n_calls, model.seconds - seconds
            if n_evaluated:
                self._charge(role, job, n_evaluated, first, decode=True, n_calls=n_calls, seconds=seconds)
                self.cost[role].calls += n_calls
            while ahead and not sequence.finished:
                resume(job, self._vocabulary)

    @staticmethod
    def _writes(job: Job, role: Role) -> bool:
        """Whether the role writes the sequence's next token."""
        request = job.request
        return isinstance(request, Write) and request.role is role and job.sequence.finish_reason is None

    def _has_ended(self) -> bool:
        """Whether a sequence ended that nobody was told of: its room may be for another, at once."""
        return any(sequence.finish_reason is not None for sequence in self._untold)

    def _retire_finished(self) -> None:
        for job in tuple(self._jobs):
            if job.sequence.finish_reason is not None:
                self._retire(job)

    def _admit(self) -> None:
        """Waiting sequences into free slots; those that can never run are finished at once."""
        while self._waiting and self._free:
            sequence, states = self._waiting.popleft()
            problem = self._unservable(sequence)
            if problem:
                sequence.finish(FinishReason.ERROR, problem)
                self._untold[sequence] = None
                continue
            slot = self._free.pop()
            self._jobs.append(begin(sequence, slot, served=self._n_turns))
            for role, state in states.items():
                self._restore(sequence, role, slot, state)

    def _restore(self, sequence: Sequence, role: Role, slot: int, state: Snapshot) -> None:
        model, view = self._models.get(role), sequence.views.get(role)
        if model is not None and view is not None and state.n_tokens <= min(model.n_ctx, len(view.ids)):
            with contextlib.suppress(SequenceError):  # then its tokens are evaluated again
                model.restore(slot, state)

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
        """Whose turn it is, and the sequences that wait for it; sentences are opened on the way.

        A role goes on until nobody waits for it: the others gather meanwhile, and batches are wider than with the
        role that most wait for (a tenth less time, scripts/compare_parallel.py). One that was passed over too
        often ends that.
        """
        waiting: dict[Role, list[Job]] = {role: [] for role in self._models}
        longest: Job | None = None
        for job in self._jobs:
            if job.request is OPEN_SENTENCE:
                self._untold[job.sequence] = None
                if all(len(view.ids) > self._models[role].n_ctx for role, view in job.sequence.views.items()):
                    job.sequence.finish(FinishReason.CONTEXT)  # cues go on without anyone who would notice
                    continue
                if self._marks:
                    for model in self._models.values():
                        model.mark(job.slot)
                resume(job, self._vocabulary)
            role = job.request.role
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
            role = longest.request.role
        assert role is not None
        self._role = role
        return role, waiting[role]

    def _take_turn(self, role: Role, jobs: list[Job]) -> None:
        """Evaluate what the role has not seen of these jobs' sequences, and resume their flows."""
        self._n_turns += 1
        model = self._models[role]
        turns: list[Turn] = []
        rows: list[Row] = []
        jobs.sort(key=lambda job: job.slot)  # slots side by side can share a graph
        for job in jobs:
            self._untold[job.sequence] = None
            job.served = self._n_turns
            if role in self._prefixes:
                self._copy_prefix(job, role)
            row = row_for(job, role, self._models) if self._mark_before_proposals(job, role) else None
            if row is not None:
                turns.append(Turn(job, row, model.cached(row.slot)))
                rows.append(row)
        if not rows:
            return
        n_calls, seconds = model.n_calls, model.seconds
        try:
            for output in model.evaluate(rows):
                self._receive(turns[output.row], role, output)
        except BaseException:
            for turn in turns:
                take_back_proposals(turn.job, self._models)
            raise
        self._account(role, turns, model.n_calls - n_calls, model.seconds - seconds)

    def _copy_prefix(self, job: Job, role: Role) -> None:
        """Give the job's empty slot the shared prefix, which is evaluated once in the spare slot."""
        model, prefix, ids = self._models[role], self._prefixes[role], job.sequence.views[role].ids
        spare = model.n_slots
        if model.cached(job.slot) or len(ids) <= len(prefix) or ids[: len(prefix)] != prefix:
            return
        if model.cached(spare):
            job.sequence.cost[role].reused_tokens += len(prefix)
            self.cost[role].reused_tokens += len(prefix)
        else:
            n_calls, seconds, row = model.n_calls, model.seconds, Row(spare, prefix, 1)
            failed = any(output.logits is None for output in model.evaluate([row]))
            self._account(role, [Turn(job, row, 0)], model.n_calls - n_calls, model.seconds - seconds)
            if failed:
                model.release(spare)
                del self._prefixes[role]
                return
        model.copy(spare, job.slot)

    def _mark_before_proposals(self, job: Job, role: Role) -> bool:
        """Where a memory needs it to take proposals back; False when the sequence has failed on the way."""
        model, tokens = self._models[role], before_mark(job, role, self._models[role])
        if tokens is None:
            return True
        if tokens:
            turn = Turn(job, Row(job.slot, tokens, 1), model.cached(job.slot))
            n_calls, seconds = model.n_calls, model.seconds
            failures = [output.failure for output in model.evaluate([turn.row]) if output.logits is None]
            self._account(role, [turn], model.n_calls - n_calls, model.seconds - seconds)
            if failures:
                job.sequence.finish(FinishReason.ERROR, str(failures[0]))
                return False
        model.mark(job.slot)
        return True

    def _receive(self, turn: Turn, role: Role, output: Output) -> None:
        job, row, before = turn
        sequence, request, logits = job.sequence, job.request, output.logits
        if sequence.finish_reason is not None:
            return
        if logits is None:
            sequence.finish(FinishReason.ERROR, str(output.failure))
            return
        fresh = Fresh(role, logits, top1(logits))
        last = output.index == len(row.tokens) - 1
        if isinstance(request, Verify):
            self._verify(job, fresh, last)
            return
        if isinstance(request, Judge):
            job.judged[before + output.index] = fresh.top1
        if not last:
            return
        if isinstance(request, Judge) and sequence.verdict is Verdict.MAYBE:
            # The leader's next token may end the sentence before it, and the judge then be asked to write here.
            job.kept = fresh._replace(logits=logits.copy())
        self._go_on(job, fresh, before + len(row.tokens))

    def _go_on(self, job: Job, fresh: Fresh, n_evaluated: int) -> None:
        """Give a flow what its role has evaluated, up to the stream's end (or that of proposals)."""
        if not isinstance(job.request, Propose):  # its row goes on behind the stream
            job.sequence.frontier_top1[fresh.role] = (n_evaluated, fresh.top1)
        try:
            resume(job, self._vocabulary, fresh)
        except SequenceError as error:
            job.sequence.finish(FinishReason.ERROR, str(error))

    def _verify(self, job: Job, fresh: Fresh, last: bool) -> None:
        verify(job, fresh, self._vocabulary)
        if last:
            take_back_proposals(job, self._models)
            if not job.sequence.finished:
                job.request = job.flow.send(Written(ends_sentence=False))

    def _account(self, role: Role, turns: list[Turn], n_calls: int, seconds: float) -> None:
        """Charge an evaluation: calls to each sequence in it, seconds by tokens."""
        per_token = seconds / sum(len(turn.row.tokens) for turn in turns)
        for job, row, before in turns:
            n_tokens = len(row.tokens)
            self._charge(role, job, n_tokens, before, row.decode, n_calls, n_tokens * per_token)
        self.cost[role].calls += n_calls

    def _charge(
        self, role: Role, job: Job, n_tokens: int, before: int, decode: bool, n_calls: int, seconds: float
    ) -> None:
        """Count n_tokens evaluated after `before` others: for the sequence and, but for the calls, for all."""
        shape, cost, n_prompt = self._shapes[role], job.sequence.cost[role], job.sequence.views[role].n_prompt - 1
        flops = shape.flops(n_tokens, before)
        if before < n_prompt:  # it leaves out the last token, which gives the response's first
            first, last = max(before, cost.n_prompt_done), min(before + n_tokens, n_prompt)
            cost.flops_prompt += shape.flops(max(0, last - first), first)
            cost.n_prompt_done = max(cost.n_prompt_done, last)
        cost.count(n_tokens, decode, n_calls, seconds, flops)
        self.cost[role].count(n_tokens, decode, 0, seconds, flops)

    # ---------------------------------------------------------------- leaving
    def _retire(self, job: Job) -> None:
        try:
            job.flow.close()
        finally:
            self._jobs.remove(job)
            job.note_time()
            if self._keep:
                take_back_proposals(job, self._models)
            for model in self._models.values() if not self._keep else ():
                model.release(job.slot)
            self._free.append(job.slot)

    @staticmethod
    def _events(touched: Iterable[Sequence]) -> list[Event]:
        events = []
        for sequence in touched:
            tokens = sequence.take_ready()
            if tokens or sequence.finished:
                events.append(Event(sequence, tokens, sequence.finished))
        return events

    def check(self) -> None:
        """Assert what must hold between steps; the stress tests call it after each."""
        used = [job.slot for job in self._jobs]
        assert sorted(used + self._free) == list(range(self._n_slots)), "a slot is lost or used twice"
        for model in self._models.values():
            assert self._keep or all(model.cached(slot) == 0 for slot in self._free), "a free slot holds tokens"
        for job in self._jobs:
            sequence = job.sequence
            assert not sequence.finished, "a finished sequence holds a slot"
            for role, view in sequence.views.items():
                n_ahead = len(job.proposed[role])
                assert self._models[role].cached(job.slot) <= len(view.ids) + n_ahead, "a cache is ahead of the stream"
                assert len(view.starts) == len(sequence.tokens), "a view misses a token"
            assert sequence.n_led <= sequence.n_sentences
            assert sequence.n_handoffs <= sequence.n_led
