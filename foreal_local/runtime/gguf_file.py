"""A model's file, or all its parts: looked at before llama.cpp opens them, and what is known of the model from them.

The one place that every command, and Engine, asks about a model's file. Says in one line what is wrong with it: a part
that is missing, a name that is no part's, a header that cannot be right. Does not know llama.cpp.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError
from ..method.ledger import Shape
from .gguf_check import PLAIN, check, check_purpose, check_table, is_usual
from .gguf_header import Header, Tensor, explained, read_header

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_SAMPLE = 64  # bytes of a tensor's beginning, middle and end, for a fingerprint
_MOST_NAMED = 5  # missing parts that an error names
Stamp = tuple[tuple[Path, int, int], ...]
"""Each part with its size and the time of its last change: what a file is recognised by."""


@dataclass(frozen=True)
class ModelFile:
    """A model on disk whose headers can be right.

    parts: its files, the first one first
    headers: of each part
    """

    parts: tuple[Path, ...]
    headers: tuple[Header, ...]

    @property
    def first(self) -> Header:
        return self.headers[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: tensor for header in self.headers for name, tensor in header.tensors.items()}

    @property
    def n_bytes(self) -> int:
        return sum(header.file_size for header in self.headers)

    @property
    def is_usual(self) -> bool:
        """See gguf_check.is_usual."""
        whole = self.first if len(self.headers) == 1 else _joined(self.headers)
        return is_usual(whole)


def model_file(path: Path) -> ModelFile:
    """The model that a file, or any part of a split one, belongs to; ModelFileError where it cannot be loaded.

    It is looked at again only if a part has changed.
    """
    return _model_file(stamp_of(path))


def stamp_of(path: Path) -> Stamp:
    """All parts of a model as they are now; ModelFileError where one is missing."""
    parts = split_parts(path)
    with explained(path):
        stats = [(part, part.stat()) for part in parts]
        return tuple((part, stat.st_size, stat.st_mtime_ns) for part, stat in stats)


@functools.lru_cache(maxsize=16)
def _model_file(stamp: Stamp) -> ModelFile:
    parts = tuple(part for part, _, _ in stamp)
    headers = tuple(map(read_header, parts))
    for number, header in enumerate(headers):
        _check_split(header, number, len(parts))
        check_table(header)
    check_purpose(headers[0])
    if not any(header.tensors for header in headers):
        raise headers[0].broken("it has no tensors")
    check(headers[0] if len(headers) == 1 else _joined(headers))
    return ModelFile(parts, headers)


def _joined(headers: tuple[Header, ...]) -> Header:
    """One header for a whole split model: the first one's metadata, all tensors."""
    first = headers[0]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    return Header(first.metadata, tensors, first.n_bytes, first.file_size, first.path, first.arrays)


# ---------------------------------------------------------------- split models
def split_parts(path: Path) -> list[Path]:
    """All files of a split model (name-00001-of-00003.gguf), whichever is named, or the one file.

    ModelFileError where parts are missing.
    """
    match = _PART.fullmatch(path.name)
    if not match or not 1 <= int(match[2]) <= int(match[3]):
        return [path]
    parts = [path.with_name(f"{match[1]}-{i:05d}-of-{match[3]}.gguf") for i in range(1, int(match[3]) + 1)]
    with explained(path):
        missing = [part.name for part in parts if not part.exists()]
    if len(missing) == len(parts):
        raise ModelFileError(f"no such model file: {path}")
    if missing:
        names = ", ".join(missing[:_MOST_NAMED]) + (" and others" if len(missing) > _MOST_NAMED else "")
        verb = "is" if len(missing) == 1 else "are"
        raise ModelFileError(
            f"{len(missing)} of the {len(parts)} parts of {path} {verb} missing: {names}; download them into its folder"
        )
    return parts


