"""One sequence in a slot: its flow, what the flow waits for, and what its requests may do to the sequence.

Knows one sequence and one flow at a time, and the opinions that have just been given for them. Knows no slots of
others, no rows and no model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from .borders import before_token, reread
from .flows import Flow
from .gates import Gate
from .grammar import Grammar
from .opinion import Opinion
from .plan import UNMEASURED_PLAN, Plan
from .proposals import Ahead
from .requests import Answer, ReadPrompt, Request, Written
from .roles import Role
from .rules import Reading, note_read
from .sampling import choose
from .sentences import Verdict
from .sequence import Sequence
from .tokens import Choice, FinishReason
from .view import Tail
from .vocabulary import Logits, PairVocabulary


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
    n_to_read: tokens of that, of all roles together
    n_longest_read: tokens of the longest of these reads
    frontier: how many ids each role has evaluated last, and its top-1 there
    ahead: what is known of the places behind the stream
    plan: how many proposals pay
    n_proposed: proposals since the leader's last token (anybody's, where they are reviewed), dropped ones included
    n_offered: proposals that the leader reads now
    reading: what the leader thinks of the tokens that it reviews
    grammars: what each role's tokens keep to; none where all may come
    doubted: roles that evaluate it by itself next: an evaluation that it had part in gave no numbers

    Private: how many reads are done and what the flow waits for after them; an opinion that outlived its evaluation;
    answers that are recorded with the next lasting one; whether the stream is another one than the
    newest opinion is about; how many ids each cache may keep.
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
    reads: list[ReadPrompt] = field(default_factory=list)
    n_to_read: int = 0
    n_longest_read: int = 0
    frontier: dict[Role, tuple[int, int]] = field(default_factory=dict)
    ahead: Ahead = field(default_factory=Ahead)
    plan: Plan = UNMEASURED_PLAN
    n_proposed: int = 0
    n_offered: int = 0
    reading: list[Reading] = field(default_factory=list)
    grammars: dict[Role, Grammar] = field(default_factory=dict)
    doubted: set[Role] = field(default_factory=set)
    _n_reads: int = 0
    _after_reads: Request | None = None
    _kept: Opinion | None = None
    _unrecorded: list[Answer] = field(default_factory=list)
    _went_elsewhere: bool = False
    _limits: dict[Role, int] = field(default_factory=dict)

    def note_time(self) -> None:
        """Add the time in the slot so far to the sequence's."""
        now = time.perf_counter()
        self.sequence.count_seconds(now - self.started)
        self.started = now

    def close(self) -> None:
        self.flow.close()

    # ---------------------------------------------------------------- the flow
    def read_first(self, reads: list[ReadPrompt], n_tokens: list[int]) -> None:
        """Read parts of the prompt before the flow goes on: so many tokens in each of these reads."""
        if reads:
            self.reads, self.n_to_read, self.n_longest_read = reads, sum(n_tokens), max(n_tokens)
            self._after_reads, self.request = self.request, reads[0]

    @property
    def is_reading(self) -> bool:
        return self._after_reads is not None

    def advance(self, opinion: Opinion | None = None) -> None:
        """Answer the flow's requests for as long as no evaluation is needed, at most to the sentence's end.

        There the next call asks the gate, unless the gate asks a role that has its opinion at hand.
        """
        self._went_elsewhere = False
        while True:
            answer = self.request.answer(self, opinion)
            if answer is None or self.sequence.finish_reason is not None:
                return
            if self._went_elsewhere:
                opinion, self._went_elsewhere = None, False
            self._send(answer)
            if self.request.pauses(self):
                return

    def _send(self, answer: Answer) -> None:
        """Give the flow its answer, and record it with the open sentence."""
        if self._after_reads is not None:
            self._n_reads += 1
            if self._n_reads < len(self.reads):
                self.request = self.reads[self._n_reads]
            else:
                self.request, self._after_reads = self._after_reads, None
            return
        if not self.request.lasting:
            self._unrecorded.append(answer)
        else:
            for earlier in self._unrecorded:
                self.sequence.record(earlier)
            self._unrecorded.clear()
            self.sequence.record(answer)
        self.request = self.flow.send(answer)

    def context_is_full(self) -> None:
        """What the request wants does not fit a context: the response ends, once what was not reviewed yet is."""
        sequence = self.sequence
        if sequence.ending is not None:  # neither does that
            sequence.settle()
        else:
            sequence.finish(FinishReason.CONTEXT)
            self.advance()

    # ---------------------------------------------------------------- tokens
    def opinion(self, role: Role, at: int, logits: Logits) -> Opinion:
        """What the role thinks after so many ids of its view and what is proposed behind it. SequenceError where a
        grammar lets nothing come there."""
        grammar = self.grammars.get(role)
        if grammar is None:
            return Opinion(role, at, logits)
        view = self.sequence.views[role]
        return grammar.opinion(role, at, logits, (view.ids + self.ahead.behind(role, view))[:at])

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

    def holds(self, role: Role) -> bool:
        """Whether a token of the role's for the stream's end was held back."""
        held = self.sequence.peek
        return held is not None and held.role is role and held.at == len(self.sequence.views[role].ids)

    def choice(self, role: Role, opinion: Opinion | None) -> Choice | None:
        """The role's next token: one held back, one known ahead, or one by its opinion at the end; None when it must
        evaluate."""
        sequence = self.sequence
        if self.holds(role):
            return sequence.peek
        sequence.drop_peek()
        known_ahead = self.choice_ahead(role)
        if known_ahead is not None:
            sequence.use_draw()
            return known_ahead
        known = self.opinion_at_end(role, opinion)
        if known is not None:
            choice = self.choice_from(known)
            if not sequence.settings.sampling.greedy:
                sequence.count_draw()
            return choice
        n_view = len(sequence.views[role].ids)
        top1 = self.ahead.top1s[role].get(n_view)
        if top1 is None or not sequence.settings.sampling.takes_top1 or sequence.settings.logprobs is not None:
            return None
        return Choice(role, n_view, top1, top1, sequence.n_drawn)

    def choice_from(
        self,
        opinion: Opinion,
        ids: list[int] | None = None,
        n_drawn: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Choice:
        """A token by the settings; draws a random number unless they are greedy.

        ids, n_drawn, rng: what stands before it, and its random number; None: the view's and the sequence's own
        """
        sequence, role = self.sequence, opinion.role
        settings, token = sequence.settings.sampling, opinion.top1
        ids = sequence.views[role].ids if ids is None else ids
        n_drawn = sequence.n_drawn if n_drawn is None else n_drawn
        if not settings.takes_top1:
            recent = ids[-settings.repeat_last_n :] if settings.repeat_penalty != 1.0 else []
            token = choose(opinion.logits, settings, recent, sequence.token_rng if rng is None else rng)
        n_top = sequence.settings.logprobs
        likelihood = None if n_top is None else opinion.likelihood(token, n_top)
        return Choice(role, opinion.at, token, opinion.top1, n_drawn, likelihood)

    def commit_or_hold(self, choice: Choice, restarts_hits: bool = False) -> Written:
        """Commit the token to the stream, or hold it back when it shows that the sentence has ended before it."""
        sequence, vocabulary, role, token = self.sequence, self.vocabulary, choice.role, choice.token
        piece = vocabulary.piece(role, token)
        if role is Role.LEADER or sequence.rewrites:
            self.n_proposed = 0
        if sequence.verdict is Verdict.MAYBE and (piece is None or sequence.confirms_end(piece)):
            sequence.hold(choice)
            return Written(ends_sentence=True, added=False)
        if piece is None:
            sequence.append_end(choice, restarts_hits)
        else:
            ids = self._as_read(role, token, piece)
            note_read(self, choice, ids)
            sequence.append(choice, piece, ids, restarts_hits=restarts_hits)
            if not self.ahead.goes_on(sequence.views):
                self.forget_proposals()
        return Written(ends_sentence=sequence.verdict is Verdict.END or sequence.ending is not None)

    def _as_read(self, author: Role, token: int, piece: bytes) -> dict[Role, tuple[int, ...] | Tail]:
        """A token as each role reads it; where that changes a view's end, what is known of it is forgotten."""
        sequence, vocabulary = self.sequence, self.vocabulary
        ids: dict[Role, tuple[int, ...] | Tail] = {author: (token,)}
        for reader, view in sequence.views.items():
            if reader is author:
                continue
            if vocabulary.is_shared:
                ids[reader] = vocabulary.translate(author, token, reader)
                continue
            is_control = vocabulary.is_control(author, token)
            tail = ids[reader] = reread(view, reader, sequence.tokens, piece, vocabulary, is_control)
            self._forget_behind(reader, tail.n_kept)
        return ids

    def take_back(self, n_tokens: int, reason: str) -> None:
        """Take back the stream's end, for the running flow, so that n_tokens remain."""
        sequence, vocabulary = self.sequence, self.vocabulary
        left = {}
        if not vocabulary.is_shared and n_tokens < len(sequence.tokens):
            for role, view in sequence.views.items():
                left[role] = before_token(view, role, sequence.tokens, n_tokens, vocabulary)
        sequence.rewind(n_tokens, reason, by_flow=True)
        for role, missing in left.items():
            view = sequence.views[role]
            self._forget_behind(role, len(view.ids))
            if missing:
                view.fill_up(reread(view, role, sequence.tokens, missing, vocabulary))
        self.forget_ahead()

    # ---------------------------------------------------------------- places behind the stream
    def proposed_to(self, role: Role) -> list[int]:
        """What is proposed to the role behind its view; nothing to the draft, whose proposals they are."""
        if role is not Role.LEADER or not self.ahead.ids[role]:
            return []
        view = self.sequence.views[role]
        self.ahead.cut(
            role, max(0, self.n_ctx[role] - self.ahead.base[role])
        )  # one token can be several of the leader's
        return self.ahead.behind(role, view)

    def choice_ahead(self, role: Role) -> Choice | None:
        """The role's next token, where it is known already."""
        choice = self.ahead.choices[role].get(len(self.sequence.views[role].ids))
        return choice if choice is not None and choice.n_drawn == self.sequence.n_drawn else None

    def top1_at(self, role: Role, at: int) -> int | None:
        """The role's top-1 after so many ids of its view and the proposals, where it is known."""
        frontier = self.frontier.get(role)
        if frontier is not None and frontier[0] == at:
            return frontier[1]
        return self.ahead.top1s[role].get(at)

    # ---------------------------------------------------------------- what caches hold too much
    def forget_proposals(self) -> None:
        """What is proposed is of no use any more; the caches keep what is part of the stream by now."""
        self._went_elsewhere = True
        for role, n_ids in self.ahead.drop(self.sequence.views).items():
            self._limit(role, n_ids)

    def _forget_behind(self, role: Role, n: int) -> None:
        """The role's view has another text behind its first n ids, or none."""
        if self._kept is not None and self._kept.role is role and self._kept.at > n:
            self._kept = None
        if self.frontier.get(role, (0, 0))[0] > n:
            del self.frontier[role]
        known = self.ahead
        known.top1s[role] = {at: top1 for at, top1 in known.top1s[role].items() if at <= n}
        known.choices[role] = {at: choice for at, choice in known.choices[role].items() if at <= n}
        if known.ids[role] and role is Role.LEADER:
            self.forget_proposals()
        known.ids[role].clear()  # the draft's own: what the leader has chosen along its text stays
        self._limit(role, n)

    def forget_ahead(self) -> None:
        """The stream has become shorter: what was evaluated behind its end is another text now."""
        self._kept, self.reading = None, []
        self.forget_proposals()
        for role, view in self.sequence.views.items():
            n = len(view.ids)
            self._limit(role, n)
            self.ahead.top1s[role] = {at: top1 for at, top1 in self.ahead.top1s[role].items() if at <= n}
            if self.frontier.get(role, (0, 0))[0] > n:
                del self.frontier[role]

    def _limit(self, role: Role, n_ids: int) -> None:
        self._limits[role] = min(n_ids, self._limits.get(role, n_ids))

    def take_limits(self) -> dict[Role, int]:
        """How many ids each role's cache may hold at most, where it may hold what is not part of the stream."""
        if not self._limits:
            return self._limits
        surplus, self._limits = self._limits, {}
        return surplus
