"""What a flow's requests mean for its sequence: gates drawn, tokens chosen and committed, hits judged.

Knows one sequence and one flow at a time, and the logits that have just been evaluated for them. Knows
no slots of others, no rows and no model.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from .flows import (
    OPEN_SENTENCE,
    Answer,
    Flow,
    Judge,
    Propose,
    Request,
    Verify,
    Write,
    WriteCue,
    Written,
    flow_for,
    only_writer,
)
from .gates import Gate, gate_for
from .reasoning import END_THINK
from .sampling import choose
from .sentences import Verdict
from .sequence import Choice, Role, Sequence, Spelled
from .vocabulary import Logits, PairVocabulary


@dataclass(slots=True)
class Job:
    """A sequence in a slot. `request` is what its flow waits for; `served`: the turn that served it last.

    `judged`: the judging role's top-1 after each of its view's last positions. `kept`: a copy of its logits at
    the end of its view, made only where it may have to write there later. `proposed`: what the draft proposes
    after the stream, in each role's ids, and `base`: the length of its view then; `n_accepted`: how many of them
    the leader has written itself so far, None once it wrote another token. `ahead`: tokens that come next and
    their author's top-1 there, chosen before those ahead of them were in the stream.
    """

    sequence: Sequence
    slot: int
    flow: Flow
    gate: Gate
    request: Request
    served: int = 0
    started: float = field(default_factory=time.perf_counter)
    judged: dict[int, int] = field(default_factory=dict)
    kept: Fresh | None = None
    ahead: deque[tuple[int, int]] = field(default_factory=deque)
    proposed: dict[Role, list[int]] = field(default_factory=lambda: {role: [] for role in Role})
    base: dict[Role, int] = field(default_factory=dict)
    n_accepted: int | None = 0

    def note_time(self) -> None:
        """Add the time in the slot so far to the sequence's."""
        now = time.perf_counter()
        self.sequence.seconds += now - self.started
        self.started = now


class Fresh(NamedTuple):
    """`role` has just evaluated its whole view: its logits (n_vocab,) and top-1 at the end of it."""

    role: Role
    logits: Logits
    top1: int


def begin(sequence: Sequence, slot: int, served: int = 0) -> Job:
    """A job for a sequence, new or stopped anywhere: a flow that stands where the stream does."""
    flow = flow_for(sequence.settings)
    job = Job(sequence, slot, flow, gate_for(sequence.settings), next(flow), served)
    if sequence.verdict is not Verdict.END:
        _follow(job)
    return job


def _follow(job: Job) -> None:
    """Take the flow to the open sentence's last token: its answers so far are in the stream."""
    tokens, at = job.sequence.open_tokens(), 0
    job.request = job.flow.send(job.sequence.led)
    while True:
        request = job.request
        if isinstance(request, (Propose, Verify)):
            return
        if isinstance(request, WriteCue):
            if not tokens:
                return
            at += sum(token.given for token in tokens)
            job.request = job.flow.send(Written(ends_sentence=False))
            continue
        if isinstance(request, Judge):
            hits = tuple(token.hit for token in tokens[at - request.n_tokens : at])
            if None in hits:
                return
            job.request = job.flow.send(tuple(hit is True for hit in hits))
            continue
        if at == len(tokens):
            return
        assert request.role is tokens[at].author, "the stream is not this flow's"
        job.request = job.flow.send(Written(ends_sentence=False))
        at += 1


def resume(job: Job, vocabulary: PairVocabulary, fresh: Fresh | None = None) -> None:
    """Answer the flow's requests for as long as no evaluation is needed, at most to the sentence's end.

    The next call asks the gate.
    """
    sequence = job.sequence
    answer: Answer
    while True:
        request = job.request
        if isinstance(request, Write):
            choice = _choice(job, request.role, fresh)
            if choice is None:
                return
            answer, fresh = _write(sequence, choice, vocabulary), None
        elif isinstance(request, Judge):
            if fresh is None or fresh.role is not request.role:
                return
            answer = _judge(job, request, vocabulary)
        elif isinstance(request, WriteCue):
            answer = _write_cue(sequence, vocabulary)
        elif isinstance(request, Propose):
            if fresh is None or fresh.role is not request.role:
                return
            answer, fresh = _propose(job, fresh, vocabulary), None
        elif isinstance(request, Verify):
            return  # token by token: `verify`
        else:
            answer = job.gate.opens(sequence.gate_rng)
            sequence.open_sentence(answer)
        if sequence.finish_reason is not None:
            return
        job.request = job.flow.send(answer)
        if job.request is OPEN_SENTENCE:
            return


def _choice(job: Job, role: Role, fresh: Fresh | None) -> Choice | None:
    """The role's next token: one kept back or chosen ahead, or one from fresh logits; None when it must evaluate."""
    sequence = job.sequence
    kept, known = sequence.peek, fresh or job.kept
    if kept is None and known is None:
        return Choice(role, len(sequence.views[role].ids), *job.ahead.popleft()) if job.ahead else None
    n_view = len(sequence.views[role].ids)
    if kept is not None and kept.role is role and kept.at == n_view:
        return kept
    if known is None or known.role is not role or sequence.frontier_top1[role][0] != n_view:
        return None
    return _choice_of(sequence, known)


