"""A response as one role's token ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Tail(NamedTuple):
    """A new end of a view, with a token of the other model in it (borders.py).

    n_kept: ids that stay
    ids: those behind them
    starts: where the response's last tokens begin in the view, the new one included
    pending: see View
    """

    n_kept: int
    ids: list[int]
    starts: list[int]
    pending: bytes


@dataclass(slots=True)
class View:
    """The stream as one role reads it.

    ids: its prompt, then the response
    n_prompt: how many of them are the prompt's
    starts: where each token of the response begins in ids: so many of them stand before it, wholly
    pending: the end of the text that no id stands for: half a character of another vocabulary
    """

    ids: list[int]
    n_prompt: int
    starts: list[int] = field(default_factory=list)
    pending: bytes = b""

    def add(self, token: tuple[int, ...] | Tail) -> None:
        """One more token of the response, as it is read."""
        if isinstance(token, Tail):
            self._end_with(token)
            self.starts.append(token.starts[-1])
        else:
            self.starts.append(len(self.ids))
            self.ids.extend(token)
            self.pending = b""

    def cut(self, n_tokens: int) -> None:
        """Keep the response's first tokens; the ids that stand for parts of them and of others go as well."""
        del self.ids[self.starts[n_tokens] :], self.starts[n_tokens:]
        self.pending = b""

    def fill_up(self, tail: Tail) -> None:
        """Put back what was cut off too much."""
        self._end_with(tail)

    def _end_with(self, tail: Tail) -> None:
        self.ids[tail.n_kept :] = tail.ids
        n_moved = len(tail.starts) - 1
        self.starts[len(self.starts) - n_moved :] = tail.starts[:-1]
        self.pending = tail.pending


def n_common(one: list[int], other: list[int]) -> int:
    """How many ids two lists begin with alike."""
    n = min(len(one), len(other))
    if one[:n] == other[:n]:
        return n
    return next(i for i in range(n) if one[i] != other[i])
