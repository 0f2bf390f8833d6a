"""The beginning of a job: for a sequence that is new, or was stopped anywhere."""

from __future__ import annotations

from .grammar import Grammar
from .job import Job
from .modes import flow_of, gate_of
from .plan import Plan
from .roles import Role
from .sentences import Verdict
from .sequence import Sequence
from .vocabulary import PairVocabulary


def begin(
    sequence: Sequence, slot: int, vocabulary: PairVocabulary, n_ctx: dict[Role, int], plan: Plan, served: int = 0
) -> Job:
    """A job for a sequence, new or stopped anywhere: its flow has been given the recorded answers again."""
    flow = flow_of(sequence.settings)
    request = next(flow)
    if sequence.verdict is not Verdict.END or sequence.n_settled < len(sequence.tokens):
        for _, answer in sequence.answers:
            request = flow.send(answer)
    grammars = {}
    if sequence.settings.has_grammar:
        grammars = {role: Grammar(role, sequence, vocabulary) for role in sequence.views}
    gate = gate_of(sequence.settings)
    return Job(sequence, slot, vocabulary, n_ctx, flow, gate, request, served, plan=plan, grammars=grammars)
