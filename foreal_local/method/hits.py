"""Hits: would the draft have written what the leader wrote? Knows a job's views, and what is known of their places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .borders import before_token

if TYPE_CHECKING:
    from .job import Job
    from .roles import Role


def is_hit(job: Job, role: Role, index: int, compared: int) -> bool:
    """Whether the role's most likely continuation of the text before the response's token of this index begins with the
    compared token, which is its author's.

    With one vocabulary: whether its top-1 there is that token, or the first id that it reads for it. With two, its
    top-1 at the last place before the token, and on from there as long as its own reading of the text goes along, must
    begin with the same characters; what the text has between that place and the token comes first.
    """
    sequence, vocabulary = job.sequence, job.vocabulary
    token, view = sequence.tokens[index], sequence.views[role]
    at = view.starts[index]
    if vocabulary.is_shared:
        return vocabulary.translate(token.author, compared, role)[:1] == (job.top1_at(role, at),)
    wanted = before_token(view, role, sequence.tokens, index, vocabulary)
    piece = vocabulary.piece(token.author, compared)
    if piece is None:  # an end
        top1 = job.top1_at(role, at)
        return not wanted and top1 is not None and vocabulary.piece(role, top1) is None
    return begins_with(
        wanted + piece, at, lambda place: job.top1_at(role, place), view.ids, partial(vocabulary.piece, role)
    )


def begins_with(
    wanted: bytes,
    at: int,
    top1_at: Callable[[int], int | None],
    ids: Sequence[int],
    piece: Callable[[int], bytes | None],
) -> bool:
    """Whether a role's most likely tokens from its place `at` on begin with these characters, as far as its reading of
    the text (`ids`) goes along."""
    while True:
        top1 = top1_at(at)
        own = None if top1 is None else piece(top1)
        if not own:  # not known, or an end
            return False
        if own.startswith(wanted):
            return True
        if not wanted.startswith(own) or ids[at : at + 1] != [top1]:
            return False
        wanted, at = wanted[len(own) :], at + 1


def first_unknown(job: Job, role: Role, n_tokens: int) -> int | None:
    """The first place at which the role's top-1 must be known to judge the stream's last n_tokens, and is not; as ids
    before it. What is known is kept until it is judged."""
    view, known = job.sequence.views[role], job.ahead.top1s[role]
    places: Iterable[int] = view.starts[len(view.starts) - n_tokens :]
    if not job.vocabulary.is_shared:  # one's tokens begin inside the other's
        first = view.starts[len(view.starts) - n_tokens]
        places = range(first, max(len(view.ids), first + 1))
    for at in places:
        if at not in known:
            top1 = job.top1_at(role, at)
            if top1 is None:
                return at
            known[at] = top1
    return None


def forget_judged(job: Job, role: Role) -> None:
    """What is known of places before the stream's end is of no more use."""
    n = len(job.sequence.views[role].ids)
    job.ahead.top1s[role] = {at: top1 for at, top1 in job.ahead.top1s[role].items() if at >= n}
