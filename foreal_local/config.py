"""Every setting, checked when it is built. The only place where a default is written.

Knows names, defaults and ranges; the command line reads its defaults from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from .errors import UsageError


class Mode(str, Enum):
    """Who writes: both by the method, or one role alone; and two to measure the method against.

    cue: the draft, its led sentences begun with a fixed cue. speculative: the leader's own tokens, the same as
    alone, which the draft has proposed where it could.
    """

    FOREAL = "foreal"
    LEADER = "leader"
    DRAFT = "draft"
    CUE = "cue"
    SPECULATIVE = "speculative"

    def __str__(self) -> str:
        return self.value


MODES = ", ".join(list(Mode)[:-1]) + f" or {list(Mode)[-1]}"

HitsFrom = Literal["lead", "sentence"]
Boundaries = Literal["robust", "simple"]
Compare = Literal["top1", "sampled"]
HITS_FROM: tuple[HitsFrom, ...] = ("lead", "sentence")
BOUNDARIES: tuple[Boundaries, ...] = ("robust", "simple")
COMPARE: tuple[Compare, ...] = ("top1", "sampled")
FLASH_ATTENTION = ("auto", "on", "off")
KV_TYPES = ("auto", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value!r}, but must be {wanted}")


@dataclass(frozen=True)
class Method:
    """The settings of FoReaL-Decoding (arXiv 2506.06998); n, p and k default to the paper's.

    n: the leader writes more than n tokens of a sentence it leads; p: the chance that it leads one;
    k: hits in a row before the draft takes over. `hits_from`: hits are counted after the first n tokens
    ("lead") or from the sentence's start. `boundaries`: what ends a sentence. `compare`: what is held
    against the draft's top-1, the leader's top-1 or the token it wrote ("sampled").

    Of the other modes: `cue` is what begins a led sentence; `proposals`: tokens that the draft proposes at a time.
    """

    n: int = 15
    p: float = 0.6
    k: int = 5
    hits_from: HitsFrom = "lead"
    boundaries: Boundaries = "robust"
    compare: Compare = "top1"
    cue: str = "Wait,"
    proposals: int = 5

    def __post_init__(self) -> None:
        _require(self.n >= 0, "n (lead tokens)", self.n, "0 or more")
        _require(0.0 <= self.p <= 1.0, "p (lead probability)", self.p, "between 0 and 1")
        _require(self.k >= 0, "k (hits)", self.k, "0 or more")
        _require(self.hits_from in HITS_FROM, "hits_from", self.hits_from, " or ".join(HITS_FROM))
        _require(self.boundaries in BOUNDARIES, "boundaries", self.boundaries, " or ".join(BOUNDARIES))
        _require(self.compare in COMPARE, "compare", self.compare, " or ".join(COMPARE))
        _require(bool(self.cue.strip()), "cue", self.cue, "a text")
        _require(1 <= self.proposals <= 64, "proposals", self.proposals, "between 1 and 64")


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; temp 0 is greedy, top_k 0 and top_p 1 and min_p 0 leave all tokens in."""

    temp: float = 0.6
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64

    def __post_init__(self) -> None:
        _require(math.isfinite(self.temp) and self.temp >= 0.0, "temp", self.temp, "0 or more")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (all) or more")
        _require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "above 0 and at most 1")
        _require(0.0 <= self.min_p <= 1.0, "min_p", self.min_p, "between 0 and 1")
        _require(0.0 < self.repeat_penalty < math.inf, "repeat_penalty", self.repeat_penalty, "above 0 (1 is none)")
        _require(self.repeat_last_n >= 0, "repeat_last_n", self.repeat_last_n, "0 or more")

    @property
    def greedy(self) -> bool:
        return self.temp == 0.0


@dataclass(frozen=True)
class Generation:
    """What one sequence is generated with. seed None: one is drawn and reported.

    max_tokens None: until the model ends or the context is full. `stop`: texts that end the response
    and are not part of it.
    """

    mode: Mode = Mode.FOREAL
    method: Method = field(default_factory=Method)
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.mode in list(Mode), "mode", self.mode, f"one of {MODES}")
        object.__setattr__(self, "mode", Mode(self.mode))  # a text is as good
        _require(self.seed is None or self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        _require(all(self.stop), "stop", self.stop, "texts of at least one character")


@dataclass(frozen=True)
class Prompting:
    """How a prompt becomes tokens: a system message, or no chat template at all (`raw`).

    `template_args` are passed to the chat template, such as enable_thinking=False.
    """

    system: str | None = None
    raw: bool = False
    template_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(not (self.raw and self.system), "system", self.system, "left out with --raw (no chat template)")


@dataclass(frozen=True)
class ModelSettings:
    """One role's model file and what is its own; gpu_layers -1: all there are."""

    path: Path
    gpu_layers: int = -1

    def __post_init__(self) -> None:
        _require(self.gpu_layers >= -1, "gpu_layers", self.gpu_layers, "0 or more, or -1 for all")


@dataclass(frozen=True)
class Runtime:
    """How the models run. ctx_size is per sequence (None: what both models were trained for, at most 8192).

    threads None: one per core this process may use. lanes: how many contexts evaluate at the same time, each
    with its share of the threads and of the sequences; None: one, but for models so small that a batch gains
    nothing, as many as threads. kv types: element types of the KV cache. rollback: how many tokens a recurrent
    memory can take back at once, where its architecture can; each costs one more state per sequence.
    """

    ctx_size: int | None = None
    threads: int | None = None
    lanes: int | None = None
    batch_size: int = 512
    flash_attention: str = "auto"
    kv_type_k: str = "auto"
    kv_type_v: str = "auto"
    rollback: int = 0
    verbose: bool = False

    MAX_DEFAULT_CTX_SIZE = 8192
    MAX_CTX_SIZE = 2**24

    def __post_init__(self) -> None:
        size, threads, most = self.ctx_size, self.threads, self.MAX_CTX_SIZE
        _require(size is None or 2 <= size <= most, "ctx_size", size, f"between 2 and {most}")
        _require(threads is None or 1 <= threads <= 512, "threads", threads, "between 1 and 512 (llama.cpp's limit)")
        _require(self.lanes is None or self.lanes >= 1, "lanes", self.lanes, "1 or more")
        _require(0 <= self.rollback <= 64, "rollback", self.rollback, "between 0 and 64")
        _require(1 <= self.batch_size <= 65536, "batch_size", self.batch_size, "between 1 and 65536")
        choices = " or ".join(FLASH_ATTENTION)
        _require(self.flash_attention in FLASH_ATTENTION, "flash_attention", self.flash_attention, choices)
        for name in ("kv_type_k", "kv_type_v"):
            _require(getattr(self, name) in KV_TYPES, name, getattr(self, name), " or ".join(KV_TYPES))
        quantised = self.kv_type_v not in ("auto", "f32", "f16", "bf16")
        allowed = not (quantised and self.flash_attention == "off")
        _require(allowed, "kv_type_v", self.kv_type_v, "auto, f32, f16 or bf16 without flash attention")


@dataclass(frozen=True)
class Pair:
    """A leader and a draft."""

    leader: ModelSettings
    draft: ModelSettings
    name: str | None = None
