"""Replays a trace file against its two models and reports every place where the method was not followed.

An independent evaluator: it imports nothing of the package under test, and knows the trace format, the
method and llama.cpp. It evaluates each answer once per model, prompt and response as one prefix, and judges
every recorded decision by what the models say there. It does not judge where sentences end: that is a
question about text.

    python tests/real/replay.py TRACE LEADER DRAFT
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np

TIE = 2e-3
"""Share of the logits' range (highest - lowest) within which two tokens are as good as equal: another batch
shape moves logits by 1e-6 to 1e-3 of it on a CPU. With CUDA it is up to 3e-3, and 1e-2 fits."""

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

    def __init__(self, path: Path | str, n_ctx: int) -> None:
        self.handle = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
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
            self.batch.n_tokens = len(part)
            for i, token in enumerate(part):
                self.batch.token[i] = token
                self.batch.pos[i] = start + i
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = 0
                self.batch.logits[i] = start + i >= first
            code = llama.llama_decode(self.context, self.batch)
            if code != 0:
                raise RuntimeError(f"llama_decode returned {code} for tokens {start} to {start + len(part)}")
            for i in range(max(first - start, 0), len(part)):
                row = llama.llama_get_logits_ith(self.context, i)
                yield np.ctypeslib.as_array(row, shape=(self.n_vocab,))

    def ends_generation(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self.vocab, token))


@dataclass(frozen=True)
class Opinion:
    """What one model says of one position: its top-1 token, and every token as good as that one."""

    best: int
    near: frozenset[int]


def opinions(model: Model, prompt: Sequence[int], response: Sequence[int], tie: float) -> list[Opinion]:
    """One opinion per token of the response, each under all that comes before it."""
    found: list[Opinion] = []
    if not response:
        return found
    for row in model.rows([*prompt, *response[:-1]], len(prompt) - 1):
        near = np.flatnonzero(row >= row.max() - tie * np.ptp(row))
        found.append(Opinion(int(row.argmax()), frozenset(near.tolist())))
    return found


# --- The trace ------------------------------------------------------------------------------------

FIELDS = {
    "header": {"version", "mode", "n", "p", "k", "hits_from", "temp"},
    "prompt": {"id", "leader_tokens", "draft_tokens"},
    "token": {"id", "i", "token", "piece", "author", "sentence", "led", "hit", "hits"},
    "end": {"id", "finish_reason"},
}


@dataclass
class Answer:
    """The lines of one prompt."""

    prompt: Line
    tokens: list[Line] = field(default_factory=list)
    end: Line | None = None


@dataclass
class Report:
    """What a replay found; `n_near_ties` counts the decisions that another rounding could have turned."""

    violations: list[str] = field(default_factory=list)
    n_answers: int = 0
    n_tokens: int = 0
    n_compared: int = 0
    n_handoffs: int = 0
    n_near_ties: int = 0


def read(lines: Iterable[Line], report: Report) -> tuple[Line | None, list[Answer]]:
    """The header and the answers; lines that fit nowhere are violations."""
    header: Line | None = None
    answers: dict[str, Answer] = {}
    for number, line in enumerate(lines, start=1):
        kind, answer = str(line.get("type")), answers.get(line.get("id", ""))
        if missing := FIELDS.get(kind, set()) - line.keys():
            report.violations.append(f"line {number}: a {kind} line without {', '.join(sorted(missing))}")
        elif kind == "header" and number == 1:
            header = line
        elif kind == "prompt" and answer is None:
            answers[line["id"]] = Answer(line)
        elif kind == "token" and answer is not None and answer.end is None:
            answer.tokens.append(line)
        elif kind == "end" and answer is not None and answer.end is None:
            answer.end = line
        else:
            report.violations.append(f"line {number}: a {kind} line out of place")
    return header, list(answers.values())


# --- The checks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One token of an answer: its line in the trace, and what the models say of its position."""

    line: Line
    leader: Opinion
    draft: Opinion

    @property
    def author(self) -> str | None:
        """None: the token was given (a cue)."""
        return self.line["author"]

    @property
    def aligned(self) -> bool:
        return self.leader.best == self.draft.best

    def can_be(self, hit: bool) -> bool:
        """Whether this is possible, given that any token near the top may be the top-1."""
        if hit:
            return bool(self.leader.near & self.draft.near)
        return len(self.leader.near | self.draft.near) > 1

    @property
    def is_hit(self) -> bool:
        """Our own judgement, or the recorded one where a near tie leaves both open."""
        recorded = self.line["hit"]
        return bool(recorded) if recorded is not None and self.can_be(recorded) else self.aligned


