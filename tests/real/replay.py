"""Replays a trace file against its two models and reports every place where the method was not followed.

An independent evaluator: it imports nothing of the package under test, and knows the trace format, the
method and llama.cpp. It evaluates each answer once per model, prompt and response as one prefix, and what was
taken back once more, behind the tokens that it stood behind. It judges every recorded decision by what the models
say there. It does not judge where sentences end: that is a question about text.

Of a sampled answer it judges what needs no random number: whose turn it was, hits, and whether the rule of a review
can have refused what was taken back. A token that the rule refuses may stand: it may be what the leader drew, too.

    python tests/real/replay.py TRACE LEADER DRAFT
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp.llama_cpp as llama
import numpy as np

TIE = 2e-3
"""Share of the logits' range (highest - lowest) within which two tokens are as good as equal: another batch
shape moves logits by 1e-6 to 1e-3 of it on a CPU. With CUDA it is up to 3e-3, and where quantised weights (Q4_K_M) are
evaluated for 8 sequences at a time up to 6e-3 among the five best tokens: 1e-2 fits there."""

N_BATCH = 32
"""Below 64, where llama.cpp's flash attention on a CPU changes to a kernel with another rounding than the one
that decodes token by token."""

Line = dict[str, Any]


NO_LOG = llama.llama_log_callback(lambda level, text, data: None)
"""Kept here, since llama.cpp keeps only a pointer to it."""


def silence_llama_cpp() -> None:
    llama.llama_log_set(NO_LOG, ctypes.c_void_p(0))


# --- Evaluation -----------------------------------------------------------------------------------


class Model:
    """One GGUF, evaluated one prefix at a time and always from its first token."""

    def __init__(self, path: Path | str, n_ctx: int, repacked: bool = False) -> None:
        loading = llama.llama_model_default_params()
        loading.use_extra_bufts = repacked  # some compilers' AMX code ends the process over quantised weights
        self.handle = llama.llama_model_load_from_file(str(path).encode(), loading)
        if not self.handle:
            raise ValueError(f"llama.cpp cannot load {path}")
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, N_BATCH, N_BATCH
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0  # the kernels that sum in single precision
        self.context = llama.llama_init_from_model(self.handle, params)
        if not self.context:
            raise ValueError(f"llama.cpp cannot make a context of {n_ctx} tokens for {path}")
        self.batch = llama.llama_batch_init(N_BATCH, 0, 1)
        self.vocab = llama.llama_model_get_vocab(self.handle)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)

    def close(self) -> None:
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)
        llama.llama_model_free(self.handle)

    def rows(self, tokens: Sequence[int], first: int) -> Iterator[np.ndarray]:
        """The logits after token `first` and after each later one; each row is valid until the next."""
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        for start in range(0, len(tokens), N_BATCH):
            part = tokens[start : start + N_BATCH]
            self.evaluate(part, start, first - start)
            for i in range(max(first - start, 0), len(part)):
                row = llama.llama_get_logits_ith(self.context, i)
                yield np.ctypeslib.as_array(row, shape=(self.n_vocab,))

    def evaluate(self, part: Sequence[int], start: int, first: int) -> None:
        """Up to N_BATCH tokens behind `start` others; logits are wanted from the part's token `first` on."""
        self.batch.n_tokens = len(part)
        for i, token in enumerate(part):
            self.batch.token[i] = token
            self.batch.pos[i] = start + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = i >= first
        code = llama.llama_decode(self.context, self.batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code} for tokens {start} to {start + len(part)}")

    def ends_generation(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self.vocab, token))


class Decision(NamedTuple):
    """Our answer to a question with two answers; `open`: another rounding (or a random number) could have turned it."""

    yes: bool
    open: bool = False

    def can_be(self, answer: bool) -> bool:
        return self.open or self.yes == answer


def all_of(decisions: Iterable[Decision]) -> Decision:
    decisions = list(decisions)
    can_be = [all(each.can_be(True) for each in decisions), any(each.can_be(False) for each in decisions)]
    return Decision(all(each.yes for each in decisions), all(can_be))


def any_of(decisions: Iterable[Decision]) -> Decision:
    none = all_of(Decision(not each.yes, each.open) for each in decisions)
    return Decision(not none.yes, none.open)


