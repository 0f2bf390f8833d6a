"""A GGUF model that reads written responses: as many at a time as there are slots, in several contexts if it is small.

Knows llama.cpp's contexts and threads; judging.py says what is kept of the logits. Knows no prompts and no texts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager

from ...config import Runtime
from ...runtime import llama
from ...runtime.hardware import plan_slots, usable_cores
from ...runtime.lanes import side_by_side
from .judging import Predictions, WrittenView, predict_along


def read(
    weights: llama.Weights,
    views: list[WrittenView],
    n_slots: int,
    runtime: Runtime,
    abort: llama.Abort,
    advance: Callable[[int], None],
) -> list[Predictions | None]:
    """The model's predictions along every view, n_slots views at a time; None where it gives no numbers.

    Each lane is a thread of its own; Ctrl-C reaches the main thread, which only waits, and then sets the abort.

    advance: is called with the number of positions that are done, in any thread
    """
    n_ctx = max([2, *(len(view.ids) for view in views)])
    vocabulary = weights.vocabulary

    def piece(token: int) -> bytes | None:
        return None if vocabulary.is_end(token) else vocabulary.piece(token)

    def advance_or_stop(n: int) -> None:
        if abort.requested:  # not every backend asks for it while it evaluates
            raise KeyboardInterrupt
        advance(n)

    with _contexts(weights, min(n_slots, len(views)), n_ctx, runtime, abort) as contexts:
        n_lanes = len(contexts)

        def lane(first: int) -> Generator[tuple[int, Predictions | None], None, None]:
            mine = range(first, len(views), n_lanes)
            predictions = predict_along(contexts[first], [views[i] for i in mine], advance_or_stop, piece)
            yield from zip(mine, predictions, strict=True)

        by_view = dict(side_by_side([lane(first) for first in range(n_lanes)], abort.set))
    return [by_view[i] for i in range(len(views))]


@contextmanager
def _contexts(
    weights: llama.Weights, n_slots: int, n_ctx: int, runtime: Runtime, abort: llama.Abort
) -> Iterator[list[llama.Context]]:
    """One for each lane, with n_slots slots in all; planned as the engine's lanes are."""
    threads = runtime.threads or usable_cores()
    slots = plan_slots(runtime, n_slots, threads, weights.n_bytes, llama.supports_gpu_offload())
    with ExitStack() as stack:
        contexts = []
        for n_here in slots:
            context = llama.open_context(weights, n_here, n_ctx, max(1, threads // len(slots)), runtime, abort)
            stack.callback(context.close)
            contexts.append(context)
        yield contexts