@dataclass
class Judge:
    """Judges the steps of one answer by the header's settings, and writes to the report."""

    header: Line
    answer: Answer
    steps: list[Step]
    report: Report

    def check(self, models: dict[str, Model], stop: Sequence[str]) -> None:
        self.check_numbering()
        for step in self.steps:
            self.check_choice(step)
            self.check_hit(step)
        for _, steps in itertools.groupby(self.steps, key=lambda step: step.line["sentence"]):
            sentence = list(steps)
            self.check_counter(sentence)
            self.check_authors(sentence)
        self.check_end(models, stop)

    def object_to(self, step: Step | None, what: str) -> None:
        where = f", token {step.line['i']}" if step else ""
        self.report.violations.append(f"prompt {self.answer.prompt['id']}{where}: {what}")

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
        if self.header["temp"] != 0 or step.author is None or token == opinion.best:
            return
        if token in opinion.near:
            self.report.n_near_ties += 1
        else:
            self.object_to(step, f"the {step.author} writes {token}, its top-1 is {opinion.best}")

    def check_hit(self, step: Step) -> None:
        """A hit flag says whether both top-1 tokens are the same."""
        hit = step.line["hit"]
        self.report.n_compared += hit is not None
        if hit is None or hit == step.aligned:
            return
        if step.can_be(hit):
            self.report.n_near_ties += 1
        else:
            self.object_to(step, f"hit is {hit}, the top-1 are {step.leader.best} and {step.draft.best}")

    def check_counter(self, sentence: list[Step]) -> None:
        """`hits` follows from the flags: 0 at the sentence's start and after a miss, one more after a hit."""
        hits = 0
        for step in sentence:
            if step.line["hit"] is not None:
                hits = hits + 1 if step.line["hit"] else 0
            if step.line["hits"] != hits:
                self.object_to(step, f"hits is {step.line['hits']}, expected {hits}")
            hits = step.line["hits"]

    def check_authors(self, sentence: list[Step]) -> None:
        """Who writes what: the gate decides, then the leader until the handoff is due, then the draft."""
        authors, led, p = [step.author for step in sentence], sentence[0].line["led"], self.header["p"]
        mode = self.header["mode"]
        if mode not in ("foreal", "cue"):
            self.expect_author(sentence, "leader" if mode == "speculative" else mode)
            return
        if p in (0, 1) and led != bool(p):
            self.object_to(sentence[0], f"led is {led} although p is {p}")
        if mode == "cue":
            n_given = sum(1 for _ in itertools.takewhile(lambda author: author is None, authors))
            before = "".join(step.line["piece"] for step in self.steps[: self.steps.index(sentence[0])])
            if bool(n_given) != (led and "</think>" not in before):  # the answer is not to be thought about again
                self.object_to(sentence[0], f"led is {led}, and the sentence begins with {n_given} given tokens")
            self.expect_author(sentence[n_given:], "draft")
            return
        n_led = authors.index("draft") if led and "draft" in authors else len(authors) * led
        self.expect_author(sentence[n_led:], "draft")
        if led:
            self.check_handoff(sentence, n_led)

    def expect_author(self, steps: list[Step], author: str) -> None:
        for step in steps:
            if step.author != author:
                self.object_to(step, f"written by the {step.author}, expected the {author}")

    def check_handoff(self, sentence: list[Step], n_led: int) -> None:
        """It comes after the first leader's token m > n whose trailing run of hits is k or longer.

        A sentence that ends before it need not have been compared.
        """
        n = math.inf if self.header["n"] is None else self.header["n"]
        k, counted_from = self.header["k"], n + 1 if self.header["hits_from"] == "lead" else 1
        due, run = None, 0
        for m, step in enumerate(sentence[:n_led], start=1):
            if m >= counted_from:
                run = run + 1 if step.is_hit else 0
                if step.line["hit"] is None and k > 0 and n_led < len(sentence):
                    self.object_to(step, f"the leader's token {m} was not compared")
            if due is None and m > n and run >= k:
                due = m
        if due is None and n_led < len(sentence):
            self.object_to(sentence[n_led], f"handoff after the leader's token {n_led}, not due yet")
        if due is not None and due < n_led:
            self.object_to(sentence[due], f"the leader writes on, the handoff was due after its token {due}")
        self.report.n_handoffs += n_led < len(sentence)

    def check_end(self, models: dict[str, Model], stop: Sequence[str]) -> None:
        """An end-of-generation token comes last and has no text; "stop" needs one, or a stop string."""
        if self.answer.end is None:
            self.object_to(None, "no end line")
            return
        reason = self.answer.end["finish_reason"]
        written = [step for step in self.steps if step.author is not None]
        ending = [step for step in written if models[str(step.author)].ends_generation(step.line["token"])]
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