class Figure(NamedTuple):
    """A number that is held against a threshold, and how far another rounding may move it."""

    value: float
    margin: float

    def above(self, threshold: float) -> Decision:
        """Whether it is; at the threshold itself both are possible, so this is "at least", too."""
        return Decision(self.value > threshold, abs(self.value - threshold) <= self.margin)


NO_FIGURE = Figure(math.nan, 0.0)
Look = Callable[[np.ndarray, int, float], Figure]
"""A figure of a row of logits and the token that was written there.

The last argument says how far a rounding may move each logit: half of what two tokens may lie apart to be as good as
equal. The margin is what such moves, each in its worst direction, do to the figure to first order.
"""


@dataclass(frozen=True)
class Opinion:
    """What one model says of one position: its top-1 token, every token as good as that one, and the figure that was
    asked for."""

    best: int
    near: frozenset[int]
    figure: Figure = NO_FIGURE


def opinions(
    model: Model, prompt: Sequence[int], response: Sequence[int], tie: float, look: Look | None = None
) -> list[Opinion]:
    """One opinion per token of the response, each under all that comes before it."""
    found: list[Opinion] = []
    if not response:
        return found
    for row, token in zip(model.rows([*prompt, *response[:-1]], len(prompt) - 1), response, strict=True):
        band = tie * np.ptp(row)
        opinion = Opinion(int(row.argmax()), frozenset(np.flatnonzero(row >= row.max() - band).tolist()))
        found.append(replace(opinion, figure=look(row, token, band / 2)) if look else opinion)
    return found


# --- Figures --------------------------------------------------------------------------------------


def log_chances(logits: np.ndarray) -> np.ndarray:
    below = logits.astype(np.float64) - logits.max()
    return below - np.log(np.exp(below).sum())


def uncertainty(row: np.ndarray, token: int, shift: float) -> Figure:
    """The entropy of the 20 most likely tokens, made to add up to 1, in nats."""
    log_p = log_chances(np.sort(row)[-20:])
    p = np.exp(log_p)
    entropy = -(p * log_p).sum()
    return Figure(entropy, shift * np.abs(p * (log_p + entropy)).sum())


def ratio(settings: Line) -> Look:
    """Above 0 where p(x) >= tau * max p."""
    wanted = math.log(settings["tau"]) if settings["tau"] > 0 else -math.inf

    def look(row: np.ndarray, token: int, shift: float) -> Figure:
        return Figure(float(row[token]) - float(row.max()) - wanted, 2 * shift)

    return look


def fly(settings: Line) -> Look:
    """Above 0 where the entropy of the top 3, by their probabilities among all tokens, is theta or more."""

    def look(row: np.ndarray, token: int, shift: float) -> Figure:
        log_p = log_chances(row)
        p, top = np.exp(log_p), np.argsort(row)[-3:]
        entropy, terms = -(p[top] * log_p[top]).sum(), p[top] * (log_p[top] + 1)
        slopes = p * terms.sum()
        slopes[top] -= terms
        return Figure(entropy - settings["fly_theta"], shift * np.abs(slopes).sum())

    return look


def typical(settings: Line) -> Look:
    """Above 0 where log p(x) > log min(eps, delta * exp(-H))."""
    eps, delta = (
        math.log(value) if value > 0 else -math.inf for value in (settings["typical_eps"], settings["typical_delta"])
    )

    def look(row: np.ndarray, token: int, shift: float) -> Figure:
        log_p = log_chances(row)
        p = np.exp(log_p)
        entropy = -(p * log_p).sum()
        slopes = -p
        slopes[token] += 1
        if delta - entropy < eps:
            slopes -= p * (log_p + entropy)
        return Figure(log_p[token] - min(eps, delta - entropy), shift * np.abs(slopes).sum())

    return look


RULES: dict[str, Callable[[Line], Look]] = {"ratio": ratio, "fly": fly, "typical": typical}
"""What a review looks at; rule exact at nothing but the top-1."""


# --- The trace ------------------------------------------------------------------------------------

FIELDS = {
    "header": {"version", "mode", "n", "p", "k", "hits_from", "temp"},
    "prompt": {"id", "leader_tokens", "draft_tokens"},
    "token": {"id", "i", "token", "piece", "author", "sentence", "led", "hit", "hits"},
    "taken_back": {"id", "i", "tokens", "pieces", "authors", "reason"},
    "end": {"id", "finish_reason"},
}

