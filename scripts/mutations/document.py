"""A GGUF file taken apart, so that each part can be broken alone, and put together again.

Knows the format; writes whatever it is told to, however wrong. Arrays of a vocabulary are lists like any other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
ALIGNMENT = 32


@dataclass(frozen=True)
class Value:
    """A metadata value. of: the type of an array's items; data: a number, bytes of a string, a list."""

    kind: int
    data: Any
    of: int = STRING

    def write(self) -> bytes:
        if self.kind != ARRAY:
            return _packed(self.kind, self.data)
        return struct.pack("<IQ", self.of, len(self.data)) + b"".join(_packed(self.of, item) for item in self.data)


@dataclass(frozen=True)
class Row:
    """A row of the tensor table."""

    name: bytes
    dims: tuple[int, ...]
    kind: int
    offset: int

    def write(self) -> bytes:
        dims = struct.pack(f"<I{len(self.dims)}Q", len(self.dims), *self.dims)
        return _packed(STRING, self.name) + dims + struct.pack("<IQ", self.kind & 0xFFFFFFFF, self.offset)


@dataclass(frozen=True)
class Document:
    """A whole file. n_pairs, n_rows: the counts in its header where they are not the true ones."""

    pairs: dict[str, Value]
    rows: tuple[Row, ...]
    weights: bytes
    version: int = 3
    n_pairs: int | None = None
    n_rows: int | None = None

    @classmethod
    def read(cls, data: bytes) -> Document:
        cursor = _Cursor(data)
        _magic, version, n_rows, n_pairs = cursor.take("4sIQQ")
        pairs = {}
        for _ in range(n_pairs):
            key = cursor.value(STRING).decode()
            (kind,) = cursor.take("I")
            pairs[key] = cursor.pair(kind)
        rows = []
        for _ in range(n_rows):
            name = cursor.value(STRING)
            (n_dims,) = cursor.take("I")
            rows.append(Row(name, cursor.take(f"{n_dims}Q"), *cursor.take("IQ")))
        return cls(pairs, tuple(rows), data[_padded(cursor.at) :], version)

    def head(self) -> bytes:
        n_rows = len(self.rows) if self.n_rows is None else self.n_rows
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        return b"GGUF" + struct.pack("<IQQ", self.version, n_rows, n_pairs)

    def metadata(self) -> bytes:
        return b"".join(
            _packed(STRING, key.encode()) + struct.pack("<I", value.kind) + value.write()
            for key, value in self.pairs.items()
        )

    def table(self) -> bytes:
        return b"".join(row.write() for row in self.rows)

    def write(self) -> bytes:
        header = self.head() + self.metadata() + self.table()
        return header + bytes(_padded(len(header)) - len(header)) + self.weights

    # ---------------------------------------------------------------- with one thing changed
    def having(self, key: str, value: Value) -> Document:
        return replace(self, pairs=self.pairs | {key: value})

    def lacking(self, key: str) -> Document:
        return replace(self, pairs={other: value for other, value in self.pairs.items() if other != key})

    def with_row(self, i: int, **changes: Any) -> Document:
        return replace(self, rows=(*self.rows[:i], replace(self.rows[i], **changes), *self.rows[i + 1 :]))

    def without_row(self, i: int) -> Document:
        """Without a tensor and its weights: those after it move up, so that the rest of the file is sound."""
        end = self.rows[i + 1].offset if i + 1 < len(self.rows) else len(self.weights)
        begin, moved = self.rows[i].offset, end - self.rows[i].offset
        later = (replace(row, offset=row.offset - moved) for row in self.rows[i + 1 :])
        return replace(self, rows=(*self.rows[:i], *later), weights=self.weights[:begin] + self.weights[end:])


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, codes: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + codes, self.data, self.at)
        self.at += struct.calcsize("<" + codes)
        return values

    def value(self, kind: int) -> Any:
        if kind != STRING:
            return self.take(CODES[kind])[0]
        (size,) = self.take("Q")
        self.at += size
        return self.data[self.at - size : self.at]

    def pair(self, kind: int) -> Value:
        if kind != ARRAY:
            return Value(kind, self.value(kind))
        of, size = self.take("IQ")
        return Value(ARRAY, [self.value(of) for _ in range(size)], of)


def _padded(at: int) -> int:
    return (at + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _packed(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return struct.pack("<Q", len(value)) + value
    return struct.pack("<" + CODES[kind], value)
