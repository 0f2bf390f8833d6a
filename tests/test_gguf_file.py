"""Headers written by hand: what is read from them, and that every broken file is told as such."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest

from foreal_local.errors import ModelFileError
from foreal_local.method.ledger import Shape
from foreal_local.runtime.gguf_file import (
    cache_bytes_per_token,
    fingerprint,
    is_quantised,
    n_ctx_train,
    read_header,
    read_shape,
    split_parts,
)

U8, U16, I32, U32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 2, 5, 4, 6, 7, 8, 9, 10, 12
CODES = {U8: "B", U16: "H", I32: "i", U32: "I", F32: "f", BOOL: "?", U64: "Q", F64: "d"}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def packed(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return text(value)
    if kind == ARRAY:
        item, values = value
        return struct.pack("<IQ", item, len(values)) + b"".join(packed(item, v) for v in values)
    return struct.pack("<" + CODES[kind], value)


def header(
    metadata: dict[str, tuple[int, Any]], tensors: dict[str, tuple[int, ...]], version: int = 3, magic: bytes = b"GGUF"
) -> bytes:
    """A header's bytes: metadata as key: (value type, value), tensors as name: dims."""
    parts = [magic, struct.pack("<IQQ", version, len(tensors), len(metadata))]
    parts += [text(key) + struct.pack("<I", kind) + packed(kind, value) for key, (kind, value) in metadata.items()]
    at = 0
    for name, dims in tensors.items():
        parts.append(text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", 0, at))
        at = padded(at + 4 * prod(dims))
    return b"".join(parts)


def padded(at: int) -> int:
    return (at + 31) // 32 * 32


def model(metadata: dict[str, tuple[int, Any]], tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A header and weights of zeros: all that is looked at before llama.cpp loads a file."""
    begin, n = header(metadata, tensors), sum(padded(4 * prod(dims)) for dims in tensors.values())
    return begin.ljust(padded(len(begin)), b"\0") + bytes(n)


LLAMA: dict[str, tuple[int, Any]] = {
    "general.architecture": (STRING, "llama"),
    "llama.block_count": (U32, 2),
    "llama.embedding_length": (U32, 8),
    "llama.attention.head_count": (U32, 4),
}
TENSORS: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (8, 100),
    "blk.0.attn_q.weight": (8, 8),
    "blk.1.ffn_up.weight": (8, 32),
    "output_norm.weight": (8,),
    "output.weight": (8, 100),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def shape_of(path: Path, metadata: dict[str, tuple[int, Any]], tensors: dict[str, tuple[int, ...]]) -> Shape:
    path.write_bytes(model(metadata, tensors))
    return read_shape(path)


# ---------------------------------------------------------------- what is read
@pytest.mark.parametrize("version", [2, 3])
def test_values_of_every_type(path: Path, version: int) -> None:
    values: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, "qwen2"),
        "qwen2.block_count": (U32, 7),
        "a.byte": (U8, 255),
        "a.signed": (I32, -3),
        "a.long": (U64, 2**40),
        "a.float": (F32, 0.5),
        "a.double": (F64, 0.1),
        "a.flag": (BOOL, True),
        "a.text": (STRING, "é\n"),
        "a.list": (ARRAY, (I32, [1, 0, 3])),
        "a.names": (ARRAY, (STRING, ["x", ""])),
        "a.nested": (ARRAY, (ARRAY, [(U8, [1]), (U8, [2, 3])])),
        "a.empty": (ARRAY, (F32, [])),
    }
    path.write_bytes(header(values, {"t": (3, 4), "scalar": ()}, version))
    found = read_header(path)
    plain = {key: value for key, (kind, value) in values.items() if kind != ARRAY}
    assert {key: found.metadata[key] for key in plain} == plain
    assert found.metadata["a.list"] == [1, 0, 3]
    assert found.metadata["a.names"] == ["x", ""]
    assert found.metadata["a.nested"] == [[1], [2, 3]]
    assert found.metadata["a.empty"] == []
    assert (found.architecture, found.get("block_count"), found.get("none", 5)) == ("qwen2", 7, 5)
    assert found.tensors["t"].dims == (3, 4)
    assert (found.tensors["t"].n_elements, found.tensors["scalar"].n_elements) == (12, 1)


def test_long_arrays_are_passed_over(path: Path) -> None:
    """Guards a place lost behind a vocabulary: what follows it must be read right."""
    values: dict[str, tuple[int, Any]] = {
        "tokens": (ARRAY, (STRING, [f"token{i}" * (i % 3) for i in range(3000)])),
        "scores": (ARRAY, (F32, [0.5] * 3000)),
        "flags": (ARRAY, (BOOL, [True] * 1025)),
        "kept": (ARRAY, (U8, [7] * 1024)),
        "after": (U32, 42),
    }
    path.write_bytes(header(values, TENSORS))
    found = read_header(path)
    assert [found.metadata[key] for key in ("tokens", "scores", "flags", "after")] == [None, None, None, 42]
    assert found.metadata["kept"] == [7] * 1024
    assert list(found.tensors) == list(TENSORS)


def test_bytes_that_are_no_text_are_replaced(path: Path) -> None:
    data = header({"a.text": (STRING, "xy")}, {}).replace(b"xy", b"\xff\xfe")
    path.write_bytes(data)
    assert read_header(path).metadata["a.text"] == "\ufffd\ufffd"


# ---------------------------------------------------------------- shapes
def test_weights_leave_the_input_embedding_out(path: Path) -> None:
    """Guards FLOPs that count the table a token is only looked up in."""
    assert shape_of(path, LLAMA, TENSORS) == Shape(8 * 8 + 8 * 32 + 8 + 8 * 100, n_layers=2, width=8)


def test_a_tied_embedding_counts_once_as_the_head(path: Path) -> None:
    tied = {name: dims for name, dims in TENSORS.items() if name != "output.weight"}
    assert shape_of(path, LLAMA, tied).n_weights == 8 * 8 + 8 * 32 + 8 + 8 * 100


def test_other_tables_of_tokens_do_not_count_but_their_norms_do(path: Path) -> None:
    more = {**TENSORS, "per_layer_token_embd.weight": (50, 100), "token_embd_norm.weight": (8,)}
    assert shape_of(path, LLAMA, more).n_weights == shape_of(path, LLAMA, TENSORS).n_weights + 8


def test_of_experts_only_those_used_count(path: Path) -> None:
    """Guards a mixture of experts charged for all its experts; a shared expert is always used."""
    metadata = {**LLAMA, "llama.expert_count": (U32, 8), "llama.expert_used_count": (U32, 2)}
    tensors = {**TENSORS, "blk.0.ffn_up_exps.weight": (8, 32, 8), "blk.0.ffn_up_shexp.weight": (8, 32)}
    plain = shape_of(path, LLAMA, TENSORS).n_weights
    assert shape_of(path, metadata, tensors).n_weights == plain + 8 * 32 * 2 + 8 * 32


def test_attention_width_is_heads_times_their_size(path: Path) -> None:
    """Guards a head size of its own (Qwen3, Gemma), which is not embedding / heads."""
    assert shape_of(path, {**LLAMA, "llama.attention.key_length": (U32, 16)}, TENSORS).width == 4 * 16


@pytest.mark.parametrize("which", ["head_count", "head_count_kv"])
def test_layers_without_attention_do_not_count(path: Path, which: str) -> None:
    """Guards hybrid models: heads per layer, 0 for recurrent ones."""
    heads = (ARRAY, (I32, [0, 4, 0, 4]))
    metadata = {**LLAMA, "llama.block_count": (U32, 4), f"llama.attention.{which}": heads}
    assert shape_of(path, metadata, TENSORS) == Shape(shape_of(path, LLAMA, TENSORS).n_weights, 2, 8)


def test_a_model_without_attention_has_no_layers_that_count(path: Path) -> None:
    metadata = {**LLAMA, "llama.attention.head_count": (U32, 0)}
    found = shape_of(path, metadata, TENSORS)
    assert (found.n_layers, found.width) == (0, 0)


def write_parts(folder: Path, n_parts: int = 3) -> list[Path]:
    """A model split into parts, as llama-gguf-split writes them: the metadata in the first."""
    names, paths = list(TENSORS), []
    for i in range(n_parts):
        path = folder / f"m-{i + 1:05d}-of-{n_parts:05d}.gguf"
        split: dict[str, tuple[int, Any]] = {"split.no": (U16, i), "split.count": (U16, n_parts)}
        own = names[2 * i : 2 * i + 2]
        path.write_bytes(model((LLAMA if i == 0 else {}) | split, {name: TENSORS[name] for name in own}))
        paths.append(path)
    return paths


def test_the_parts_of_a_split_model_are_one(tmp_path: Path) -> None:
    """Guards a split model counted by its first part, and one that is known only by it."""
    parts = write_parts(tmp_path)
    assert split_parts(tmp_path / "m.gguf") == [tmp_path / "m.gguf"]
    for named in parts:
        assert split_parts(named) == parts
        assert read_shape(named) == Shape(8 * 8 + 8 * 32 + 8 + 8 * 100, 2, 8)
        assert fingerprint(named) == fingerprint(parts[0])


# ---------------------------------------------------------------- split models with something wrong
@pytest.mark.parametrize("look", [fingerprint, read_shape, n_ctx_train, is_quantised, cache_bytes_per_token])
@pytest.mark.parametrize("named", [0, 1, 2])
def test_missing_parts_are_named(tmp_path: Path, look: Callable[[Path], object], named: int) -> None:
    """Guards a traceback, which foreal-gen gave as its first look was at a part that is not there."""
    parts = write_parts(tmp_path)
    gone = [part for i, part in enumerate(parts) if i != named]
    for part in gone:
        part.unlink()
    with pytest.raises(ModelFileError, match=r"^2 of the 3 parts of .* are missing: ") as caught:
        look(parts[named])
    assert all(part.name in str(caught.value) for part in gone)
    parts[named].unlink()
    with pytest.raises(ModelFileError, match="no such model file"):
        look(parts[named])


def test_of_many_missing_parts_some_are_named(tmp_path: Path) -> None:
    """Guards an error of a hundred thousand names."""
    path = tmp_path / "m-00001-of-99999.gguf"
    path.write_bytes(model(LLAMA, TENSORS))
    with pytest.raises(ModelFileError, match=r"^99998 of the 99999 parts") as caught:
        read_shape(path)
    assert len(str(caught.value)) < 500


def test_parts_joined_by_cat_or_renamed_are_told(tmp_path: Path) -> None:
    """Guards llama.cpp's `invalid split file name`, which does not say what was done to the file."""
    parts = write_parts(tmp_path)
    joined, renamed = tmp_path / "joined.gguf", tmp_path / "renamed.gguf"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    renamed.write_bytes(parts[1].read_bytes())
    for path, number in ((joined, 1), (renamed, 2)):
        with pytest.raises(ModelFileError, match=f"is part {number} of a model split into 3.*llama-gguf-split --merge"):
            read_shape(path)


def test_parts_under_each_others_names_are_told(tmp_path: Path) -> None:
    """Guards a model put together from parts in another order, or from parts of two models."""
    parts = write_parts(tmp_path)
    second, third = parts[1].read_bytes(), parts[2].read_bytes()
    parts[1].write_bytes(third)
    parts[2].write_bytes(second)
    with pytest.raises(
        ModelFileError, match=r"m-00002-of-00003.gguf is part 3 of a model split into 3.*not part 2 of 3"
    ):
        read_shape(parts[0])


def test_a_whole_model_named_like_a_part_is_told(tmp_path: Path) -> None:
    """Guards advice to download parts that there never were, where all parts are there."""
    for part in write_parts(tmp_path):
        part.write_bytes(model(LLAMA, TENSORS))
    with pytest.raises(ModelFileError, match="whole model, but is named like one of 3 parts"):
        read_shape(tmp_path / "m-00001-of-00003.gguf")


# ---------------------------------------------------------------- broken files
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"G", "not a GGUF"),
        (b"# a readme\n" * 20, "not a GGUF"),
        (b"<!DOCTYPE html><html>", "not a GGUF.*a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a GGUF.*git lfs pull"),
        (header(LLAMA, TENSORS, version=1), "version 1"),
        (header(LLAMA, TENSORS, version=4), "version 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header({}, {}) + b"", None),
        (header({"x": (U32, 1)}, {}).replace(struct.pack("<II", U32, 1), struct.pack("<II", 99, 1)), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "torn"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**64 - 1), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 2**64 - 1), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 4, 2**64 - 1), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQQ", 9, 8, 2**32, 2**64 - 1), "torn"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<I", 2**32 - 1), "torn"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000,
            "torn",
        ),
    ],
    ids=range(18),
)
def test_what_is_no_model_is_reported(path: Path, data: bytes, words: str | None) -> None:
    """Guards a crash, an endless loop or a traceback for a download that failed or a wrong file."""
    path.write_bytes(data)
    if words is None:
        assert read_header(path).metadata == {}
        return
    with pytest.raises(ModelFileError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_a_file_torn_anywhere_is_reported(path: Path) -> None:
    """Guards every place at which a download can stop within the header."""
    metadata = {**LLAMA, "names": (ARRAY, (STRING, ["a"] * 3)), "long": (ARRAY, (STRING, ["b"] * 1030))}
    whole = header(metadata, TENSORS)
    for size in [*range(420), *range(420, len(whole), 97), *range(len(whole) - 260, len(whole))]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            read_header(path)
    path.write_bytes(whole)
    assert list(read_header(path).tensors) == list(TENSORS)


def test_weights_that_are_cut_off_are_reported(path: Path) -> None:
    """Guards a download that stopped within the weights: how much is there, and how much there should be."""
    whole = model(LLAMA, TENSORS)
    path.write_bytes(whole)
    assert read_shape(path)
    for size in (len(whole) - 1, len(whole) - 4000, len(header(LLAMA, TENSORS)) + 40):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=f"cut off: it has {size:,} bytes, its tensors need {len(whole):,};"):
            read_shape(path)


