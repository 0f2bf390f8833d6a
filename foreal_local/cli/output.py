"""What foreal-gen prints and writes: answers, records, traces, the summary. Knows texts, no files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, Any, ClassVar

import click

from ..config import Generation, Mode
from ..method.ledger import Cost
from ..method.reasoning import ReasoningSplitter
from ..method.sequence import FinishReason, Role, Token
from ..results import Result, of_one_mode

TRACE_VERSION = 1


def to_line(record: dict[str, Any]) -> str:
    """One line of JSON; half a surrogate pair (from a prompt's \\ud800) stays escaped: it is no UTF-8."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


# ---------------------------------------------------------------- the trace
def trace_header(settings: Generation, leader: str, draft: str) -> str:
    method = settings.method
    header = {"type": "header", "version": TRACE_VERSION, "mode": str(settings.mode)}
    header |= {"n": method.n, "p": method.p, "k": method.k, "hits_from": method.hits_from}
    header |= {"temp": settings.sampling.temp, "leader": leader, "draft": draft, "seed": settings.seed}
    return to_line(header | {"boundaries": method.boundaries, "compare": method.compare} | of_one_mode(settings))


def trace_lines(result: Result) -> str:
    """The prompt, token and end lines of one response (an overridden setting is in its prompt line)."""
    sequence, settings = result.sequence, result.sequence.settings
    method, id = settings.method, result.id
    prompt: dict[str, Any] = {"type": "prompt", "id": id}
    for role in Role:
        view = sequence.views.get(role)
        prompt[f"{role}_tokens"] = view.ids[: view.n_prompt] if view else []
    prompt |= {"mode": str(settings.mode), "n": method.n, "p": method.p, "k": method.k}
    prompt |= {"temp": settings.sampling.temp, "seed": settings.seed, "index": result.index} | of_one_mode(settings)
    lines = [to_line(prompt)]
    for i, token in enumerate(sequence.tokens):
        line = {"type": "token", "id": id, "i": i, "token": token.id, "piece": token.text}
        line |= {"author": None if token.given else str(token.author), "sentence": token.sentence, "led": token.led}
        lines.append(to_line(line | {"hit": token.hit, "hits": token.hits}))
    end = {"type": "end", "id": id, "finish_reason": str(result.finish_reason)}
    lines.append(to_line(end | ({"error": result.error} if result.error else {})))
    return "".join(lines)


# ---------------------------------------------------------------- answers on the terminal
class AnswerPrinter:
    """Prints one response as it comes: the answer on stdout, the reasoning on stderr and dim.

    The leader's words are bold, the draft's are not, each in its own colour.
    """

    STYLES: ClassVar[dict[Role, dict[str, Any]]] = {
        Role.LEADER: {"fg": "cyan", "bold": True},
        Role.DRAFT: {"fg": "yellow"},
    }

    def __init__(self, starts_thinking: bool, color: bool | None, show_reasoning: bool) -> None:
        self._splitter = ReasoningSplitter(starts_thinking)
        self._color, self._show_reasoning = color, show_reasoning
        self._last: tuple[bool, bool] | None = None  # of what was printed: reasoning, ended its line
        self._author = Role.LEADER

    def feed(self, tokens: list[Token]) -> None:
        for token in tokens:
            self._author = token.author
            for thinking, text in self._splitter.feed(token.text):
                self._print(thinking, text)

    def end(self) -> None:
        for thinking, text in self._splitter.rest():
            self._print(thinking, text)
        if self._last is None or self._last[0]:
            self._break_line()
            click.echo("")  # an answer line of its own, even when it is empty
        elif not self._last[1]:
            click.echo("")

    def _print(self, thinking: bool, text: str) -> None:
        if self._last is None or self._last[0] != thinking:
            text = text.lstrip("\n")
            if not text:
                return
            self._break_line()
        if thinking and not self._show_reasoning:
            return
        style = dict(self.STYLES[self._author])
        if thinking:
            style |= {"dim": True, "bold": False, "underline": self._author is Role.LEADER}
        click.echo(self._styled(text, style, thinking), nl=False, err=thinking, color=self._color)
        (sys.stderr if thinking else sys.stdout).flush()
        self._last = (thinking, text.endswith("\n"))

    def _styled(self, text: str, style: dict[str, Any], thinking: bool) -> str:
        stream: IO[str] = sys.stderr if thinking else sys.stdout
        coloured = stream.isatty() if self._color is None else self._color
        return click.style(text, **style) if coloured else text

    def _break_line(self) -> None:
        if self._last is not None and not self._last[1]:
            click.echo("", err=self._last[0])


# ---------------------------------------------------------------- the summary
class Totals:
    """Sums over finished results, for the closing summary."""

    def __init__(self) -> None:
        self.n_results = self.n_tokens = self.n_sentences = self.n_led = self.n_handoffs = 0
        self.n_given = self.n_proposed = self.n_accepted = 0
        self.written = dict.fromkeys(Role, 0)
        self.finished = dict.fromkeys(FinishReason, 0)
        self.flops = {"total": 0.0, "generation": 0.0, "leader_only": 0.0, "leader_only_generation": 0.0}

    def add(self, result: Result) -> None:
        sequence = result.sequence
        self.n_results += 1
        self.n_tokens += len(sequence.tokens)
        self.n_sentences += sequence.n_sentences
        self.n_led += sequence.n_led
        self.n_handoffs += sequence.n_handoffs
        self.n_given += sequence.n_given
        self.n_proposed += sequence.n_proposed
        self.n_accepted += sequence.n_accepted
        for role in Role:
            self.written[role] += sequence.n_written(role)
        self.finished[result.finish_reason] += 1
        for name in self.flops:
            self.flops[name] += getattr(result.flops, name)

    def lines(self, settings: Generation, cost: dict[Role, Cost], seconds: float) -> Iterator[tuple[str, str]]:
        """Label and text of each summary line."""
        speed = f", {self.n_tokens / seconds:.0f} tokens/s" if seconds else ""
        yield (
            "done",
            f"{_count(self.n_results, 'prompt')}, {_count(self.n_tokens, 'token')} in {seconds:.1f} s{speed}",
        )
        others = [f"{n} {reason}" for reason, n in self.finished.items() if n and reason is not FinishReason.STOP]
        if others:
            yield "not ended by the models", ", ".join(others)
        if self.n_tokens:
            authors: dict[str, int] = {str(role): n for role, n in self.written.items()}
            authors |= {"nobody": self.n_given} if self.n_given else {}
            yield "written", ", ".join(f"{author} {n} ({n / self.n_tokens:.0%})" for author, n in authors.items())
        if self.n_proposed:
            yield "proposed", f"{self.n_proposed}, {self.n_accepted} accepted ({self.n_accepted / self.n_proposed:.0%})"
        if self.n_sentences:
            led = f", {self.n_led} led ({self.n_led / self.n_sentences:.0%}), {_count(self.n_handoffs, 'handoff')}"
            yield "sentences", f"{self.n_sentences}{led if settings.mode is Mode.FOREAL else ''}"
        flops = self.flops
        if flops["leader_only"]:
            yield "FLOPs, generation only", _ratio(flops["generation"], flops["leader_only_generation"])
            yield "FLOPs, all evaluated", _ratio(flops["total"], flops["leader_only"])
        for role in Role:
            if cost[role].tokens:
                yield f"{role} evaluated", _work(cost[role])
        yield "settings", _settings(settings)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _ratio(flops: float, reference: float) -> str:
    return f"{_scaled(flops)}, {flops / reference:.0%} of the leader writing the same tokens alone"


def _scaled(value: float) -> str:
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}FLOPs"
    return f"{value:.0f} FLOPs"


def _work(cost: Cost) -> str:
    decoded, prefilled = _count(cost.decode_tokens, "token"), cost.prefill_tokens
    reused = f", {cost.reused_tokens} reused" if cost.reused_tokens else ""
    return f"{decoded} decoded, {prefilled} prefilled{reused}, {_count(cost.calls, 'call')}, {cost.seconds:.2f} s"


def _settings(settings: Generation) -> str:
    method, sampling = settings.method, settings.sampling
    text = str(settings.mode)
    if settings.mode is Mode.FOREAL:
        text += f" n={method.n} p={method.p:g} k={method.k}"
    elif settings.mode is Mode.CUE:
        text += f" {method.cue!r} p={method.p:g}"
    elif settings.mode is Mode.SPECULATIVE:
        text += f" proposals={method.proposals}"
    text += ", greedy" if sampling.greedy else f", temp {sampling.temp:g}, top-p {sampling.top_p:g}"
    return f"{text}, seed {settings.seed}"
