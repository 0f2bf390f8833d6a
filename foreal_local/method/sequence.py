"""One response in the making: `Sequence` owns all that lasts of it.

Knows tokens, authors, text and counters. Knows no model, slot or cache: those can be lost at any time
and be made again from what is here.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .counts import TokenCounts
from .draws import RandomNumbers
from .ledger import Cost
from .modes import MODES
from .reasoning import DEFAULT_TAGS, ReasoningTags
from .roles import Role
from .sentences import Block, SentenceDetector, Verdict
from .stops import StopTexts
from .tokens import Choice, FinishReason, Likelihood, Spelled, TakenBack, Token
from .view import Tail, View

if TYPE_CHECKING:
    from ..config import Generation
    from .requests import Answer


class Sequence(TokenCounts, RandomNumbers):
    """A response: settings, tags, tokens, both views, text, random state, answers, costs, finish reason.

    Owner of all lasting state, which is changed through its methods alone. Between two changes it can be copied or
    saved. `answers` are those that its flow has been given in the open sentence, each with the number of tokens then:
    a new flow that is given them again stands where this one does.

    Where the mode rewrites, tokens stand once they are settled: the leader's at once unless one before them is not, the
    draft's when the flow settles them. An end that comes before is an `ending` until then.
    """

    def __init__(
        self,
        id: str,
        index: int,
        settings: Generation,
        prompt: dict[Role, list[int]],
        tags: ReasoningTags = DEFAULT_TAGS,
    ) -> None:
        assert settings.seed is not None, "the seed is drawn before a sequence is made"
        RandomNumbers.__init__(self, settings.seed, index, settings.sampling.greedy)
        self.id = id
        self.index = index
        self.settings = settings
        self.tags = tags
        self.views = {role: View(list(ids), len(ids)) for role, ids in prompt.items()}
        self.tokens: list[Token] = []
        self.answers: list[tuple[int, Answer]] = []
        self.taken_back: list[TakenBack] = []
        self.prompt_likelihoods: list[Likelihood] = []  # of its tokens from the second one on, by one of the models
        self.n_proposed = self.n_accepted = self.n_rejected = 0  # by speculation, in the leader's ids
        self.cost = {role: Cost() for role in Role}
        self.finish_reason: FinishReason | None = None
        self.error: str | None = None
        self.stopped_by: str | None = None
        self.ending: FinishReason | None = None
        self.led = False
        self.opening = False
        self.verdict = Verdict.END
        self.peek: Choice | None = None
        self.n_shown = 0
        self.seconds = 0.0  # wall clock while in a slot
        self.rewrites = MODES[settings.mode].rewrites(settings.method)
        self._n_settled = 0  # kept where the mode rewrites
        self._detector = SentenceDetector(settings.method.boundaries, tags.closing)
        self._blocks: list[Block] = []  # fenced code or maths that each sentence starts in
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._half = False  # whether the decoder holds half a character
        self._stops, self._stops_shown = self._new_stops(), self._new_stops()
        self._n_looked_at = 0  # tokens that `_stops_shown` has read: those that stand

    def _new_stops(self) -> StopTexts | None:
        settings = self.settings
        return StopTexts(settings.stop, self.tags, settings.stop_in_reasoning) if settings.stop else None

    # ---------------------------------------------------------------- what follows from the tokens
    def unsettled(self) -> dict[str, Any]:
        """What a saved sequence says of tokens that do not stand yet; nothing where all do."""
        if self.n_settled == len(self.tokens):
            return {}
        return {"n_settled": self._n_settled, "ending": self.ending and str(self.ending)}

    # ---------------------------------------------------------------- changes
    def open_sentence(self, led: bool) -> None:
        """All that is written stands now."""
        self.settle()
        self.led = led
        self.verdict = Verdict.NO
        self.answers.clear()
        self._detector.start()
        self._blocks[self.n_sentences :] = [self._detector.block]
        self.opening = True  # numbered with its first token: a full context may leave it without one

    def record(self, answer: Answer) -> None:
        """Note what the flow is answered in the open sentence."""
        self.answers.append((len(self.tokens), answer))

    def append(
        self,
        choice: Choice,
        piece: bytes,
        ids: Mapping[Role, tuple[int, ...] | Tail],
        *,
        inserted: bool = False,
        restarts_hits: bool = False,
    ) -> None:
        """Add the author's token; `ids` are its ids in each view. Sets `verdict`, may finish.

        restarts_hits: the hit counter starts anew with it
        """
        self.peek = None
        text = self._decode(piece)
        previous = self.tokens[-1] if self.tokens else None
        sentence, hits = previous.sentence if previous else -1, 0
        if self.opening:
            self.opening = False
            sentence += 1
        elif previous and not restarts_hits:
            hits = previous.hits
        half = self._decoder.getstate()[0] if self._half else b""
        token = Token(choice.token, choice.role, text, sentence, self.led, choice.top1, None, hits, inserted, half)
        token.n_drawn, token.likelihood = choice.n_drawn, choice.likelihood
        self.tokens.append(token)
        for reader, view in self.views.items():
            view.add(ids[reader])
        self.verdict = self._detector.feed(text)
        if self.rewrites and choice.role is Role.LEADER and self._n_settled == len(self.tokens) - 1:
            self._n_settled += 1
        if self._stops and text:
            self._stops.feed(text)
            if self._stops.found:
                self.finish(FinishReason.STOP)
        if not self.finished and len(self.tokens) == self.settings.max_tokens:
            self.finish(FinishReason.LENGTH)

    def _decode(self, piece: bytes) -> str:
        if not self._half and piece.isascii():
            return piece.decode()
        text = self._decoder.decode(piece)
        self._half = bool(self._decoder.getstate()[0])
        return text

    def append_end(self, choice: Choice, restarts_hits: bool = False) -> None:
        """The author's end-of-generation token: part of the response, its piece is empty."""
        self.append(choice, b"", dict.fromkeys(self.views, ()), restarts_hits=restarts_hits)
        self.finish_reason = self.ending = None  # it ended by itself, also where this was the last token allowed
        self.finish(FinishReason.STOP)

    def settle(self) -> None:
        """All tokens stand from now on; an ending that waited for this is the end."""
        self._n_settled = len(self.tokens)
        if self.ending is not None:
            reason, self.ending = self.ending, None
            self.finish(reason)

    def hold(self, choice: Choice) -> None:
        """Keep a token back: it shows that the sentence has ended before it."""
        self.peek = choice
        self.verdict = Verdict.END

    def insert(self, tokens: list[Spelled]) -> None:
        """Add tokens that neither model chose to a sentence that is open."""
        self.peek = None
        for choice, piece, ids in tokens:
            if not self.finished:
                self.append(choice, piece, ids, inserted=True)

    def close_with(self, tokens: list[Spelled]) -> None:
        """Add tokens that neither model chose, as the end of a sentence; no flow may be running."""
        self.settle()
        if self.finished:
            return
        if self.verdict is Verdict.END:
            self.open_sentence(led=False)
        self.insert(tokens)
        self.verdict = Verdict.END

    def rewind(self, n_tokens: int, reason: str, by_flow: bool = False) -> None:
        """Take back the end, so that n_tokens remain; only of what is not settled.

        The places that are written again draw the same random numbers. `by_flow`: the running flow asked for it, and
        its answers stay, since a new flow must come the same way; else they go back as well.
        """
        assert self.n_settled <= n_tokens <= len(self.tokens)
        if n_tokens == len(self.tokens):
            return
        dropped = self.tokens[n_tokens:]
        self.taken_back.append(TakenBack(n_tokens, dropped, reason))
        del self.tokens[n_tokens:]
        for view in self.views.values():
            view.cut(n_tokens)
        self.return_draws(dropped[0].n_drawn)
        self.peek = self.ending = None
        opening = not self.tokens or self.tokens[-1].sentence != dropped[0].sentence
        del self._blocks[dropped[0].sentence + 1 :]
        self.resume_at_end(opening, Verdict.NO, rewound=True)
        if not by_flow:
            self.answers = [(n, answer) for n, answer in self.answers if n <= n_tokens]

    def confirms_end(self, piece: bytes) -> bool:
        """Whether a next token of these bytes would show that the sentence has ended before it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate(self._decoder.getstate())
        return self._detector.confirms(decoder.decode(piece))

    def resume_at_end(self, opening: bool, verdict: Verdict, rewound: bool = False) -> None:
        """Take all that reads the text to the end of tokens that were put back or taken back (`rewound`)."""
        self.opening, self.verdict = opening, verdict
        self._stops = self._new_stops()
        if self._stops:  # what stands ends nothing, so that it may be read at once
            n_settled = self.n_settled
            for tokens in (self.tokens[:n_settled], *([token] for token in self.tokens[n_settled:])):
                self._stops.feed("".join(token.text for token in tokens))
        half = self.tokens[-1].half if self.tokens else b""
        self._decoder.setstate((half, 0))
        self._half = bool(half)
        if not rewound:
            before = self.tokens[: self.n_before_open]
            self._blocks = self._detector.reread((token.sentence, token.text) for token in before)
        self._detector.start(self._blocks[-1])
        for token in self.open_tokens():
            found = self._detector.feed(token.text)
            self.verdict = found if verdict is not Verdict.END else verdict

    def judge(self, hits: tuple[bool, ...], counter: int) -> None:
        """Note the alignment checks of the last len(hits) tokens; `counter` hits in a row came before them."""
        first = len(self.tokens) - len(hits)
        for token, hit in zip(self.tokens[first:], hits, strict=True):
            counter = counter + 1 if hit else 0
            token.hit, token.hits = hit, counter

    def drop_peek(self) -> None:
        """A token that was held back is not written. Where the mode rewrites, its place gets its random number again,
        as if the leader had written alone."""
        if self.peek is not None and self.rewrites:
            self.return_draws(self.peek.n_drawn)
        self.peek = None

    def count_proposals(self, n_proposed: int = 0, n_accepted: int = 0, n_rejected: int = 0) -> None:
        """Those behind a rejected one are neither accepted nor rejected."""
        self.n_proposed += n_proposed
        self.n_accepted += n_accepted
        self.n_rejected += n_rejected

    def note_prompt_token(self, likelihood: Likelihood) -> None:
        """How likely a model held the prompt's next token."""
        self.prompt_likelihoods.append(likelihood)

    def count_seconds(self, seconds: float) -> None:
        """Time in a slot."""
        self.seconds += seconds

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """End the response once and for all; half a character at its end is shown as U+FFFD.

        Where the last tokens do not stand yet, this waits until they do, unless it comes from outside. What ends by
        itself ends at its first stop text, which is cut off.
        """
        if self.finished:
            return
        by_itself = reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT)
        if by_itself and self.n_settled < len(self.tokens):
            self.ending = reason
            return
        found = self._stops.found_at_end if by_itself and self._stops else None
        if found:
            reason, self.stopped_by = FinishReason.STOP, found.text
            self._cut(found.at)
        self.finish_reason, self.error = reason, error
        if self._half:
            self._half = False
            self.tokens[-1].text += self._decoder.decode(b"", final=True)

    def reopen(self) -> None:
        """Go on with a response that a full context ended: there may be a larger one now."""
        if self.finish_reason is FinishReason.CONTEXT:
            self.finish_reason = None
            if self.tokens and self.tokens[-1].half:  # it was shown as U+FFFD, and may become a character now
                shown = self.tokens[-1].half.decode("utf-8", "replace")
                self.tokens[-1].text = self.tokens[-1].text.removesuffix(shown)
                self.resume_at_end(self.opening, self.verdict)

    def show_again(self) -> None:
        """Its tokens are shown from the first one on."""
        self.n_shown = 0

    def put_back(self, *, opening: bool, verdict: Verdict, random_states: dict[str, Any], **values: Any) -> None:
        """Make it what it was when it was saved; `values` are its fields."""
        for name, value in values.items():
            assert hasattr(self, name)
            setattr(self, name, value)
        for name, state in random_states.items():
            getattr(self, name).bit_generator.state = state
        self.resume_at_end(opening, verdict)

    def belong_to(self, index: int, opened: bool) -> None:
        """Its prompt stands at this place in this run; the random numbers stay its own.

        opened: whether the prompt opens the reasoning, which files of version 0.1.0 do not say
        """
        self.index, self.tags = index, replace(self.tags, opened=opened)

    # ---------------------------------------------------------------- text that may be shown
    def take_ready(self) -> list[Token]:
        """Tokens not shown before whose text no stop text can take back any more."""
        ready = self.n_settled
        if self._half and ready == len(self.tokens):
            ready -= 1  # half a character is pending: if nothing follows, the last token shows it
        if self._stops_shown and not self.finished:
            self._stops_shown.feed("".join(token.text for token in self.tokens[self._n_looked_at : ready]))
            self._n_looked_at = max(self._n_looked_at, ready)
            held = self._stops_shown.n_held
            while ready > self.n_shown and held > 0:
                ready -= 1
                held -= len(self.tokens[ready].text)
        taken = self.tokens[self.n_shown : ready]
        self.n_shown = max(self.n_shown, ready)
        return taken

    def _cut(self, n_characters: int) -> None:
        """Cut the text off after so many characters; the tokens stay."""
        surplus = len(self.text) - n_characters
        for token in reversed(self.tokens):
            if surplus <= 0:
                break
            keep = max(0, len(token.text) - surplus)
            surplus -= len(token.text) - keep
            token.text = token.text[:keep]
        self._decoder.reset()
        self._half = False
