"""What a flow's requests mean for its sequence: gates drawn, tokens chosen and committed, hits judged.

Knows one sequence and one flow at a time, and the logits that have just been evaluated for them. Knows
no slots of others, no rows and no model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from .decode import Answer, Flow, Judge, OpenSentence, Request, Written
from .gate import Gate
from .model import Logits, PairVocabulary
from .sampling import choose
from .sentences import Verdict
from .sequence import Choice, Role, Sequence


@dataclass(slots=True)
class Job:
    """A sequence in a slot. `request` is what its flow waits for; `skipped`: steps since it was served.

    `judged`: the judging role's top-1 after each of its view's last positions. `kept`: a copy of its logits at
    the end of its view, made only where it may have to write there later.
    """

    sequence: Sequence
    slot: int
    flow: Flow
    gate: Gate
    request: Request
    skipped: int = 0
    started: float = field(default_factory=time.perf_counter)
    judged: dict[int, int] = field(default_factory=dict)
    kept: Fresh | None = None


class Fresh(NamedTuple):
    """`role` has just evaluated its whole view: its logits (n_vocab,) and top-1 at the end of it."""

    role: Role
    logits: Logits
    top1: int


def resume(job: Job, vocabulary: PairVocabulary, fresh: Fresh | None = None) -> None:
    """Answer the flow's requests for as long as no evaluation is needed, at most to the sentence's end.

    A sentence end is a save point: the next call asks the gate.
    """
    sequence = job.sequence
    while True:
        answer = _answer(job, vocabulary, fresh)
        if answer is None or sequence.finished:
            return
        job.request = job.flow.send(answer)
        if isinstance(job.request, OpenSentence):
            return


def _answer(job: Job, vocabulary: PairVocabulary, fresh: Fresh | None) -> Answer | None:
    """The answer to the job's request, or None when its role must evaluate first."""
    sequence, request = job.sequence, job.request
    if isinstance(request, OpenSentence):
        led = job.gate.opens(sequence.gate_rng)
        sequence.open_sentence(led)
        return led
    if isinstance(request, Judge):
        return _judge(job, request, vocabulary) if fresh and fresh.role is request.role else None
    choice = sequence.peek
    n_view = len(sequence.views[request.role].ids)
    if choice is None or (choice.role, choice.at) != (request.role, n_view):
        known = fresh or job.kept
        if known is None or known.role is not request.role or sequence.frontier_top1[known.role][0] != n_view:
            return None
        choice = _choose(sequence, known)
    return _write(sequence, choice, vocabulary)


def _choose(sequence: Sequence, fresh: Fresh) -> Choice:
    settings, ids = sequence.settings.sampling, sequence.views[fresh.role].ids
    if settings.greedy and settings.repeat_penalty == 1.0:
        return Choice(fresh.role, len(ids), fresh.top1, fresh.top1)
    recent = ids[-settings.repeat_last_n :] if settings.repeat_penalty != 1.0 else []
    token = choose(fresh.logits, settings, recent, sequence.token_rng)
    return Choice(fresh.role, len(ids), token, fresh.top1)


def _write(sequence: Sequence, choice: Choice, vocabulary: PairVocabulary) -> Written:
    """Commit the token, or keep it back when it shows that the sentence has ended before it."""
    role, token = choice.role, choice.token
    is_end = vocabulary.is_end(role, token)
    piece = b"" if is_end else vocabulary.piece(role, token)
    if sequence.verdict is Verdict.MAYBE and (is_end or sequence.confirms_end(piece)):
        sequence.peek = choice
        sequence.verdict = Verdict.END
        return Written(ends_sentence=True, added=False)
    sequence.peek = None
    if is_end:
        sequence.append_end(choice)
    else:
        sequence.append(choice, piece, {r: vocabulary.translate(role, token, r) for r in sequence.views})
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