UNNAMED: Line = {
    "compare": "top1", "gate": "random", "gate_entropy": 1.0, "lead_share": None, "call_back": None, "review": "off",
    "tau": 0.1, "fly_theta": 0.3, "fly_window": 6, "typical_eps": 0.09, "typical_delta": 0.3, "review_every": 64,
    "rewrite_n": 0, "rewrite_k": 2,
}  # fmt: skip
"""What settings are that a trace does not name."""

CUT_SHORT = ("cancelled", "error", "context")
"""How an answer may end before its last tokens are reviewed."""


def settings_of(header: Line, prompt: Line) -> Line:
    """A prompt line's settings hold; where it has some, they are complete but for those that UNNAMED tells."""
    common = {name: value for name, value in header.items() if name not in UNNAMED or "mode" not in prompt}
    return {**UNNAMED, **common, **prompt}


@dataclass
class Answer:
    """The lines of one prompt."""

    prompt: Line
    tokens: list[Line] = field(default_factory=list)
    taken_back: list[Line] = field(default_factory=list)
    end: Line | None = None

    @property
    def most_tokens(self) -> int:
        """The most that ever stood."""
        return max([len(self.tokens), *(line["i"] + len(line["tokens"]) for line in self.taken_back)])


@dataclass
class Report:
    """What a replay found; `n_near_ties` counts the decisions that another rounding could have turned."""

    violations: list[str] = field(default_factory=list)
    n_answers: int = 0
    n_tokens: int = 0
    n_compared: int = 0
    n_handoffs: int = 0
    n_call_backs: int = 0
    n_taken_back: int = 0
    n_near_ties: int = 0


def read(lines: Iterable[Line], report: Report) -> tuple[Line | None, list[Answer]]:
    """The header and the answers; lines that fit nowhere are violations."""
    header: Line | None = None
    answers: dict[str, Answer] = {}
    for number, line in enumerate(lines, start=1):
        kind, answer = str(line.get("type")), answers.get(line.get("id", ""))
        is_open = answer is not None and answer.end is None
        if missing := FIELDS.get(kind, set()) - line.keys():
            report.violations.append(f"line {number}: a {kind} line without {', '.join(sorted(missing))}")
        elif kind == "header" and number == 1:
            header = line
        elif kind == "prompt" and answer is None:
            answers[line["id"]] = Answer(line)
        elif kind == "token" and is_open:
            answer.tokens.append(line)
        elif kind == "taken_back" and is_open and line["i"] == len(answer.tokens):
            answer.taken_back.append(line)
        elif kind == "end" and is_open:
            answer.end = line
        else:
            report.violations.append(f"line {number}: a {kind} line out of place")
    return header, list(answers.values())


# --- Steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One token of an answer: its line in the trace, and what the models say of its position.

    by_token: what is held against the draft's top-1 is the token that was written, not the leader's top-1
    """

    line: Line
    leader: Opinion
    draft: Opinion
    by_token: bool = False

    @property
    def author(self) -> str | None:
        """None: the token was given (a cue)."""
        return self.line["author"]

    @property
    def compared(self) -> Opinion:
        return Opinion(self.line["token"], frozenset([self.line["token"]])) if self.by_token else self.leader

    @property
    def aligned(self) -> bool:
        return self.compared.best == self.draft.best

    def can_be(self, hit: bool) -> bool:
        """Whether this is possible, given that any token near the top may be the top-1."""
        if hit:
            return bool(self.compared.near & self.draft.near)
        return len(self.compared.near | self.draft.near) > 1

    @property
    def is_hit(self) -> bool:
        """Our own judgement, or the recorded one where a near tie leaves both open."""
        recorded = self.line["hit"]
        return bool(recorded) if recorded is not None and self.can_be(recorded) else self.aligned


@dataclass(frozen=True)
class Dropped:
    """A taken_back line: its tokens' steps, each under the tokens that it stood behind."""

    line: Line
    steps: list[Step]


