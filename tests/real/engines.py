"""The engine on tiny models: open it, ask it greedily, and hold an answer against the replay.

Knows the package's Python interface; what is right is known by replay.py and reference.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreal_local.batch.trace import trace_header, trace_lines
from foreal_local.config import Generation, Method, ModelSettings, Pair, Prompting, Runtime, Sampling
from foreal_local.engine import Engine
from foreal_local.method.roles import Role
from foreal_local.results import Result
from foreal_local.runtime import llama

from . import replay
from .models import TinyModels

LEADER, DRAFT = Role.LEADER, Role.DRAFT
RAW = Prompting(raw=True)
GPU = llama.supports_gpu_offload()
"""Whether the models run there: rows of other lengths go through kernels with other roundings."""
if GPU:
    replay.TIE = 1e-2
PAIRS = ("llama", "moe", "gemma3", "lfm2", "mamba", "lfm2+llama", "llama+mamba")
"""Every kind of memory, and pairs whose caches differ in kind."""


@dataclass
class PairMaker:
    """Pairs of tiny models by name."""

    tiny: TinyModels

    def __call__(self, name: str = "llama", vocabulary: str = "endless", **options: Any) -> Pair:
        leader, _, draft = name.partition("+")
        if draft:
            files = [self.tiny.model(leader, vocabulary, **options), self.tiny.model(draft, vocabulary, **options)]
        else:
            files = list(self.tiny.pair(leader, vocabulary, **options))
        return pair_of(*files)


def pair_of(leader: Path, draft: Path) -> Pair:
    return Pair(ModelSettings(leader), ModelSettings(draft))


def open_engine(
    pair: Pair, *, ctx_size: int = 512, n_slots: int = 1, shared_prefix: bool = False, **runtime: Any
) -> Engine:
    options = {"threads": 1, "lanes": 1, **runtime}  # tiny models: without `lanes` no batch would be tried
    return Engine(pair, runtime=Runtime(ctx_size=ctx_size, **options), n_slots=n_slots, shared_prefix=shared_prefix)


def settings(
    mode: str = "foreal",
    *,
    temp: float = 0.0,
    seed: int | None = 1,
    max_tokens: int | None = 60,
    stop: tuple[str, ...] = (),
    **method: Any,
) -> Generation:
    """Greedy, and short sentences' n and k, unless told otherwise; `method` as in Method."""
    plain = {"proposals": 0} if mode == "foreal" else {}
    return Generation(mode, Method(**{"n": 4, "k": 2, **plain, **method}), Sampling(temp), seed, max_tokens, stop)


def ask(pair: Pair, prompts: Sequence[str], generation: Generation, n_slots: int = 1, **runtime: Any) -> list[Result]:
    """Answers to raw prompts from an engine of their own."""
    with open_engine(pair, n_slots=n_slots, **runtime) as engine:
        return engine.generate(prompts, generation, RAW)


def ids(result: Result) -> list[int]:
    return [token.id for token in result.tokens]


def sentences(result: Result) -> list[list[Any]]:
    """The response's tokens by sentence."""
    found: dict[int, list[Any]] = {}
    for token in result.tokens:
        found.setdefault(token.sentence, []).append(token)
    return list(found.values())


def replayed(
    results: Iterable[Result], pair: Pair, folder: Path, examine: Callable[..., replay.Report] = replay.examine
) -> replay.Report:
    """The replay's report on results that share one setting, from their trace."""
    results = list(results)
    lines = [trace_header(results[0].sequence.settings, "", ""), *map(trace_lines, results)]
    records = [json.loads(line) for line in "".join(lines).splitlines()]
    path = folder / "replayed.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return examine(path, pair.leader.path, pair.draft.path)


def assert_same_up_to_near_ties(got: Sequence[Any], wanted: Sequence[Any], result: Result, pair: Pair, folder: Path):
    """`got`, what `result` gave token by token, is `wanted`, or first differs where a near tie explains it.

    That is: the replay finds nothing wrong, and it finds two tokens as good as each other at the difference
    or earlier in its sentence, where a hit may have turned.
    """
    first = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    if len(got) == len(wanted) == first:
        return
    assert replayed([result], pair, folder).violations == []
    tokens = result.tokens[: first + 1]
    begin = next(i for i, token in enumerate(tokens) if token.sentence == tokens[-1].sentence)
    views = result.sequence.views
    view = next(iter(views.values()))
    prompt, response = view.ids[: view.n_prompt], [token.id for token in tokens]
    near = 0
    for settings in {{LEADER: pair.leader, DRAFT: pair.draft}[role] for role in views}:
        with closing(replay.Model(settings.path, len(prompt) + len(response))) as model:
            found = replay.opinions(model, prompt, response, replay.TIE)
            near += sum(len(opinion.near) > 1 for opinion in found[begin:])
    assert near, f"no near tie explains the difference at {first}: {got[first:][:1]} instead of {wanted[first:][:1]}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
