"""Responses that were cut off before their end: how many, where, and what to raise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..method.tokens import FinishReason

CutOff = Mapping[str, int]
_LIMITS = {
    str(FinishReason.LENGTH): ("at --max-tokens", "--max-tokens"),
    str(FinishReason.CONTEXT): ("where the context was full", "--ctx-size"),
}


def is_cut_off(finish_reason: str | None) -> bool:
    """Whether a response with this finish reason did not come to its own end."""
    return finish_reason in _LIMITS


def count_cut_off(finish_reasons: Iterable[str | None]) -> dict[str, int]:
    """How many responses were cut off, by finish reason; each has its place, if only 0."""
    reasons = list(finish_reasons)
    return {reason: reasons.count(reason) for reason in _LIMITS}


def cut_off_sentence(counts: CutOff, n: int, meaning: str) -> str | None:
    """What was cut off of n responses, what that means, and what to raise; None where nothing was."""
    found = {reason: counts.get(reason, 0) for reason in _LIMITS if counts.get(reason, 0)}
    if not found:
        return None
    if len(found) == 1:
        where = _LIMITS[next(iter(found))][0]
    else:
        where = "(" + ", ".join(f"{k} {_LIMITS[reason][0]}" for reason, k in found.items()) + ")"
    raised = " and ".join(_LIMITS[reason][1] for reason in found)
    return f"{sum(found.values())} of {n} responses were cut off {where}: {meaning}; raise {raised}"