@dataclass(frozen=True)
class Witness:
    """Both models under one prompt: what they say of the tokens of an answer."""

    models: dict[str, Model]
    settings: Line
    prompt: Line
    tie: float

    def steps(self, lines: list[Line], before: Sequence[int] = ()) -> list[Step]:
        """A step for each token line; `before` are the response's tokens before the first of them."""
        response, said = [line["token"] for line in lines], {}
        for role, model in self.models.items():
            if prompt := self.prompt[f"{role}_tokens"]:
                said[role] = opinions(model, [*prompt, *before], response, self.tie, self.look(role))
        known = next(iter(said.values()), [])  # a role that took no part has no prompt, and nothing is asked of it
        leader, draft = (said.get(role, known) for role in self.models)
        by_token = self.settings["compare"] == "sampled"
        return [Step(*step, by_token) for step in zip(lines, leader, draft, strict=True)]

    def dropped(self, line: Line, response: Sequence[int]) -> Dropped:
        """What was taken back, evaluated behind the tokens that stand before it."""
        parts = zip(line["tokens"], line["pieces"], line["authors"], strict=True)
        lines = [
            {"i": line["i"] + j, "token": token, "piece": piece, "author": author, "hit": None}
            for j, (token, piece, author) in enumerate(parts)
        ]
        return Dropped(line, self.steps(lines, response[: line["i"]]))

    def look(self, role: str) -> Look | None:
        """What the settings hold against a threshold: of the leader a review's figure, of the draft its uncertainty."""
        if role == "draft":
            is_asked = self.settings["call_back"] is not None or self.settings["gate"] == "entropy"
            return uncertainty if is_asked else None
        rule = RULES.get(self.settings["review"])
        return rule(self.settings) if rule else None


# --- The checks -----------------------------------------------------------------------------------


