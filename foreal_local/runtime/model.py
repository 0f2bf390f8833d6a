"""What the scheduler sees of a model: slots that hold a prefix each, and rows of tokens to evaluate.

Knows no llama.cpp. The real one is llama/context.py's; the tests have a fake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..errors import SequenceError
from ..method.vocabulary import Logits


class CacheLostError(Exception):
    """A model was loaded again, and nothing is cached any more: rows that went on from there have to begin anew."""


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
    """One slot's state.

    n_tokens: how many tokens it stands for
    data: the bytes that bring it back
    top1: the model's most likely token after them, where that is known
    """

    n_tokens: int
    data: bytes | memoryview
    top1: int | None = None


class Model(Protocol):
    """One model with a cache of `n_slots` prefixes of at most `n_ctx` tokens each.

    n_calls: evaluations so far, how often the library's decode was called
    row_calls: in how many of them each row of the last `evaluate` had a part, by the row's index
    seconds: how long these took
    has_prefix_slot: there is one more slot, n_slots, for a prefix that many sequences share
    runs_beside: it can evaluate while another model does, in another thread, without being in its way
    needs_marks: the cache cannot be truncated freely (recurrent, sliding window); it can return to where `mark` was
        called
    """

    n_calls: int
    row_calls: list[int]
    seconds: float
    has_prefix_slot: bool
    needs_marks: bool
    runs_beside: bool

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

    def clear(self) -> None:
        """Forget every slot, and overwrite what they held: NaN in a cell spreads to whoever shares the cache, even
        where that cell is masked."""
        ...


@dataclass(frozen=True)
class Identity:
    """Whose state a file holds.

    models: the fingerprint of each role's file
    contexts: how each role's context caches
    """

    models: dict[str, str]
    contexts: dict[str, str]