def test_a_file_that_changes_is_looked_at_again(path: Path) -> None:
    """Guards what was remembered of a file that is still being written."""
    whole = model(LLAMA, TENSORS)
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelFileError):
        read_shape(path)
    path.write_bytes(whole)
    assert read_shape(path)


def test_values_of_a_wrong_kind_are_named(path: Path) -> None:
    """Guards a TypeError from counting with whatever stands in the file."""
    for key in ("block_count", "embedding_length", "attention.head_count", "expert_count", "context_length"):
        values = (STRING, "many"), (F32, 2.5), (BOOL, True), (ARRAY, (STRING, ["a"])), (U64, 2**63), (I32, -1)
        for kind, value in values:
            path.write_bytes(model({**LLAMA, f"llama.{key}": (kind, value)}, TENSORS))
            if (key, kind) in (("embedding_length", U64), ("context_length", U64), ("attention.head_count", U64)):
                continue  # absurd, and nothing that is counted with here: llama.cpp refuses it
            with pytest.raises(ModelFileError, match=f"damaged: .*llama.{key}|experts"):
                read_shape(path)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"llama.block_count": (U32, 0)}, "block_count is 0"),
        ({"llama.block_count": (U32, 513)}, "at most 512"),
        ({"llama.attention.head_count_kv": (U32, 3)}, "4 attention heads cannot share 3 KV heads"),
        ({"llama.expert_count": (U32, 2000), "llama.expert_used_count": (U32, 2)}, "at most 1024"),
        ({"llama.expert_used_count": (U32, 2)}, "2 of 0 experts"),
        ({"llama.expert_count": (U32, 8)}, "0 of 8 experts"),
        ({"llama.rope.freq_base": (F32, float("nan"))}, "rope.freq_base is nan"),
        ({"llama.attention.layer_norm_rms_epsilon": (F32, -1.0)}, "between 0 and 1"),
        ({"llama.rope.freq_base": (F32, -1.0)}, "must be positive"),
        ({"llama.rope.dimension_count": (U32, 0)}, "rope.dimension_count is 0"),
        ({"general.alignment": (U32, 3)}, "power of 2"),
        ({"tokenizer.ggml.tokens": (ARRAY, (STRING, []))}, "no tokens"),
        ({"tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "b", "a"]))}, "3 tokens, but only 2 different"),
    ],
)
def test_what_llama_cpp_would_die_of_is_refused(path: Path, metadata: dict[str, tuple[int, Any]], words: str) -> None:
    """Guards a process that llama.cpp ends: it asserts what a damaged file need not keep to."""
    path.write_bytes(model({**LLAMA, **metadata}, TENSORS))
    with pytest.raises(ModelFileError, match=words) as caught:
        read_shape(path)
    assert str(path) in str(caught.value)


