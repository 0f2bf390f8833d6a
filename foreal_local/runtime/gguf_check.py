"""Whether what a GGUF header says can be true, before llama.cpp believes it: it ends the process over some of it.

`check` refuses what cannot be right, with the reason. `is_usual` tells headers like those of the models in common use,
where every number was looked at, from the others: a model with another header is loaded by another process first
(llama/trial.py), because nobody can list all that llama.cpp's many architectures trip over. Knows no weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from math import prod

from ..errors import ModelFileError
from .gguf_header import STRING, TOKENS, ArrayOf, Header, Tensor, shown

PLAIN = (0, 1, 28, 30)  # GGML's F32, F16, F64 and BF16
_F32 = 0
# Elements of a block, and its bytes, by GGML's number of the type.
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)}
_BLOCKS |= {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)}
_BLOCKS |= {16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)}
_BLOCKS |= {23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)}
_BLOCKS |= {34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)}
_NO_MATRIX = (9, 15, 24, 25, 26, 27, 28)  # types of other purposes than weights: nothing multiplies them
_MATRIX = re.compile(r"(?:token_embd|output|.*\.(?:attn_(?:q|k|v|output)|ffn_(?:up|down|gate)))\.weight")
_KERNEL = re.compile(r"\.(?:shortconv\.conv|ssm_(?:conv1d|a|d))(?:\.|$)")
_MOST_EXPERTS = 1024  # llama.cpp's own limit
_I32, _F32_VALUE = 5, 6  # GGUF's numbers of types of values


def check(header: Header) -> None:
    """ModelFileError, with the reason, where the header cannot be right."""
    for problem in (*_wrong_numbers(header), *_wrong_experts(header), *_wrong_tokens(header), *_wrong_types(header)):
        raise header.broken(problem)


_OTHER_TYPES = {
    "adapter": "a LoRA adapter and no model: merge it into its model, and name that",
    "mmproj": "the part of a model that reads images (mmproj): name the model beside it",
    "imatrix": "an importance matrix for quantising: name the model beside it",
}
_ENCODERS = (
    "bert modern-bert neo-bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 eurobert gemma-embedding "
    "llama-embed t5encoder"
)
_EMBEDS = "a model for embeddings, which writes no text: name one that does"
_RANKS = "a model that ranks texts, and writes none: name one that does"
_FILLS_IN = "a model that does not write its text from left to right, token by token: name one that does"
_OTHER_ARCHITECTURES = dict.fromkeys(_ENCODERS.split(), _EMBEDS)
_OTHER_ARCHITECTURES |= {"clip": _OTHER_TYPES["mmproj"], "t5": _FILLS_IN}
_OTHER_ARCHITECTURES |= dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), _FILLS_IN)
_POOLED = {1: _EMBEDS, 2: _EMBEDS, 3: _EMBEDS, 4: _RANKS}
"""By llama.cpp's number of the way in which a model makes one vector of a text; models that write have none, or 0."""


def check_purpose(header: Header) -> None:
    """ModelFileError for files of models that write no text by themselves."""
    type_, architecture = header.metadata.get("general.type"), header.architecture
    other = _OTHER_TYPES.get(type_ if isinstance(type_, str) else "") or _OTHER_ARCHITECTURES.get(architecture)
    if not other:
        other = _POOLED.get(header.whole("pooling_type"))
    if not other and header.get("attention.causal") is False:
        other = _EMBEDS
    if other:
        raise ModelFileError(f"{header.path} is {other}")
    if has_tokenizer(header) and not header.tensors and header.metadata.get("split.count", 1) == 1:
        raise ModelFileError(f"{header.path} is a vocabulary without a model: it has no tensors")


def has_tokenizer(header: Header) -> bool:
    return "tokenizer.ggml.model" in header.metadata


def check_table(header: Header) -> None:
    """ModelFileError where the tensor table and the file's size do not fit each other."""
    alignment = header.metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise header.broken(f"general.alignment is {shown(alignment)}, but must be a power of 2")
    begin, at = _padded(header.n_bytes, alignment), 0
    for name, tensor in header.tensors.items():
        if tensor.offset != at:
            raise header.broken(f"tensor {shown(name)} begins at byte {tensor.offset}, where {at} is expected")
        size = size_of(tensor)
        if size is None:
            return  # a type that came later: llama.cpp knows how long it is, or refuses it
        if begin + at + size > header.file_size:
            raise header.cut_off(begin + _least_size(header, alignment))
        at += _padded(size, alignment)


def _least_size(header: Header, alignment: int) -> int:
    """Bytes of weights that the table needs, as far as its types are known."""
    return sum(_padded(size_of(tensor) or 0, alignment) for tensor in header.tensors.values())


