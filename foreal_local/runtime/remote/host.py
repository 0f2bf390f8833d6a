"""What a child does: a model whose layers lie on workers, its contexts, and what is asked of these.

LlamaHost has llama.cpp's; the rest knows the model protocol alone, and tests have fakes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config import Runtime
from ..model import Model, Output, Row, Snapshot
from .sockets import watch_connections


class Facts(NamedTuple):
    """What the parent wants to know of the model: see llama.Weights."""

    n_heads: int
    n_ctx_train: int
    n_swa: int
    needs_marks: bool
    avoids_amx: bool
    description: str
    template: str


class ContextFacts(NamedTuple):
    """What the parent wants to know of a context: see llama.Context."""

    n_slots: int
    n_ctx: int
    n_sequences: int
    has_prefix_slot: bool
    needs_marks: bool
    cache_format: str
    most_logits: int


class State(NamedTuple):
    """What a context counts, and what each of its slots has cached."""

    n_calls: int
    row_calls: list[int]
    seconds: float
    cached: list[int]


class Part(NamedTuple):
    """Some outputs of an evaluation; `is_last`: there are no more."""

    outputs: list[Output]
    is_last: bool


class HostedModel:
    """A context in a child. Each answer has its state beside the result."""

    def __init__(self, model: Model, n_sequences: int) -> None:
        self._model, self._n_sequences = model, n_sequences
        self._parts: Iterator[list[Output]] = iter(())
        self._n_wanted = 0

    def ask(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, State]:
        """Carry out a method, of this class or of the model; what it raises has the state as `state`."""
        try:
            own = getattr(self, f"_{method}", None)
            return (own or getattr(self._model, method))(*arguments), self._state()
        except BaseException as error:
            error.state = self._state()  # type: ignore[attr-defined]
            raise

    def _state(self) -> State:
        model = self._model
        cached = [model.cached(slot) for slot in range(self._n_sequences)]
        return State(model.n_calls, list(model.row_calls), model.seconds, cached)

    def _evaluate(self, rows: list[Row]) -> Part:
        """The first part; the model goes on when the next one is asked for, as it does where it is not in a child."""
        self._n_wanted = sum(row.n_outputs for row in rows)
        self._parts = _parts(self._model, rows)
        return self._more()

    def _more(self) -> Part:
        outputs = next(self._parts, None)
        if outputs is None:
            return Part([], True)
        self._n_wanted -= sum(output.logits is not None for output in outputs)
        if self._n_wanted == 0:
            next(self._parts, None)  # there is none: what ends an evaluation is done
        return Part(outputs, self._n_wanted == 0)

    def _save(self, slot: int) -> Snapshot:
        snapshot = self._model.save(slot)
        return Snapshot(snapshot.n_tokens, bytes(snapshot.data), snapshot.top1)


def _parts(model: Model, rows: list[Row]) -> Iterator[list[Output]]:
    """Outputs that may be sent together, with logits that stay."""
    evaluate_parts = getattr(model, "evaluate_parts", None)
    parts = evaluate_parts(rows) if evaluate_parts else ([output] for output in model.evaluate(rows))
    for outputs in parts:
        for output in outputs:
            output.logits = None if output.logits is None else np.array(output.logits)
        yield outputs


class LlamaHost:
    """The methods that a parent may ask for."""

    def __init__(self) -> None:
        from .. import llama

        self._llama, self._abort = llama, llama.Abort()
        self._weights: llama.Weights | None = None
        self._contexts: list[llama.Context] = []
        self._hosted: list[HostedModel] = []
        self.on_progress: Callable[[float], None] = lambda fraction: None
        watch_connections()

    def stop(self) -> None:
        self._abort.set()

    def begin(self) -> None:
        self._abort.clear()

    def load(self, path: str, gpu_layers: int, verbose: bool, endpoints: list[str]) -> Facts:
        """Load a model whose layers lie on these workers."""
        weights = self._weights = self._llama.Weights(
            Path(path), gpu_layers, verbose, lambda done: self.on_progress(done), self._abort, endpoints=endpoints
        )
        return Facts(
            weights.n_heads,
            weights.n_ctx_train,
            weights.n_swa,
            weights.needs_marks,
            weights.avoids_amx,
            weights.describe(),
            weights.template.source if weights.template else "",
        )

    def open_context(
        self, n_slots: int, n_ctx: int, threads: int, settings: Runtime, prefix_slot: bool, separate_caches: bool
    ) -> ContextFacts:
        """One more context; the first one's number is 0."""
        assert self._weights
        context = self._llama.open_context(
            self._weights,
            n_slots,
            n_ctx,
            threads,
            settings,
            self._abort,
            prefix_slot=prefix_slot,
            separate_caches=separate_caches,
        )
        n_sequences = n_slots + context.has_prefix_slot
        self._contexts.append(context)
        self._hosted.append(HostedModel(context, n_sequences))
        return ContextFacts(
            n_slots,
            n_ctx,
            n_sequences,
            context.has_prefix_slot,
            context.needs_marks,
            context.cache_format,
            context.most_logits,
        )

    def of_context(self, number: int, method: str, arguments: tuple[Any, ...]) -> tuple[Any, State]:
        """What a context is asked for."""
        return self._hosted[number].ask(method, arguments)
