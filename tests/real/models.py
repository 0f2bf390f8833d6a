"""Tiny models by name, made when first asked for: kinds, vocabularies, leaders with drafts that mostly agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from . import tiny_gguf

WRITERS: dict[str, Callable[..., Path]] = {
    "llama": tiny_gguf.write_llama,
    "moe": tiny_gguf.write_moe,
    "gemma3": tiny_gguf.write_gemma3,
    "lfm2": tiny_gguf.write_lfm2,
    "mamba": tiny_gguf.write_mamba,
}
VOCABULARIES: dict[str, Callable[[], tiny_gguf.Vocabulary]] = {
    "plain": tiny_gguf.plain,
    "endless": lambda: tiny_gguf.plain().with_emphasis("<|im_end|>", 0.1),
    "short": lambda: tiny_gguf.plain().with_emphasis("<|im_end|>", 1.3),
    "qwen_like": tiny_gguf.qwen_like,
    "r1_like": tiny_gguf.r1_like,
    "r1_closing": lambda: tiny_gguf.r1_like().with_emphasis("</think>", 1.3),
    "r1_short": lambda: tiny_gguf.r1_like().with_emphasis("<｜end▁of▁sentence｜>", 1.35),
    "qwen_short": lambda: tiny_gguf.qwen_like().with_emphasis("<|im_end|>", 1.35),
    "other": tiny_gguf.other,
}


class Files(NamedTuple):
    """A leader and a draft."""

    leader: Path
    draft: Path


@dataclass
class TinyModels:
    """Owner of the folder and of what has been made in it; one file per kind, vocabulary, template and seed."""

    folder: Path
    made: dict[tuple[object, ...], Path] = field(default_factory=dict)

    def model(self, kind: str = "llama", vocabulary: str = "plain", *, seed: int = 2, chat: str | None = None) -> Path:
        """A model file; `chat` replaces the vocabulary's chat template ("" is none)."""
        key = (kind, vocabulary, seed, chat)
        if key not in self.made:
            path = self.folder / f"{kind}-{vocabulary}-{seed}-{len(self.made)}.gguf"
            words = VOCABULARIES[vocabulary]()
            self.made[key] = WRITERS[kind](path, seed=seed, vocabulary=words, chat_template=chat)
        return self.made[key]

    def pair(self, kind: str = "llama", vocabulary: str = "plain", *, chat: str | None = None) -> Files:
        """A leader and a draft that mostly agrees with it."""
        leader = self.model(kind, vocabulary, chat=chat)
        key = ("draft", leader)
        if key not in self.made:
            self.made[key] = tiny_gguf.perturbed(leader, leader.with_suffix(".draft.gguf"), seed=3)
        return Files(leader, self.made[key])
