"""Context: a model's KV cache and its evaluations, the model protocol over llama.cpp.

Knows pointers, batches and return codes, and translates each failure once. Knows nothing of sentences, roles or flows.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import numpy.typing as npt

from ...config import Runtime
from ...errors import EvaluationError, SequenceError
from ...method.vocabulary import Logits
from ..hardware import MOST_SINGLY, ContextPlan, padded_size, plan_context
from ..model import Output, Row, Snapshot
from .batch import Batch, Piece, split_rows
from .library import Abort, library, most_sequences, supports_gpu_offload
from .parameters import parameters
from .weights import Weights

_NO_ROOM, _ABORTED = 1, 2  # of llama_decode
_MOST_MARKS = 4  # of a slot
# Only what cannot be truncated, in the host's memory: on the device llama.cpp keeps a single state per slot, and ends
# the process where the cells of a memory are not in one piece.
_MARK_FLAGS = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

# llama_get_logits_ith with an address for a result: a pointer object for each token costs more.
_logits_address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
    ctypes.cast(llama_cpp.llama_get_logits_ith, ctypes.c_void_p).value or 0
)


class Mark(NamedTuple):
    """A position that a slot can return to.

    n_tokens: tokens cached at the position
    data: the part of the memory that cannot be truncated (recurrent state, window), as it was there
    """

    n_tokens: int
    data: npt.NDArray[np.uint8]


def open_context(
    weights: Weights,
    n_slots: int,
    n_ctx: int,
    threads: int,
    settings: Runtime,
    abort: Abort,
    *,
    prefix_slot: bool = False,
    separate_caches: bool = False,
) -> Context:
    """A context for n_slots sequences of at most n_ctx tokens each, planned for these weights and this machine.

    prefix_slot, separate_caches: see plan_context
    """
    plan = plan_context(
        settings,
        n_slots=n_slots,
        n_ctx=n_ctx,
        threads=threads,
        n_heads=weights.n_heads,
        head_size=weights.shape.width // max(1, weights.n_heads),
        gpu=supports_gpu_offload() or weights.has_workers,
        prefix_slot=prefix_slot,
        separate_caches=separate_caches,
        padding=weights.gains_by_padding and n_slots + prefix_slot < most_sequences(),
    )
    return Context(weights, plan, abort)


class Context:
    """The model protocol (model.py) over llama.cpp: one KV cache, whose slots hold a sequence each.

    The prefix slot, where there is one, gives its cells up as soon as the others need them. Evaluate while the abort
    is held. Close a context before its weights.

    cache_format: what a saved state must have in common with this context: element types, attention, version
    needs_marks: see Weights
    has_prefix_slot: see ContextPlan
    runs_beside: see Model
    n_calls, row_calls: calls of llama_decode, see Model
    seconds: time spent in them
    """

    def __init__(self, weights: Weights, plan: ContextPlan, abort: Abort) -> None:
        self._weights, self._plan = weights, plan
        self.needs_marks, self.has_prefix_slot = weights.needs_marks, plan.has_prefix_slot
        self.runs_beside = weights.on_gpu
        self._cached = [0] * plan.n_sequences
        self._n_newest = [0] * plan.n_sequences  # tokens of each slot in its last evaluation, where that was one graph
        self._marks: list[list[Mark]] = [[] for _ in range(plan.n_sequences)]
        self.n_calls, self.seconds = 0, 0.0
        self.row_calls: list[int] = []
        self._n_vocab = weights.vocabulary.n_tokens
        self._gpu = supports_gpu_offload() or weights.has_workers
        self._n_last = 0  # tokens of the last evaluation
        types, flash_attention = f"{plan.type_k} {plan.type_v}", plan.flash_attention
        self.cache_format = f"{types}, flash attention {flash_attention}, {llama_cpp.__version__}"
        with abort.held():
            context = llama_cpp.llama_init_from_model(weights.model, parameters(plan, abort))
        if not context:
            raise EvaluationError(
                f"no context of {plan.n_slots} x {plan.n_ctx} tokens for {weights.path.name}: "
                f"{library().take_reason()}; lower --ctx-size or --parallel"
            )
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch, self._views = Batch(plan.n_batch), dict[int, Logits]()

    @property
    def n_slots(self) -> int:
        return self._plan.n_slots

    @property
    def n_ctx(self) -> int:
        return self._plan.n_ctx

    @property
    def most_logits(self) -> int:
        """Bytes of the logits of one evaluation, where all get some that may."""
        return 4 * self._plan.n_outputs * self._n_vocab

    def cached(self, slot: int) -> int:
        return self._cached[slot]

    def use_threads(self, n: int) -> None:
        """Evaluate with n threads from now on, unless that would change bits of the logits.

        Flash attention splits a long context between the threads, so that its sums depend on their number.
        """
        if self._plan.flash_attention == "off":
            llama_cpp.llama_set_n_threads(self._context, n, n)

    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        for outputs in self.evaluate_parts(rows):
            yield from outputs

    def evaluate_parts(self, rows: list[Row]) -> Iterator[list[Output]]:
        """As evaluate, all outputs of a call of llama_decode together."""
        self.row_calls = [0] * len(rows)
        for pieces in self._split(rows):
            if self._decode(rows, pieces) or (self._give_up_prefix_slot(rows) and self._decode(rows, pieces)):
                yield self._outputs(rows, pieces)
                continue
            for piece in pieces:  # no room for all together: one by one, so that only what has no room fails
                if len(pieces) > 1 and self._decode(rows, [piece]):
                    yield self._outputs(rows, [piece])
                else:
                    n_tokens = piece.end - piece.begin
                    reason = f"no room in the KV cache for {n_tokens} more tokens: lower --parallel"
                    yield [Output(piece.row, 0, None, SequenceError(reason))]

    def _split(self, rows: list[Row]) -> list[list[Piece]]:
        """The pieces of one evaluation after another; where shapes matter, two or three tokens after single ones are
        evaluated singly, too."""
        size = len(rows[0].tokens)
        steady = self._weights.on_gpu and self._plan.has_padding_slot
        if steady and len(rows) == 1 and 1 < size <= MOST_SINGLY and self._n_last == 1:
            return [[Piece(0, i, i + 1)] for i in range(size)]
        return split_rows(rows, self._plan.n_batch, self._plan.n_outputs)

    def _pad(self) -> bool:
        """Fill the batch up where that costs no time. On a GPU all of it gets logits, so that llama.cpp's graph can
        stay; on a CPU each of them would take time."""
        batch, n_tokens, on_gpu = self._batch, self._batch.native.n_tokens, self._weights.on_gpu
        n_more = padded_size(n_tokens, on_gpu) - n_tokens if self._plan.has_padding_slot else 0
        if not n_more:
            return False
        filler = batch.native.token[0]  # one that is evaluated anyway: another's embedding may be damaged
        batch.add(self._plan.n_sequences - 1, [filler] * n_more, 0, 0 if on_gpu else n_more)
        if on_gpu:
            batch.want_all()
        return True

    def _give_up_prefix_slot(self, rows: list[Row]) -> bool:
        """Free the prefix slot's cells, unless it is being evaluated; whether there were any."""
        last = self._plan.n_slots
        if not self.has_prefix_slot or not self._cached[last] or rows[0].slot == last:
            return False
        self.release(last)
        return True

    def _decode(self, rows: list[Row], pieces: list[Piece]) -> bool:
        """One llama_decode of these pieces; False when the cache has no room for them."""
        batch, cached = self._batch, self._cached
        batch.clear()
        for index, begin, end in pieces:
            slot, tokens, n_outputs, _ = rows[index]
            self.row_calls[index] += 1
            batch.add(slot, tokens[begin:end], cached[slot], len(tokens) - n_outputs - begin)
        padded = self._pad()
        started = time.perf_counter()
        code = llama_cpp.llama_decode(self._context, batch.native)
        if self._gpu:  # it goes on computing after the call; else that time would count as reading logits
            llama_cpp.llama_synchronize(self._context)
        self.seconds += time.perf_counter() - started
        self.n_calls += 1
        self._n_last = batch.native.n_tokens
        if padded:
            llama_cpp.llama_memory_seq_rm(self._memory, self._plan.n_sequences - 1, -1, -1)
        if code == 0:
            n_tokens = batch.native.n_tokens
            for index, begin, end in pieces:
                cached[rows[index].slot] += end - begin
                self._n_newest[rows[index].slot] = end - begin if n_tokens <= self._plan.n_ubatch else 0
            return True
        self._fail(code, [rows[index].slot for index, _, _ in pieces])
        return False

    def _fail(self, code: int, slots: list[int]) -> None:
        """Raise the error that a return code of llama_decode means, unless it says that the cache has no room.

        An evaluation that was stopped may have left tokens in the cache, so each slot is truncated to what it held
        before (a recurrent memory may have to forget all).
        """
        if code == _NO_ROOM:
            return
        for slot in slots:
            self._n_newest[slot] = 0  # a recurrent memory may have gone back to a state that was never written
            self.truncate(slot, self._cached[slot])
        if code == _ABORTED:
            raise KeyboardInterrupt
        raise EvaluationError(f"llama_decode failed with code {code}: {library().take_reason()}")

    def _outputs(self, rows: list[Row], pieces: list[Piece]) -> list[Output]:
        outputs, at = [], 0  # index in the batch of the piece's first token
        for index, begin, end in pieces:
            row = rows[index]
            for token in range(max(begin, len(row.tokens) - row.n_outputs), end):
                outputs.append(Output(index, token, self._logits(at + token - begin)))
            at += end - begin
        return outputs

    def _logits(self, i: int) -> Logits:
        """The logits (n_vocab,) of token i of the batch: a view, valid until the next evaluation."""
        address = _logits_address(self._context, i)
        view = self._views.get(address)
        if view is None:  # llama.cpp uses the same few addresses again and again
            row = (ctypes.c_float * self._n_vocab).from_address(address)
            view = self._views[address] = np.frombuffer(memoryview(row), np.float32)
        return view

    def truncate(self, slot: int, n_tokens: int) -> int:
        """Remove the tokens after the first n_tokens. Where the memory cannot, return to the last mark that is not
        after that position; without one, forget all.

        Attention can remove any number of tokens, a recurrent memory only as many as Runtime.rollback keeps states
        for. A sliding window says that it can, although tokens that would be back in the window may be gone:
        llama_memory_seq_pos_min tells.
        """
        n_tokens = min(n_tokens, self._cached[slot])
        # A recurrent memory says that it removed more tokens than its last evaluation had, and has a wrong state then.
        n_removed, n_newest = self._cached[slot] - n_tokens, self._n_newest[slot]
        is_known = not (self.needs_marks and self._plan.n_rollback) or n_removed < n_newest
        self._n_newest[slot] = max(0, n_newest - n_removed)
        removed = bool(llama_cpp.llama_memory_seq_rm(self._memory, slot, n_tokens, -1)) and is_known
        if removed and n_tokens and self._weights.n_swa:
            oldest = llama_cpp.llama_memory_seq_pos_min(self._memory, slot)
            removed = 0 <= oldest <= max(0, n_tokens - self._weights.n_swa)
        marks = self._marks[slot]
        while marks and (marks[-1].n_tokens > n_tokens or not (removed or self._return_to(slot, marks[-1]))):
            marks.pop()
        if not removed and not marks:
            self.release(slot)
        else:
            self._cached[slot] = n_tokens if removed else marks[-1].n_tokens
        return self._cached[slot]

    def mark(self, slot: int) -> None:
        """Make it possible to truncate to this position. Costs nothing where any tokens can be removed."""
        n_tokens, marks = self._cached[slot], self._marks[slot]
        if not n_tokens or not self._weights.needs_marks or (marks and marks[-1].n_tokens == n_tokens):
            return
        marks.append(Mark(n_tokens, self._state(slot, _MARK_FLAGS)))
        del marks[:-_MOST_MARKS]

    def _return_to(self, slot: int, mark: Mark) -> bool:
        """Put a mark's data back and remove what was cached after it; whether llama.cpp could."""
        self._n_newest[slot] = 0
        data = _bytes_of(mark.data)
        read = llama_cpp.llama_state_seq_set_data_ext(self._context, data, mark.data.size, slot, _MARK_FLAGS)
        return read > 0 and bool(llama_cpp.llama_memory_seq_rm(self._memory, slot, mark.n_tokens, -1))

    def _state(self, slot: int, flags: int = 0) -> npt.NDArray[np.uint8]:
        """The slot's state as llama.cpp writes it."""
        size = llama_cpp.llama_state_seq_get_size_ext(self._context, slot, flags)
        data = np.empty(size, np.uint8)
        written = llama_cpp.llama_state_seq_get_data_ext(self._context, _bytes_of(data), size, slot, flags)
        if not written:
            raise EvaluationError(f"llama.cpp gives no state of slot {slot}: {library().take_reason()}")
        return data[:written]

    def save(self, slot: int) -> Snapshot:
        return Snapshot(self._cached[slot], self._state(slot).data)

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        self.release(slot)
        data = np.frombuffer(snapshot.data, np.uint8)
        read = llama_cpp.llama_state_seq_set_data(self._context, _bytes_of(data), data.size, slot)
        newest = llama_cpp.llama_memory_seq_pos_max(self._memory, slot)
        if read != data.size or newest != snapshot.n_tokens - 1:
            self.release(slot)
            raise SequenceError(f"llama.cpp refuses the saved state ({library().take_reason()})")
        self._cached[slot] = snapshot.n_tokens

    def copy(self, source: int, target: int) -> None:
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._cached[target] = self._cached[source]

    def release(self, slot: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        self._cached[slot] = self._n_newest[slot] = 0  # a state that is restored has none to go back to
        self._marks[slot].clear()

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._cached = [0] * len(self._cached)
        self._n_newest = [0] * len(self._n_newest)
        for marks in self._marks:
            marks.clear()

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None


def _bytes_of(data: npt.NDArray[np.uint8]) -> Any:
    return ctypes.cast(data.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
