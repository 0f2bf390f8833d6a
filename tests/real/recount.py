"""Counts lengths, shares and FLOPs again, from a trace and the two GGUFs alone.

An independent accountant: it imports nothing of the package under test, and knows the trace format and the
formula of the method's cost (per evaluated token 2 x weights without the input embedding + 4 x layers x
attention width x context).

    python tests/real/recount.py TRACE LEADER DRAFT
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf

Line = dict[str, Any]
ROLES = ("leader", "draft")


@dataclass(frozen=True)
class Model:
    """What a token costs: n_weights take part in it, and each token of its context adds `per_context`."""

    n_weights: int
    per_context: int

    @classmethod
    def read(cls, path: Path | str) -> Model:
        reader = gguf.GGUFReader(path)
        kind = reader.fields["general.architecture"].contents()

        def number(name: str, default: int | None = None) -> int:
            found = reader.fields.get(f"{kind}.{name}")
            return int(found.contents()) if found else int(default or 0)

        sizes = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
        n_weights = sum(sizes.values())
        if "output.weight" in sizes:  # else the embedding is the output head too, and is used as that
            n_weights -= sizes["token_embd.weight"]
        n_heads = number("attention.head_count")
        width = n_heads * number("attention.key_length", number("embedding_length") // n_heads)
        return cls(n_weights, 4 * number("block_count") * width)

    def flops(self, context: int) -> int:
        """Of one token, the last of `context` tokens."""
        return 2 * self.n_weights + self.per_context * context


@dataclass
class Count:
    """One response."""

    prompt: Line
    tokens: list[Line] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def leader_share(self) -> float:
        return sum(token["author"] == "leader" for token in self.tokens) / max(1, self.length)

    @property
    def n_led(self) -> int:
        return len({token["sentence"] for token in self.tokens if token["led"]})

    @property
    def n_handoffs(self) -> int:
        return sum(
            (a["author"], b["author"], b["led"]) == ("leader", "draft", True) and a["sentence"] == b["sentence"]
            for a, b in zip(self.tokens, self.tokens[1:], strict=False)
        )

    def flops_generation(self, models: dict[str, Model]) -> int:
        """Each written token as its author's, and each comparison as the draft's."""
        total = 0
        for i, token in enumerate(self.tokens):
            if token["author"]:
                total += models[token["author"]].flops(len(self.prompt[f"{token['author']}_tokens"]) + i)
            if token["hit"] is not None:
                total += models["draft"].flops(len(self.prompt["draft_tokens"]) + i)
        return total

    def flops_total(self, models: dict[str, Model]) -> int:
        """Each model evaluates once what stands before the last place where it wrote or compared."""
        total = 0
        for role in ROLES:
            places = [
                i
                for i, token in enumerate(self.tokens)
                if token["author"] == role or (role == "draft" and token["hit"] is not None)
            ]
            if places:
                n_evaluated = len(self.prompt[f"{role}_tokens"]) + places[-1]
                total += sum(models[role].flops(context) for context in range(1, n_evaluated + 1))
        return total


def counts(trace: Path | str) -> dict[str, Count]:
    """By the response's id."""
    found: dict[str, Count] = {}
    for text in Path(trace).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line["type"] == "prompt":
            found[line["id"]] = Count(line)
        elif line["type"] == "token":
            assert line["i"] == found[line["id"]].length
            found[line["id"]].tokens.append(line)
    return found


def main(trace: str, leader: str, draft: str) -> None:
    models = {"leader": Model.read(leader), "draft": Model.read(draft)}
    for id, count in counts(trace).items():
        print(
            f"{id}: {count.length} tokens, leader {count.leader_share:.1%}, {count.n_led} sentences led, "
            f"{count.n_handoffs} handoffs, FLOPs {count.flops_generation(models):.4g} of generation, "
            f"{count.flops_total(models):.4g} in all"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
