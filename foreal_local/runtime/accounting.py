"""Who pays for an evaluation: its tokens, calls, seconds and FLOPs, for each sequence and for all of them."""

from __future__ import annotations

from ..method.ledger import Cost, Shape
from ..method.roles import Role
from ..method.sequence import Sequence


class Accounts:
    """`cost`: each role's work for all sequences."""

    def __init__(self, shapes: dict[Role, Shape]) -> None:
        self._shapes = shapes
        self.cost = {role: Cost() for role in shapes}

    def charge(self, role: Role, work: list[tuple[Sequence, int, int, bool]], n_calls: int, seconds: float) -> None:
        """Charge an evaluation: calls to each sequence in it, seconds by tokens.

        work: for each sequence, the tokens that were evaluated, those cached before them, and whether that was decoding
        """
        per_token = seconds / sum(n_tokens for _, n_tokens, _, _ in work)
        for sequence, n_tokens, n_before, decode in work:
            shape, cost = self._shapes[role], sequence.cost[role]
            flops = shape.flops(n_tokens, n_before)
            n_prompt = sequence.views[role].n_prompt - 1  # without the last, which gives the response's first token
            if n_before < n_prompt:
                first, last = max(n_before, cost.n_prompt_done), min(n_before + n_tokens, n_prompt)
                cost.flops_prompt += shape.flops(max(0, last - first), first)
                cost.n_prompt_done = max(cost.n_prompt_done, last)
            cost.count(n_tokens, decode, n_calls, n_tokens * per_token, flops)
            self.cost[role].count(n_tokens, decode, 0, n_tokens * per_token, flops)
        self.cost[role].calls += n_calls

    def reuse(self, role: Role, sequence: Sequence, n_tokens: int) -> None:
        """Note tokens that need no evaluation: a copy of the shared prefix has them."""
        sequence.cost[role].reused_tokens += n_tokens
        self.cost[role].reused_tokens += n_tokens
