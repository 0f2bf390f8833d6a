"""A model's tokens and its chat template: texts to ids and back, messages to a prompt's text."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from ...errors import UsageError

_NORMAL, _BYTE = 4, 32  # attributes of a token


class Vocabulary:
    """The tokens of one model.

    n_tokens: how many there are
    kind: llama.cpp's llama_vocab_type (BPE, SPM and so on)
    """

    def __init__(self, model: Any) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.kind = int(llama_cpp.llama_vocab_type(self._vocab))

    def encode(self, text: str, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """The ids of a text.

        add_special: put the tokens around it that the model expects (BOS, and EOS for some)
        parse_special: special tokens written in the text become their ids, not the ids of their letters
        """
        data = text.encode("utf-8", "surrogatepass")
        size = len(data) + 8
        while True:
            ids = (llama_cpp.llama_token * size)()
            n = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, size, add_special, parse_special)
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

    def is_ordinary(self, token: int) -> bool:
        """A word or a byte, not a control, user-defined or unused token."""
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & (_NORMAL | _BYTE))

    @property
    def adds_bos(self) -> bool:
        return bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    def _special(self, token: int) -> str:
        return "" if token < 0 else self.text(token).decode("utf-8", "replace")

    @property
    def bos(self) -> str:
        return self._special(llama_cpp.llama_vocab_bos(self._vocab))

    @property
    def eos(self) -> str:
        return self._special(llama_cpp.llama_vocab_eos(self._vocab))


@functools.lru_cache(maxsize=4)
def _formatter(template: str, bos: str, eos: str) -> Jinja2ChatFormatter:
    return Jinja2ChatFormatter(template=template, eos_token=eos, bos_token=bos)


def render_chat(template: str, bos: str, eos: str, messages: list[dict[str, str]], args: dict[str, Any]) -> str:
    """The prompt as a GGUF's chat template (Jinja) writes it, up to where the assistant begins.

    args: further variables of the template
    """
    try:
        return str(_formatter(template, bos, eos)(messages=messages, **args).prompt)
    except Exception as error:  # a template can fail in any way: its message is passed on
        raise UsageError(f"the model's chat template refuses these messages: {error}; try --raw") from None
