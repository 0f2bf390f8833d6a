"""What a flow can ask for. Each kind of request knows what must be evaluated for it and what it makes of that.

A flow yields a request and receives its answer. The scheduler treats all kinds alike: it asks a request for its
answer, and where there is none yet, evaluates what the request wants and hands it each opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from .gates import SentenceStart
from .reasoning import END_THINK
from .sentences import Verdict

if TYPE_CHECKING:
    from .job import Job
    from .opinion import Opinion
    from .roles import Role


class Written(NamedTuple):
    """The answer to Write: whether the sentence has ended, with this token or just before it.

    `added` is False when the sentence turned out to have ended before the token that would have been
    next, so that nothing was added to the stream.
    """

    ends_sentence: bool
    added: bool = True


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

    def known(self, job: Job) -> tuple[int, int] | None:
        """Where one of the wanted outputs is known already: the number of ids before it, and the top-1 there."""
        return None

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
    """A sentence starts; the answer is the gate's: True when the leader leads it."""

    def asks(self, job: Job) -> Role | None:
        return job.gate.role

    def pauses(self, job: Job) -> bool:
        return job.gate.role is None

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        role = job.gate.role
        if role is not None:
            opinion = job.opinion_at_end(role, opinion)
            if opinion is None:
                return None
        led = job.gate.opens(SentenceStart(job.sequence.gate_rng, opinion if role else None))
        job.sequence.open_sentence(led)
        return led

    def wanted(self, job: Job) -> Wanted:
        assert job.gate.role is not None
        return Wanted(job.sequence.views[job.gate.role].ids)


@dataclass(frozen=True)
class Write(RoleRequest):
    """`role` writes the next token."""

    def answer(self, job: Job, opinion: Opinion | None) -> Written | None:
        choice = job.choice(self.role, opinion)
        return None if choice is None else job.commit_or_hold(choice)

    def wanted(self, job: Job) -> Wanted:
        return Wanted(job.sequence.views[self.role].ids)


@dataclass(frozen=True)
class Judge(RoleRequest):
    """Are the leader's last `n_tokens` tokens hits: would `role` have had the same top-1 there?

    The answer is a tuple of n_tokens booleans, in the stream's order.
    """

    n_tokens: int
    decodes: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> tuple[bool, ...] | None:
        if job.opinion_at_end(self.role, opinion) is None:
            return None
        sequence, n = job.sequence, self.n_tokens
        starts, sampled = sequence.views[self.role].starts, sequence.settings.method.compare == "sampled"
        hits = []
        for token, start in zip(sequence.tokens[-n:], starts[-n:], strict=True):
            compared = token.id if sampled else token.top1
            wanted = job.vocabulary.translate(token.author, compared, self.role)
            hits.append(wanted[:1] == (job.judged[start],))
        sequence.judge(tuple(hits))
        job.judged.clear()
        return tuple(hits)

    def wanted(self, job: Job) -> Wanted:
        view = job.sequence.views[self.role]
        return Wanted(view.ids, len(view.ids) - view.starts[-self.n_tokens] + 1)

    def known(self, job: Job) -> tuple[int, int] | None:
        frontier = job.frontier.get(self.role)
        if frontier is None or frontier[0] != job.sequence.views[self.role].starts[-self.n_tokens]:
            return None
        job.judged[frontier[0]] = frontier[1]
        return frontier

    def take(self, job: Job, opinion: Opinion) -> None:
        job.judged[opinion.at] = opinion.top1
        if opinion.at == len(job.sequence.views[self.role].ids) and job.sequence.verdict is Verdict.MAYBE:
            # The leader's next token may end the sentence before it, and the judge then be asked to write here.
            job.keep(opinion)


@dataclass(frozen=True)
class WriteCue(Request):
    """The cue comes next, written by nobody; the answer is as for Write."""

    def answer(self, job: Job, opinion: Opinion | None) -> Written:
        sequence = job.sequence
        if END_THINK in sequence.text:  # the answer is not to be thought about again
            return Written(ends_sentence=False)
        before, text = sequence.tail(1), sequence.settings.method.cue
        if before and not before[-1].isspace():
            text = " " + text
        (author,) = sequence.views
        sequence.insert(job.spelled(text, author))
        return Written(ends_sentence=sequence.verdict is Verdict.END)


@dataclass(frozen=True)
class TakeBack(Request):
    """The last `n_tokens` tokens of the open sentence are dropped; `reason` goes into the trace.

    The mode's row in MODES must say that it rewrites. The answer says nothing.
    """

    n_tokens: int
    reason: str

    def answer(self, job: Job, opinion: Opinion | None) -> bool:
        sequence = job.sequence
        sequence.rewind(len(sequence.tokens) - self.n_tokens, self.reason, by_flow=True)
        job.forget_ahead()
        return True


@dataclass(frozen=True)
class Read(RoleRequest):
    """`role` reads its view's first `n_tokens` ids, `most` at a time, and can come back to there later."""

    n_tokens: int
    most: int
    decodes: ClassVar[bool] = False

    def answer(self, job: Job, opinion: Opinion | None) -> bool | None:
        done = opinion is not None and opinion.role is self.role and opinion.at >= self.n_tokens
        return True if done else None

    def wanted(self, job: Job) -> Wanted:
        return Wanted(job.sequence.views[self.role].ids[: self.n_tokens], 1, self.most)

    def leaves_mark(self, opinion: Opinion) -> bool:
        return opinion.at >= self.n_tokens
