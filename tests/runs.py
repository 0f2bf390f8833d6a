"""Sequences over the fakes: make them, run them to the end, and say what came out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from fakes import LEADER, FakePair

from foreal_local.config import Generation, Method, Sampling
from foreal_local.method.modes import roles_of
from foreal_local.method.reasoning import DEFAULT_TAGS, ReasoningTags
from foreal_local.method.sequence import Sequence
from foreal_local.runtime.scheduler import Scheduler, Update

OPENED = ReasoningTags("<think>", " get", opened=True)
"""Tags that the fakes' words make, so that responses of theirs have reasoning."""
MAY_OPEN = ReasoningTags("the", " get")
SETTINGS: list[dict[str, Any]] = [
    {"n": 15, "p": 0.6, "k": 5, "temp": 0.6},
    {"n": 4, "p": 0.6, "k": 2},
    {"n": 3, "p": 0.9, "k": 3, "hits_from": "sentence", "temp": 1.0},
    {"n": 0, "p": 0.5, "k": 0},
    {"n": 0, "p": 0.8, "k": 1, "boundaries": "simple", "temp": 0.6},
    {"n": 1, "p": 1.0, "k": 4, "hits_from": "sentence", "boundaries": "simple"},
    {"n": 2, "p": 0.7, "k": 2, "compare": "sampled", "temp": 0.8},
    {"n": 2, "p": 0.3, "k": 1, "stop": ("sum of", "x?")},
    {"n": 2, "p": 0.5, "k": 1, "stop": ("sum of", "e.g"), "tags": OPENED, "temp": 0.6},
    {"n": 2, "p": 0.5, "k": 1, "stop": ("sum of", "e.g"), "tags": MAY_OPEN, "temp": 0.6},
    {"n": 2, "p": 0.5, "k": 1, "stop": ("sum of", "x?"), "tags": OPENED, "stop_in_reasoning": True, "temp": 0.6},
    {"mode": "leader", "stop": ("of get", "is", "\n"), "tags": OPENED, "temp": 1.0},
    {"mode": "leader", "temp": 0.6},
    {"mode": "draft"},
    {"mode": "cue", "p": 0.5, "temp": 0.6},
    {"n": 2, "k": 1, "gate": "always"},
    {"n": 2, "k": 1, "gate": "never", "temp": 0.6},
    {"n": 2, "k": 1, "gate": "always"},
    {"n": 2, "k": 1, "gate": "never", "temp": 0.6},
]
"""Settings for the laws: every option, greedy and sampled."""
SPECULATIVE: dict[str, Any] = {"mode": "speculative", "proposals": 4, "temp": 0.6}
AHEAD: list[dict[str, Any]] = [
    SPECULATIVE,
    {"n": 3, "p": 0.8, "k": 2, "proposals": 4},
    {"n": 2, "p": 0.9, "k": 2, "proposals": 6, "hits_from": "sentence", "temp": 0.8},
    {"gate": "never", "review": "exact", "proposals": 3},
    {"gate": "never", "review": "ratio", "tau": 0.3, "proposals": 5, "temp": 0.6, "review_every": 6},
    {"n": 2, "p": 0.4, "k": 1, "review": "ratio", "call_back": 1.8, "proposals": 2, "stop": ("sum of", "x?")},
    {"gate": "never", "review": "ratio", "tau": 0.3, "proposals": 5, "temp": 0.6, "stop": ("sum", "x"), "tags": OPENED},
    {"p": 0.5, "review": "exact", "proposals": 2, "temp": 1.0, "stop": ("t", "S", " we"), "tags": MAY_OPEN},
    {
        "gate": "entropy",
        "review": "fly",
        "fly_theta": 0.4,
        "fly_window": 2,
        "rewrite_n": 1,
        "temp": 0.8,
        "proposals": 0,
    },
    {"gate": "entropy", "lead_share": 0.4, "review": "typical", "typical_eps": 0.3, "boundaries": "simple"},
    {"p": 0.4, "call_back": 1.6, "n": 1, "k": 1, "proposals": 4, "stop": ("So", "we get")},
    {"mode": "speculative", "proposals": 3, "grammar": "any", "temp": 0.8},
    {"n": 2, "p": 0.7, "k": 1, "proposals": 4, "grammar": "any", "tags": OPENED},
    {"gate": "entropy", "review": "ratio", "tau": 0.4, "proposals": 5, "grammar": "any", "temp": 0.6},
]
"""Not among SETTINGS: here tokens are taken back, and places behind the stream are evaluated."""


