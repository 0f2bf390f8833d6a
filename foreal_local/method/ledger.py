"""What was evaluated, by whom, at what cost. Knows counts and formulas, no models and no roles."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def flops_in_words(flops: float) -> str:
    """FLOPs in three digits and the largest unit of which there is one: "1.11 TFLOPs"."""
    factor, prefix = next(((factor, prefix) for factor, prefix in UNITS if flops >= 0.9995 * factor), (1.0, ""))
    value = flops / factor
    return f"{value:,.0f} {prefix}FLOPs" if value >= 99.95 else f"{value:.3g} {prefix}FLOPs"


@dataclass(frozen=True)
class Shape:
    """What the FLOPs of a model depend on, read from its GGUF.

    n_weights: parameters that take part in one token's evaluation, without the input embedding table (a tied one counts
        once, as the output head; of experts only those used)
    n_layers: layers with attention
    width: attention heads times their size
    """

    n_weights: int
    n_layers: int
    width: int

    def flops(self, n_tokens: int, n_before: int) -> float:
        """FLOPs of evaluating n_tokens after n_before cached ones.

        Per token 2 x weights + 4 x layers x width x context (method.md, "What it costs"); the context of a
        token is itself and all before it.
        """
        contexts = n_tokens * n_before + n_tokens * (n_tokens + 1) // 2
        return 2.0 * self.n_weights * n_tokens + 4.0 * self.n_layers * self.width * contexts


@dataclass(slots=True)
class Cost:
    """One model's work.

    decode_tokens: evaluated one at a time to write the next token
    prefill_tokens: all others that were evaluated
    calls: evaluations of the model that this work was part of
    seconds: its share of their time
    flops: of everything evaluated
    reused_tokens: not evaluated, because a prefix shared with other sequences was copied
    flops_prompt: the part of `flops` that went into the prompt; only the first evaluation of each token counts
    n_prompt_done: the prompt's tokens up to the last one that is in flops_prompt
    n_prompt_read: how many of them are in flops_prompt: not those that a cache held already
    prompt_seconds, decode_seconds: the parts of `seconds` that went into the prompt and into decode_tokens
    """

    decode_tokens: int = 0
    prefill_tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    reused_tokens: int = 0
    flops_prompt: float = 0.0
    n_prompt_done: int = 0
    n_prompt_read: int = 0
    prompt_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.decode_tokens + self.prefill_tokens

    def count(self, n_tokens: int, decode: bool, n_calls: int, seconds: float, flops: float) -> None:
        """Add the evaluation of n_tokens."""
        if decode:
            self.decode_tokens += n_tokens
            self.decode_seconds += seconds
        else:
            self.prefill_tokens += n_tokens
        self.calls += n_calls
        self.seconds += seconds
        self.flops += flops

    def count_prompt(self, begin: int, end: int, seconds: float, flops: float) -> None:
        """Note that an evaluation had these tokens of the prompt in it for the first time."""
        self.n_prompt_done = end
        self.n_prompt_read += end - begin
        self.prompt_seconds += seconds
        self.flops_prompt += flops

    def add(self, other: Cost) -> None:
        self.decode_tokens += other.decode_tokens
        self.prefill_tokens += other.prefill_tokens
        self.calls += other.calls
        self.seconds += other.seconds
        self.flops += other.flops
        self.reused_tokens += other.reused_tokens

    def as_dict(self) -> dict[str, int | float]:
        names = ("decode_tokens", "prefill_tokens", "calls", "seconds", "flops", "reused_tokens")
        return {name: getattr(self, name) for name in names} | {"seconds": round(self.seconds, 6)}
