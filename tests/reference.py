"""FoReaL-Decoding and its baselines on the fakes, slowly: method.md line by line, for one response at a time.

Every token comes from its whole prefix, every alignment check is made singly. No cache, no batch, no flow,
no catch-up. Shares with the product only the sentence detector and, by taking a fresh sequence's random
generators, the two streams of random numbers.
"""

from __future__ import annotations

import codecs
import copy
import itertools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from fakes import DRAFT, LEADER, FakeGrammar, FakePair

from foreal_local.config import Generation, Sampling
from foreal_local.method.reasoning import ReasoningTags
from foreal_local.method.roles import Role
from foreal_local.method.sentences import SentenceDetector, Verdict
from foreal_local.method.sequence import Sequence


def slow_choice(
    logits: npt.NDArray[np.float32], settings: Sampling, recent: list[int], rng: np.random.Generator | None
) -> int:
    """A token by the definitions of penalty, top-k, top-p, min-p and temperature, on sorted Python lists."""
    scores = [float(x) for x in logits]
    if settings.repeat_penalty != 1.0 and settings.repeat_last_n:
        for token in set(recent[-settings.repeat_last_n :]):
            scores[token] *= 1 / settings.repeat_penalty if scores[token] > 0 else settings.repeat_penalty
    ranked = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    if settings.temp == 0.0:
        return ranked[0]
    assert rng is not None
    ranked = ranked[: settings.top_k or None]
    chances = np.exp(np.array([scores[token] - scores[ranked[0]] for token in ranked]))
    chances /= chances.sum()
    if settings.top_p < 1.0:
        mass, n_kept = 0.0, 0
        while n_kept < len(ranked) and mass < settings.top_p:
            mass += float(chances[n_kept])
            n_kept += 1
        ranked, chances = ranked[:n_kept], chances[:n_kept]
    n_kept = sum(chance >= settings.min_p * chances[0] for chance in chances)
    weights = np.array([np.exp((scores[t] - scores[ranked[0]]) / settings.temp) for t in ranked[:n_kept]])
    drawn, mass = rng.random() * weights.sum(), 0.0
    for token, weight in zip(ranked, weights, strict=False):
        mass += weight
        if drawn < mass:
            return token
    return ranked[n_kept - 1]


def _entropy_of(chances: npt.NDArray[np.float64]) -> float:
    chances = chances[chances > 0]
    return float(-(chances * np.log(chances)).sum())


def first_stop(text: str, settings: Generation, tags: ReasoningTags, ended: bool = False) -> tuple[int, str] | None:
    """Where the first stop text begins, and which: anywhere if it has a tag in it, else with a part of the answer."""
    begun = text.lstrip()
    if tags.opened or begun.startswith(tags.opening):
        begin = len(text) - len(begun) + len(tags.opening) if begun.startswith(tags.opening) else 0
        closed = text.find(tags.closing, begin)
        answer = closed + len(tags.closing) if closed >= 0 else len(text)
        visible = len(text) - len(text[answer:].lstrip())
    else:
        undecided = not ended and tags.opening.startswith(begun)
        answer, visible = (len(text) if undecided else 0), -1
    found = []
    for stop in settings.stop:
        anywhere = settings.stop_in_reasoning or tags.opening in stop or tags.closing in stop
        for at in range(len(text)):
            counts = anywhere or (at >= answer and at + len(stop) > visible)
            if counts and text.startswith(stop, at):
                found.append((at, stop))
    return min(found, default=None)


@dataclass
class Step:
    """One token: who wrote it in which sentence, whether it was a hit, the counter after it."""

    id: int
    author: Role
    sentence: int
    led: bool
    hit: bool | None = None
    hits: int = 0
    given: bool = False


@dataclass
class Response:
    """What the reference wrote."""

    steps: list[Step] = field(default_factory=list)
    data: bytes = b""
    stop: tuple[int, str] | None = None
    finish_reason: str = ""
    n_sentences: int = 0
    n_led: int = 0

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")[: self.stop[0] if self.stop else None]


@dataclass
class Place:
    """All that is needed to write on from there."""

    n_steps: int
    data: bytes
    ids: dict[Role, list[int]]
    n_sentences: int
    n_led: int
    detector: SentenceDetector
    token_rng: np.random.Generator
    verdict: Verdict