def _check_split(header: Header, number: int, n_parts: int) -> None:
    """ModelFileError where the header is another part's than the file's name says.

    number: of the part, from 0
    """
    count, own = (header.metadata.get(f"split.{name}") for name in ("count", "no"))
    if not isinstance(count, int) or count <= 1:
        if n_parts > 1:
            raise ModelFileError(
                f"{header.path} is a whole model, but is named like one of {n_parts} parts: give it another name"
            )
        return
    what = f"part {own + 1 if isinstance(own, int) else '?'} of a model split into {count} files"
    if n_parts == 1:
        raise ModelFileError(
            f"{header.path} is {what}, but its name is none of a part: parts cannot be renamed or joined by cat; "
            f"name them NAME-00001-of-{count:05d}.gguf and so on, or join them with llama-gguf-split --merge"
        )
    if (count, own) != (n_parts, number):
        raise ModelFileError(
            f"{header.path} is {what}, and not part {number + 1} of {n_parts}, as its name says: "
            "give the parts the names they were downloaded with"
        )


# ---------------------------------------------------------------- what is known from the headers
def fingerprint(path: Path) -> str:
    """What differs between any two models: a digest of the metadata, the tensor table and samples of the weights."""
    model_file(path)
    return _fingerprint(stamp_of(path))


@functools.lru_cache(maxsize=16)
def _fingerprint(stamp: Stamp) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part, size, _ in stamp:
        header = read_header(part)
        with explained(part), open(part, "rb") as file:
            digest.update(file.read(header.n_bytes))
            # Models of one shape that were trained differently have the same header.
            starts = sorted({header.n_bytes + tensor.offset for tensor in header.tensors.values()})
            for begin, end in zip(starts, [*starts[1:], size][: len(starts)], strict=True):
                for at in (begin, (begin + end) // 2, end - _SAMPLE):
                    file.seek(max(begin, min(at, size)))
                    digest.update(file.read(_SAMPLE))
        digest.update(str(size).encode())
    return digest.hexdigest()


def read_shape(path: Path) -> Shape:
    """What the FLOPs of the model depend on, computed from its tensors."""
    model = model_file(path)
    first, tensors = model.first, model.tensors
    n_experts = first.whole("expert_count")
    used = max(first.per_layer("expert_used_count", n_experts), default=0) / n_experts if n_experts else 1.0
    n_weights = 0.0
    for name, tensor in tensors.items():
        if "token_embd" in name and name.endswith(".weight") and "norm" not in name:
            is_head = name == "token_embd.weight" and "output.weight" not in tensors
            n_weights += tensor.n_elements if is_head else 0
        else:
            n_weights += tensor.n_elements * (used if "_exps" in name else 1.0)
    heads, kv_heads = _heads(first)
    attending = [n for n, n_kv in zip(heads, kv_heads, strict=True) if n and n_kv]
    size = first.whole("attention.key_length") or (first.whole("embedding_length") // max(attending, default=1))
    return Shape(round(n_weights), len(attending), max(attending, default=0) * size)


def _heads(header: Header) -> tuple[list[int], list[int]]:
    """Attention heads and KV heads of each layer."""
    heads = header.per_layer("attention.head_count")
    has_kv = header.get("attention.head_count_kv") is not None
    return heads, header.per_layer("attention.head_count_kv") if has_kv else heads


def is_quantised(path: Path) -> bool:
    """Whether some of the weights are in blocks with a scale."""
    return any(tensor.kind not in PLAIN for tensor in model_file(path).tensors.values())


def asks_for_time(path: Path) -> bool:
    """Whether the chat template writes the time into prompts."""
    return "strftime_now" in str(read_header(path).metadata.get("tokenizer.chat_template", ""))


def n_ctx_train(path: Path) -> int:
    """Tokens of context that the model was trained for."""
    return model_file(path).first.whole("context_length") or 512


def cache_bytes_per_token(path: Path, bytes_per_element: float = 2.0) -> int:
    """Bytes of the KV cache for one token of one sequence (f16: 2 per element); attention layers only."""
    header = model_file(path).first
    heads, kv_heads = _heads(header)
    size = header.whole("embedding_length") // max([n for n in heads if n], default=1)
    per_head = header.whole("attention.key_length", size) + header.whole("attention.value_length", size)
    return round(sum(kv_heads) * per_head * bytes_per_element)