def test_empty_tokens_are_told_apart_by_their_place(path: Path) -> None:
    """Guards a vocabulary with padding of empty texts, which llama.cpp takes: it names each by its place."""
    path.write_bytes(model({**LLAMA, "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "", "", "b"]))}, TENSORS))
    assert read_shape(path)


def test_tensors_that_do_not_follow_each_other_are_refused(path: Path) -> None:
    whole = model(LLAMA, TENSORS)
    row = text("output_norm.weight")
    at = whole.index(row) + len(row) + 4 + 8 + 4
    (offset,) = struct.unpack_from("<Q", whole, at)
    path.write_bytes(whole[:at] + struct.pack("<Q", offset + 32) + whole[at + 8 :])
    with pytest.raises(ModelFileError, match=f"'output_norm.weight' begins at byte {offset + 32}, where {offset} is"):
        read_shape(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_without_permission_is_reported(path: Path) -> None:
    path.write_bytes(model(LLAMA, TENSORS))
    path.chmod(0)
    with pytest.raises(ModelFileError, match=r"cannot read .*: Permission denied"):
        read_shape(path)


def test_a_path_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="directory"):
        read_header(tmp_path)


def test_heads_that_do_not_match_are_reported(path: Path) -> None:
    """Guards a ValueError from counting layers in two lists of different lengths."""
    metadata = {
        **LLAMA,
        "llama.attention.head_count": (ARRAY, (I32, [4, 4])),
        "llama.attention.head_count_kv": (ARRAY, (I32, [4, 4, 4])),
    }
    path.write_bytes(header(metadata, TENSORS))
    with pytest.raises(ModelFileError):
        read_shape(path)