class Reference:
    """Decodes what `sequence` asks for; the sequence itself is only read."""

    def __init__(self, pair: FakePair, sequence: Sequence) -> None:
        self.pair, self.settings, self.tags = pair, sequence.settings, sequence.tags
        self.ids = {role: view.ids[: view.n_prompt] for role, view in sequence.views.items()}
        self.n_prompt = {role: len(ids) for role, ids in self.ids.items()}
        fresh = Sequence(sequence.id, sequence.index, sequence.settings, self.ids)
        self.gate_rng, self.token_rng = fresh.gate_rng, fresh.token_rng
        self.out = Response()
        self.detector = SentenceDetector(self.settings.method.boundaries)
        self.peeked: tuple[Role, int] | None = None
        self.number, self.led, self.verdict = 0, False, Verdict.END

    def run(self) -> Response:
        while not self.out.finish_reason:
            self._sentence()
        return self.out

    def _sentence(self) -> None:
        method, out = self.settings.method, self.out
        led = self._gate()
        self.detector.start()
        self.number, self.led = out.n_sentences, led
        if self.settings.mode == "cue":
            verdict = self._cue() if led else Verdict.NO
            self._write_on(DRAFT, verdict)
        elif self.settings.mode == "foreal":
            verdict = self._lead(method.n, method.k) if led else Verdict.NO
            while verdict is not Verdict.END and not out.finish_reason:
                verdict = self._draft(verdict)
        else:
            self._write_on(LEADER if led else DRAFT, Verdict.NO)

    def _write_on(self, writer: Role, verdict: Verdict) -> None:
        while verdict is not Verdict.END and not self.out.finish_reason:
            verdict = self._write(Step(0, writer, self.number, self.led), verdict)

    def _lead(self, n: int, k: int, verdict: Verdict = Verdict.NO, written: int = 0) -> Verdict:
        """The leader writes until m > n and its last k tokens were hits, each judged before it is written."""
        hits = 0
        while verdict is not Verdict.END and not self.out.finish_reason and not (written > n and hits >= k):
            step = Step(0, LEADER, self.number, self.led)
            judged = written >= n or self.settings.method.hits_from == "sentence"
            verdict = self._write(step, verdict, judged and k > 0)
            if step.hit is not None:
                hits = hits + 1 if step.hit else 0
            step.hits = hits
            written += 1
        return verdict

    def _draft(self, verdict: Verdict) -> Verdict:
        """The draft writes on, as long as it is certain; the leader reads that, where it is to be reviewed."""
        method, places = self.settings.method, [self._place()]
        called_back = False
        while verdict is not Verdict.END and not self.out.finish_reason:
            if method.review != "off" and len(places) > method.review_every:
                break
            held = self.peeked is not None and self.peeked[0] is DRAFT
            if method.call_back is not None and not held and self._entropy() > method.call_back:
                called_back = True
                break
            verdict = self._write(Step(0, DRAFT, self.number, self.led), verdict)
            if len(self.out.steps) > places[-1].n_steps:
                places.append(self._place())
        fallen = self._first_fallen(places) if method.review != "off" else None
        if fallen is not None:
            self._go_back(places[fallen])
            verdict = self._write(Step(0, LEADER, self.number, self.led), places[fallen].verdict)
            if verdict is not Verdict.END and not self.out.finish_reason:
                verdict = self._lead(method.rewrite_n, method.rewrite_k, verdict, written=1)
        elif called_back:
            verdict = self._lead(0, method.k, verdict)
        return verdict

    def _logits(self, role: Role, ids: list[int] | None = None) -> npt.NDArray[np.float32]:
        """After a role's ids (None: those that there are), minus infinity for what a grammar lets not come."""
        ids = self.ids[role] if ids is None else ids
        logits = self.pair.models[role].logits(ids)
        if not self.settings.has_grammar:
            return logits
        state: FakeGrammar = self.pair.vocabulary.grammar(role, self.settings.grammar, None)
        response = ids[self.n_prompt[role] :]
        opening = self.pair.vocabulary.encode(role, self.tags.opening)
        may_open = not self.tags.opened and len(opening) == 1
        reasons = self.tags.opened or (may_open and response[:1] == opening)
        if reasons:  # all is free until the tag, behind which white space may come once
            n_reasoning = next((i for i in range(len(response) + 1) if self._is_closed(role, response[:i])), None)
            if n_reasoning is None:
                return logits
            response = response[n_reasoning:]
        piece, allowed, n_spaces = self.pair.vocabulary.piece, np.zeros(logits.size, bool), 0
        while reasons and response and state.after(response[0]) is None and (piece(role, response[0]) or b"").isspace():
            n_spaces, response = n_spaces + 1, response[1:]
        if reasons and not response and not n_spaces:
            allowed = np.array([(piece(role, token) or b"").isspace() for token in range(logits.size)])
        for token in response:
            after = state.after(token)
            assert after is not None
            state = after
        allowed |= state.allowed(np.arange(logits.size))
        if may_open and not response:
            allowed[opening] = True
        return np.where(allowed, logits, -np.inf).astype(np.float32)

    def _is_closed(self, role: Role, ids: list[int]) -> bool:
        pieces = b"".join(self.pair.vocabulary.piece(role, token) or b"" for token in ids)
        return self.tags.closing.encode() in pieces

    def _entropy(self) -> float:
        """Of the draft's 20 most likely tokens, made to add up to one."""
        scores = sorted(map(float, self._logits(DRAFT)))[-20:]
        weights = np.exp(np.array(scores) - scores[-1])
        weights /= weights.sum()
        return _entropy_of(weights)

    # ---------------------------------------------------------------- review
    def _place(self) -> Place:
        """Where the response stands now, to come back to; a token that is held back has used this place's number."""
        rng = copy.deepcopy(self.token_rng)
        if self.peeked and self.settings.sampling.temp:
            rng.bit_generator.advance(2**128 - 1)  # type: ignore[attr-defined]
        return Place(
            len(self.out.steps), self.out.data, {role: list(ids) for role, ids in self.ids.items()},
            self.out.n_sentences, self.out.n_led, copy.deepcopy(self.detector), rng, self.verdict,
        )  # fmt: skip

    def _go_back(self, place: Place) -> None:
        out = self.out
        del out.steps[place.n_steps :]
        out.data, out.n_sentences, out.n_led, out.finish_reason = place.data, place.n_sentences, place.n_led, ""
        out.stop = None
        self.ids, self.detector, self.peeked = place.ids, place.detector, None
        self.token_rng, self.verdict = place.token_rng, place.verdict

    def _first_fallen(self, places: list[Place]) -> int | None:
        """The first token of the draft's that the leader's rule refuses."""
        method, judged = self.settings.method, []
        for place, step in zip(places, self.out.steps[places[0].n_steps :], strict=False):
            logits = self._logits(LEADER, place.ids[LEADER])
            own = slow_choice(logits, self.settings.sampling, place.ids[LEADER], copy.deepcopy(place.token_rng))
            written = self.pair.vocabulary.translate(DRAFT, step.id, LEADER)[0]
            judged.append((own == written, self._accepts(logits, written)))
        for i, (is_own, accepted) in enumerate(judged):
            window = judged[i + 1 : i + 1 + method.fly_window] if method.review == "fly" else []
            whole = method.review != "fly" or (len(window) == method.fly_window and all(own for own, _ in window))
            if not is_own and not (accepted and whole):
                return i
        return None

    def _accepts(self, logits: npt.NDArray[np.float32], token: int) -> bool:
        method = self.settings.method
        p = np.exp(logits.astype(np.float64) - float(logits.max()))
        p /= p.sum()
        if method.review == "ratio":
            return bool(p[token] >= method.tau * p.max() * (1 - 1e-9))
        if method.review == "typical":
            return bool(p[token] > min(method.typical_eps, method.typical_delta * np.exp(-_entropy_of(p))))
        top = np.sort(p)[-3:]
        return method.review == "fly" and bool(_entropy_of(top) >= method.fly_theta)

    def _cue(self) -> Verdict:
        """Give the cue, a space before it where none is; what the draft wanted to write there is of no more use."""
        self.peeked = None
        n_before, verdict, text = self.out.n_sentences, Verdict.NO, self.settings.method.cue
        shown = codecs.getincrementaldecoder("utf-8")("replace").decode(self.out.data)
        if shown and not shown[-1].isspace():
            text = " " + text
        for token in self.pair.vocabulary.encode(DRAFT, text):
            if not self.out.finish_reason:
                verdict = self._commit(Step(token, DRAFT, n_before, led=True, given=True))
        return verdict

    def _gate(self) -> bool:
        always = {"leader": 1.0, "speculative": 1.0, "draft": 0.0}
        if self.settings.mode == "foreal" and self.settings.method.gate == "entropy":
            return self._entropy() >= self._threshold()
        chosen = {"always": 1.0, "never": 0.0}.get(self.settings.method.gate, self.settings.method.p)
        p = always.get(self.settings.mode, chosen)
        return p == 1.0 or (p > 0.0 and bool(self.gate_rng.random() < p))

    def _write(self, step: Step, verdict: Verdict, judged: bool = False) -> Verdict:
        """The author's next token; END without one where that shows that the sentence has ended before it."""
        if len(self.ids[step.author]) > self.pair.n_ctx:
            self._finish("context")
            return verdict
        token = self._next(step.author)
        if verdict is Verdict.MAYBE and self._confirms(step.author, token):
            self.peeked = (step.author, token)
            self.verdict = Verdict.END
            return Verdict.END
        step.id = token
        if judged:
            step.hit = self._is_hit(token)
        self.verdict = self._commit(step)
        return self.verdict

    def _threshold(self) -> float:
        """Moved up by each sentence that was led, down by the others, less and less, to lead the wanted share."""
        method, threshold = self.settings.method, self.settings.method.gate_entropy
        if method.lead_share is not None:
            sentences = itertools.groupby(self.out.steps, lambda step: step.sentence)
            led = [next(steps).led for _, steps in sentences]
            for i, each in enumerate(led, 1):
                threshold *= np.exp(2.0 * (each - method.lead_share) / i**0.5)
        return float(threshold)

    def _next(self, role: Role) -> int:
        """The role's next token; a token it showed to end the last sentence is still its next one."""
        peeked, self.peeked = self.peeked, None
        if peeked and peeked[0] is role:
            return peeked[1]
        if peeked and self.settings.method.review != "off" and self.settings.sampling.temp:
            self.token_rng.bit_generator.advance(2**128 - 1)  # type: ignore[attr-defined]  # its place's number again
        logits = self._logits(role)
        return slow_choice(logits, self.settings.sampling, self.ids[role], self.token_rng)

    def _confirms(self, role: Role, token: int) -> bool:
        if self.pair.vocabulary.is_end(role, token):
            return True
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(self.out.data)
        return self.detector.confirms(decoder.decode(self.pair.vocabulary.piece(role, token)))

    def _is_hit(self, token: int) -> bool:
        """Whether both models' top-1 after the stream so far are the same token (before `token` is added)."""
        wanted = int(np.argmax(self._logits(LEADER)))
        if self.settings.method.compare == "sampled":
            wanted = token
        best = int(np.argmax(self._logits(DRAFT)))
        return self.pair.vocabulary.translate(LEADER, wanted, DRAFT)[0] == best

    def _commit(self, step: Step) -> Verdict:
        out, vocabulary = self.out, self.pair.vocabulary
        if out.n_sentences == step.sentence:  # a sentence counts from its first token on
            out.n_sentences += 1
            out.n_led += step.led
        out.steps.append(step)
        if vocabulary.is_end(step.author, step.id):
            self._finish("stop")
            return Verdict.END
        before = codecs.getincrementaldecoder("utf-8")("replace")
        before.decode(out.data)
        new = before.decode(vocabulary.piece(step.author, step.id))
        out.data += vocabulary.piece(step.author, step.id)
        for role in self.ids:
            self.ids[role] += vocabulary.translate(step.author, step.id, role)
        if first_stop(self._decoded(), self.settings, self.tags):
            self._finish("stop")
        elif len(out.steps) == self.settings.max_tokens:
            self._finish("length")
        return self.detector.feed(new)

    def _decoded(self) -> str:
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.out.data)

    def _finish(self, reason: str) -> None:
        self.out.stop = first_stop(self._decoded(), self.settings, self.tags, ended=True)
        self.out.finish_reason = "stop" if self.out.stop else reason
