"""FoReaL-Decoding and its baselines on the fakes, slowly: method.md line by line, for one response at a time.

Every token comes from its whole prefix, every alignment check is made singly. No cache, no batch, no flow,
no catch-up. Shares with the product only the sentence detector and, by taking a fresh sequence's random
generators, the two streams of random numbers.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from fakes import DRAFT, LEADER, FakePair

from foreal_local.config import Sampling
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
    finish_reason: str = ""
    n_sentences: int = 0
    n_led: int = 0

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Reference:
    """Decodes what `sequence` asks for; the sequence itself is only read."""

    def __init__(self, pair: FakePair, sequence: Sequence) -> None:
        self.pair, self.settings = pair, sequence.settings
        self.ids = {role: view.ids[: view.n_prompt] for role, view in sequence.views.items()}
        fresh = Sequence(sequence.id, sequence.index, sequence.settings, self.ids)
        self.gate_rng, self.token_rng = fresh.gate_rng, fresh.token_rng
        self.out = Response()
        self.detector = SentenceDetector(self.settings.method.boundaries)
        self.peeked: tuple[Role, int] | None = None

    def run(self) -> Response:
        while not self.out.finish_reason:
            self._sentence()
        return self.out

    def _sentence(self) -> None:
        method, out = self.settings.method, self.out
        led = self._gate()
        self.detector.start()
        n_before = out.n_sentences
        cued = self.settings.mode == "cue"
        writer = LEADER if led and not cued else DRAFT
        written = hits = 0  # lambda and h
        verdict = self._cue() if led and cued else Verdict.NO
        while verdict is not Verdict.END and not out.finish_reason:
            if len(self.ids[writer]) > self.pair.n_ctx:
                out.finish_reason = "context"
                return
            token = self._next(writer)
            if verdict is Verdict.MAYBE and self._confirms(writer, token):
                self.peeked = (writer, token)
                return
            step = Step(token, writer, n_before, led)
            checked = led and writer is LEADER and self.settings.mode == "foreal"
            if checked and (written >= method.n or method.hits_from == "sentence"):
                step.hit = self._is_hit(token)
                hits = hits + 1 if step.hit else 0
            step.hits = hits
            verdict = self._commit(step)
            written += writer is LEADER
            if checked and written > method.n and hits >= method.k:
                writer = DRAFT

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
        chosen = {"always": 1.0, "never": 0.0}.get(self.settings.method.gate, self.settings.method.p)
        p = always.get(self.settings.mode, chosen)
        return p == 1.0 or (p > 0.0 and bool(self.gate_rng.random() < p))

    def _next(self, role: Role) -> int:
        """The role's next token; a token it showed to end the last sentence is still its next one."""
        peeked, self.peeked = self.peeked, None
        if peeked and peeked[0] is role:
            return peeked[1]
        logits = self.pair.models[role].logits(self.ids[role])
        return slow_choice(logits, self.settings.sampling, self.ids[role], self.token_rng)

    def _confirms(self, role: Role, token: int) -> bool:
        if self.pair.vocabulary.is_end(role, token):
            return True
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(self.out.data)
        return self.detector.confirms(decoder.decode(self.pair.vocabulary.piece(role, token)))

    def _is_hit(self, token: int) -> bool:
        """Whether both models' top-1 after the stream so far are the same token (before `token` is added)."""
        wanted = int(np.argmax(self.pair.models[LEADER].logits(self.ids[LEADER])))
        if self.settings.method.compare == "sampled":
            wanted = token
        best = int(np.argmax(self.pair.models[DRAFT].logits(self.ids[DRAFT])))
        return self.pair.vocabulary.translate(LEADER, wanted, DRAFT)[0] == best

    def _commit(self, step: Step) -> Verdict:
        out, vocabulary = self.out, self.pair.vocabulary
        if out.n_sentences == step.sentence:  # a sentence counts from its first token on
            out.n_sentences += 1
            out.n_led += step.led
        out.steps.append(step)
        if vocabulary.is_end(step.author, step.id):
            out.finish_reason = "stop"
            return Verdict.END
        before = codecs.getincrementaldecoder("utf-8")("replace")
        before.decode(out.data)
        new = before.decode(vocabulary.piece(step.author, step.id))
        out.data += vocabulary.piece(step.author, step.id)
        for role in self.ids:
            self.ids[role] += vocabulary.translate(step.author, step.id, role)
        if len(out.steps) == self.settings.max_tokens:
            out.finish_reason = "length"
        return self.detector.feed(new)
