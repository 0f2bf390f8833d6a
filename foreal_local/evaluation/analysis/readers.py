"""A GGUF that reads written responses: contexts for as many at a time as there are slots, in lanes if it is small.

Knows llama.py's contexts and threads; judging.py says what is kept of the logits. Knows no prompts and no texts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager

from ...config import Runtime
from ...method.sequence import View
from ...runtime import llama
from ...runtime.hardware import plan_lanes, usable_cores
from ...runtime.lanes import side_by_side
from .judging import Opinions, opinions


def read(
    weights: llama.Weights,
    views: list[View],
    n_slots: int,
    runtime: Runtime,
    abort: llama.Abort,
    advance: Callable[[int], None],
) -> list[Opinions]:
    """The model's opinions along every view, n_slots views at a time. `advance` hears of positions, in any thread.

    Each lane is a thread of its own: Ctrl-C comes to the main one, which only waits, and then sets the abort.
    """
    n_ctx = max([2, *(len(view.ids) for view in views)])
    vocabulary = weights.vocabulary

    def piece(token: int) -> bytes | None:
        return None if vocabulary.is_end(token) else vocabulary.piece(token)

    def heard(n: int) -> None:
        if abort.requested:  # not every backend asks for it while it evaluates
            raise KeyboardInterrupt
        advance(n)

    with _contexts(weights, min(n_slots, len(views)), n_ctx, runtime, abort) as contexts:
        n_lanes = len(contexts)

        def lane(first: int) -> Generator[tuple[int, Opinions], None, None]:
            mine = range(first, len(views), n_lanes)
            yield from zip(mine, opinions(contexts[first], [views[i] for i in mine], heard, piece), strict=True)

        found = dict(side_by_side([lane(first) for first in range(n_lanes)], abort.set))
    return [found[i] for i in range(len(views))]


@contextmanager
def _contexts(
    weights: llama.Weights, n_slots: int, n_ctx: int, runtime: Runtime, abort: llama.Abort
) -> Iterator[list[llama.Context]]:
    """One for each lane, `n_slots` slots together, by the engine's rule for small models."""
    threads = runtime.threads or usable_cores()
    n_lanes = runtime.lanes or min(threads, plan_lanes(weights.n_bytes, threads, llama.supports_gpu_offload()))
    n_lanes = min(n_slots, n_lanes)
    with ExitStack() as stack:
        contexts = []
        for lane in range(n_lanes):
            n_here, threads_here = len(range(lane, n_slots, n_lanes)), max(1, threads // n_lanes)
            context = llama.open_context(weights, n_here, n_ctx, threads_here, runtime, abort)
            stack.callback(context.close)
            contexts.append(context)
        yield contexts