@dataclass
class Judge:
    """Judges the steps of one answer by its settings, and writes to the report."""

    settings: Line
    answer: Answer
    steps: list[Step]
    dropped: list[Dropped]
    models: dict[str, Model]
    report: Report

    def check(self, stop: Sequence[str]) -> None:
        self.check_numbering()
        for step in self.steps:
            self.check_choice(step)
            self.check_hit(step)
        for dropped in self.dropped:
            self.check_dropped(dropped)
        led_before: list[bool] = []
        begin = 0
        for _, steps in itertools.groupby(self.steps, key=lambda step: step.line["sentence"]):
            sentence = list(steps)
            self.check_sentence(begin, sentence, led_before)
            led_before.append(sentence[0].line["led"])
            begin += len(sentence)
        self.check_end(stop)

    def object_to(self, step: Step | None, what: str) -> None:
        where = f", token {step.line['i']}" if step else ""
        self.report.violations.append(f"prompt {self.answer.prompt['id']}{where}: {what}")

    def settle(self, step: Step, ours: Decision, recorded: bool, what: str) -> None:
        """Hold a recorded decision against ours: the same, a near tie, or wrong."""
        if not ours.can_be(recorded):
            self.object_to(step, what)
        elif ours.yes != recorded:
            self.report.n_near_ties += 1

    @property
    def greedy(self) -> bool:
        return bool(self.settings["temp"] == 0)

    def check_numbering(self) -> None:
        """`i` counts without gaps, sentences too, and a sentence is led or not."""
        before = {"sentence": -1}
        for i, step in enumerate(self.steps):
            line = step.line
            if line["i"] != i:
                self.object_to(step, f"i is {line['i']}, expected {i}")
            if line["sentence"] == before["sentence"]:
                if line["led"] != before["led"]:
                    self.object_to(step, f"led changes inside sentence {line['sentence']}")
            elif line["sentence"] != before["sentence"] + 1:
                self.object_to(step, f"sentence {line['sentence']} follows sentence {before['sentence']}")
            before = line

    def check_choice(self, step: Step) -> None:
        """Greedy: the token is its author's top-1. Sampled tokens are not judged."""
        token, opinion = step.line["token"], step.leader if step.author == "leader" else step.draft
        if not self.greedy or step.author is None:
            return
        ours = Decision(token == opinion.best, token in opinion.near)
        self.settle(step, ours, True, f"the {step.author} writes {token}, its top-1 is {opinion.best}")

    def check_hit(self, step: Step) -> None:
        """A hit flag says whether both top-1 tokens are the same."""
        hit = step.line["hit"]
        self.report.n_compared += hit is not None
        if hit is None or hit == step.aligned:
            return
        if step.can_be(hit):
            self.report.n_near_ties += 1
        else:
            self.object_to(step, f"hit is {hit}, the top-1 are {step.compared.best} and {step.draft.best}")

    def check_dropped(self, dropped: Dropped) -> None:
        """What was taken back is what the draft wrote there, and ends no earlier than an end of generation."""
        self.report.n_taken_back += 1
        if not dropped.steps:
            self.object_to(None, f"nothing was taken back at {dropped.line['i']}")
        if not dropped.line["reason"]:
            self.object_to(None, f"taken back at {dropped.line['i']} for no reason")
        for step in dropped.steps:
            if step.author != "draft":
                self.object_to(step, f"the {step.author}'s token was taken back")
            self.check_choice(step)
            if step is not dropped.steps[-1] and self.models["draft"].ends_generation(step.line["token"]):
                self.object_to(step, "an end-of-generation token was taken back, and what followed it")

    def check_sentence(self, begin: int, sentence: list[Step], led_before: list[bool]) -> None:
        """Who writes what, and how hits are counted."""
        mode, taken_back = self.settings["mode"], self.taken_back_of(begin, sentence)
        if mode == "foreal":
            self.check_gate(sentence[0], led_before)
            self.walk(sentence, taken_back).check()
            return
        if taken_back:
            self.object_to(sentence[0], f"tokens are taken back in mode {mode}")
        check_counter(self, sentence, {0})
        if mode == "cue":
            self.check_gate(sentence[0], led_before)
            self.check_cue(begin, sentence)
        else:
            self.expect_author(sentence, "leader" if mode in ("speculative", "auto") else mode)

    def walk(self, sentence: list[Step], taken_back: dict[int, Dropped]) -> Walk:
        return Walk(self, sentence, taken_back)

    def taken_back_of(self, begin: int, sentence: list[Step]) -> dict[int, Dropped]:
        """What was taken back of the sentence that begins with the response's token `begin`, by place in it.

        Behind its last token, too: the leader's token for that place may have shown that the sentence had ended before
        it. So of two lines before a sentence's first token the later is its own, where the leader writes there although
        it does not lead the sentence; all others belong to the sentence before.
        """
        found: dict[int, Dropped] = {}
        for place in range(len(sentence) + 1):
            here = [each for each in self.dropped if each.line["i"] == begin + place]
            if place in (0, len(sentence)) and here and begin + place < len(self.steps):
                first = self.steps[begin + place]
                n_own = 1 if first.author == "leader" and not first.line["led"] else 0
                n_before = len(here) - n_own if begin + place else 0
                here = here[n_before:] if place == 0 else here[:n_before]
            if len(here) > 1:
                self.object_to(here[1].steps[0], "taken back twice")
            if here:
                found[place] = here[0]
        return found

    def check_gate(self, first: Step, led_before: list[bool]) -> None:
        """A gate that does not draw is ours to answer."""
        gate, p, led = self.settings["gate"], self.settings["p"], first.line["led"]
        if gate in ("always", "never"):
            self.settle(first, Decision(gate == "always"), led, f"led is {led}, the gate is {gate}")
        elif gate == "entropy":
            threshold, entropy = self.entropy_threshold(led_before), first.draft.figure
            what = f"led is {led}, the draft's entropy {entropy.value:.4g}, the threshold {threshold:.4g}"
            self.settle(first, entropy.above(threshold), led, what)
        elif p in (0, 1):
            self.settle(first, Decision(bool(p)), led, f"led is {led} although p is {p}")

    def entropy_threshold(self, led_before: list[bool]) -> float:
        """Given, or learned: each sentence so far multiplied it by e^(2 * (led - share) / sqrt(its number from 1))."""
        threshold, share = self.settings["gate_entropy"], self.settings["lead_share"]
        if share is not None:
            for number, led in enumerate(led_before, start=1):
                threshold *= math.exp(2 * ((1 if led else 0) - share) / math.sqrt(number))
        return float(threshold)

    def check_cue(self, begin: int, sentence: list[Step]) -> None:
        """The draft writes everything but the cue, which begins a led sentence."""
        n_given = sum(1 for _ in itertools.takewhile(lambda step: step.author is None, sentence))
        before = "".join(step.line["piece"] for step in self.steps[:begin])
        led = sentence[0].line["led"]
        if bool(n_given) != (led and "</think>" not in before):  # the answer is not to be thought about again
            self.object_to(sentence[0], f"led is {led}, and the sentence begins with {n_given} given tokens")
        self.expect_author(sentence[n_given:], "draft")

    def expect_author(self, steps: list[Step], author: str) -> None:
        for step in steps:
            if step.author != author:
                self.object_to(step, f"written by the {step.author}, expected the {author}")

    @property
    def cut_short(self) -> bool:
        return self.answer.end is None or self.answer.end["finish_reason"] in CUT_SHORT

    def check_end(self, stop: Sequence[str]) -> None:
        """An end-of-generation token comes last and has no text; "stop" needs one, or a stop string."""
        if self.answer.end is None:
            self.object_to(None, "no end line")
            return
        reason = self.answer.end["finish_reason"]
        written = [step for step in self.steps if step.author is not None]
        ending = [step for step in written if self.models[str(step.author)].ends_generation(step.line["token"])]
        for step in ending:
            if step is not self.steps[-1]:
                self.object_to(step, "an end-of-generation token, and the answer goes on")
            if step.line["piece"] != "":
                self.object_to(step, f"the end-of-generation token has the piece {step.line['piece']!r}")
            if reason != "stop":
                self.object_to(step, f"an end-of-generation token, and finish_reason is {reason!r}")
        text = "".join(step.line["piece"] for step in self.steps)
        if reason == "stop" and not ending and not any(string in text for string in stop):
            self.object_to(None, "'stop' without an end-of-generation token or a stop string")
        if not self.cut_short and any(each.line["i"] == len(self.steps) for each in self.dropped):
            self.object_to(None, "tokens are taken back at the end, and nothing is written instead")


