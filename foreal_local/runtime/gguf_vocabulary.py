"""A model's vocabulary as its file has it, without loading the model: which models share one.

Reads what stands before the weights only. The rule by which two vocabularies are the same is pair_tokens'.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from pathlib import Path

from ..errors import ModelFileError, VocabularyError
from .gguf_file import model_file
from .gguf_header import STRING, TOKENS, Header, explained
from .pair_tokens import ADVICE, different_tokens

_TYPES = "tokenizer.ggml.token_type"
_KINDS = {"llama": 1, "gpt2": 2, "bert": 3, "t5": 4, "rwkv": 5, "plamo2": 6}
"""llama.cpp's numbers of the kinds of vocabularies, by what files call them."""
_NORMAL, _BYTE = 1, 6
_SPELLED_LIKE_CONTROL = re.compile(rb"<(?:\||\xef\xbd\x9c).*>|</?s>|<end_of_turn>|_?<EOT>", re.DOTALL)
"""What llama.cpp takes for control tokens whatever a file says of them."""


class FileVocabulary:
    """The tokens of one file.

    n_tokens: how many there are
    kind: llama.cpp's number; 0 for one that is not known
    name: in words: what its text is split by, as files call it, and its size
    digest: of all tokens; the same where they are the same
    """

    def __init__(self, header: Header) -> None:
        tokens = header.arrays.get(TOKENS)
        if tokens is None or tokens.kind != STRING:
            raise ModelFileError(f"{header.path} has no vocabulary: nothing tells which models share it")
        self.n_tokens = tokens.size
        model = str(header.metadata.get("tokenizer.ggml.model", ""))
        self.kind = _KINDS.get(model, 0)
        self.splits = model, str(header.metadata.get("tokenizer.ggml.pre", "default"))
        with explained(header.path), open(header.path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with data:
                self._texts = _texts(data, tokens.begin, tokens.size)
                self._types = _types(data, header)
        self.digest = hashlib.blake2b(b"\0".join(self._texts), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        model, pre = self.splits
        return f"{pre if pre != 'default' else _spoken(model)} {_short(self.n_tokens)}"

    def text(self, token: int) -> bytes:
        return self._texts[token]

    def is_ordinary(self, token: int) -> bool:
        """A word or a byte, not a control, user-defined or unused token."""
        kind = self._types[token] if token < len(self._types) else _NORMAL
        return kind in (_NORMAL, _BYTE) and not _SPELLED_LIKE_CONTROL.fullmatch(self._texts[token])


def read_vocabulary(path: Path) -> FileVocabulary:
    """The vocabulary of a model's file (its first part); ModelFileError where it has none."""
    return FileVocabulary(model_file(path).first)


def why_different(leader: FileVocabulary, draft: FileVocabulary) -> str:
    """What keeps two vocabularies from being one; "" where they share their words."""
    if leader.digest == draft.digest and leader.kind == draft.kind:
        return ""
    try:
        different_tokens(leader, draft)
    except VocabularyError as error:
        return str(error).removesuffix(ADVICE).rstrip(" ;:")
    return ""


def _texts(data: mmap.mmap, at: int, size: int) -> list[bytes]:
    unpack, texts = struct.Struct("<Q").unpack_from, []
    for _ in range(size):
        begin = at + 8
        at = begin + unpack(data, at)[0]
        texts.append(data[begin:at])
    return texts


def _types(data: mmap.mmap, header: Header) -> tuple[int, ...]:
    types = header.arrays.get(_TYPES)
    if types is None or types.kind not in (4, 5):  # 32-bit numbers
        return ()
    return struct.unpack_from(f"<{types.size}i", data, types.begin)


def _spoken(model: str) -> str:
    return {"llama": "SentencePiece", "gpt2": "BPE"}.get(model, model or "unknown")


def _short(n_tokens: int) -> str:
    return f"{n_tokens / 1000:.0f}k" if n_tokens >= 10_000 else str(n_tokens)
