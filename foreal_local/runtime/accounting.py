"""Who pays for an evaluation: its tokens, calls, seconds and FLOPs, for each sequence and for all of them."""

from __future__ import annotations

from typing import NamedTuple

from ..method.job import Job
from ..method.ledger import Cost, Shape
from ..method.roles import Role
from ..method.sequence import Sequence
from .model import Row


class Turn(NamedTuple):
    """A job's part in an evaluation: its row, after `before` cached tokens."""

    job: Job
    row: Row
    before: int


class Accounts:
    """`cost`: each role's work for all sequences."""

    def __init__(self, shapes: dict[Role, Shape]) -> None:
        self._shapes = shapes
        self.cost = {role: Cost() for role in shapes}

    def charge(self, role: Role, turns: list[Turn], n_calls: int, seconds: float, row_calls: list[int]) -> None:
        """Charge an evaluation: to each sequence the calls that its row had a part in, seconds by tokens."""
        n_all = 0
        for turn in turns:
            n_all += len(turn.row.tokens)
        shape, total = self._shapes[role], self.cost[role]
        for (job, row, n_before), n_own_calls in zip(turns, row_calls, strict=True):
            sequence, n_tokens = job.sequence, len(row.tokens)
            cost = sequence.cost[role]
            flops = shape.flops(n_tokens, n_before)
            n_prompt = sequence.views[role].n_prompt - 1  # without the last, which gives the response's first token
            share = seconds * n_tokens / n_all
            first, last = max(n_before, cost.n_prompt_done), min(n_before + n_tokens, n_prompt)
            if first < last:
                part = share * (last - first) / n_tokens
                cost.count_prompt(first, last, part, shape.flops(last - first, first))
            cost.count(n_tokens, row.decode, n_own_calls, share, flops)
            total.count(n_tokens, row.decode, 0, share, flops)
        total.calls += n_calls

    def reuse(self, role: Role, sequence: Sequence, n_tokens: int) -> None:
        """Note tokens that need no evaluation: a copy of the shared prefix has them."""
        sequence.cost[role].reused_tokens += n_tokens
        self.cost[role].reused_tokens += n_tokens
