"""What the scheduler sees of a model: slots that hold a prefix each, and rows of tokens to evaluate.

Knows no llama.cpp. The real one is llama/context.py's; the tests have a fake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..errors import SequenceError
from ..method.vocabulary import Logits


class Row(NamedTuple):
    """Tokens to evaluate after what `slot` has cached; logits are wanted at the last `n_outputs` of them.

    `decode`: the row is one token, evaluated to write the next (the ledger tells decoding from prefill).
    """

    slot: int
    tokens: list[int]
    n_outputs: int
    decode: bool = False


@dataclass(slots=True)
class Output:
    """Logits (n_vocab,) after token `index` of row `row`: a view, valid until the iterator goes on.

    `failure` instead of logits: this row could not be evaluated (`index` is 0); its slot must be released.
    """

    row: int
    index: int
    logits: Logits | None
    failure: SequenceError | None = None


@dataclass(frozen=True)
class Snapshot:
    """One slot's state: how many tokens it stands for, and the bytes that bring it back."""

    n_tokens: int
    data: bytes | memoryview


class Model(Protocol):
    """One model with a cache of `n_slots` prefixes of at most `n_ctx` tokens each.

    Slot n_slots is a spare one: it holds a prefix that many sequences share, where `has_spare`. n_calls:
    evaluations so far, how often the library's decode was called; seconds: how long these took. needs_marks: the
    memory cannot take its end back, or not always, but to where `mark` was called.
    """

    n_calls: int
    seconds: float
    has_spare: bool
    needs_marks: bool

    @property
    def n_slots(self) -> int: ...

    @property
    def n_ctx(self) -> int: ...

    def cached(self, slot: int) -> int:
        """How many tokens of the slot's view are evaluated."""
        ...

    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        """Evaluate all rows, as few calls as the batch size allows; outputs in order of evaluation."""
        ...

    def write_on(self, slot: int, token: int, take: Callable[[Logits], int | None], most: int, seconds: float) -> None:
        """Evaluate a token, then the one that `take` makes of its logits (n_vocab,), and so on.

        Ends after `most` evaluations or that many seconds, where `take` gives None, or the next has no room.
        """
        ...

    def truncate(self, slot: int, n_tokens: int) -> int:
        """Keep the first n_tokens at most; returns how many are cached now (fewer where taking back failed)."""
        ...

    def mark(self, slot: int) -> None:
        """Make truncating to here cheap, for a memory that cannot take tokens back by itself."""
        ...

    def save(self, slot: int) -> Snapshot: ...

    def restore(self, slot: int, snapshot: Snapshot) -> None: ...

    def copy(self, source: int, target: int) -> None:
        """Give an empty slot what another holds, without evaluating it."""
        ...

    def release(self, slot: int) -> None:
        """Forget the slot's prefix."""
        ...


@dataclass(frozen=True)
class Identity:
    """Whose state a file holds.

    models: the fingerprint of each role's file
    contexts: how each role's context caches
    """

    models: dict[str, str]
    contexts: dict[str, str]
