"""One sequence in a slot: its flow, what the flow waits for, and what its requests may do to the sequence.

Knows one sequence and one flow at a time, and the opinions that have just been given for them. Knows no slots of
others, no rows and no model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .flows import Flow
from .gates import Gate, SentenceStart
from .modes import flow_of, gate_of
from .opinion import Opinion
from .requests import Answer, Read, Request, Written
from .roles import Role
from .sampling import choose
from .sentences import Verdict
from .sequence import Sequence
from .speculation import Proposals
from .tokens import Choice, Spelled
from .vocabulary import PairVocabulary


@dataclass(slots=True)
class Job:
    """A sequence in a slot.

    sequence: the response
    slot: its place in both caches
    vocabulary: of the pair
    n_ctx: tokens that fit each role's context
    flow: says whose turn it is
    gate: decides who leads a sentence
    request: what the flow waits for
    served: the turn that served it last
    leaves_prefix: its slot keeps what it holds when it leaves
    started: since when its time in the slot is not counted yet
    reads: what is read of the prompt before the flow goes on
    n_to_read: tokens of that
    judged: a judging role's top-1 after so many of its view's ids
    frontier: how many ids each role has evaluated last, and its top-1 there
    proposals: what the draft proposes behind the stream

    Private: how many reads are done and what the flow waits for after them; an opinion that outlived its evaluation;
    answers that are recorded with the next lasting one; whether the request has opened another sentence, and whether
    the stream has become shorter; how many ids each cache may keep.
    """

    sequence: Sequence
    slot: int
    vocabulary: PairVocabulary
    n_ctx: dict[Role, int]
    flow: Flow
    gate: Gate
    request: Request
    served: int = 0
    leaves_prefix: bool = False
    started: float = field(default_factory=time.perf_counter)
    reads: list[Read] = field(default_factory=list)
    n_to_read: int = 0
    judged: dict[int, int] = field(default_factory=dict)
    frontier: dict[Role, tuple[int, int]] = field(default_factory=dict)
    proposals: Proposals = field(default_factory=Proposals)
    _n_reads: int = 0
    _after_reads: Request | None = None
    _kept: Opinion | None = None
    _unrecorded: list[Answer] = field(default_factory=list)
    _opened_another: bool = False
    _rewound: bool = False
    _limits: dict[Role, int] = field(default_factory=dict)

    def note_time(self) -> None:
        """Add the time in the slot so far to the sequence's."""
        now = time.perf_counter()
        self.sequence.count_seconds(now - self.started)
        self.started = now

    def close(self) -> None:
        self.flow.close()

    # ---------------------------------------------------------------- the flow
    def read_first(self, reads: list[Read], n_tokens: int) -> None:
        """Read parts of the prompt, n_tokens together, before the flow goes on."""
        if reads:
            self.reads, self.n_to_read = reads, n_tokens
            self._after_reads, self.request = self.request, reads[0]

    @property
    def is_reading(self) -> bool:
        return self._after_reads is not None

    def advance(self, opinion: Opinion | None = None) -> None:
        """Answer the flow's requests for as long as no evaluation is needed, at most to the sentence's end.

        There the next call asks the gate, unless the gate asks a role that has its opinion at hand.
        """
        while True:
            answer = self.request.answer(self, opinion)
            if answer is None or self.sequence.finish_reason is not None:
                return
            if self._rewound:
                opinion, self._rewound = None, False  # the stream has become another one
            self._send(answer)
            if self.request.pauses(self):
                return

    def _send(self, answer: Answer) -> None:
        """Give the flow its answer, and record it with the open sentence; not one that has opened another."""
        if self._after_reads is not None:
            self._n_reads += 1
            if self._n_reads < len(self.reads):
                self.request = self.reads[self._n_reads]
            else:
                self.request, self._after_reads = self._after_reads, None
            return
        if not self.request.lasting:
            self._unrecorded.append(answer)
        elif self._opened_another:
            self._unrecorded.clear()
            self._opened_another = False
        else:
            for earlier in self._unrecorded:
                self.sequence.record(earlier)
            self._unrecorded.clear()
            self.sequence.record(answer)
        self.request = self.flow.send(answer)

    def open_next_sentence(self) -> None:
        """A sentence that follows within one request: the flow is not asked."""
        led = self.gate.opens(SentenceStart(self.sequence.gate_rng))
        self.sequence.open_sentence(led)
        self.sequence.record(led)
        self._opened_another = True

    # ---------------------------------------------------------------- tokens
    def opinion_at_end(self, role: Role, opinion: Opinion | None) -> Opinion | None:
        """The role's opinion at the end of its view: the newest one, or one that was kept."""
        n_view = len(self.sequence.views[role].ids)
        if opinion is not None and opinion.at == n_view and opinion.role is role:
            return opinion
        kept = self._kept
        return kept if kept is not None and kept.at == n_view and kept.role is role else None

    def keep(self, opinion: Opinion) -> None:
        """Keep an opinion after its model's next evaluation: the role may have to write there."""
        self._kept = opinion.kept()

    def choice(self, role: Role, opinion: Opinion | None) -> Choice | None:
        """The role's next token: one held back, or one by its opinion at the end; None when it must evaluate."""
        held = self.sequence.peek
        if held is not None and held.role is role and held.at == len(self.sequence.views[role].ids):
            return held
        known = self.opinion_at_end(role, opinion)
        return None if known is None else self.choice_from(known)

    def choice_from(self, opinion: Opinion) -> Choice:
        """A token by the settings; uses a random number unless they are greedy."""
        sequence, role = self.sequence, opinion.role
        settings, ids = sequence.settings.sampling, sequence.views[role].ids
        n_drawn, token = sequence.n_drawn, opinion.top1
        if not settings.greedy or settings.repeat_penalty != 1.0:
            recent = ids[-settings.repeat_last_n :] if settings.repeat_penalty != 1.0 else []
            token = choose(opinion.logits, settings, recent, sequence.token_rng)
            if not settings.greedy:
                sequence.count_draw()
        return Choice(role, len(ids), token, opinion.top1, n_drawn)

    def commit_or_hold(self, choice: Choice) -> Written:
        """Commit the token to the stream, or hold it back when it shows that the sentence has ended before it."""
        sequence, vocabulary, role, token = self.sequence, self.vocabulary, choice.role, choice.token
        piece = vocabulary.piece(role, token)
        if sequence.verdict is Verdict.MAYBE and (piece is None or sequence.confirms_end(piece)):
            sequence.hold(choice)
            return Written(ends_sentence=True, added=False)
        if piece is None:
            sequence.append_end(choice)
        else:
            ids: dict[Role, tuple[int, ...]] = {role: (token,)}
            for reader in sequence.views:
                if reader is not role:
                    ids[reader] = vocabulary.translate(role, token, reader)
            sequence.append(choice, piece, ids)
        return Written(ends_sentence=sequence.verdict is Verdict.END)

    def spelled(self, text: str, author: Role) -> list[Spelled]:
        return spelled(text, author, self.sequence, self.vocabulary)

    # ---------------------------------------------------------------- what caches hold too much
    def forget_proposals(self) -> None:
        """What is proposed is of no use any more; the caches keep what is part of the stream by now."""
        for role, view in self.sequence.views.items():
            n_ids = self.proposals.n_in_stream(role, view.ids)
            if n_ids is not None:
                self._limits[role] = min(n_ids, self._limits.get(role, n_ids))
        self.proposals.forget()

    def forget_ahead(self) -> None:
        """The stream has become shorter: what was evaluated behind its end is another text now."""
        self._kept, self._rewound = None, True
        self.judged.clear()
        for role, view in self.sequence.views.items():
            self._limits[role] = min(len(view.ids), self._limits.get(role, len(view.ids)))
            if self.frontier.get(role, (0, 0))[0] > len(view.ids):
                del self.frontier[role]

    def take_limits(self) -> dict[Role, int]:
        """How many ids each role's cache may hold at most, where it may hold what is not part of the stream."""
        if not self._limits:
            return self._limits
        surplus, self._limits = self._limits, {}
        return surplus


def begin(sequence: Sequence, slot: int, vocabulary: PairVocabulary, n_ctx: dict[Role, int], served: int = 0) -> Job:
    """A job for a sequence, new or stopped anywhere: its flow has been given the recorded answers again."""
    flow = flow_of(sequence.settings)
    request = next(flow)
    if sequence.verdict is not Verdict.END:
        for _, answer in sequence.answers:
            request = flow.send(answer)
    return Job(sequence, slot, vocabulary, n_ctx, flow, gate_of(sequence.settings), request, served)


def spelled(text: str, author: Role, sequence: Sequence, vocabulary: PairVocabulary) -> list[Spelled]:
    """A text as tokens for `Sequence.insert`, in the ids of `author`."""
    at, tokens = len(sequence.views[author].ids), []
    for token in vocabulary.encode(author, text):
        ids = {reader: vocabulary.translate(author, token, reader) for reader in sequence.views}
        choice = Choice(author, at, token, token, sequence.n_drawn)
        tokens.append(Spelled(choice, vocabulary.piece(author, token) or b"", ids))
        at += 1
    return tokens
