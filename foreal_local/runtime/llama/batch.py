"""What one call of llama_decode gets: rows cut into pieces that fit, and the arrays that hold them."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import llama_cpp
import numpy as np

from ..model import Row


class Piece(NamedTuple):
    """A part of a row that is evaluated in one call.

    row: index of the row
    begin, end: its tokens from begin on, before end
    """

    row: int
    begin: int
    end: int


def split_rows(rows: list[Row], most_tokens: int, most_outputs: int) -> list[list[Piece]]:
    """Cut rows into the pieces of one evaluation after another, all of them in order.

    Each evaluation has at most most_tokens tokens, and at most most_outputs of them get logits.
    """
    n_tokens = n_outputs = 0
    pieces = []
    for index, row in enumerate(rows):
        size = len(row.tokens)
        pieces.append(Piece(index, 0, size))
        n_tokens += size
        n_outputs += row.n_outputs
    if n_tokens <= most_tokens and n_outputs <= most_outputs:
        return [pieces]
    evaluations = []
    n_tokens = n_outputs = 0
    pieces = []
    for index, row in enumerate(rows):
        begin, size = 0, len(row.tokens)
        first_output = size - row.n_outputs
        while begin < size:
            end = min(size, begin + most_tokens - n_tokens)
            end = min(end, max(begin, first_output) + most_outputs - n_outputs)
            if end > begin:
                pieces.append(Piece(index, begin, end))
                n_tokens += end - begin
                n_outputs += max(0, end - max(begin, first_output))
                begin = end
            if begin < size:
                evaluations.append(pieces)
                pieces, n_tokens, n_outputs = [], 0, 0
    if pieces:
        evaluations.append(pieces)
    return evaluations


class Batch:
    """A llama_batch of at most `size` tokens.

    tokens, positions, slots: of each token
    wanted: 1 where its logits are wanted, else 0
    native: the llama_batch, which points into the arrays
    """

    def __init__(self, size: int) -> None:
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._slots = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._n_slots = np.ones(size, np.int32)
        self.tokens, self.positions, self.slots, self.wanted = (
            memoryview(array)  # type: ignore[arg-type]  # setting single numbers is far cheaper than in numpy
            for array in (self._tokens, self._positions, self._slots, self._wanted)
        )
        self._slot_pointers = self._slots.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self.native = llama_cpp.llama_batch()
        for name, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._n_slots),
            ("seq_id", self._slot_pointers),
            ("logits", self._wanted),
        ):
            kind = dict(llama_cpp.llama_batch._fields_)[name]
            setattr(self.native, name, ctypes.cast(array.ctypes.data, kind))

    def clear(self) -> None:
        self.native.n_tokens = 0

    def want_all(self) -> None:
        """Logits are wanted of all tokens."""
        self._wanted[: self.native.n_tokens] = 1

    def add(self, slot: int, tokens: list[int], position: int, first_wanted: int) -> None:
        """Append tokens of a slot.

        position: of the first of them; the others follow
        first_wanted: index of the first token whose logits are wanted; all after it give theirs, too
        """
        begin = self.native.n_tokens
        end = begin + len(tokens)
        self.native.n_tokens = end
        if len(tokens) == 1:  # a decode step: scalars are many times cheaper than slices
            self.tokens[begin], self.positions[begin], self.slots[begin] = tokens[0], position, slot
            self.wanted[begin] = first_wanted <= 0
            return
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = np.arange(position, position + len(tokens))
        self._slots[begin:end] = slot
        self._wanted[begin:end] = 0
        self._wanted[begin + max(0, first_wanted) : end] = 1