def check_counter(judge: Judge, sentence: list[Step], begins: set[int]) -> None:
    """`hits` follows from the flags: 0 where a part of the leader's begins and after a miss, one more after a hit."""
    hits = 0
    for place, step in enumerate(sentence):
        if place in begins:
            hits = 0
        if step.line["hit"] is not None:
            hits = hits + 1 if step.line["hit"] else 0
        if step.line["hits"] != hits:
            judge.object_to(step, f"hits is {step.line['hits']}, expected {hits}")
        hits = step.line["hits"]


@dataclass
class Walk:
    """One sentence of mode foreal, part by part: the leader's, the draft's, and so on.

    sentence: its steps
    taken_back: by place in the sentence; those that the walk has come past are gone
    begins: where the leader's parts begin, as far as the walk has come
    due: where its last part had to end, and the number of its tokens
    """

    judge: Judge
    sentence: list[Step]
    taken_back: dict[int, Dropped]
    begins: set[int] = field(default_factory=lambda: {0})
    due: tuple[int, int] | None = None

    @property
    def settings(self) -> Line:
        return self.judge.settings

    def check(self) -> None:
        place, n = 0, math.inf if self.settings["n"] is None else self.settings["n"]
        if self.sentence[0].line["led"]:
            place = self.leaders_part(0, n, self.settings["k"])
        while place < len(self.sentence) or place in self.taken_back:
            place = self.drafts_part(place)
        check_counter(self.judge, self.sentence, self.begins)

    def leaders_part(self, first: int, n: float, k: int, n_given: int = 0) -> int:
        """Where the draft's part begins: after the first leader's token m > n whose trailing run of hits is k or more.

        The first n_given tokens are no hits. A sentence that ends before the handoff need not have been compared.
        """
        self.begins.add(first)
        counted_from = max(n if self.settings["hits_from"] == "lead" else 0, n_given) + 1
        run = 0
        for m, step in enumerate(self.sentence[first:], start=1):
            if step.author == "draft":
                self.judge.object_to(step, f"handoff after the leader's token {m - 1}, not due yet")
                return first + m - 1
            if first + m - 1 in self.taken_back:
                self.judge.object_to(step, "taken back, although it was not the draft's turn")
                del self.taken_back[first + m - 1]
            if m >= counted_from:
                run = run + 1 if step.is_hit else 0
            if m > n and run >= k:
                return self.hand_over(first, m, counted_from if k > 0 else math.inf)
        if self.taken_back.pop(len(self.sentence), None) is not None:
            self.judge.object_to(self.sentence[-1], "taken back behind it, although it was not the draft's turn")
        return len(self.sentence)

    def hand_over(self, first: int, n_led: int, counted_from: float) -> int:
        """The handoff after n_led tokens: nothing was left out of the counting."""
        place = first + n_led
        if place < len(self.sentence):
            for m, step in enumerate(self.sentence[first:place], start=1):
                if m >= counted_from and step.line["hit"] is None:
                    self.judge.object_to(step, f"the leader's token {m} was not compared")
            self.judge.report.n_handoffs += self.sentence[place].author == "draft"
        self.due = place, n_led
        return place

    def drafts_part(self, first: int) -> int:
        """What the draft writes until it is reviewed at the latest, and the leader's part that may follow from that.

        Returns where the draft's next part begins.
        """
        sentence, every = self.sentence, math.inf
        if self.settings["review"] != "off":
            every = self.settings["review_every"]
        end = first
        while end < len(sentence) and end not in self.taken_back and end - first < every:
            if sentence[end].author != "draft":
                break
            self.check_certain(sentence[end])
            end += 1
        if end in self.taken_back and end - first < every:
            return self.rewritten(first, end)
        if not (self.judge.cut_short and end == len(sentence) and sentence[-1] is self.judge.steps[-1]):
            self.review(sentence[first:end], end - first)
        return end if end == len(sentence) or end - first == every else self.called_back(end)

    def check_certain(self, step: Step) -> None:
        """The draft writes where it is certain enough: no call-back."""
        most, entropy = self.settings["call_back"], step.draft.figure
        if most is not None:
            what = f"the draft writes although its entropy is {entropy.value:.4g}, above {most}"
            self.judge.settle(step, entropy.above(most), False, what)

    def called_back(self, place: int) -> int:
        """The leader writes where it is the draft's turn: it must have been called back."""
        step, most = self.sentence[place], self.settings["call_back"]
        if most is not None and step.author == "leader" and step.draft.figure.above(most).can_be(True):
            self.judge.settle(step, step.draft.figure.above(most), True, "")
            self.judge.report.n_call_backs += 1
            return self.leaders_part(place, 0, self.settings["k"])
        if self.due is not None and self.due[0] == place:
            self.judge.object_to(step, f"the leader writes on, the handoff was due after its token {self.due[1]}")
        while place < len(self.sentence) and self.sentence[place].author != "draft" and place not in self.taken_back:
            self.judge.expect_author([self.sentence[place]], "draft")
            place += 1
        return place

    def rewritten(self, first: int, place: int) -> int:
        """What was taken back at this place was refused there, and the leader goes on with its own token."""
        dropped, settings = self.taken_back.pop(place), self.settings
        for step in dropped.steps:
            self.check_certain(step)
        self.review([*self.sentence[first:place], *dropped.steps], place - first)
        if place == len(self.sentence):  # the leader's own token showed that the sentence had ended before
            return place
        step = self.sentence[place]
        if step.author != "leader":
            self.judge.object_to(step, f"rewritten by the {step.author}, expected the leader")
            return place
        if self.is_the_same(dropped, step):
            self.judge.object_to(step, f"token {step.line['token']} is taken back, and written again")
        if step.line["hit"] is not None:
            self.judge.object_to(step, "a rewritten token is no hit and no miss")
        return self.leaders_part(place, settings["rewrite_n"], settings["rewrite_k"], n_given=1)

    def is_the_same(self, dropped: Dropped, step: Step) -> bool:
        """Whether the leader writes the very token that it took back."""
        return bool(dropped.line["tokens"][:1] == [step.line["token"]])

    def review(self, stretch: list[Step], n_standing: int) -> None:
        """What the leader reads at once: the rule lets the first n_standing tokens stand, and not the next one."""
        rule = self.settings["review"]
        if rule == "off" and n_standing < len(stretch):
            self.judge.object_to(stretch[n_standing], "taken back, although nothing is reviewed")
        if rule == "off":
            return
        if len(stretch) > self.settings["review_every"]:
            self.judge.object_to(stretch[-1], f"{len(stretch)} tokens before they were reviewed")
        for at, step in enumerate(stretch[: n_standing + 1]):
            stands = at < n_standing
            what = "stands, rule {} refuses it" if stands else "is taken back, rule {} accepts it"
            what = f"the draft's token {step.line['token']} {what.format(rule)}"
            self.judge.settle(step, self.stands(stretch, at, stands), stands, what)

    def stands(self, stretch: list[Step], at: int, recorded: bool) -> Decision:
        """Whether a token stands: it is the leader's own, or the rule accepts it.

        Rule fly accepts it only if the next so many are the leader's own, in what it reads at once.
        """
        accepted = Decision(False)
        if self.settings["review"] in RULES:
            accepted = stretch[at].leader.figure.above(0)
        if self.settings["review"] == "fly":
            following = stretch[at + 1 : at + 1 + self.settings["fly_window"]]
            are_all = Decision(len(following) == self.settings["fly_window"])
            accepted = all_of([accepted, are_all, *(self.is_own(step, recorded) for step in following)])
        return any_of([accepted, self.is_own(stretch[at], recorded)])

    def is_own(self, step: Step, recorded: bool) -> Decision:
        """Whether the leader would have written the token, too; of its draws we know nothing. Any end is its end."""
        if not self.judge.greedy:
            return Decision(recorded, open=True)
        token, ends = step.line["token"], self.judge.models["leader"].ends_generation
        same = [near == token or (ends(near) and ends(token)) for near in step.leader.near]
        best = token == step.leader.best or (ends(step.leader.best) and ends(token))
        return Decision(best, any(same) and not all(same))


