"""THE METHOD: FoReaL-Decoding as a flow per sequence (arXiv 2506.06998).

A flow says whose turn it is. It yields small requests and receives small answers; it never sees a
model, a cache, a batch, a logit or a tokenizer. The scheduler serves the requests of many flows.

A new flow can start at any sentence end, and be taken into a sentence with the answers that the stream
records (serving.py): nothing lives here for longer than a sentence, and nothing only here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..config import Generation, Method, Mode
from .sequence import Role


# ---------------------------------------------------------------- requests and their answers
@dataclass(frozen=True)
class OpenSentence:
    """A sentence starts; the answer is the gate's: True when the leader leads it. No role is needed."""

    role: ClassVar[None] = None


@dataclass(frozen=True)
class Write:
    """`role` writes the next token."""

    role: Role


class Written(NamedTuple):
    """The answer to Write: whether the sentence has ended, with this token or just before it.

    `added` is False when the sentence turned out to have ended before the token that would have been
    next, so that nothing was added to the stream.
    """

    ends_sentence: bool
    added: bool = True


@dataclass(frozen=True)
class Judge:
    """Are the leader's last `n_tokens` tokens hits: would `role` have had the same top-1 there?

    The answer is a tuple of n_tokens booleans, in the stream's order.
    """

    role: Role
    n_tokens: int


@dataclass(frozen=True)
class WriteCue:
    """The cue comes next, written by nobody; the answer is as for Write. No role is needed."""

    role: ClassVar[None] = None


@dataclass(frozen=True)
class Propose:
    """`role` proposes a token after the stream and its earlier proposals; the answer: may it propose another?"""

    role: Role


@dataclass(frozen=True)
class Verify:
    """`role` writes its own tokens: along the proposals as far as they are the same, then one more.

    Sentences that end on the way are followed by others at once. The answer says nothing.
    """

    role: Role


Request = OpenSentence | Write | Judge | WriteCue | Propose | Verify
Answer = bool | Written | tuple[bool, ...]
Flow = Generator[Request, "Answer | None", None]


OPEN_SENTENCE, WRITE_CUE = OpenSentence(), WriteCue()
_WRITE = {role: Write(role) for role in Role}


# ---------------------------------------------------------------- the flows
def flow_for(settings: Generation) -> Flow:
    """The flow of a mode; it never returns, the scheduler closes it when the response ends."""
    if settings.mode is Mode.FOREAL:
        return foreal(settings.method)
    if settings.mode is Mode.CUE:
        return cued()
    if settings.mode is Mode.SPECULATIVE:
        return speculative(settings.method.proposals)
    role = only_writer(settings)
    assert role is not None
    return alone(role)


def only_writer(settings: Generation) -> Role | None:
    """The role that writes every sentence, whatever comes; None where two write, or a cue comes between."""
    return {Mode.LEADER: Role.LEADER, Mode.DRAFT: Role.DRAFT}.get(settings.mode)


def foreal(method: Method) -> Flow:
    """At each sentence start ask the gate; a led sentence is the leader's until the handoff."""
    while True:
        led = yield OPEN_SENTENCE
        ended = (yield from lead(method)) if led else False
        while not ended:
            ended = yield from write(Role.DRAFT)


def lead(method: Method) -> Generator[Request, Answer | None, bool]:
    """The leader's phase of a sentence: True when the sentence ended in it, False at the handoff.

    The handoff comes after the first token m > n whose trailing run of hits (the hit counter h, counted
    after the first n tokens or from the sentence's start) is k or longer. The counter cannot reach k
    before k - h more tokens, so those are written first and then judged together: one evaluation by the
    draft, and the outcome of judging each step.
    """
    n, k = method.n, method.k
    n_judged = n if method.hits_from == "lead" else 0
    hits = 0
    written = 0  # lambda
    due = max(n + 1, n_judged + k)
    while True:
        while written < due:
            if (yield from write(Role.LEADER)):
                return True
            written += 1
        if k > 0:
            judged = yield Judge(Role.DRAFT, written - n_judged)
            assert isinstance(judged, tuple)
            assert not isinstance(judged, Written)
            for hit in judged:
                hits = hits + 1 if hit else 0
            n_judged = written
        if hits >= k:
            return False
        due = written + k - hits


def alone(role: Role) -> Flow:
    """One role writes every sentence."""
    while True:
        yield OPEN_SENTENCE
        while not (yield from write(role)):
            pass


def cued() -> Flow:
    """The draft writes every sentence; where the gate is open, a fixed cue comes first."""
    while True:
        cue = yield OPEN_SENTENCE
        ended = False
        if cue:
            answer = yield WRITE_CUE
            assert isinstance(answer, Written)
            ended = answer.ends_sentence
        while not ended:
            ended = yield from write(Role.DRAFT)


def speculative(n_proposals: int) -> Flow:
    """Lossless speculative decoding (arXiv 2211.17192), with the leader's own choice as the test of a proposal.

    The leader draws its token at each place, with the same random number as alone: a proposal counts when it is
    that token. So the text is the leader's alone, token for token, sampled or not.
    """
    yield OPEN_SENTENCE
    propose, verify = Propose(Role.DRAFT), Verify(Role.LEADER)
    while True:
        for _ in range(n_proposals):
            if not (yield propose):
                break
        yield verify


def write(role: Role) -> Generator[Request, Answer | None, bool]:
    """One token; True when the sentence has ended."""
    answer = yield _WRITE[role]
    assert isinstance(answer, Written)
    return answer.ends_sentence
