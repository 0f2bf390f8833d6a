"""A model's tokens: texts to ids and back."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llama_cpp

from ..vocabulary import Special
from .grammar import LlamaGrammar, read_grammar
from .json_schema import JsonGrammar, read_schema, tokens_for_schemas

_UNKNOWN, _NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 4, 8, 16, 32  # attributes of a token


class Vocabulary:
    """The tokens of one model.

    n_tokens: how many there are
    kind: llama.cpp's llama_vocab_type (BPE, SPM and so on)
    """

    def __init__(self, model: Any) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.kind = int(llama_cpp.llama_vocab_type(self._vocab))

    def encode(self, text: str, parse_special: bool = True) -> list[int]:
        """The ids of a text and nothing around it: llama.cpp would put an end token behind it, where the file says so.

        parse_special: special tokens written in the text become their ids, not the ids of their letters
        """
        data = text.encode("utf-8", "surrogatepass")
        size = len(data) + 8
        while True:
            ids = (llama_cpp.llama_token * size)()
            n = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, size, False, parse_special)
            if n >= 0:
                return list(ids[:n])
            size = -n

    def piece(self, token: int) -> bytes:
        """The token's bytes, special tokens spelled out."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def text(self, token: int) -> bytes:
        """The token as the file spells it (byte-level tokens in their printable form)."""
        return llama_cpp.llama_vocab_get_text(self._vocab, token) or b""

    def grammar(self, gbnf: str | None, json_schema: str | None) -> LlamaGrammar | JsonGrammar:
        """A grammar of these tokens; UsageError where it cannot be read."""
        if gbnf is not None:
            return read_grammar(self._vocab, gbnf)
        return read_schema(self._for_schemas, json_schema or "{}")

    @functools.cached_property
    def _for_schemas(self) -> Any:
        return tokens_for_schemas(self)

    def is_ordinary(self, token: int) -> bool:
        """A word or a byte, not a control, user-defined or unused token."""
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & (_NORMAL | _BYTE))

    def is_control(self, token: int) -> bool:
        """A token that no text makes unless it is meant to, such as the marks of a chat template."""
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & _CONTROL)

    @functools.cached_property
    def specials(self) -> tuple[Special, ...]:
        """Tokens that llama.cpp recognises where a text spells them."""
        attributes, vocab, wanted = llama_cpp.llama_vocab_get_attr, self._vocab, _UNKNOWN | _CONTROL | _USER_DEFINED
        tokens = [token for token in range(self.n_tokens) if attributes(vocab, token) & wanted]  # 50 ms for 150,000
        words = {token for token in tokens if attributes(vocab, token) & _USER_DEFINED}
        return tuple(Special(self.piece(token).decode("utf-8", "replace"), token not in words) for token in tokens)

    @property
    def adds_bos(self) -> bool:
        return bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    def _special(self, token: int) -> str:
        return "" if token < 0 else self.text(token).decode("utf-8", "replace")

    @property
    def bos_id(self) -> int:
        """The first token's id; below 0 where there is none."""
        return int(llama_cpp.llama_vocab_bos(self._vocab))

    @property
    def bos(self) -> str:
        return self._special(self.bos_id)

    @property
    def eos(self) -> str:
        return self._special(llama_cpp.llama_vocab_eos(self._vocab))
