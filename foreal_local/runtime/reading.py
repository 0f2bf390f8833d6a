"""What is read of a prompt before its response begins: up to where each role shall be able to come back to, and what is
asked of the prompt's own tokens. Knows jobs and the model protocol; evaluates nothing.
"""

from __future__ import annotations

from ..method.job import Job
from ..method.requests import Read, ReadPrompt, Score
from ..method.roles import Role
from .model import Model


def plan_reading(job: Job, models: dict[Role, Model], to: dict[Role, int], bite: int) -> None:
    """Let the job read its prompt first, where that is asked for; a place that is reached already is only marked.

    to: how many ids each role reads
    bite: of them, most in one evaluation
    """
    reads: list[ReadPrompt] = []
    n_tokens = []  # that each of them has to evaluate
    score = _score(job, bite)
    if score is not None:
        reads.append(score)
        n_tokens.append(score.n_tokens)
    for role, n in to.items():
        n_cached = models[role].cached(job.slot)
        if score is not None and role is score.role:
            continue
        if n_cached < n:
            reads.append(Read(role, n, bite))
            n_tokens.append(n - n_cached)
        elif n_cached == n:
            models[role].mark(job.slot)
    job.read_first(reads, n_tokens)


def _score(job: Job, bite: int) -> Score | None:
    """The reading that tells how likely the leader (where it has no part, the draft) holds the prompt's tokens; None
    where that is not asked for, or is done."""
    sequence = job.sequence
    role = next(role for role in Role if role in sequence.views)
    n_tokens = sequence.views[role].n_prompt - 1
    is_asked = sequence.settings.prompt_logprobs is not None and len(sequence.prompt_likelihoods) < n_tokens
    return Score(role, n_tokens, bite) if is_asked else None
