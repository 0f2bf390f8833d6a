"""The figures beside an answer: `usage` as the standard has it, `timings` in llama.cpp's words, and `foreal`, ours."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..alone import LeaderAlone
from ..method.modes import MODES
from ..method.roles import Role
from ..results import Result
from .parts import Parts

Json = dict[str, Any]


def reader_of(result: Result) -> Role | None:
    """The role whose reading of the prompt counts: that which writes first. The other may read it later."""
    views = result.sequence.views
    if result.tokens and result.tokens[0].author in views:
        return result.tokens[0].author
    return next((role for role in Role if role in views), None)


def n_prompt(result: Result) -> int:
    """The prompt's tokens, as the model counts them whose reading counts."""
    reader = reader_of(result)
    return result.sequence.views[reader].n_prompt if reader else 0


def n_cached(result: Result) -> int:
    """Those of them that were not evaluated, because a cache held them. The last one always is, to write the next."""
    reader = reader_of(result)
    if reader is None or not result.cost[reader].calls:
        return 0
    return max(0, n_prompt(result) - 1 - result.cost[reader].n_prompt_read)


def usage_of(results: list[Result], parts: list[Parts]) -> Json:
    """The sums over a request's answers."""
    prompt, completion = sum(map(n_prompt, results)), sum(len(result.tokens) for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(map(n_cached, results))},
        "completion_tokens_details": {"reasoning_tokens": sum(each.n_reasoning_tokens for each in parts)},
    }


def timings_of(result: Result) -> Json:
    """What was evaluated and written in which time; `draft_n` is what was proposed and verified."""
    sequence = result.sequence
    n_read = n_prompt(result) - n_cached(result)
    prompt_ms = 1000 * sum(cost.prompt_seconds for cost in result.cost.values())
    predicted_n, predicted_ms = len(result.tokens), max(0.0, 1000 * result.seconds - prompt_ms)
    found = {
        "cache_n": n_cached(result),
        "prompt_n": n_read,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_second": _per_second(n_read, prompt_ms),
        "predicted_n": predicted_n,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_second": _per_second(predicted_n, predicted_ms),
    }
    if MODES[sequence.settings.mode].speculates:
        found |= {"draft_n": sequence.n_proposed, "draft_n_accepted": sequence.n_accepted}
    return found


def _per_second(n: int, ms: float) -> float:
    return round(1000 * n / ms, 3) if ms else 0.0


def figures_of(result: Result, parts: Parts) -> Json:
    """What is ours: who wrote what, how the two models worked together, and how long the leader would have taken."""
    sequence, settings = result.sequence, result.sequence.settings
    alone = LeaderAlone()
    alone.add(result)
    told = alone.of(result, result.submission.plan)
    return {
        "mode": settings.mode,
        "gate": MODES[settings.mode].gate or settings.method.gate,
        "review": settings.method.review if "review" in MODES[settings.mode].settings else "off",
        "seed": settings.seed,
        "leader_tokens": sequence.n_written(Role.LEADER),
        "draft_tokens": sequence.n_written(Role.DRAFT),
        "sentences": sequence.n_sentences,
        "led": sequence.n_led,
        "handoffs": sequence.n_handoffs,
        "reviewed": sequence.n_reviewed,
        "rewritten": sequence.n_rewritten,
        "calls_back": _n_calls_back(result),
        "seconds": round(result.seconds, 6),
        "tokens_per_second": round(len(result.tokens) / result.seconds, 3) if result.seconds else 0.0,
        "leader_alone": {"seconds": round(told.seconds, 6), "how": told.how} if told else None,
        "spans": parts.spans(),
        "reasoning_spans": parts.spans(of_reasoning=True),
    }


def _n_calls_back(result: Result) -> int:
    """How often the draft, not certain how to go on, has handed a sentence back."""
    if result.sequence.settings.method.call_back is None:
        return 0
    rewritten = {each.at for each in result.sequence.taken_back}
    return sum(
        (before.author, after.author) == (Role.DRAFT, Role.LEADER) and before.sentence == after.sentence
        for i, (before, after) in enumerate(pairwise(result.tokens), 1)
        if i not in rewritten
    )
