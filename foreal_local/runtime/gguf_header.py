"""The header of one GGUF file: metadata and the tensor table, read in one pass.

The `gguf` package's reader builds an object per array element and takes seconds for a large vocabulary; this one
skips long arrays. Knows the format and what a file is that does not have it; not what the values mean (gguf_check.py)
and not that a model may be several files (gguf_file.py).
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ModelFileError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
TOKENS = "tokenizer.ggml.tokens"
MOST_LAYERS = 512  # llama.cpp's own limit
_LONGEST_KEPT_ARRAY = 1024  # per-layer values are kept, vocabularies are not
_MOST_DIMS = 4
_FOREIGN = {
    b"version https://git-lfs": "a pointer of Git LFS, not the model itself: get it with `git lfs pull`",
    b"<": "a web page: download the file itself",
    b"PK\x03\x04": "a zip archive (a PyTorch model, perhaps): convert it to GGUF",
    b"lmgg": "an older format of llama.cpp: convert the model again, or look for a newer file",
    b"tjgg": "an older format of llama.cpp: convert the model again, or look for a newer file",
}
"""What files begin with that people take for a model."""


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table.

    dims: its size in each dimension, the fastest first
    offset: bytes from where the file's weights begin
    kind: GGML's number for the type of its elements
    """

    dims: tuple[int, ...]
    offset: int = 0
    kind: int = 0

    @property
    def n_elements(self) -> int:
        return prod(self.dims)


_BYTES = frozenset(b"<0x%02X>" % byte for byte in range(256))


class ArrayOf(NamedTuple):
    """What a metadata array has. kind: GGUF's number for its items' type; n_distinct: different texts among the
    tokens, None for other arrays; has_bytes: whether each byte is among them, as SentencePiece spells it; begin: where
    its first item is in the file."""

    kind: int
    size: int
    n_distinct: int | None = None
    has_bytes: bool = False
    begin: int = 0


@dataclass(frozen=True)
class Header:
    """What stands before the weights.

    metadata: scalars, strings and short arrays by key; None for a long array
    tensors: by name, in the file's order
    n_bytes: the size of both in the file
    file_size: the whole file's, in bytes
    path: the file
    arrays: what each array of the metadata has
    """

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    n_bytes: int = 0
    file_size: int = 0
    path: Path = Path()
    arrays: dict[str, ArrayOf] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own, such as "block_count"."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def whole(self, key: str, default: int = 0) -> int:
        """A value of the architecture's own that is a whole number; ModelFileError where it is something else."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.broken(f"{self.architecture}.{key} is {shown(value)}, but must be a whole number")
        return value

    def per_layer(self, key: str, default: int = 0) -> list[int]:
        """A whole number of the architecture's own for each layer, where it is one for all or a list."""
        value, n_layers = self.get(key, default), self.n_layers
        if not isinstance(value, list):
            return [self.whole(key, default)] * n_layers
        if any(type(item) is not int or item < 0 for item in value):
            raise self.broken(f"{self.architecture}.{key} is {shown(value)}, but must be whole numbers")
        if len(value) != n_layers:
            raise self.broken(f"{self.architecture}.{key} has {len(value)} values for {n_layers} layers")
        return value

    @property
    def n_layers(self) -> int:
        n = self.whole("block_count")
        if n > MOST_LAYERS:
            raise self.broken(f"{self.architecture}.block_count is {n}, and llama.cpp takes at most {MOST_LAYERS}")
        return n

    def broken(self, reason: str) -> ModelFileError:
        """The error for a file whose header cannot be right."""
        return ModelFileError(f"{self.path} is damaged: {reason}; download or convert it again")

    def cut_off(self, n_bytes: int) -> ModelFileError:
        """The error for a file that ends before its tensors do, which need so many bytes."""
        text = f"{self.path} is cut off: it has {self.file_size:,} bytes, its tensors need {n_bytes:,}"
        return ModelFileError(f"{text}; download or copy it again")


