"""THE METHOD: FoReaL-Decoding as a flow per sequence (arXiv 2506.06998).

A flow says whose turn it is. It yields small requests and receives small answers; it never sees a
model, a cache, a batch, a logit or a tokenizer. The scheduler serves the requests of many flows.

A new flow can start at any sentence end, and stands where an old one stood in a sentence once it has been given the
same answers, which the sequence records: nothing lives here for longer than a sentence, and nothing only here.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from .requests import NOT_CERTAIN, Answer, Judge, OpenSentence, Request, Write, WriteCue, Written
from .review import Review
from .roles import Role
from .rules import OFF
from .speculation import Propose, ReadAhead

if TYPE_CHECKING:
    from ..config import Method


Flow = Generator[Request, "Answer | None", None]
Part = Generator[Request, "Answer | None", bool]

OPEN_SENTENCE, WRITE_CUE = OpenSentence(), WriteCue()
_WRITE = {role: Write(role) for role in Role}
_BEGIN_LEADING = Write(Role.LEADER, begins_part=True)
_PROPOSE = Propose(Role.DRAFT)
_PROPOSE_OWN, _READ_AHEAD = Propose(Role.DRAFT, own_part=True), ReadAhead(Role.LEADER)


def foreal(method: Method) -> Flow:
    """At each sentence start ask the gate; a led sentence is the leader's until the handoff."""
    while True:
        led = yield OPEN_SENTENCE
        ended = (yield from lead(method, method.n, method.k)) if led else False
        while not ended:
            ended = yield from draft(method)


def lead(method: Method, n: int, k: int, written: int = 0) -> Part:
    """The leader's part of a sentence: True when the sentence ended in it, False at the handoff.

    written: tokens of it that are written already, which are no hits

    The handoff comes after the first token m > n whose trailing run of hits (the hit counter h, counted
    after the first n tokens or from the part's start) is k or longer. The counter cannot reach k
    before k - h more tokens, so those are written first and then judged together: one evaluation by the
    draft, or none where its proposals have told.
    """
    n_judged = max(n if method.hits_from == "lead" else 0, written)
    hits = 0
    due = max(n + 1, n_judged + k)
    while True:
        while written < due:
            yield from propose(method, written - n_judged if k > 0 else 0)
            if (yield from write(Role.LEADER, begins_part=written == 0)):
                return True
            written += 1
        if k > 0:
            judged = yield Judge(Role.DRAFT, written - n_judged, hits)
            assert isinstance(judged, tuple)
            assert not isinstance(judged, Written)
            for hit in judged:
                hits = hits + 1 if hit else 0
            n_judged = written
        if hits >= k:
            return False
        due = written + k - hits


def propose(method: Method, n_unjudged: int = 0) -> Generator[Request, Answer | None, None]:
    """The draft proposes what the leader may write next, unless that is known, as long as it pays.

    Only the number of evaluations hangs on this: what is written, and by whom, does not.
    """
    if method.proposals != 0:
        request = Propose(Role.DRAFT, n_unjudged) if n_unjudged > 0 else _PROPOSE
        while (yield request):
            pass


def read_ahead() -> Part:
    """The draft proposes what it is about to write, as long as it pays, and the leader reads all of that at once,
    whatever sentences it makes. False where a token that is written already is known to fall.

    What is written, and by whom, does not hang on this.
    """
    while (yield _PROPOSE_OWN):
        pass
    stands = yield _READ_AHEAD
    assert isinstance(stands, bool)
    return stands


def draft(method: Method) -> Part:
    """The draft's part of a sentence: True when the sentence ended in it.

    Where that is asked for, the leader is called back at a token of which the draft is not certain, or reads what was
    written, at the latest after `review_every` tokens, and writes its own token where its rule refuses the draft's.
    It then leads until the hit counter stands at k again.
    """
    reviewed = method.review != OFF
    reads_ahead = reviewed and method.proposals != 0 and method.call_back is None
    write_next = (
        Write(Role.DRAFT, most_entropy=method.call_back) if method.call_back is not None else _WRITE[Role.DRAFT]
    )
    n_written, ended, called_back = 0, False, False
    while not (ended or called_back or (reviewed and n_written == method.review_every)):
        if reads_ahead and not (yield from read_ahead()):
            break
        answer = yield write_next
        assert isinstance(answer, Written)
        ended, called_back = answer.ends_sentence, answer == NOT_CERTAIN
        n_written += answer.added
    if reviewed and n_written and not (yield Review(Role.LEADER, n_written)):
        if (yield from write(Role.LEADER, begins_part=True)):
            return True
        return (yield from lead(method, method.rewrite_n, method.rewrite_k, written=1))
    if called_back:
        return (yield from lead(method, 0, method.k))
    return ended


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


def speculative(method: Method) -> Flow:
    """Lossless speculative decoding (arXiv 2211.17192), with the leader's own choice as the test of a proposal.

    The leader draws its token at each place, with the same random number as alone: a proposal counts when it is
    that token. So the text is the leader's alone, token for token, sampled or not.
    """
    while True:
        yield OPEN_SENTENCE
        ended = False
        while not ended:
            yield from propose(method)
            ended = yield from write(Role.LEADER)


def write(role: Role, begins_part: bool = False) -> Part:
    """One token; True when the sentence has ended."""
    answer = yield _BEGIN_LEADING if begins_part else _WRITE[role]
    assert isinstance(answer, Written)
    return answer.ends_sentence
