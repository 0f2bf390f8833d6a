"""What goes into the engine and what comes out: prompts, tokens as they are written, finished results.

A Result's `as_dict` is the result line of design.md.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from .config import Generation, Mode, Prompting
from .method.ledger import Cost, Shape
from .method.reasoning import split_reasoning
from .method.sequence import FinishReason, Role, Sequence, Token
from .runtime.text import Messages


@dataclass(frozen=True)
class Prompt:
    """One thing to answer: a text (one user message) or a list of messages.

    `settings` None: the run's. `index` None: its place among the run's prompts; its random numbers come from the seed
    and the index, so prompts that share both share them. `id` None: its index.
    """

    content: str | Messages
    id: str | None = None
    settings: Generation | None = None
    index: int | None = None


_OF_ONE_MODE = {"cue": Mode.CUE, "proposals": Mode.SPECULATIVE}


def settings_hash(content: str | Messages, settings: Generation, prompting: Prompting, models: dict[Role, str]) -> str:
    """What a response follows from but its index: prompt, settings with the seed, models by fingerprint."""
    own = asdict(settings)
    for name, mode in _OF_ONE_MODE.items():
        if settings.mode is not mode:
            del own["method"][name]
    parts = [
        content,
        own,
        asdict(prompting),
        {str(role): models[role] for role in roles_of(settings.mode)},
    ]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def of_one_mode(settings: Generation) -> dict[str, Any]:
    """The settings of the method that only their mode has, by name."""
    return {name: getattr(settings.method, name) for name, mode in _OF_ONE_MODE.items() if settings.mode is mode}


def roles_of(mode: Mode) -> list[Role]:
    """The models a mode needs."""
    alone = {Mode.LEADER: [Role.LEADER], Mode.DRAFT: [Role.DRAFT], Mode.CUE: [Role.DRAFT]}
    return alone.get(mode, list(Role))


def with_seed(settings: Generation) -> Generation:
    """The settings with a seed: their own, or one drawn now."""
    return settings if settings.seed is not None else replace(settings, seed=secrets.randbits(31))


@dataclass(slots=True)
class Written:
    """Tokens of one response as they are written; their texts joined are the response's text."""

    index: int
    id: str
    tokens: list[Token]
    starts_thinking: bool


@dataclass(frozen=True)
class Flops:
    """FLOPs of one response, both ways of counting.

    total: everything both models evaluated; generation: each written token charged to its author, plus the
    alignment checks (speculative: all that was evaluated after the prompts). leader_only is what the leader alone
    would need for the same tokens, prompt included (to hold against total), leader_only_generation without the
    prompt (against generation).
    """

    total: float
    generation: float
    leader_only: float
    leader_only_generation: float


def count_flops(sequence: Sequence, shapes: dict[Role, Shape]) -> Flops:
    generation = 0.0
    total = sum(cost.flops for cost in sequence.cost.values())
    checker = sequence.views.get(Role.DRAFT)
    for i, token in enumerate(sequence.tokens):
        if not token.given:
            generation += shapes[token.author].flops(1, sequence.views[token.author].starts[i] - 1)
        if token.hit is not None and checker is not None:
            generation += shapes[Role.DRAFT].flops(1, checker.starts[i] - 1)
    if sequence.settings.mode is Mode.SPECULATIVE:
        generation = total - sum(cost.flops_prompt for cost in sequence.cost.values())
    leader, n_tokens = shapes[Role.LEADER], len(sequence.tokens)
    view = sequence.views.get(Role.LEADER) or sequence.views.get(Role.DRAFT)
    n_prompt = view.n_prompt if view else 0
    return Flops(
        total=total,
        generation=generation,
        leader_only=leader.flops(n_prompt + n_tokens - 1, 0) if n_tokens else 0.0,
        leader_only_generation=leader.flops(n_tokens, n_prompt - 1) if n_tokens else 0.0,
    )


@dataclass(frozen=True)
class Asked:
    """A prompt with what it was asked with: `ctx_size` is the context of a sequence."""

    prompt: Prompt
    settings_hash: str
    ctx_size: int
    starts_thinking: bool = False


@dataclass(frozen=True)
class Result:
    """A finished response. `sequence` has the tokens with their authors, `asked` what was asked."""

    asked: Asked
    sequence: Sequence
    flops: Flops
    text: str
    reasoning: str
    answer: str
    seconds: float

    @classmethod
    def of(cls, asked: Asked, sequence: Sequence, shapes: dict[Role, Shape]) -> Result:
        text = sequence.text
        reasoning, answer = split_reasoning(text, asked.starts_thinking)
        return cls(asked, sequence, count_flops(sequence, shapes), text, reasoning, answer, sequence.seconds)

    @property
    def prompt(self) -> str | Messages:
        return self.asked.prompt.content

    @property
    def starts_thinking(self) -> bool:
        return self.asked.starts_thinking

    @property
    def id(self) -> str:
        return self.sequence.id

    @property
    def index(self) -> int:
        return self.sequence.index

    @property
    def tokens(self) -> list[Token]:
        return self.sequence.tokens

    @property
    def finish_reason(self) -> FinishReason:
        assert self.sequence.finish_reason is not None
        return self.sequence.finish_reason

    @property
    def error(self) -> str | None:
        return self.sequence.error

    @property
    def cost(self) -> dict[Role, Cost]:
        return self.sequence.cost

    def as_dict(self) -> dict[str, Any]:
        """The record, its keys in the order of design.md."""
        sequence, settings = self.sequence, self.sequence.settings
        n_tokens = len(sequence.tokens)
        prompt_view = sequence.views.get(Role.LEADER) or sequence.views.get(Role.DRAFT)
        return {
            "id": self.id,
            "index": self.index,
            **({"prompt": self.prompt} if isinstance(self.prompt, str) else {"messages": self.prompt}),
            "text": self.text,
            "reasoning": self.reasoning,
            "answer": self.answer,
            "finish_reason": str(self.finish_reason),
            "error": self.error,
            "seed": settings.seed,
            "mode": str(settings.mode),
            "n": settings.method.n,
            "p": settings.method.p,
            "k": settings.method.k,
            "hits_from": settings.method.hits_from,
            "boundaries": settings.method.boundaries,
            "compare": settings.method.compare,
            **of_one_mode(settings),
            **asdict(settings.sampling),
            "max_tokens": settings.max_tokens,
            "stop": list(settings.stop),
            "ctx_size": self.asked.ctx_size,
            "settings_hash": self.asked.settings_hash,
            "usage": {
                "prompt_tokens": prompt_view.n_prompt if prompt_view else 0,
                "completion_tokens": n_tokens,
                "leader_tokens": sequence.n_written(Role.LEADER),
                "draft_tokens": sequence.n_written(Role.DRAFT),
                **({"given_tokens": sequence.n_given} if sequence.n_given else {}),
            },
            "sentences": {
                "total": sequence.n_sentences,
                "led": sequence.n_led,
                "handoffs": sequence.n_handoffs,
            },
            **(
                {"speculation": {"proposed": sequence.n_proposed, "accepted": sequence.n_accepted}}
                if settings.mode is Mode.SPECULATIVE
                else {}
            ),
            "cost": {
                **{str(role): sequence.cost[role].as_dict() for role in Role},
                "flops_total": self.flops.total,
                "flops_generation": self.flops.generation,
                "flops_leader_only": self.flops.leader_only,
                "flops_leader_only_generation": self.flops.leader_only_generation,
            },
            "seconds": round(self.seconds, 6),
            "tokens_per_second": round(n_tokens / self.seconds, 3) if self.seconds else 0.0,
        }
