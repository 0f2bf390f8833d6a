"""Grammars in GBNF, as llama.cpp reads them, for one model's vocabulary."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp
import numpy as np

from ...errors import UsageError
from ...method.grammar import Ids, Mask
from .library import library

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)
"""llama.cpp's llama_token_data."""
_MOST_NESTED, _MOST_RULES = 1000, 20_000


class LlamaGrammar:
    """A grammar after some tokens: llama.cpp's sampler, which is copied for each token that it reads."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __del__(self) -> None:
        llama_cpp.llama_sampler_free(self._sampler)

    def allowed(self, ids: Ids) -> Mask:
        """Which of these tokens may come next."""
        candidates = np.zeros(ids.size, _CANDIDATE)
        candidates["id"] = ids
        data = candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(data=data, size=ids.size, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))
        mask: Mask = candidates["logit"] == 0
        return mask

    def after(self, token: int) -> LlamaGrammar | None:
        """The state after one more token; None where it may not come (llama.cpp would end the process)."""
        if not self.allowed(np.array([token]))[0]:
            return None
        after = llama_cpp.llama_sampler_clone(self._sampler)
        llama_cpp.llama_sampler_accept(after, token)
        return LlamaGrammar(after)


def _depth(gbnf: str) -> int:
    """Most parentheses that are open at a time; those in quotes or brackets count as well."""
    depth = most = 0
    for found in re.finditer(r"[()]", gbnf):
        depth += 1 if found[0] == "(" else -1
        most = max(most, depth)
    return most


def read_grammar(vocab: Any, gbnf: str) -> LlamaGrammar:
    """The grammar of a text; UsageError where llama.cpp cannot read it.

    It reads each parenthesis, and each rule that another begins with, by a call inside the last one's, and too many
    end the process.
    """
    if _depth(gbnf) > _MOST_NESTED:
        raise UsageError(f"the grammar cannot be used: more than {_MOST_NESTED} parentheses inside each other")
    if gbnf.count("::=") > _MOST_RULES:
        raise UsageError(f"the grammar cannot be used: it has more than {_MOST_RULES} rules")
    with _stderr() as lines:
        sampler = llama_cpp.llama_sampler_init_grammar(vocab, gbnf.encode(), b"root")
    if not sampler:
        raise UsageError(f"the grammar cannot be used: {_reason(lines)}")
    return LlamaGrammar(sampler)


def _reason(lines: list[str]) -> str:
    """What llama.cpp has said of a grammar: its first line, which names what it stopped at."""
    logged = library().take_reason()
    said = next((line for line in lines if line.strip()), "")
    return (said.partition("error parsing grammar: ")[2] or said or logged).strip()


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """The lines that C code writes to standard error meanwhile; llama.cpp's parser does not use its log."""
    lines: list[str] = []
    sys.stderr and sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield lines
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()
