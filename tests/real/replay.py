"""Replays a trace file against its two models and reports every place where the method was not followed.

An independent evaluator: it imports nothing of the package under test. Each prompt is evaluated once per model,
prompt and response as one prefix, and every recorded decision is judged against what the models say there.

    python tests/real/replay.py TRACE LEADER DRAFT
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np


class Model:
    """One GGUF, evaluated one prefix at a time and always from its first token."""

    def __init__(self, path: Path | str, n_ctx: int, n_batch: int = 512) -> None:
        self.handle = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self.handle:
            raise ValueError(f"llama.cpp cannot load {path}")
        self.vocab = llama.llama_model_get_vocab(self.handle)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.n_batch = n_batch
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_batch
        params.n_threads = params.n_threads_batch = 1
        self.context = llama.llama_init_from_model(self.handle, params)
        self.batch = llama.llama_batch_init(n_batch, 0, 1)

    def close(self) -> None:
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)
        llama.llama_model_free(self.handle)

    def rows(self, tokens: Sequence[int], first: int) -> Iterator[np.ndarray]:
        """The logits after tokens[: first + 1], tokens[: first + 2], ..., tokens; each valid until the next."""
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        for start in range(0, len(tokens), self.n_batch):
            part = tokens[start : start + self.n_batch]
            self.batch.n_tokens = len(part)
            for i, token in enumerate(part):
                self.batch.token[i], self.batch.pos[i] = token, start + i
                self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
                self.batch.logits[i] = start + i >= first
            code = llama.llama_decode(self.context, self.batch)
            if code != 0:
                raise RuntimeError(f"llama_decode returned {code} at token {start}")
            for i in range(max(first - start, 0), len(part)):
                row = llama.llama_get_logits_ith(self.context, i)
                yield np.ctypeslib.as_array(row, shape=(self.n_vocab,))

    def ends_generation(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self.vocab, token))
