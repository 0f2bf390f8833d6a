"""Model files with one thing broken: the header, a metadata value, a row of the tensor table, the vocabulary.

Made from the small random models of tests/real/tiny_gguf.py, of five architectures and two kinds of vocabulary.
What is broken is the leader; the draft is sound. The short form takes 200 of them, the same for the same seed.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from .common import Case
from .document import ARRAY, BOOL, F32, I32, I64, STRING, U16, U32, U64, Document, Value

N_SHORT = 200
_WORDS = ("gen", "--leader", "broken.gguf", "--draft", "draft.gguf", "--prompt", "one", "--max-tokens", "4", "--quiet")
_T = "tokenizer.ggml."
Variant = tuple[str, Callable[[], bytes]]
"""What is broken, and what makes the file: only cases that are run need theirs."""


def cases(random_: random.Random, folder: Path, long: bool) -> Iterator[Case]:
    """Every variant of every model in the long form, a choice of them in the short one."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from real.models import WRITERS

    found: dict[str, Case] = {}
    for kind, write in WRITERS.items():
        draft = write(folder / f"{kind}.gguf", seed=1)
        for name, broken in variants(draft.read_bytes(), random_, 60 if long else 6):
            found[f"{kind} {name}"] = Case(f"{kind} {name}", _WORDS, {"broken.gguf": broken, "draft.gguf": draft})
    if long:
        return iter(found.values())
    llama = [case for name, case in found.items() if name.startswith("llama ")]
    others = [case for name, case in found.items() if not name.startswith("llama ")]
    return iter(random_.sample(llama, N_SHORT // 2) + random_.sample(others, N_SHORT // 2))


def variants(data: bytes, random_: random.Random, n_random: int) -> Iterator[Variant]:
    """One file, broken in all ways there are, and at so many random places in each of some random ways."""
    document = Document.read(data)
    for make in (_values, _rows, _vocabulary, _tokenizers, _relations, _names, _sections):
        for name, broken in make(document):
            yield name, broken.write
    yield from _texts(document)
    yield from _bytes(data, document, random_, n_random)


def _values(document: Document) -> Iterator[tuple[str, Document]]:
    """Each metadata value missing, absurd, and of a wrong type."""
    absurd: dict[str, Value] = {
        "0": Value(U32, 0),
        "1": Value(U32, 1),
        "3": Value(U32, 3),
        "2**31": Value(U32, 2**31),
        "2**32-1": Value(U32, 2**32 - 1),
        "-1": Value(I32, -1),
        "2**63": Value(U64, 2**63),
        "NaN": Value(F32, float("nan")),
        "-1e30": Value(F32, -1e30),
        "'text'": Value(STRING, b"text"),
        "''": Value(STRING, b""),
        "'\\xff'": Value(STRING, b"\xff\xfe\x00"),
        "true": Value(BOOL, 1),
        "[]": Value(ARRAY, [], U32),
        "[0] * 3": Value(ARRAY, [0] * 3, U32),
        "['a']": Value(ARRAY, [b"a"], STRING),
    }
    for key, value in document.pairs.items():
        yield f"without {key}", document.lacking(key)
        for name, other in absurd.items():
            if other != value:
                yield f"{key} = {name}", document.having(key, other)
        if value.kind == U32:
            for name, number in {"half": value.data // 2, "double": value.data * 2, "one more": value.data + 1}.items():
                yield f"{key} {name}", document.having(key, Value(U32, number))


def _rows(document: Document) -> Iterator[tuple[str, Document]]:
    """Each kind of tensor missing, misplaced, misshapen, of another type."""
    first = {row.name.decode().replace("blk.1.", "blk.0."): i for i, row in reversed(list(enumerate(document.rows)))}
    for name, i in first.items():
        row, n = document.rows[i], len(document.rows)
        yield f"without tensor {name}", document.without_row(i)
        yield f"a row of {name} missing", replace(document, rows=(*document.rows[:i], *document.rows[i + 1 :]))
        yield f"{name} twice", replace(document, rows=(*document.rows, row))
        yield f"{name} renamed", document.with_row(i, name=b"no." + row.name)
        yield f"{name} of a long name", document.with_row(i, name=row.name + b"x" * 100)
        for offset in (row.offset + 32, row.offset + 1, 2**40, 2**64 - 32, document.rows[(i + 1) % n].offset):
            yield f"{name} at {offset}", document.with_row(i, offset=offset)
        wrong_dims = [(), (0,) * len(row.dims), row.dims[::-1], (*row.dims, 1, 1, 1, 1), (*row.dims, 2), (2**40, 2**30)]
        wrong_dims += [(2**63, *row.dims[1:]), (row.dims[0] * 2, *row.dims[1:]), (row.dims[0] // 2, *row.dims[1:])]
        for dims in wrong_dims:
            yield f"{name} of {dims}", document.with_row(i, dims=dims)
        for kind in (1, 2, 4, 8, 12, 15, 24, 26, 28, 30, 31, 39, 41, 99, -1):
            yield f"{name} of type {kind}", document.with_row(i, kind=kind)
        yield f"{name} of type 1, sound", retyped(document, i, 1, 2)
        yield f"{name} of type 26, sound", retyped(document, i, 26, 4)


def retyped(document: Document, i: int, kind: int, n_bytes: int) -> Document:
    """A tensor of another type, with as many bytes as that needs, so that only the type is unexpected."""
    row, end = document.rows[i], len(document.weights)
    old = (document.rows[i + 1].offset if i + 1 < len(document.rows) else end) - row.offset
    size = n_bytes
    for dim in row.dims:
        size *= dim
    size = (size + 31) // 32 * 32
    weights = document.weights[: row.offset] + bytes(size) + document.weights[row.offset + old :]
    later = tuple(replace(other, offset=other.offset + size - old) for other in document.rows[i + 1 :])
    return replace(document, rows=(*document.rows[:i], replace(row, kind=kind), *later), weights=weights)


def _vocabulary(document: Document) -> Iterator[tuple[str, Document]]:
    """Tokens, their types and merges that do not belong together."""
    tokens, types, merges = (list(document.pairs[_T + name].data) for name in ("tokens", "token_type", "merges"))

    def with_list(name: str, items: Iterable[object], of: int = STRING) -> Document:
        return document.having(_T + name, Value(ARRAY, list(items), of))

    lists = {
        "one token less": tokens[:-1],
        "one token more": [*tokens, b"more"],
        "half the tokens": tokens[: len(tokens) // 2],
        "one token": tokens[:1],
        "no token": [],
        "a token twice": [*tokens[:-1], tokens[0]],
        "all tokens alike": [b"a"] * len(tokens),
        "empty tokens": [b""] * len(tokens),
        "tokens that are no text": [b"\xff\xfe%d" % i for i in range(len(tokens))],
        "a token of a megabyte": [*tokens[:-1], b"x" * 2**20],
        "tokens without single bytes": [b"word%d" % i for i in range(len(tokens))],
        "tokens in another order": tokens[::-1],
    }
    for name, items in lists.items():
        yield name, with_list("tokens", items)
    yield "fewer token types", with_list("token_type", types[:-1], I32)
    for name, kind in {"control": 3, "unused": 5, "bytes": 6, "absurd": 99}.items():
        yield f"all tokens {name}", with_list("token_type", [kind] * len(types), I32)
    yield "token types of 8 bytes", with_list("token_type", types, I64)
    broken = {
        "without blanks": [b"ab"] * len(merges),
        "of unknown tokens": [b"zz%d qq" % i for i in range(len(merges))],
        "empty": [b""] * len(merges),
        "of a blank": [b" "] * len(merges),
        "that are no text": [b"\xff \xfe"] * len(merges),
        "in another order": merges[::-1],
        "none": [],
    }
    for name, items in broken.items():
        yield f"merges {name}", with_list("merges", items)
    yield "merges that are numbers", with_list("merges", range(9), I32)
    yield "scores too few", with_list("scores", [0.0], F32)


def _tokenizers(document: Document) -> Iterator[tuple[str, Document]]:
    """Other tokenizers, special tokens that there are not, flags without what they need."""
    n = len(document.pairs[_T + "tokens"].data)
    for model in (b"llama", b"bert", b"t5", b"rwkv", b"none", b"no_vocab", b"gemma4", b"plamo2", b"test", b"new"):
        yield f"tokenizer {model.decode()}", document.having(_T + "model", Value(STRING, model))
    for pre in (b"", b"default", b"llama3", b"qwen2", b"deepseek-llm", b"new"):
        yield f"pre-tokenizer {pre.decode()!r}", document.having(_T + "pre", Value(STRING, pre))
    for which in ("bos", "eos", "eot", "unknown", "padding"):
        for number in (0, n, 2**31, 2**32 - 1):
            yield f"{which} token {number}", document.having(f"{_T}{which}_token_id", Value(U32, number))
    spm = document.having(_T + "model", Value(STRING, b"llama"))
    yield "SentencePiece without scores", spm
    for name, score in {"NaN": float("nan"), "equal": 0.0}.items():
        yield f"SentencePiece with {name} scores", spm.having(_T + "scores", Value(ARRAY, [score] * n, F32))
    bare = document.lacking(_T + "bos_token_id").lacking(_T + "eos_token_id")
    for flag in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        yield f"{flag} without a token", bare.having(_T + flag, Value(BOOL, 1))


def _relations(document: Document) -> Iterator[tuple[str, Document]]:
    """Values that are fine alone and wrong beside the others; keys that the file does not have."""
    architecture = document.pairs["general.architecture"].data.decode()
    more: dict[str, Iterable[int]] = {
        "attention.head_count": (3, 5, 7, 64, 128),
        "attention.head_count_kv": (3, 5, 8),
        "attention.key_length": (0, 1, 8, 17, 2**20),
        "attention.value_length": (0, 1, 8, 17, 2**20),
        "rope.dimension_count": (0, 1, 15, 17, 32, 2**20),
        "attention.sliding_window": (0, 1, 2**32 - 1),
        "expert_count": (1, 4, 1000),
        "expert_used_count": (0, 1, 5, 1000),
        "expert_group_count": (1, 3, 99),
        "nextn_predict_layers": (1, 2, 99),
        "pooling_type": (1, 4, 99),
        "attention.group_norm_groups": (0,),
        "attention.causal": (0,),
        "logit_scale": (0,),
    }
    for key, numbers in more.items():
        for number in numbers:
            yield f"{architecture}.{key} = {number}", document.having(f"{architecture}.{key}", Value(U32, number))


def _names(document: Document) -> Iterator[tuple[str, Document]]:
    """Words that are others, alignment, and parts of a model that is none."""
    architecture = document.pairs["general.architecture"].data.decode()
    for word in ("", "none", "yarn", "longrope", "nonsense"):
        broken = document.having(f"{architecture}.rope.scaling.type", Value(STRING, word.encode()))
        yield f"scaling of rope {word!r}", broken
    for factor in (0.0, -1.0, float("nan"), float("inf")):
        broken = document.having(f"{architecture}.rope.scaling.type", Value(STRING, b"yarn"))
        yield f"yarn by {factor}", broken.having(f"{architecture}.rope.scaling.factor", Value(F32, factor))
    for alignment in (0, 1, 3, 8, 64, 4096, 2**31):
        yield f"alignment {alignment}", document.having("general.alignment", Value(U32, alignment))
    yield "alignment of a wrong type", document.having("general.alignment", Value(I32, 32))
    for other in (
        "llama",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3",
        "phi3",
        "mamba",
        "lfm2",
        "bert",
        "t5",
        "clip",
    ):
        if other != architecture:
            renamed = {key.replace(f"{architecture}.", f"{other}.", 1): value for key, value in document.pairs.items()}
            renamed["general.architecture"] = Value(STRING, other.encode())
            yield f"called {other}", replace(document, pairs=renamed)
    for count in (0, 1, 2, 3, 65535):
        yield f"split.count = {count}", document.having("split.count", Value(U16, count))


def _sections(document: Document) -> Iterator[tuple[str, Document]]:
    """Counts, versions and whole sections."""
    for count in (0, 1, 10**6, 2**32, 2**63, 2**64 - 1):
        yield f"{count} values", replace(document, n_pairs=count)
        yield f"{count} tensors", replace(document, n_rows=count)
    for version in (0, 1, 2, 4, 3 << 24, 2**32 - 1):
        yield f"version {version}", replace(document, version=version)
    weights = document.weights
    yield "no metadata", replace(document, pairs={})
    yield "no tensors", replace(document, rows=())
    yield "no weights", replace(document, weights=b"")
    yield "half the weights", replace(document, weights=weights[: len(weights) // 2])
    yield "one byte less", replace(document, weights=weights[:-1])
    yield "more after the weights", replace(document, weights=weights + bytes(4096))
    yield "tensors in another order", replace(document, rows=document.rows[::-1])
    yield "all tensors at one place", replace(document, rows=tuple(replace(row, offset=0) for row in document.rows))
    yield "a key of no letters", document.having("", Value(U32, 1))
    yield "a key of 70,000 letters", document.having("k" * 70_000, Value(U32, 1))


def _texts(document: Document) -> Iterator[Variant]:
    """Sections in another order, and what is no GGUF file at all."""
    head, metadata, table = document.head(), document.metadata(), document.table()
    (key, value), weights = next(iter(document.pairs.items())), document.weights
    twice = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", value.kind) + value.write()
    yield "a key twice", lambda: replace(document, n_pairs=len(document.pairs) + 1).head() + twice + metadata + table
    yield "table before metadata", lambda: head + table + metadata + weights
    yield "weights before all", lambda: head + weights + metadata + table
    yield "the header twice", lambda: head + metadata + head + metadata + table + weights
    yield "two files, one after the other", lambda: document.write() * 2
    yield "magic in small letters", lambda: b"gguf" + document.write()[4:]
    swapped = b"GGUF" + struct.pack(">IQQ", 3, len(document.rows), len(document.pairs))
    yield "another byte order", lambda: swapped + document.write()[24:]
    for name, data in {
        "empty": b"",
        "text": b"# A model\n" * 99,
        "a web page": b"<!DOCTYPE html>",
        "zeros": bytes(99),
    }.items():
        yield name, partial(bytes, data)


def _bytes(data: bytes, document: Document, random_: random.Random, n: int) -> Iterator[Variant]:
    """Bytes flipped, dropped, doubled, zeroed at random places of the header; the file cut off."""
    size, table = len(data) - len(document.weights), len(document.head()) + len(document.metadata())

    def changed(at: int, end: int, other: bytes) -> bytes:
        return data[:at] + other + data[end:]

    ways: dict[str, Callable[[int], bytes]] = {
        "flipped": lambda at: changed(at, at + 1, bytes([data[at] ^ (1 << at % 8)])),
        "random": lambda at: changed(at, at + 8, random.Random(at).randbytes(8)),
        "ones": lambda at: changed(at, at + 8, b"\xff" * 8),
        "zeroed": lambda at: changed(at, at + 8, bytes(8)),
        "dropped": lambda at: changed(at, at + 1, b""),
        "doubled": lambda at: changed(at, at, data[at : at + 16]),
        "cut": lambda at: data[:at],
    }
    for way, change in ways.items():
        for at in random_.sample(range(4, size), n) + random_.sample(range(table, size), n):
            yield f"{way} at {at}", partial(change, at)
    for at in random_.sample(range(size, len(data)), n):
        yield f"cut at {at}", partial(data.__getitem__, slice(at))
