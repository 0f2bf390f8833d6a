"""The method, slowly: every token is chosen from its whole prefix, evaluated from nothing.

No cache, no catch-up, no batch of several sequences, so nothing to get wrong there. Knows the method and
the trace format; shares nothing with the package under test, whose greedy answers must be the same.
"""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from .replay import Model

Line = dict[str, Any]
UTF8 = codecs.getincrementaldecoder("utf-8")


def holds_end(piece: str) -> bool:
    """The simple rule: a sentence ends with any piece that holds one of . ? ! or a newline."""
    return any(mark in piece for mark in ".?!\n")


def reference_foreal(
    leader_path: Path | str,
    draft_path: Path | str,
    prompt_tokens: Sequence[int],
    n: int,
    p: float,
    k: int,
    hits_from: str,
    gates: Sequence[bool] | Callable[[int], bool],
    max_tokens: int,
    *,
    ends_sentence: Callable[[str], bool] = holds_end,
    prompt_id: str = "0",
) -> list[Line]:
    """One greedy answer as trace lines, for a pair with one vocabulary.

    `gates` says of each sentence, by its number, whether it is led (`p` is only noted in the header).
    `ends_sentence` is asked once per written piece of text.
    """
    prompt = [*prompt_tokens]
    n_ctx = len(prompt) + max_tokens
    with closing(Model(leader_path, n_ctx)) as leader, closing(Model(draft_path, n_ctx)) as draft:
        writer = Writer(
            models={"leader": leader, "draft": draft},
            prompt=prompt,
            n=n,
            k=k,
            hits_from=hits_from,
            is_led=gates if callable(gates) else gates.__getitem__,
            ends_sentence=ends_sentence,
            max_tokens=max_tokens,
        )
        tokens = [{"type": "token", "id": prompt_id, "i": i} | line for i, line in enumerate(writer.answer())]
    settings = {"mode": "foreal", "n": n, "p": p, "k": k, "hits_from": hits_from, "temp": 0.0}
    return [
        {"type": "header", "version": 1, **settings, "leader": str(leader_path), "draft": str(draft_path)},
        {"type": "prompt", "id": prompt_id, "leader_tokens": prompt, "draft_tokens": prompt},
        *tokens,
        {"type": "end", "id": prompt_id, "finish_reason": writer.finish_reason},
    ]


@dataclass
class Writer:
    """Writes one answer; owns its tokens and what is left of a character split between tokens."""

    models: dict[str, Model]
    prompt: list[int]
    n: int
    k: int
    hits_from: str
    is_led: Callable[[int], bool]
    ends_sentence: Callable[[str], bool]
    max_tokens: int
    response: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    utf8: codecs.IncrementalDecoder = field(default_factory=lambda: UTF8("replace"))

    def answer(self) -> Iterator[Line]:
        number = 0
        while self.finish_reason is None:
            yield from self.sentence(number, bool(self.is_led(number)))
            number += 1

    def sentence(self, number: int, led: bool) -> Iterator[Line]:
        """The method: the leader until m > n and its last k counted tokens were hits, then the draft."""
        author = "leader" if led else "draft"
        m = hits = 0
        while self.finish_reason is None:
            token, hit = self.top(author), None
            if author == "leader":
                m += 1
                if m > self.n or self.hits_from == "sentence":
                    hit = self.top("draft") == token
                    hits = hits + 1 if hit else 0
            piece = self.commit(author, token)
            line = {"token": token, "piece": piece, "author": author, "sentence": number, "led": led}
            yield line | {"hit": hit, "hits": hits}
            if self.ends_sentence(piece):
                return
            if author == "leader" and m > self.n and hits >= self.k:
                author = "draft"

    def top(self, role: str) -> int:
        """The role's top-1 token after everything written so far."""
        prefix = [*self.prompt, *self.response]
        (row,) = self.models[role].rows(prefix, len(prefix) - 1)
        return int(row.argmax())

    def commit(self, author: str, token: int) -> str:
        """Adds a token to the answer; its piece is the text that is complete with it."""
        self.response.append(token)
        if self.models[author].ends_generation(token):
            self.finish_reason = "stop"
            return ""
        if len(self.response) == self.max_tokens:
            self.finish_reason = "length"
        return self.utf8.decode(piece_of(self.models[author], token))


def piece_of(model: Model, token: int) -> bytes:
    """A token's text; control tokens have none."""
    buffer = ctypes.create_string_buffer(256)
    size = llama.llama_token_to_piece(model.vocab, token, buffer, len(buffer), 0, False)
    return buffer.raw[:size]