def judge_answer(
    header: Line, answer: Answer, models: dict[str, Model], tie: float, stop: Sequence[str], report: Report
) -> None:
    response = [line["token"] for line in answer.tokens]
    prompts = {role: answer.prompt[f"{role}_tokens"] for role in models}
    said = {role: opinions(models[role], prompt, response, tie) for role, prompt in prompts.items() if prompt}
    known = next(iter(said.values()), [])  # a role that took no part has no prompt, and nothing is asked of it
    leader, draft = (said.get(role, known) for role in models)
    steps = [Step(*step) for step in zip(answer.tokens, leader, draft, strict=True)]
    Judge(header, answer, steps, report).check(models, stop)
    report.n_answers += 1
    report.n_tokens += len(steps)


# --- Entry points ---------------------------------------------------------------------------------


def examine(
    trace_path: Path | str,
    leader_path: Path | str,
    draft_path: Path | str,
    *,
    tie: float | None = None,
    stop: Sequence[str] = (),
) -> Report:
    """Replays a trace of a pair with one vocabulary; `stop` are the run's stop strings.

    Raises ValueError when a model cannot be loaded, RuntimeError when it cannot evaluate an answer.
    """
    report = Report()
    lines = [json.loads(line) for line in Path(trace_path).read_text(encoding="utf-8").splitlines()]
    header, answers = read(lines, report)
    if header is None:
        report.violations.append("no header line")
        return report
    prompts = [a.prompt[f"{role}_tokens"] for a in answers for role in ("leader", "draft")]
    n_ctx = max(map(len, prompts), default=0) + max((len(a.tokens) for a in answers), default=0)
    with closing(Model(leader_path, n_ctx)) as leader, closing(Model(draft_path, n_ctx)) as draft:
        for answer in answers:
            judge_answer(header, answer, {"leader": leader, "draft": draft}, TIE if tie is None else tie, stop, report)
    return report


def replay(trace_path: Path | str, leader_path: Path | str, draft_path: Path | str, **options: Any) -> list[str]:
    """The violations in a trace file; none for a good one. `options` as for examine."""
    return examine(trace_path, leader_path, draft_path, **options).violations


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Report where a trace file does not follow the method.")
    parser.add_argument("trace", type=Path)
    parser.add_argument("leader", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--tie", type=float, default=TIE, help="near tie: this share of the logits' range")
    parser.add_argument("--stop", action="append", default=[], help="a stop string of the run, repeatable")
    options = parser.parse_args(arguments)
    report = examine(options.trace, options.leader, options.draft, tie=options.tie, stop=options.stop)
    for violation in report.violations:
        print(violation)
    print(
        f"{len(report.violations)} violations in {report.n_answers} answers: {report.n_tokens} tokens, "
        f"{report.n_compared} compared, {report.n_handoffs} handoffs, {report.n_near_ties} near ties"
    )
    return 1 if report.violations else 0


if __name__ == "__main__":
    silence_llama_cpp()
    sys.exit(main())