def new_sequence(
    index: int = 0,
    *,
    seed: int = 1,
    prompt: list[int] | None = None,
    draft_prompt: list[int] | None = None,
    mode: str = "foreal",
    max_tokens: int | None = 80,
    stop: tuple[str, ...] = (),
    stop_in_reasoning: bool = False,
    tags: ReasoningTags = DEFAULT_TAGS,
    sampling: Sampling | None = None,
    temp: float = 0.0,
    grammar: str | None = None,
    **method: Any,
) -> Sequence:
    """A sequence with a prompt of its own; `method` as in Method, by default short sentences' n, p and k."""
    method = {"n": 4, "p": 0.6, "k": 2, "proposals": 0, **method}
    sampling = sampling or Sampling(temp)
    settings = Generation(mode, Method(**method), sampling, seed, max_tokens, stop, stop_in_reasoning, grammar)
    ids = prompt if prompt is not None else prompt_of(index)
    draft_ids = draft_prompt if draft_prompt is not None else ids
    prompts = {role: ids if role is LEADER else draft_ids for role in roles_of(mode)}
    return Sequence(str(index), index, settings, prompts, tags)


def prompt_of(index: int) -> list[int]:
    """Prompts of different lengths and contents."""
    rng = np.random.default_rng([3, index])
    return rng.integers(2, 16, size=1 + (5 * index) % 23).tolist()


def drawn_gates(sequence: Sequence, n: int) -> list[bool]:
    """The first n gates of a sequence that has not begun; it is used up by this."""
    return [bool(sequence.gate_rng.random() < sequence.settings.method.p) for _ in range(n)]


def run_all(scheduler: Scheduler, sequences: Iterable[Sequence], max_steps: int = 100_000) -> dict[str, str]:
    """Run to the end, checked after each step; returns by id what the events showed, piece by piece."""
    shown: dict[str, str] = {}
    finished: list[str] = []
    for sequence in sequences:
        scheduler.add(sequence)
        shown[sequence.id] = ""
    for _ in range(max_steps):
        if scheduler.idle:
            assert sorted(finished) == sorted(shown), "not every sequence was reported as finished once"
            assert_slots_hold_what_they_say(scheduler)
            return shown
        for event in scheduler.step():
            collect(event, shown, finished)
        scheduler.check()
    raise AssertionError(f"not idle after {max_steps} steps")


def assert_slots_hold_what_they_say(scheduler: Scheduler) -> None:
    """A free slot's caches hold what the slot is known to hold, token for token."""
    scheduler.check()
    for slot in scheduler.slots.free:
        for role, model in scheduler._models.items():
            assert model.held(slot.id) == slot.held.get(role, []), "a free slot holds another text"  # type: ignore


def assert_empty_when_closed(scheduler: Scheduler, pair: FakePair) -> None:
    """Nothing of a sequence stays anywhere once the scheduler is closed, and until then only what is known."""
    assert scheduler.idle
    assert_slots_hold_what_they_say(scheduler)
    scheduler.close()
    scheduler.check()
    assert pair.n_held == 0


def collect(event: Update, shown: dict[str, str], finished: list[str]) -> None:
    """Note what an event shows at the moment it is given."""
    name = event.sequence.id
    assert name not in finished, "an event after the end"
    shown[name] = shown.get(name, "") + "".join(token.text for token in event.tokens)
    if event.finished:
        finished.append(name)


def outcome(sequence: Sequence) -> dict[str, Any]:
    """All that a response is, to compare."""
    return {
        "tokens": [(t.id, t.author, t.text, t.sentence, t.led, t.hit, t.hits, t.inserted) for t in sequence.tokens],
        "views": {role: (view.ids, view.starts) for role, view in sequence.views.items()},
        "text": sequence.text,
        "finish": (sequence.finish_reason, sequence.stopped_by, sequence.error),
        "counts": (sequence.n_sentences, sequence.n_led, sequence.n_handoffs),
    }
