"""What a role must evaluate to serve a request: a row of tokens after those that its slot has cached.

Knows jobs and the model protocol; evaluates nothing.
"""

from __future__ import annotations

from ..method.flows import Judge, Propose, Verify
from ..method.sequence import FinishReason, Role, n_common
from ..method.serving import Job
from .model import Model, Row

Models = dict[Role, Model]


def row_for(job: Job, role: Role, models: Models) -> Row | None:
    """The row for what the job waits for; None when there is none: its context is full, or no proposal is of use."""
    sequence, model = job.sequence, models[role]
    view = sequence.views[role]
    if isinstance(job.request, Propose):
        return _proposing_row(job, role, models)
    if len(view.ids) > model.n_ctx:
        sequence.finish(FinishReason.CONTEXT)
        return None
    if isinstance(job.request, Verify):
        del job.proposed[role][model.n_ctx - len(view.ids) :]  # a token of the draft can be several of the leader's
        return _row_with_proposals(job, role, model, len(job.proposed[role]) + 1)
    cached = model.cached(job.slot)
    if isinstance(job.request, Judge):
        first = view.starts[-job.request.n_tokens] - 1  # its logits predict the first judged token
        job.judged.clear()
        if first < cached:
            at, token = sequence.frontier_top1.get(role, (-1, -1))
            if at == cached == first + 1:
                job.judged[first] = token
            else:
                cached = model.truncate(job.slot, first)
        return Row(job.slot, view.ids[cached:], len(view.ids) - max(first, cached))
    if cached == len(view.ids):
        cached = model.truncate(job.slot, cached - 1)
    pending = view.ids[cached:]
    return Row(job.slot, pending, 1, decode=len(pending) == 1)


# ---------------------------------------------------------------- proposals
def _proposing_row(job: Job, role: Role, models: Models) -> Row | None:
    """None where a proposal has no room, or no use: the leader then writes without another."""
    sequence, proposed = job.sequence, job.proposed
    full = any(len(sequence.views[one].ids) + len(ids) >= models[one].n_ctx for one, ids in proposed.items())
    most = sequence.settings.max_tokens
    if full or (most is not None and len(sequence.tokens) + len(proposed[Role.LEADER]) + 1 >= most):
        job.request = job.flow.send(False)
        return None
    return _row_with_proposals(job, role, models[role], 1)


def _row_with_proposals(job: Job, role: Role, model: Model, n_outputs: int) -> Row:
    ids = job.sequence.views[role].ids + job.proposed[role]
    cached = model.cached(job.slot)
    if cached > len(ids) - n_outputs:
        cached = model.truncate(job.slot, len(ids) - n_outputs)
    return Row(job.slot, ids[cached:], n_outputs, decode=len(ids) == cached + 1)


def before_mark(job: Job, role: Role, model: Model) -> list[int] | None:
    """What to evaluate before a mark is set, right before the stream's last token: proposals may have to be taken
    back to there. None where no mark is needed."""
    if not model.needs_marks:
        return None
    if isinstance(job.request, Verify) or (isinstance(job.request, Propose) and not job.proposed[role]):
        return job.sequence.views[role].ids[model.cached(job.slot) : -1]
    return None


def take_back_proposals(job: Job, models: Models) -> None:
    """Forget what is proposed; the caches keep what is part of the stream by now."""
    for role, proposed in job.proposed.items():
        if not proposed:
            continue
        model, base = models[role], job.base[role]
        n_tokens = base + n_common(proposed, job.sequence.views[role].ids[base:])
        if model.cached(job.slot) > n_tokens:
            model.truncate(job.slot, n_tokens)
        proposed.clear()
    job.n_accepted = 0
