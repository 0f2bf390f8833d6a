"""THE METHOD: FoReaL-Decoding as a flow per sequence (arXiv 2506.06998).

A flow says whose turn it is. It yields small requests and receives small answers; it never sees a
model, a cache, a batch, a logit or a tokenizer. The scheduler serves the requests of many flows.

A new flow can start at any sentence end, and stands where an old one stood in a sentence once it has been given the
same answers, which the sequence records: nothing lives here for longer than a sentence, and nothing only here.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from .requests import Answer, Judge, OpenSentence, Request, Write, WriteCue, Written
from .roles import Role
from .speculation import Propose, Verify

if TYPE_CHECKING:
    from ..config import Method


Flow = Generator[Request, "Answer | None", None]

OPEN_SENTENCE, WRITE_CUE = OpenSentence(), WriteCue()
_WRITE = {role: Write(role) for role in Role}


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
