"""The header of a GGUF file: metadata and the tensor table, read in one pass.

The `gguf` package's reader builds an object per array element and takes seconds for a large vocabulary;
this one skips long arrays. It also recognises an empty, foreign or torn file before llama.cpp sees it.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import ModelFileError
from ..method.ledger import Shape

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SAMPLE = 64  # bytes of a tensor's beginning, middle and end, for a fingerprint
_LONGEST_KEPT_ARRAY = 1024  # per-layer values are kept, vocabularies are not


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


@dataclass(frozen=True)
class Header:
    """What stands before the weights.

    metadata: scalars, strings and short arrays by key; None for a long array
    tensors: by name
    n_bytes: the size of both in the file
    """

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    n_bytes: int = 0

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own, such as "block_count"."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


class _Cursor:
    """A place in the mapped file; reading past its end is an error."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

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

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise struct.error(f"unknown value type {kind}")
        return self.scalar(_SCALARS[kind])

    def array(self) -> list[Any] | None:
        kind, size = self.scalar("I"), self.scalar("Q")
        if size <= _LONGEST_KEPT_ARRAY:
            return [self.value(kind) for _ in range(size)]
        if kind in _SCALARS:
            self.skip(size * struct.calcsize("<" + _SCALARS[kind]))
            return None
        if kind != _STRING:
            raise struct.error("long array of arrays")
        unpack, at, data = struct.Struct("<Q").unpack_from, self.at, self.data
        for _ in range(size):
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.skip(0)
        return None


def read_header(path: Path) -> Header:
    """The header of one file; ModelFileError where it has none. It is read again only if the file has changed."""
    try:
        stat = path.stat()
        return _read_header(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise ModelFileError(f"no such model file: {path}") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a directory: name the .gguf file in it") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from None


@functools.lru_cache(maxsize=16)
def _read_header(path: Path, size: int, _time: int) -> Header:
    if size == 0:
        raise ModelFileError(f"{path} is empty: not a GGUF file; download or copy it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _parse(path, _Cursor(data))


def _parse(path: Path, cursor: _Cursor) -> Header:
    if cursor.data[:4] != b"GGUF":
        raise ModelFileError(f"{path} is not a GGUF file (it begins with {bytes(cursor.data[:4])!r})")
    try:
        cursor.skip(4)
        version, n_tensors, n_values = cursor.scalar("I"), cursor.scalar("Q"), cursor.scalar("Q")
        if version not in (2, 3):
            raise ModelFileError(f"{path} has GGUF version {version}; 2 and 3 can be read: convert it again")
        metadata = {}
        for _ in range(n_values):
            key = cursor.string()
            metadata[key] = cursor.value(cursor.scalar("I"))
        tensors = {}
        for _ in range(n_tensors):
            name = cursor.string()
            n_dims = cursor.scalar("I")
            dims = tuple(cursor.scalar("Q") for _ in range(n_dims))
            kind = cursor.scalar("I")
            tensors[name] = Tensor(dims, cursor.scalar("Q"), kind)
    except (struct.error, MemoryError, OverflowError, RecursionError):
        size = len(cursor.data)
        raise ModelFileError(
            f"{path} is torn: its header does not fit into its {size} bytes; download or copy it again"
        ) from None
    return Header(metadata, tensors, cursor.at)


def split_parts(path: Path) -> list[Path]:
    """All files of a split model (name-00001-of-00003.gguf), or the one file."""
    match = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.gguf", path.name)
    if not match:
        return [path]
    return [path.with_name(f"{match[1]}-{i:05d}-of-{match[2]}.gguf") for i in range(1, int(match[2]) + 1)]


def fingerprint(path: Path) -> str:
    """What differs between any two models: a digest of the metadata, the tensor table and samples of the weights."""
    stats = [(part, part.stat()) for part in split_parts(path)]
    return _fingerprint(tuple((part, stat.st_size, stat.st_mtime_ns) for part, stat in stats))


@functools.lru_cache(maxsize=16)
def _fingerprint(parts: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part, size, _ in parts:
        header = read_header(part)
        with open(part, "rb") as file:
            digest.update(file.read(header.n_bytes))
            # Models of one shape that were trained differently have the same header.
            starts = sorted({header.n_bytes + tensor.offset for tensor in header.tensors.values()})
            for begin, end in zip(starts, [*starts[1:], size], strict=True):
                for at in (begin, (begin + end) // 2, end - _SAMPLE):
                    file.seek(max(begin, min(at, size)))
                    digest.update(file.read(_SAMPLE))
        digest.update(str(size).encode())
    return digest.hexdigest()


def read_shape(path: Path) -> Shape:
    """What the FLOPs of the model depend on, computed from its tensors."""
    headers = [read_header(part) for part in split_parts(path)]
    first = headers[0]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    n_experts = first.get("expert_count", 0)
    used = first.get("expert_used_count", n_experts) / n_experts if n_experts else 1.0
    n_weights = 0.0
    for name, tensor in tensors.items():
        if "token_embd" in name and name.endswith(".weight") and "norm" not in name:
            is_head = name == "token_embd.weight" and "output.weight" not in tensors
            n_weights += tensor.n_elements if is_head else 0
        else:
            n_weights += tensor.n_elements * (used if "_exps" in name else 1.0)
    heads = _per_layer(first.get("attention.head_count", 0), first.get("block_count", 0))
    kv_heads = _per_layer(first.get("attention.head_count_kv", heads), len(heads))
    if not len(heads) == len(kv_heads) == first.get("block_count", 0):
        raise ModelFileError(f"{path} names {len(heads)} and {len(kv_heads)} layers' heads, not one for each layer")
    attending = [n for n, n_kv in zip(heads, kv_heads, strict=True) if n and n_kv]
    size = first.get("attention.key_length") or (first.get("embedding_length", 0) // max(attending, default=1))
    return Shape(round(n_weights), len(attending), max(attending, default=0) * size)


_PLAIN = (0, 1, 28, 30)  # GGML's F32, F16, F64 and BF16


def is_quantised(path: Path) -> bool:
    """Whether some of the weights are in blocks with a scale."""
    return any(tensor.kind not in _PLAIN for part in split_parts(path) for tensor in read_header(part).tensors.values())


def n_ctx_train(path: Path) -> int:
    """Tokens of context that the model was trained for."""
    return int(read_header(path).get("context_length") or 512)


def cache_bytes_per_token(path: Path, bytes_per_element: float = 2.0) -> int:
    """Bytes of the KV cache for one token of one sequence (f16: 2 per element); attention layers only."""
    header = read_header(path)
    heads = _per_layer(header.get("attention.head_count", 0), header.get("block_count", 0))
    kv_heads = _per_layer(header.get("attention.head_count_kv", heads), len(heads))
    size = header.get("embedding_length", 0) // max([n for n in heads if n], default=1)
    per_head = int(header.get("attention.key_length", size)) + int(header.get("attention.value_length", size))
    return round(sum(kv_heads) * per_head * bytes_per_element)


def _per_layer(value: int | list[int] | None, n_layers: int) -> list[int]:
    if isinstance(value, list):
        return value
    return [value or 0] * n_layers
