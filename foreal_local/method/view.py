"""A response as one role's token ids."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class View:
    """The stream as one role reads it.

    ids: its prompt, then the response
    n_prompt: how many of them are the prompt's
    starts: where each token of the response begins in ids
    """

    ids: list[int]
    n_prompt: int
    starts: list[int] = field(default_factory=list)


def n_common(one: list[int], other: list[int]) -> int:
    """How many ids two lists begin with alike."""
    n = min(len(one), len(other))
    if one[:n] == other[:n]:
        return n
    return next(i for i in range(n) if one[i] != other[i])
