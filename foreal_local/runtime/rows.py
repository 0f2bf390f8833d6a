"""What a role must evaluate for a request: a row of tokens after those that its slot has cached.

Knows jobs and the model protocol; evaluates nothing.
"""

from __future__ import annotations

from ..method.job import Job
from ..method.roles import Role
from .model import Model, Row


def row_for(job: Job, role: Role, model: Model) -> Row:
    """The row for what the job's request wants; the cache goes back where it holds a place that is asked about."""
    request = job.request
    ids, n_outputs, most = request.wanted(job)
    first, cached = len(ids) - n_outputs, model.cached(job.slot)
    if cached > first:
        cached = model.truncate(job.slot, first)
    tokens = ids[cached:]
    n_outputs = len(ids) - max(first, cached)
    if most is not None and len(tokens) > most:
        tokens, n_outputs = tokens[:most], max(1, n_outputs - (len(tokens) - most))
    return Row(job.slot, tokens, n_outputs, decode=request.decodes and len(tokens) == 1)
