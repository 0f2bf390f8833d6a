"""What was proposed, reviewed and evaluated for some responses: for a run's summary and a chat's /stats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from .config import Generation
from .method.plan import Plan
from .method.roles import Role
from .method.sequence import Sequence


@dataclass
class Tally:
    """Sums over responses.

    n_tokens, n_proposed, n_accepted, n_reviewed, n_rewritten, n_dropped: as of Sequence
    leader_calls: evaluations of the leader
    """

    n_tokens: int = 0
    n_proposed: int = 0
    n_accepted: int = 0
    n_reviewed: int = 0
    n_rewritten: int = 0
    n_dropped: int = 0
    leader_calls: int = 0

    def add(self, sequence: Sequence) -> None:
        self.n_tokens += len(sequence.tokens)
        self.n_proposed += sequence.n_proposed
        self.n_accepted += sequence.n_accepted
        self.n_reviewed += sequence.n_reviewed
        self.n_rewritten += sequence.n_rewritten
        self.n_dropped += sequence.n_dropped
        self.leader_calls += sequence.cost[Role.LEADER].calls

    def merge(self, other: Tally) -> None:
        """Add the sums over other responses."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def lines(self, settings: Generation, plan: Plan) -> Iterator[tuple[str, str]]:
        """Label and text of the lines that say how much of the leader's work was saved, and how; none for what never
        was.

        plan: the engine's, told where these settings leave it to decide
        """
        if plan.choice:
            yield "auto", plan.choice
        if plan.decides(settings):
            yield "proposals", plan.describe()
        if self.n_proposed:
            share = self.n_accepted / self.n_proposed
            yield "proposed", f"{self.n_proposed} tokens, {self.n_accepted} accepted ({share:.0%})"
        if self.n_reviewed:
            yield "reviewed", f"{self.n_reviewed} tokens, {self.n_rewritten} rewritten, {self.n_dropped} dropped"
        if self.n_tokens and self.leader_calls:
            yield "leader calls", f"{self.leader_calls / self.n_tokens:.2f} for each token"
