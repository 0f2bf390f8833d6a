"""A turn of one role: rows for the jobs that wait for it, their evaluation, and opinions for their requests.

Knows jobs, rows and the model protocol, and who pays; no queue and no kind of request.
"""

from __future__ import annotations

from ..errors import ModelFileError, SequenceError
from ..method.job import Job
from ..method.ledger import Shape
from ..method.opinion import Opinion
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..method.vocabulary import PairVocabulary
from .accounting import Accounts, Turn
from .beside import Beside
from .model import CacheLostError, Model, Output, Row
from .rows import row_for
from .shared_prefix import SharedPrefix

_WORDS = ("1", ".", ",")
"""What tells whether a model gives numbers at all."""
_CAUSES = (
    "a damaged file, or weights or a cache type that overflow here; try another quantisation, "
    "--cache-type-k f32 --cache-type-v f32, or --flash-attn off"
)


class Turns:
    """Evaluates for jobs over the models of a pair.

    prefix: what many prompts begin with; replaced when others come
    accounts: what all this has cost
    """

    def __init__(
        self,
        models: dict[Role, Model],
        vocabulary: PairVocabulary,
        shapes: dict[Role, Shape],
        prefix: SharedPrefix,
    ) -> None:
        self._models, self._vocabulary, self.prefix = models, vocabulary, prefix
        self.accounts = Accounts({role: shapes[role] for role in models})
        self._beside = Beside(models, self.accounts)

    def close(self) -> None:
        self.prefix.close()
        self._beside.close()

    def take(self, role: Role, jobs: list[Job]) -> bool:
        """Evaluate what the role has not seen of these jobs' sequences, and let their flows go on.

        False where that is to be done again, because the role's cache is empty now: it was lost, or the model gave no
        numbers (NaN, infinity), which spread in it; then each job is evaluated by itself first, to find the one that is
        the cause.
        """
        try:
            return self._taken(role, jobs)
        except CacheLostError:
            for job in jobs:
                job.forget_proposals()
            return False

    def _taken(self, role: Role, jobs: list[Job]) -> bool:
        turns = []
        for job in [job for job in jobs if role in job.doubted][:1] or jobs:
            turn = self._turn(role, job)
            if turn is not None:
                turns.append(turn)
        if not turns:
            return True
        model = self._models[role]
        n_calls, seconds = model.n_calls, model.seconds
        try:
            beside = self._beside.is_possible(role, jobs)
            for output in self._beside.evaluate(turns[0]) if beside else model.evaluate([turn.row for turn in turns]):
                if not self._receive(turns[output.row], role, output):
                    self._charge_what_is_cached(role, turns, model.n_calls - n_calls, model.seconds - seconds)
                    self._begin_again(role, turns)
                    return False
            self.accounts.charge(role, turns, model.n_calls - n_calls, model.seconds - seconds, model.row_calls)
            turns[0].job.doubted.discard(role)
            return True
        except BaseException:
            self._charge_what_is_cached(role, turns, model.n_calls - n_calls, model.seconds - seconds)
            for turn in turns:
                turn.job.forget_proposals()
            raise
        finally:
            for turn in turns:
                self.trim(turn.job)

    def _turn(self, role: Role, job: Job) -> Turn | None:
        """The job's row; None where its sequence cannot go on."""
        model, view = self._models[role], job.sequence.views[role]
        if role in self.prefix.ids:
            n_reused = self.prefix.copy(role, job.slot, view.ids, lambda row: self._fill(role, job, row))
            self.accounts.reuse(role, job.sequence, n_reused)
        if len(job.request.wanted(job).ids) > model.n_ctx:
            job.context_is_full()
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
        model = self._models[role]
        n_calls, seconds, before = model.n_calls, model.seconds, model.cached(row.slot)
        failures = [output.failure for output in model.evaluate([row]) if output.logits is None]
        used = model.n_calls - n_calls
        self.accounts.charge(role, [Turn(job, row, before)], used, model.seconds - seconds, model.row_calls)
        return not failures

    def _charge_what_is_cached(self, role: Role, turns: list[Turn], n_calls: int, seconds: float) -> None:
        """After an evaluation that was broken off: its earlier calls count, since their tokens stay."""
        done, row_calls = [], []
        for (job, row, before), n_own_calls in zip(turns, self._models[role].row_calls, strict=True):
            n_tokens = self._models[role].cached(job.slot) - before
            if n_tokens > 0:
                done.append(Turn(job, row._replace(tokens=row.tokens[:n_tokens]), before))
                row_calls.append(n_own_calls)
        if done:
            self.accounts.charge(role, done, n_calls, seconds, row_calls)

    def _begin_again(self, role: Role, turns: list[Turn]) -> None:
        """After an evaluation without numbers nothing that is cached can be trusted.

        A job has failed if it was evaluated by itself in a clean cache, without proposals, which may be the cause and
        never be written. ModelFileError where the model gives no numbers for anything.
        """
        self._models[role].clear()
        job, row, before = turns[0]
        has_proposals = before + len(row.tokens) > len(job.sequence.views[role].ids)
        for turn in turns:
            turn.job.forget_proposals()
        if len(turns) > 1 or role not in job.doubted or has_proposals:
            for turn in turns:
                turn.job.doubted.add(role)
            return
        job.doubted.discard(role)
        if not self._gives_numbers(role, job.slot):
            raise ModelFileError(f"the {role} gives no numbers (NaN or infinity), whatever it reads: {_CAUSES}")
        n_written = len(job.sequence.tokens)
        reason = f"the {role} gives no numbers (NaN or infinity) after {n_written} tokens of the answer: {_CAUSES}"
        job.sequence.finish(FinishReason.ERROR, reason)

    def _gives_numbers(self, role: Role, slot: int) -> bool:
        """Whether the model, whose cache is empty, gives numbers for any of a few short texts."""
        model = self._models[role]
        found = False
        for tokens in [self._vocabulary.encode(role, word)[:1] for word in _WORDS]:
            for output in model.evaluate([Row(slot, tokens, 1)] if tokens else []):
                found = found or (output.logits is not None and Opinion(role, 1, output.logits).is_of_numbers)
            model.clear()
        return found

    def _receive(self, turn: Turn, role: Role, output: Output) -> bool:
        """Hand the job's request an opinion; after the last one its flow goes on. False where it is no opinion."""
        job, row, before = turn
        sequence = job.sequence
        if sequence.finish_reason is not None:
            return True
        if output.logits is None:
            sequence.finish(FinishReason.ERROR, str(output.failure))
            return True
        try:
            opinion = job.opinion(role, before + output.index + 1, output.logits)
            if not opinion.is_of_numbers:
                return False
            is_last = output.index == len(row.tokens) - 1
            if is_last and opinion.at <= len(sequence.views[role].ids):  # else behind the stream, in proposals
                job.frontier[role] = (opinion.at, opinion.top1)
            job.request.take(job, opinion)
            if is_last:
                if job.request.leaves_mark(opinion):
                    self._models[role].mark(job.slot)
                job.advance(opinion)
        except SequenceError as error:
            sequence.finish(FinishReason.ERROR, str(error))
        return True

    def trim(self, job: Job) -> None:
        """Take back what the job's caches hold that is not part of its stream."""
        for role, n_tokens in job.take_limits().items():
            if self._models[role].cached(job.slot) > n_tokens:
                self._models[role].truncate(job.slot, n_tokens)
