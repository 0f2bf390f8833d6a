"""The summary at the end of a run: sums over its results, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from ..alone import LeaderAlone
from ..config import MODES, Generation, describe
from ..method.ledger import Cost, flops_in_words
from ..method.plan import Plan
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..results import Result
from ..tally import Tally

_COUNTS = ("n_results", "n_sentences", "n_led", "n_handoffs", "n_inserted", "n_stopped")


class Totals:
    """Sums over finished results.

    n_results: finished responses
    n_sentences, n_led, n_handoffs, n_inserted: as of Sequence
    tally: tokens, proposals, reviews, calls of the leader
    written: tokens by author
    finished: responses by finish_reason
    n_stopped: those that ended at a stop text
    alone: how long the leader alone takes
    flops: as of results.Flops
    """

    def __init__(self) -> None:
        self.n_results = self.n_sentences = self.n_led = self.n_handoffs = self.n_inserted = self.n_stopped = 0
        self.tally = Tally()
        self.written = dict.fromkeys(Role, 0)
        self.finished = dict.fromkeys(FinishReason, 0)
        self.alone = LeaderAlone()
        self.flops = {"total": 0.0, "generation": 0.0, "leader_only": 0.0, "leader_only_generation": 0.0}

    def add(self, result: Result) -> None:
        sequence = result.sequence
        self.n_results += 1
        self.n_sentences += sequence.n_sentences
        self.n_led += sequence.n_led
        self.n_handoffs += sequence.n_handoffs
        self.n_inserted += sequence.n_inserted
        self.tally.add(sequence)
        self.alone.add(result)
        for role in Role:
            self.written[role] += sequence.n_written(role)
        self.finished[result.finish_reason] += 1
        self.n_stopped += result.stopped_by is not None
        for name in self.flops:
            self.flops[name] += getattr(result.flops, name)

    def merge(self, other: Totals) -> None:
        """Add the sums over other results; of how long the leader alone takes they tell nothing, as they may be of
        another machine."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.tally.merge(other.tally)
        for role in Role:
            self.written[role] += other.written[role]
        for reason in FinishReason:
            self.finished[reason] += other.finished[reason]
        for name in self.flops:
            self.flops[name] += other.flops[name]

    def lines(
        self, settings: Generation, cost: dict[Role, Cost], seconds: float, plan: Plan, one_by_one: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Label and text of each summary line.

        one_by_one: the prompts were answered one after another
        """
        n_tokens, flops = self.tally.n_tokens, self.flops
        compared = self.alone.of_all(plan) if one_by_one else None
        yield "done", f"{seconds:.1f} s" + (f", {compared[1].share(compared[0])}" if compared else "")
        if flops["leader_only"]:
            yield "FLOPs, written", _ratio(flops["generation"], flops["leader_only_generation"])
            yield "FLOPs, all evaluated", _ratio(flops["total"], flops["leader_only"])
        speed = f", {n_tokens / seconds:.0f} tokens/s" if seconds else ""
        yield "answered", f"{_count(self.n_results, 'prompt')}, {_count(n_tokens, 'token')}{speed}"
        others = [f"{n} {reason}" for reason, n in self.finished.items() if n and reason is not FinishReason.STOP]
        others += [f"{self.n_stopped} at a stop text"] * bool(self.n_stopped)
        if others:
            yield "not ended by the models", ", ".join(others)
        if n_tokens:
            authors: dict[str, int] = {str(role): n for role, n in self.written.items()}
            authors |= {"nobody": self.n_inserted} if self.n_inserted else {}
            yield "written", ", ".join(f"{author} {n} ({n / n_tokens:.0%})" for author, n in authors.items())
        yield from self.tally.lines(settings, plan)
        if self.n_sentences:
            led = f", {self.n_led} led ({self.n_led / self.n_sentences:.0%}), {_count(self.n_handoffs, 'handoff')}"
            yield "sentences", f"{self.n_sentences}{led if MODES[settings.mode].hands_over else ''}"
        for role in Role:
            if cost[role].tokens:
                yield f"{role} evaluated", _work(cost[role])
        yield "settings", f"{describe(settings)}, seed {settings.seed}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _ratio(flops: float, reference: float) -> str:
    return f"{flops_in_words(flops)}, {flops / reference:.0%} of the leader alone"


def _work(cost: Cost) -> str:
    decoded, prefilled = _count(cost.decode_tokens, "token"), cost.prefill_tokens
    reused = f", {cost.reused_tokens} reused" if cost.reused_tokens else ""
    return f"{decoded} decoded, {prefilled} prefilled{reused}, {_count(cost.calls, 'call')}, {cost.seconds:.2f} s"
