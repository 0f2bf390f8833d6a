"""RemoteContext: the model protocol over a context in a child.

It knows what each slot has cached without asking. When the child is lost, the evaluation in hand fails. One that was
lost in between is replaced by the next evaluation: that raises CacheLostError, and what was cached is evaluated again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ...errors import WorkerError
from ..model import CacheLostError, Output, Row, Snapshot
from .host import ContextFacts, Part, State


class ChildModel(Protocol):
    """The model in a child that a context belongs to (RemoteWeights)."""

    generation: int

    @property
    def is_lost(self) -> bool: ...
    def ask(self, number: int, method: str, arguments: tuple[Any, ...], stops: bool = True) -> Any: ...
    def revive(self) -> None: ...


class RemoteContext:
    """A context in a child: see Model, and llama.Context.

    runs_beside: not said of workers, which may be on this machine
    """

    runs_beside: bool = False

    def __init__(self, weights: ChildModel, number: int, facts: ContextFacts) -> None:
        self._weights, self._number, self._facts = weights, number, facts
        self.needs_marks, self.has_prefix_slot = facts.needs_marks, facts.has_prefix_slot
        self.cache_format, self.most_logits = facts.cache_format, facts.most_logits
        self.row_calls: list[int] = []
        self._generation = weights.generation
        self._calls_before, self._seconds_before = 0, 0.0  # of children that are lost
        self.n_calls, self.seconds = 0, 0.0
        self._cached = [0] * facts.n_sequences
        self._threads: int | None = None

    @property
    def n_slots(self) -> int:
        return self._facts.n_slots

    @property
    def n_ctx(self) -> int:
        return self._facts.n_ctx

    def cached(self, slot: int) -> int:
        return self._cached[slot]

    # ---------------------------------------------------------------- asking
    def _ask(self, method: str, *arguments: Any) -> Any:
        """The result of a method of the context; also where something is raised, the state is as the child has it."""
        try:
            result, state = self._weights.ask(self._number, method, arguments, stops=method != "save")
        except BaseException as error:
            if (state := getattr(error, "state", None)) is not None:
                self._take(state)
            raise
        self._take(state)
        return result

    def _take(self, state: State) -> None:
        self.row_calls = state.row_calls
        self.n_calls, self.seconds = self._calls_before + state.n_calls, self._seconds_before + state.seconds
        self._cached = state.cached

    @property
    def _is_gone(self) -> bool:
        """Whether the child that this context was in is lost."""
        return self._weights.is_lost or self._generation != self._weights.generation

    def _change(self, method: str, *arguments: Any) -> bool:
        """Change the cache; False where it is gone. That is not raised here, where answers end and slots are given
        back, but by the next evaluation."""
        if self._is_gone:
            return False
        try:
            self._ask(method, *arguments)
        except WorkerError:
            return False
        return True

    def _forget(self) -> None:
        """What was cached is gone."""
        self._cached = [0] * len(self._cached)
        self._calls_before, self._seconds_before = self.n_calls, self.seconds

    def _require_child(self) -> bool:
        """A child that can be asked: WorkerError where there can be none. Whether something was cached that is gone."""
        if not self._is_gone:
            return False
        had_cached = any(self._cached)
        self._forget()
        self._weights.revive()
        self._generation = self._weights.generation
        if self._threads is not None:
            self._ask("use_threads", self._threads)
        return had_cached

    # ---------------------------------------------------------------- the model protocol
    def use_threads(self, n: int) -> None:
        self._threads = n
        self._change("use_threads", n)

    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        self.row_calls = [0] * len(rows)
        if self._require_child():
            raise CacheLostError
        part = self._evaluated("evaluate", rows)
        yield from part.outputs
        while not part.is_last:
            part = self._evaluated("more")
            yield from part.outputs

    def _evaluated(self, method: str, *arguments: Any) -> Part:
        try:
            part = self._ask(method, *arguments)
        except BaseException:
            if self._is_gone:
                self._forget()
            raise
        assert isinstance(part, Part)
        return part

    def truncate(self, slot: int, n_tokens: int) -> int:
        if n_tokens < self._cached[slot] and not self._change("truncate", slot, n_tokens):
            self._cached[slot] = n_tokens
        return self._cached[slot]

    def mark(self, slot: int) -> None:
        if self.needs_marks:
            self._change("mark", slot)

    def save(self, slot: int) -> Snapshot:
        snapshot = self._ask("save", slot)
        assert isinstance(snapshot, Snapshot)
        return snapshot

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        self._require_child()
        self._ask("restore", slot, Snapshot(snapshot.n_tokens, bytes(snapshot.data), snapshot.top1))

    def copy(self, source: int, target: int) -> None:
        if not self._change("copy", source, target):
            self._cached[target] = self._cached[source]

    def release(self, slot: int) -> None:
        if self._cached[slot] and not self._change("release", slot):
            self._cached[slot] = 0

    def clear(self) -> None:
        if not self._change("clear"):
            self._cached = [0] * len(self._cached)

    def close(self) -> None:
        """It ends with its child."""