def size_of(tensor: Tensor) -> int | None:
    """Bytes of a tensor's elements; None for a type that came later."""
    if tensor.kind not in _BLOCKS:
        return None
    n_elements, n_bytes = _BLOCKS[tensor.kind]
    return prod(tensor.dims) // n_elements * n_bytes


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


# ---------------------------------------------------------------- what cannot be right
def _wrong_numbers(header: Header) -> Iterator[str]:
    own = {key: value for key, value in header.metadata.items() if key.startswith(header.architecture + ".")}
    for key, value in own.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            yield f"{key} is {shown(value)}"
        elif "epsilon" in key and any(isinstance(number, float) and not 0 <= number < 1 for number in numbers):
            yield f"{key} is {shown(value)}, but must be between 0 and 1"
    for name, least in (("rope.freq_base", 1e-30), ("rope.scaling.factor", 0.0)):
        number = header.get(name)
        if isinstance(number, float) and number < least:
            yield f"{header.architecture}.{name} is {number}, but must be positive"
    for name in ("embedding_length", "context_length", "vocab_size"):
        if header.get(name) is not None and not header.whole(name):
            yield f"{header.architecture}.{name} is 0"
    if header.get("block_count") is not None and not header.n_layers:
        yield f"{header.architecture}.block_count is 0"
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        if header.whole(name) > max(header.whole("embedding_length"), 2**16):
            yield f"{header.architecture}.{name} is {header.get(name)}"
    heads, kv_heads = (header.per_layer(f"attention.{name}") for name in ("head_count", "head_count_kv"))
    if any(heads) and header.get("rope.dimension_count") == 0 and header.architecture in _ARCHITECTURES:
        yield f"{header.architecture}.rope.dimension_count is 0"  # llama.cpp would evaluate it for ever
    for n, n_kv in zip(heads, kv_heads, strict=True):
        if n and n_kv and n % n_kv:
            yield f"{n} attention heads cannot share {n_kv} KV heads"


def _wrong_experts(header: Header) -> Iterator[str]:
    n, used = header.whole("expert_count"), max(header.per_layer("expert_used_count"), default=0)
    if n > _MOST_EXPERTS:
        yield f"{header.architecture}.expert_count is {n}, and llama.cpp takes at most {_MOST_EXPERTS}"
    elif used > n or (n > 1 and not used):
        yield f"{used} of {n} experts are to be used (expert_used_count and expert_count)"


def _wrong_tokens(header: Header) -> Iterator[str]:
    tokens = header.arrays.get(TOKENS)
    if tokens is None or tokens.kind != STRING:
        return
    if not tokens.size:
        yield "its vocabulary has no tokens"
    elif tokens.n_distinct != tokens.size:
        yield f"its vocabulary has {tokens.size} tokens, but only {tokens.n_distinct} different ones"


def _wrong_types(header: Header) -> Iterator[str]:
    for name, tensor in header.tensors.items():
        if tensor.kind in _NO_MATRIX and _MATRIX.fullmatch(name):
            yield f"tensor {shown(name)} has a type that no weights have (GGML's number {tensor.kind})"


