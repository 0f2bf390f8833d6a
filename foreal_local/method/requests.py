"""What a flow can ask for. Each kind of request knows what must be evaluated for it and what it makes of that.

A flow yields a request and receives its answer. The scheduler treats all kinds alike: it asks a request for its
answer, and where there is none yet, evaluates what the request wants and hands it each opinion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from .borders import spelled
from .gates import SentenceStart
from .hits import first_unknown, forget_judged, is_hit
from .proposals import read_place, with_proposals
from .sentences import Verdict

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion
    from .roles import Role


class Written(NamedTuple):
    """The answer to Write: whether the sentence has ended, with this token or just before it.

    `added` is False when the sentence turned out to have ended before the token that would have been
    next, or when the role is not certain enough of it (NOT_CERTAIN), so that nothing was added to the stream.
    """

    ends_sentence: bool
    added: bool = True


NOT_CERTAIN = Written(ends_sentence=False, added=False)

Answer = bool | Written | tuple[bool, ...]


class Wanted(NamedTuple):
    """What must be evaluated for a request.

    ids: a prefix of the role's view, or all of it with proposals behind
    n_outputs: at how many of the last ids an opinion is wanted
    most: tokens of one evaluation; the request is asked again until all ids are evaluated
    """

    ids: list[int]
    n_outputs: int = 1
    most: int | None = None


class Request:
    """The methods that every kind has.

    decodes: a row of one token counts as decoding, else as prefill
    lasting: its answer is recorded at once; else with the next lasting one
    """

    decodes: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    def asks(self, job: Job) -> Role | None:
        """The role that must evaluate something before there is an answer; None: nobody need."""
        return None

    def answer(self, job: Job, opinion: Opinion | None) -> Answer | None:
        """The answer, its effects done; None where an evaluation is needed first. `opinion` is the newest one."""
        raise NotImplementedError

    def wanted(self, job: Job) -> Wanted:
        """What the role has to evaluate."""
        raise NotImplementedError

    def take(self, job: Job, opinion: Opinion) -> None:
        """Look at one of the opinions that were wanted, in the view's order; the last comes with `answer`, too."""

    def leaves_mark(self, opinion: Opinion) -> bool:
        """Whether a memory that cannot take its end back should note the place after this opinion."""
        return False

    def pauses(self, job: Job) -> bool:
        """Whether the flow waits here for the scheduler's next turn, although nothing need be evaluated."""
        return False

    def mark_at(self, job: Job) -> int | None:
        """How many ids a memory that cannot take its end back should note before the row; None: no need."""
        return None


@dataclass(frozen=True)
class RoleRequest(Request):
    """A request that `role` evaluates something for."""

    role: Role

    def asks(self, job: Job) -> Role | None:
        return self.role


@dataclass(frozen=True)
class OpenSentence(Request):
    """A sentence starts; the answer is the gate's: True when the leader leads it. All that is written stands now."""

    def asks(self, job: Job) -> Role | None:
        return job.gate.role

    def pauses(self, job: Job) -> bool:
        return job.gate.role is None

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        sequence, role = job.sequence, job.gate.role
        sequence.settle()
        if sequence.finished:
            return None
        if role is not None:
            opinion = job.opinion_at_end(role, opinion)
            if opinion is None:
                return None
        start = (
            SentenceStart(sequence.gate_rng, opinion, sequence.led_before) if role else SentenceStart(sequence.gate_rng)
        )
        led = job.gate.opens(start)
        sequence.open_sentence(led)
        return led

    def wanted(self, job: Job) -> Wanted:
        assert job.gate.role is not None
        return Wanted(job.sequence.views[job.gate.role].ids)


@dataclass(frozen=True)
class Write(RoleRequest):
    """`role` writes the next token. What the draft proposes is read in the same row, and the leader's own tokens along
    the proposals are then known.

    begins_part: the leader's part of a sentence begins here, so that no hits are counted yet
    most_entropy: the token is not written where the role is less certain than this (nats, over its top 20): the answer
        is then NOT_CERTAIN
    """

    begins_part: bool = field(default=False, compare=False)
    most_entropy: float | None = None

    def answer(self, job: Job, opinion: Opinion | None) -> Written | None:
        if job.sequence.ending is not None:  # the context is full; what was not read yet still is
            return Written(ends_sentence=True, added=False)
        if self.most_entropy is not None and not job.holds(self.role):
            known = job.opinion_at_end(self.role, opinion)
            if known is None:
                return None
            if known.uncertainty() > self.most_entropy:
                return NOT_CERTAIN
        choice = job.choice(self.role, opinion)
        return None if choice is None else job.commit_or_hold(choice, restarts_hits=self.begins_part)

    def wanted(self, job: Job) -> Wanted:
        return Wanted(*with_proposals(job, self.role))

    def take(self, job: Job, opinion: Opinion) -> None:
        if job.proposed_to(self.role):
            read_place(job, opinion)

    def mark_at(self, job: Job) -> int | None:
        sequence = job.sequence
        begins_draft = sequence.rewrites and sequence.n_settled == len(sequence.tokens)
        return len(sequence.views[self.role].ids) - 1 if begins_draft or job.proposed_to(self.role) else None


