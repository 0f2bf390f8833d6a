"""What a chat says of an answer in figures: the line under it, /stats, and how full the context is."""

from __future__ import annotations

from collections.abc import Iterator

from ..alone import Alone
from ..config import MODES
from ..method.ledger import Cost, flops_in_words
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..results import Result


def figures(result: Result, seconds: float, first_after: float | None, alone: Alone | None) -> str:
    """The line after an answer: what it took, against the leader alone, and who wrote it.

    seconds: it took
    first_after: when its first token came
    alone: how long the leader alone would have taken; None: that is not known
    """
    sequence, n_tokens = result.sequence, len(result.tokens)
    parts = [f"{seconds:.2f} s" + (f", {alone.share(seconds)}" if alone and n_tokens else "")]
    if result.flops.leader_only_generation:
        written = result.flops.generation / result.flops.leader_only_generation
        evaluated = result.flops.total / result.flops.leader_only
        parts.append(f"FLOPs {written:.0%} written, {evaluated:.0%} all evaluated (leader alone 100%)")
    parts.append(count(n_tokens, "token"))
    if n_tokens:
        parts.append(f"leader {sequence.n_written(Role.LEADER) / n_tokens:.0%}")
        if MODES[sequence.settings.mode].hands_over:
            handoffs = count(sequence.n_handoffs, "handoff")
            parts.append(f"{sequence.n_led} of {count(sequence.n_sentences, 'sentence')} led, {handoffs}")
    if n_tokens and seconds > 0:
        parts.append(f"{n_tokens / seconds:.0f} tokens/s")
    if first_after is not None:
        parts.append(f"first after {first_after:.2f} s")
    ending = ending_of(result)
    return " · ".join(parts + ([ending] if ending else []))


def ending_of(result: Result) -> str | None:
    """How an answer ended; None where the models ended it."""
    if result.stopped_by is not None:
        inside = " inside the reasoning" if result.ends_inside_reasoning else ""
        return f"ended at the stop text {result.stopped_by!r}{inside}"
    return _ENDINGS.get(result.finish_reason)


def count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


_ENDINGS = {
    FinishReason.LENGTH: "ended by max-tokens",
    FinishReason.CONTEXT: "the context is full",
    FinishReason.CANCELLED: "stopped",
    FinishReason.ERROR: "failed",
}


def totals(cost: dict[Role, Cost], n_answers: int) -> Iterator[str]:
    """The lines of /stats."""
    yield count(n_answers, "answer")
    for role, work in cost.items():
        if work.tokens:
            yield (
                f"{role}: {work.decode_tokens} tokens decoded, {work.prefill_tokens} prefilled, {work.calls} calls, "
                f"{work.seconds:.2f} s, {flops_in_words(work.flops)}"
            )


def gauge(n_used: int, n_all: int, width: int = 12) -> str:
    """How full the context is, in a few characters."""
    n = min(width, round(width * n_used / n_all)) if n_all else 0
    return f"{'█' * n}{'░' * (width - n)} {n_used}/{n_all}"
