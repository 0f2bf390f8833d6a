"""FLOPs of a finished response, both ways of counting."""

from __future__ import annotations

from dataclasses import dataclass

from .method.ledger import Shape
from .method.modes import MODES
from .method.roles import Role
from .method.sequence import Sequence


@dataclass(frozen=True)
class Flops:
    """FLOPs of one response, both ways of counting.

    total: everything both models evaluated; generation: each written token charged to its author, plus the
    alignment checks, and what was reviewed, and written and dropped (speculative: all that was evaluated after the
    prompts). Proposals that fell before they were written are in the total alone.
    leader_only is what the leader alone would need for the same tokens, with as much of the prompt as was read here: no
    more where a cache held its beginning (to hold against total); leader_only_generation without the prompt (against
    generation).
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
        if not token.inserted:
            generation += shapes[token.author].flops(1, sequence.views[token.author].starts[i] - 1)
        if token.hit is not None and checker is not None:
            generation += shapes[Role.DRAFT].flops(1, checker.starts[i] - 1)
    generation += _flops_of_review(sequence, shapes)
    mode = MODES[sequence.settings.mode]
    if mode.speculates and not mode.hands_over:
        generation = total - sum(cost.flops_prompt for cost in sequence.cost.values())
    leader, n_tokens = shapes[Role.LEADER], len(sequence.tokens)
    reader = Role.LEADER if Role.LEADER in sequence.views else Role.DRAFT
    n_prompt = sequence.views[reader].n_prompt if sequence.views else 0
    n_read = sequence.cost[reader].n_prompt_read if sequence.cost[reader].calls else max(0, n_prompt - 1)
    return Flops(
        total=total,
        generation=generation,
        leader_only=leader.flops(n_read + n_tokens, n_prompt - 1 - n_read) if n_tokens else 0.0,
        leader_only_generation=leader.flops(n_tokens, n_prompt - 1) if n_tokens else 0.0,
    )


def _flops_of_review(sequence: Sequence, shapes: dict[Role, Shape]) -> float:
    """The leader reads each of the draft's tokens, and those that it takes back were written, too."""
    reader, flops = sequence.views.get(Role.LEADER), 0.0
    if not sequence.rewrites or reader is None:
        return flops
    for is_reviewed, start in zip(sequence.stand_reviewed, reader.starts, strict=True):
        if is_reviewed:
            flops += shapes[Role.LEADER].flops(1, start - 1)
    for dropped in sequence.taken_back:
        at = reader.starts[dropped.at] if dropped.at < len(reader.starts) else len(reader.ids)
        for i, token in enumerate(dropped.tokens):
            flops += shapes[Role.LEADER].flops(1, at + i - 1) + shapes[token.author].flops(1, at + i - 1)
    return flops