def may_look_ahead(job: Job) -> bool:
    """Whether tokens may be chosen before those ahead of them are part of the stream: none of them can be dropped."""
    settings = job.sequence.settings
    return only_writer(settings) is not None and not settings.stop and settings.sampling.repeat_penalty == 1.0


def chosen(sequence: Sequence, fresh: Fresh) -> int:
    """The role's next token by the settings; uses a random number unless they are greedy."""
    settings = sequence.settings.sampling
    if settings.greedy and settings.repeat_penalty == 1.0:
        return fresh.top1
    recent = sequence.views[fresh.role].ids[-settings.repeat_last_n :] if settings.repeat_penalty != 1.0 else []
    return choose(fresh.logits, settings, recent, sequence.token_rng)


def _choice_of(sequence: Sequence, fresh: Fresh) -> Choice:
    return Choice(fresh.role, len(sequence.views[fresh.role].ids), chosen(sequence, fresh), fresh.top1)


def _write(sequence: Sequence, choice: Choice, vocabulary: PairVocabulary) -> Written:
    """Commit the token, or keep it back when it shows that the sentence has ended before it."""
    role, token = choice.role, choice.token
    piece = vocabulary.piece(role, token)
    if sequence.verdict is Verdict.MAYBE and (piece is None or sequence.confirms_end(piece)):
        sequence.peek = choice
        sequence.verdict = Verdict.END
        return Written(ends_sentence=True, added=False)
    sequence.peek = None
    if piece is None:
        sequence.append_end(choice)
    else:
        ids: dict[Role, tuple[int, ...]] = {role: (token,)}
        for reader in sequence.views:
            if reader is not role:
                ids[reader] = vocabulary.translate(role, token, reader)
        sequence.append(choice, piece, ids)
    return Written(ends_sentence=sequence.verdict is Verdict.END)


def _judge(job: Job, request: Judge, vocabulary: PairVocabulary) -> tuple[bool, ...]:
    """Whether the judging role's top-1 is the leader's, for each of the last tokens."""
    sequence, n = job.sequence, request.n_tokens
    starts, sampled = sequence.views[request.role].starts, sequence.settings.method.compare == "sampled"
    hits = []
    for token, start in zip(sequence.tokens[-n:], starts[-n:], strict=True):
        compared = token.id if sampled else token.top1
        wanted = vocabulary.translate(token.author, compared, request.role)
        hits.append(wanted[:1] == (job.judged[start - 1],))
    sequence.judge(tuple(hits))
    return tuple(hits)


# ---------------------------------------------------------------- the cue
def spelled(text: str, author: Role, sequence: Sequence, vocabulary: PairVocabulary) -> list[Spelled]:
    """A text as tokens for `Sequence.insert`, in the ids of `author`."""
    at, tokens = len(sequence.views[author].ids), []
    for token in vocabulary.encode(author, text):
        ids = {reader: vocabulary.translate(author, token, reader) for reader in sequence.views}
        tokens.append(Spelled(Choice(author, at, token, token), vocabulary.piece(author, token) or b"", ids))
        at += 1
    return tokens


def _write_cue(sequence: Sequence, vocabulary: PairVocabulary) -> Written:
    if END_THINK in sequence.text:  # the answer is not to be thought about again
        return Written(ends_sentence=False)
    before, text = sequence.tail(1), sequence.settings.method.cue
    if before and not before[-1].isspace():
        text = " " + text
    (author,) = sequence.views
    sequence.insert(spelled(text, author, sequence, vocabulary))
    return Written(ends_sentence=sequence.verdict is Verdict.END)


# ---------------------------------------------------------------- proposals
def _propose(job: Job, fresh: Fresh, vocabulary: PairVocabulary) -> bool:
    """Note the draft's most likely token; False when it would end the response."""
    if vocabulary.piece(fresh.role, fresh.top1) is None:
        return False
    for reader, ids in job.proposed.items():
        if not ids:
            job.base[reader] = len(job.sequence.views[reader].ids)
        ids += vocabulary.translate(fresh.role, fresh.top1, reader)
    return True


def verify(job: Job, fresh: Fresh, vocabulary: PairVocabulary) -> None:
    """Write the leader's token at the next place, if all proposals before it were its own."""
    sequence = job.sequence
    if job.n_accepted is None or sequence.finished:
        return
    proposed = job.proposed[fresh.role]
    if job.n_accepted == 0:
        sequence.n_proposed += len(proposed)
    choice = _choice_of(sequence, fresh)
    written = Written(ends_sentence=True, added=False)
    while not written.added:
        written = _write(sequence, choice, vocabulary)
        if written.ends_sentence and not sequence.finished:
            sequence.open_sentence(job.gate.opens(sequence.gate_rng))
    same = proposed[job.n_accepted : job.n_accepted + 1] == [choice.token]
    sequence.n_accepted += same
    job.n_accepted = job.n_accepted + 1 if same else None