@dataclass(frozen=True)
class Judge(RoleRequest):
    """Are the leader's last `n_tokens` tokens hits: would `role` have had the same top-1 there?

    n_hits: hits in a row before them

    The answer is a tuple of n_tokens booleans, in the stream's order.
    """

    n_tokens: int
    n_hits: int = 0
    decodes: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> tuple[bool, ...] | None:
        if first_unknown(job, self.role, self.n_tokens) is not None:
            return None
        sequence, sampled = job.sequence, job.sequence.settings.method.compare == "sampled"
        hits = []
        for index in range(len(sequence.tokens) - self.n_tokens, len(sequence.tokens)):
            token = sequence.tokens[index]
            hits.append(is_hit(job, self.role, index, token.id if sampled else token.top1))
        sequence.judge(tuple(hits), self.n_hits)
        forget_judged(job, self.role)
        return tuple(hits)

    def wanted(self, job: Job) -> Wanted:
        view = job.sequence.views[self.role]
        first = first_unknown(job, self.role, self.n_tokens)
        return Wanted(view.ids, 1 if first is None else len(view.ids) - first + 1)

    def take(self, job: Job, opinion: Opinion) -> None:
        job.ahead.top1s[self.role][opinion.at] = opinion.top1
        if opinion.at != len(job.sequence.views[self.role].ids):
            return
        # The judge may be asked to write here: where the leader's next token ends the sentence before it, or where more
        # is recorded than the top-1.
        if job.sequence.verdict is Verdict.MAYBE or job.sequence.settings.logprobs is not None:
            job.keep(opinion)


@dataclass(frozen=True)
class WriteCue(Request):
    """The cue comes next, written by nobody; the answer is as for Write."""

    def answer(self, job: Job, opinion: Opinion | None) -> Written:
        sequence = job.sequence
        if sequence.tags.closing in sequence.text:  # the answer is not to be thought about again
            return Written(ends_sentence=False)
        before, text = sequence.tail(1), sequence.settings.method.cue
        if before and not before[-1].isspace():
            text = " " + text
        (author,) = sequence.views
        sequence.insert(spelled(text, author, sequence, job.vocabulary))
        return Written(ends_sentence=sequence.verdict is Verdict.END)


@dataclass(frozen=True)
class TakeBack(Request):
    """The last `n_tokens` tokens, which must not stand yet, are dropped; `reason` goes into the trace.

    The mode's row in MODES must say that it rewrites. The answer says nothing.
    """

    n_tokens: int
    reason: str

    def answer(self, job: Job, opinion: Opinion | None) -> bool:
        sequence = job.sequence
        job.take_back(len(sequence.tokens) - self.n_tokens, self.reason)
        return True


@dataclass(frozen=True)
class ReadPrompt(RoleRequest):
    """What `Read` and `Score` have in common.

    n_tokens: of the role's view, from its beginning
    most: tokens of one evaluation
    """

    n_tokens: int
    most: int
    decodes: ClassVar[bool] = False

    def leaves_mark(self, opinion: Opinion) -> bool:
        return opinion.at >= self.n_tokens


@dataclass(frozen=True)
class Read(ReadPrompt):
    """`role` reads its view's first `n_tokens` ids, `most` at a time, and can come back to there later."""

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        done = opinion is not None and opinion.role is self.role and opinion.at >= self.n_tokens
        return True if done else None

    def wanted(self, job: Job) -> Wanted:
        return Wanted(job.sequence.views[self.role].ids[: self.n_tokens], 1, self.most)


@dataclass(frozen=True)
class Score(ReadPrompt):
    """As `Read`, and how likely `role` held each of these ids, and the one after them, is noted. Nothing of that can be
    taken from a cache, so all are evaluated."""

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        return True if self._n_left(job) == 0 else None

    def _n_left(self, job: Job) -> int:
        return self.n_tokens - len(job.sequence.prompt_likelihoods)

    def wanted(self, job: Job) -> Wanted:
        return Wanted(job.sequence.views[self.role].ids[: self.n_tokens], self._n_left(job), self.most)

    def take(self, job: Job, opinion: Opinion) -> None:
        sequence, n_top = job.sequence, job.sequence.settings.prompt_logprobs
        assert n_top is not None
        if opinion.at == len(sequence.prompt_likelihoods) + 1:  # else it was evaluated again
            sequence.note_prompt_token(opinion.likelihood(sequence.views[self.role].ids[opinion.at], n_top))