def judge_answer(
    header: Line, answer: Answer, models: dict[str, Model], tie: float, stop: Sequence[str], report: Report
) -> None:
    settings = settings_of(header, answer.prompt)
    witness = Witness(models, settings, answer.prompt, tie)
    response = [line["token"] for line in answer.tokens]
    dropped = [witness.dropped(line, response) for line in answer.taken_back]
    Judge(settings, answer, witness.steps(answer.tokens), dropped, models, report).check(stop)
    report.n_answers += 1
    report.n_tokens += len(answer.tokens)


JudgeAnswer = Callable[[Line, Answer, dict[str, Model], float, Sequence[str], Report], None]

# --- Entry points ---------------------------------------------------------------------------------


def examine(
    trace_path: Path | str,
    leader_path: Path | str,
    draft_path: Path | str,
    *,
    tie: float | None = None,
    stop: Sequence[str] = (),
    repacked: bool = False,
    judge: JudgeAnswer = judge_answer,
) -> Report:
    """Replays a trace of a pair with one vocabulary; `stop` are the run's stop strings.

    repacked: with the kernels that want quantised weights in another order, as a run has them; they round so
        differently that near ties are five times as wide without
    judge: what judges one answer, for pairs with two vocabularies (replay_mixed.py)

    Raises ValueError when a model cannot be loaded, RuntimeError when it cannot evaluate an answer.
    """
    report = Report()
    lines = [json.loads(line) for line in Path(trace_path).read_text(encoding="utf-8").splitlines()]
    header, answers = read(lines, report)
    if header is None:
        report.violations.append("no header line")
        return report
    prompts = [a.prompt[f"{role}_tokens"] for a in answers for role in ("leader", "draft")]
    n_ctx = max(map(len, prompts), default=0) + max((a.most_tokens for a in answers), default=0)
    opened = (closing(Model(path, n_ctx, repacked)) for path in (leader_path, draft_path))
    with next(opened) as leader, next(opened) as draft:
        for answer in answers:
            judge(header, answer, {"leader": leader, "draft": draft}, TIE if tie is None else tie, stop, report)
    return report


