#!/usr/bin/env python3
"""Figures of a pair on problems with known answers: accuracy, chain lengths, FLOPs, misalignment.

    python scripts/measure_pair.py                      # the bundled pair on models/heldout.jsonl
    python scripts/measure_pair.py --limit 100 --parallel 8

Greedy, so the same models give the same figures; the gate's draws come from --seed. Intervals are 95 %:
Wilson's for a share, a paired bootstrap over problems for a ratio to leader-only.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from foreal_local import llama
from foreal_local.config import Generation, Method, Mode, ModelSettings, Pair, Runtime, Sampling
from foreal_local.engine import Engine
from foreal_local.hub import bundled_dir
from foreal_local.model import Row
from foreal_local.results import Prompt, Result
from foreal_local.sequence import Role

BOXED = re.compile(r"\\boxed\{\s*(-?\d+)\s*\}")


def is_right(result: Result, answer: str) -> bool:
    found = BOXED.findall(result.text)
    return bool(found) and found[-1] == answer


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, n_right / n
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def bootstrap(ratio: Callable[[np.ndarray], float], n: int, n_draws: int = 2000) -> tuple[float, float]:
    """95 % interval of ratio(indices) when the n problems are drawn again."""
    rng = np.random.default_rng(0)
    draws = [ratio(rng.integers(0, n, n)) for _ in range(n_draws)]
    return float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5))


def misalignment(engine_pair: Pair, results: list[Result], n_ctx: int, threads: int) -> dict[int, tuple[int, int]]:
    """Along leader-only responses: (misaligned, all) by position in the sentence, the first being 0."""
    weights = llama.Weights(engine_pair.draft.path, engine_pair.draft.gpu_layers)
    context = llama.Context(weights, 1, n_ctx, threads, Runtime(), llama.Abort())
    counts: dict[int, tuple[int, int]] = {}
    try:
        for result in results:
            view, tokens = result.sequence.views[Role.LEADER], result.tokens
            rows = [Row(0, view.ids[:-1], len(view.starts))]
            judged = {out.index: int(out.logits.argmax()) for out in context.evaluate(rows) if out.logits is not None}
            context.release(0)
            place, sentence = 0, -1
            for token, start in zip(tokens, view.starts, strict=True):
                place = 0 if token.sentence != sentence else place + 1
                sentence = token.sentence
                if start - 1 in judged:
                    missed, n = counts.get(place, (0, 0))
                    counts[place] = (missed + (judged[start - 1] != token.top1), n + 1)
    finally:
        context.close()
        weights.close()
    return counts


@click.command()
@click.option("--leader", type=click.Path(path_type=Path), default=None)
@click.option("--draft", type=click.Path(path_type=Path), default=None)
@click.option("--problems", type=click.Path(path_type=Path), default=None, help="JSON lines: prompt, answer.")
@click.option("--limit", default=400, show_default=True)
@click.option("--parallel", default=8, show_default=True)
@click.option("--threads", default=None, type=int)
@click.option("--seed", default=1, show_default=True)
@click.option("-n", "n", default=Method.n, show_default=True)
@click.option("-p", "p", default=Method.p, show_default=True)
@click.option("-k", "k", default=Method.k, show_default=True)
def main(
    leader: Path | None,
    draft: Path | None,
    problems: Path | None,
    limit: int,
    parallel: int,
    threads: int | None,
    seed: int,
    n: int,
    p: float,
    k: int,
) -> None:
    """Measure a pair: leader alone, draft alone, FoReaL."""
    folder = bundled_dir()
    pair = Pair(
        ModelSettings(leader or folder / "tiny-leader.gguf"), ModelSettings(draft or folder / "tiny-draft.gguf")
    )
    lines = (problems or folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:limit]
    rows = [json.loads(line) for line in lines]
    prompts = [Prompt(row["prompt"], row.get("id")) for row in rows]
    n_rows = len(rows)
    results: dict[Mode, list[Result]] = {}
    right: dict[Mode, np.ndarray] = {}
    seconds: dict[Mode, float] = {}
    with Engine(pair, runtime=Runtime(threads=threads), n_slots=parallel) as engine:
        for mode in (Mode.LEADER, Mode.DRAFT, Mode.FOREAL):
            settings = Generation(mode=mode, method=Method(n=n, p=p, k=k), sampling=Sampling(temp=0), seed=seed)
            started = time.perf_counter()
            results[mode] = engine.generate(prompts, settings)
            seconds[mode] = time.perf_counter() - started
            right[mode] = np.array([is_right(a, row["answer"]) for a, row in zip(results[mode], rows, strict=True)])
            click.echo(f"  {mode}: {seconds[mode]:.0f} s", err=True)
        n_ctx, n_threads = engine.ctx_size, engine.threads
    click.echo(f"{n_rows} problems, greedy, n={n} p={p:g} k={k}, seed {seed}\n")
    click.echo(f"{'':8}{'accuracy':>9} {'95 %':>15}{'tokens':>8}{'led':>6}{'MFLOPs gen.':>13}{'all':>8}{'seconds':>9}")
    for mode, found in results.items():
        low, high = wilson(int(right[mode].sum()), n_rows)
        tokens = np.array([len(r.tokens) for r in found])
        led = sum(r.sequence.n_led for r in found) / sum(r.sequence.n_sentences for r in found)
        generation = np.mean([r.flops.generation for r in found]) / 1e6
        total = np.mean([r.flops.total for r in found]) / 1e6
        click.echo(
            f"{mode!s:8}{right[mode].mean():9.1%} {f'{low:.1%} - {high:.1%}':>15}{tokens.mean():8.1f}{led:6.0%}"
            f"{generation:13.0f}{total:8.0f}{seconds[mode]:9.1f}"
        )
    click.echo("")

    def report(label: str, values: Callable[[Mode, np.ndarray], float], top: Mode, below: Mode) -> None:
        def ratio(index: np.ndarray) -> float:
            return values(top, index) / max(values(below, index), 1e-12)

        low, high = bootstrap(ratio, n_rows)
        click.echo(f"{label:52}{ratio(np.arange(n_rows)):6.2f}   ({low:.2f} - {high:.2f})")

    generation = {mode: np.array([r.flops.generation for r in found]) for mode, found in results.items()}
    total = {mode: np.array([r.flops.total for r in found]) for mode, found in results.items()}
    length = {mode: np.array([len(r.tokens) for r in found]) for mode, found in results.items()}
    report("accuracy, foreal / leader", lambda m, i: float(right[m][i].mean()), Mode.FOREAL, Mode.LEADER)
    report("FLOPs of generation, foreal / leader", lambda m, i: generation[m][i].sum(), Mode.FOREAL, Mode.LEADER)
    report("FLOPs of everything evaluated, foreal / leader", lambda m, i: total[m][i].sum(), Mode.FOREAL, Mode.LEADER)
    report("length, foreal / leader", lambda m, i: length[m][i].mean(), Mode.FOREAL, Mode.LEADER)
    report("length, leader / draft", lambda m, i: length[m][i].mean(), Mode.LEADER, Mode.DRAFT)
    click.echo(f"{'wall clock, foreal / leader':52}{seconds[Mode.FOREAL] / seconds[Mode.LEADER]:6.2f}")
    counts = misalignment(pair, results[Mode.LEADER], n_ctx, n_threads)
    click.echo("\nmisalignment along the leader's responses, by token of the sentence")
    for place in (1, 2, 3, 5, 10, 15, 20):
        missed, n_all = counts.get(place - 1, (0, 0))
        if n_all:
            low, high = wilson(missed, n_all)
            click.echo(f"  token {place:2}  {missed / n_all:6.1%}  ({low:.1%} - {high:.1%}, {n_all} sentences)")


if __name__ == "__main__":
    sys.exit(main())