def shown(value: object) -> str:
    """A value as an error shows it, whatever its length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------- reading
class _Cursor:
    """A place in the mapped file; reading past its end is an error."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0
        self.arrays: dict[str, ArrayOf] = {}

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        size = self.scalar("Q")
        self.skip(size)
        return self.data[self.at - size : self.at].decode("utf-8", "replace")

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise struct.error("past the end")

    def value(self, key: str) -> Any:
        kind = self.scalar("I")
        return self.array(key) if kind == ARRAY else self.item(kind)

    def item(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array("")
        if kind not in _SCALARS:
            raise struct.error(f"unknown value type {kind}")
        return self.scalar(_SCALARS[kind])

    def array(self, key: str) -> list[Any] | None:
        kind, size = self.scalar("I"), self.scalar("Q")
        self.arrays[key] = ArrayOf(kind, size, begin=self.at)
        if key == TOKENS and kind == STRING:
            self.arrays[key] = ArrayOf(kind, size, *self.count_distinct(size), begin=self.arrays[key].begin)
            return None
        if size <= _LONGEST_KEPT_ARRAY:
            return [self.item(kind) for _ in range(size)]
        if kind in _SCALARS:
            self.skip(size * struct.calcsize("<" + _SCALARS[kind]))
            return None
        if kind != STRING:
            raise struct.error("long array of arrays")
        unpack, at, data = struct.Struct("<Q").unpack_from, self.at, self.data
        for _ in range(size):
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.skip(0)
        return None

    def count_distinct(self, size: int) -> tuple[int, bool]:
        """Pass over so many texts; how many different ones they are, each empty one for itself, and whether each byte
        is among them."""
        unpack, at, data = struct.Struct("<Q").unpack_from, self.at, self.data
        seen, n_empty = set(), 0
        for _ in range(size):
            begin = at + 8
            at = begin + unpack(data, at)[0]
            seen.add(data[begin:at])
            n_empty += at == begin
        self.at = at
        self.skip(0)
        return len(seen) + max(0, n_empty - 1), seen >= _BYTES


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the file system as one of ours, which says what is wrong with this file."""
    try:
        yield
    except FileNotFoundError:
        raise ModelFileError(f"no such model file: {path}") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a directory: name the .gguf file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelFileError(f"cannot read {path}: {reason}") from None


def read_header(path: Path) -> Header:
    """The header of one file; ModelFileError where it has none. It is read again only if the file has changed."""
    with explained(path):
        stat = path.stat()
        return _read_header(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_header(path: Path, size: int, _time: int) -> Header:
    with open(path, "rb") as file:
        if size == 0:
            raise ModelFileError(f"{path} is empty: not a GGUF file; download or copy it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(path, _Cursor(data))


def _parse(path: Path, cursor: _Cursor) -> Header:
    size = len(cursor.data)
    _check_beginning(path, bytes(cursor.data[:32]))
    try:
        cursor.skip(8)
        n_tensors, n_values = cursor.scalar("Q"), cursor.scalar("Q")
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = cursor.string()
            if key in metadata:
                raise ModelFileError(f"{path} is damaged: its metadata has {shown(key)} twice; download it again")
            metadata[key] = cursor.value(key)
        tensors: dict[str, Tensor] = {}
        for _ in range(n_tensors):
            name = cursor.string()
            if name in tensors:
                raise ModelFileError(f"{path} is damaged: it has the tensor {shown(name)} twice; download it again")
            n_dims = cursor.scalar("I")
            if n_dims > _MOST_DIMS:
                raise struct.error(f"{n_dims} dimensions")
            dims = tuple(cursor.scalar("Q") for _ in range(n_dims))
            kind = cursor.scalar("I")
            tensors[name] = Tensor(dims, cursor.scalar("Q"), kind)
    except (struct.error, MemoryError, OverflowError, RecursionError, ValueError):
        raise ModelFileError(
            f"{path} is torn: its header does not fit into its {size} bytes; download or copy it again"
        ) from None
    return Header(metadata, tensors, cursor.at, size, path, cursor.arrays)


def _check_beginning(path: Path, begin: bytes) -> None:
    """ModelFileError unless the file begins as a GGUF file of a known version does."""
    if begin[:4] != b"GGUF":
        what = next((what for start, what in _FOREIGN.items() if begin.lstrip().startswith(start)), "")
        raise ModelFileError(f"{path} is not a GGUF file (it begins with {begin[:4]!r})" + (what and f" but {what}"))
    if len(begin) < 24:
        raise ModelFileError(f"{path} is torn: it has {len(begin)} bytes; download or copy it again")
    (version,) = struct.unpack_from("<I", begin, 4)
    (swapped,) = struct.unpack_from(">I", begin, 4)
    if swapped in (1, 2, 3):
        raise ModelFileError(
            f"{path} is a big-endian file, and this machine reads little-endian ones: "
            "get one for it, or convert it with gguf-convert-endian FILE little"
        )
    if version not in (2, 3):
        raise ModelFileError(f"{path} has GGUF version {version}; 2 and 3 can be read: convert it again")