def replay(trace_path: Path | str, leader_path: Path | str, draft_path: Path | str, **options: Any) -> list[str]:
    """The violations in a trace file; none for a good one. `options` as for examine."""
    return examine(trace_path, leader_path, draft_path, **options).violations


def main(arguments: Sequence[str] | None = None, judge: JudgeAnswer = judge_answer) -> int:
    parser = argparse.ArgumentParser(description="Report where a trace file does not follow the method.")
    parser.add_argument("trace", type=Path)
    parser.add_argument("leader", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--tie", type=float, default=TIE, help="near tie: this share of the logits' range")
    parser.add_argument("--repacked", action="store_true", help="the kernels for repacked weights, as in the run")
    parser.add_argument("--stop", action="append", default=[], help="a stop string of the run, repeatable")
    options = parser.parse_args(arguments)
    report = examine(
        options.trace,
        options.leader,
        options.draft,
        tie=options.tie,
        stop=options.stop,
        repacked=options.repacked,
        judge=judge,
    )
    for violation in report.violations:
        print(violation)
    print(
        f"{len(report.violations)} violations in {report.n_answers} answers: {report.n_tokens} tokens, "
        f"{report.n_compared} compared, {report.n_handoffs} handoffs, {report.n_call_backs} call-backs, "
        f"{report.n_taken_back} taken back, {report.n_near_ties} near ties"
    )
    return 1 if report.violations else 0


if __name__ == "__main__":
    silence_llama_cpp()
    sys.exit(main())