# ---------------------------------------------------------------- what models in common use have
_ARCHITECTURES = {"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "granite", "olmo2"}
_ARCHITECTURES |= {"phi3", "mistral3", "internlm2", "starcoder2", "smollm3", "exaone", "lfm2", "mamba"}
_KNOWN: dict[str, Callable[[object], bool]] = {}
"""Which values of an architecture's own are nothing to look twice at, by their names."""


def _whole(least: int, most: int) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        numbers = value if isinstance(value, list) else [value]
        return bool(numbers) and all(type(number) is int and least <= number <= most for number in numbers)

    return holds


def _real(least: float, most: float) -> Callable[[object], bool]:
    return lambda value: type(value) is float and least <= value <= most


_KNOWN |= {"context_length": _whole(1, 2**31), "embedding_length": _whole(1, 2**17), "vocab_size": _whole(1, 2**24)}
_KNOWN |= {
    "block_count": _whole(1, 512),
    "feed_forward_length": _whole(0, 2**20),
    "leading_dense_block_count": _whole(0, 8),
}
_KNOWN |= {f"attention.{name}": _whole(0, 1024) for name in ("head_count", "head_count_kv")}
_KNOWN |= {f"attention.{name}": _whole(16, 1024) for name in ("key_length", "value_length")}
_KNOWN |= {f"attention.layer_norm{name}epsilon": _real(1e-12, 1e-2) for name in ("_", "_rms_")}
_KNOWN |= {"attention.sliding_window": _whole(16, 2**20), "attention.sliding_window_pattern": _whole(2, 16)}
_KNOWN |= {"expert_count": _whole(0, 512), "expert_used_count": _whole(0, 64)}
_KNOWN |= {f"expert_{name}": _whole(1, 2**20) for name in ("feed_forward_length", "shared_feed_forward_length")}
_KNOWN |= {"rope.freq_base": _real(1.0, 1e9), "rope.dimension_count": _whole(2, 1024)}
_KNOWN |= {"rope.scaling.type": lambda value: value in ("none", "linear", "yarn", "longrope")}
_KNOWN |= {"rope.scaling.factor": _real(0.01, 1e4), "rope.scaling.original_context_length": _whole(1, 2**31)}
_KNOWN |= {"rope.scaling.finetuned": lambda value: isinstance(value, bool)}
_KNOWN |= {f"{name}_softcapping": _real(1.0, 1e4) for name in ("attn_logit", "final_logit")}
_KNOWN |= {name: _real(1e-4, 1e4) for name in ("embedding_scale", "residual_scale", "logit_scale", "attention.scale")}
_KNOWN |= {"shortconv.l_cache": _whole(2, 16), "ssm.conv_kernel": _whole(2, 16), "ssm.inner_size": _whole(1, 2**18)}
_KNOWN |= {"ssm.state_size": _whole(1, 1024), "ssm.time_step_rank": _whole(1, 2**14), "ssm.dt_b_c_rms": _whole(0, 1)}


def is_usual(header: Header) -> bool:
    """Whether the header is like those of models in common use, in all that llama.cpp does not check itself."""
    name = header.architecture
    own = {key[len(name) + 1 :]: value for key, value in header.metadata.items() if key.startswith(name + ".")}
    if name not in _ARCHITECTURES or not all(key in _KNOWN and _KNOWN[key](value) for key, value in own.items()):
        return False
    if header.metadata.get("general.alignment", 32) % 32:
        return False
    return (
        _usual_heads(header)
        and _usual_vocabulary(header)
        and all(_usual_tensor(*row) for row in header.tensors.items())
    )


def _usual_heads(header: Header) -> bool:
    """One size of keys and values, an even number, all of which is rotated."""
    heads, kv_heads = (header.per_layer(f"attention.{name}") for name in ("head_count", "head_count_kv"))
    if header.whole("expert_count") and not all(header.per_layer("expert_used_count")):
        return False
    if header.architecture == "mamba":
        return not any(heads) and header.whole("ssm.inner_size") == 2 * header.whole("embedding_length")
    if not all(heads) or not any(kv_heads) or (not all(kv_heads) and header.architecture != "lfm2"):
        return False
    size = header.whole("attention.key_length", header.whole("embedding_length") // heads[0])
    value_size = header.whole("attention.value_length", size)
    return size == value_size == header.whole("rope.dimension_count", size) and size % 2 == 0 and len(set(heads)) == 1


def _usual_tensor(name: str, tensor: Tensor) -> bool:
    """Matrices of a type that can be multiplied; all else in 32 bits, as whoever makes files keeps it."""
    is_matrix = len(tensor.dims) > 1 and not _KERNEL.search(name)
    known = tensor.kind in _BLOCKS and tensor.kind not in _NO_MATRIX
    return tensor.n_elements > 0 and known and (is_matrix or tensor.kind == _F32)


def _usual_vocabulary(header: Header) -> bool:
    """A token for each row of the embedding, and special tokens among them; where SentencePiece reads texts, all bytes,
    because llama.cpp ends the process at a character that is neither."""
    tokens, embedding = header.arrays.get(TOKENS), header.tensors.get("token_embd.weight")
    model = header.metadata.get("tokenizer.ggml.model")
    if tokens is None or embedding is None or embedding.dims[1:] != (tokens.size,):
        return False
    if model == "llama" and not tokens.has_bytes:
        return False
    kinds = {"token_type": _I32, "scores": _F32_VALUE, "merges": STRING}
    found = {name: header.arrays.get(f"tokenizer.ggml.{name}") for name in kinds}
    alike = all(array is None or array.kind == kinds[name] for name, array in found.items())
    types: ArrayOf | None = found["token_type"]
    needs = {"gpt2": "merges", "llama": "scores"}.get(model if isinstance(model, str) else "")
    ids = (header.metadata.get(f"tokenizer.ggml.{name}_token_id", 0) for name in ("bos", "eos"))
    in_range = all(type(number) is int and 0 <= number < tokens.size for number in ids)
    return bool(alike and needs and found[needs] and types and types.size == tokens.size and in_range)
