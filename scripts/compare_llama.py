#!/usr/bin/env python3
"""Greedy leader-only against llama_cpp.Llama on the same token prompts: equal tokens, and the speed ratio.

    python scripts/compare_llama.py [MODEL] [--tokens 200] [--prompts 5] [--runs 5]

The two write the same responses in turn, run by run; the medians and their ratio are printed. Exits with 1
when a token differs.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import click
from llama_cpp import Llama

from foreal_local.config import Generation, ModelSettings, Pair, Prompting, Runtime, Sampling
from foreal_local.engine import Engine
from foreal_local.hub import bundled_dir
from foreal_local.method.roles import Role
from foreal_local.results import Prompt
from foreal_local.runtime.hardware import usable_cores


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--tokens", default=200, show_default=True)
@click.option("--prompts", "n_prompts", default=5, show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("--threads", default=None, type=int)
def main(model: Path | None, tokens: int, n_prompts: int, runs: int, threads: int | None) -> None:
    """Compare greedy leader-only with llama_cpp.Llama."""
    path = model or bundled_dir() / "tiny-leader.gguf"
    n_threads = threads or usable_cores()
    texts = (bundled_dir() / "demo.txt").read_text(encoding="utf-8").splitlines()[:n_prompts]
    settings = Generation(mode="leader", sampling=Sampling(temp=0), seed=0, max_tokens=tokens)
    pair = Pair(ModelSettings(path), ModelSettings(path))
    with Engine(pair, runtime=Runtime(threads=n_threads), roles=[Role.LEADER]) as engine:
        prompts = [engine.encode(text, Prompting()).ids[Role.LEADER] for text in texts]
        other = Llama(
            str(path),
            n_gpu_layers=-1,
            n_ctx=engine.ctx_size,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            verbose=False,
        )
        ours_s: list[float] = []
        theirs_s: list[float] = []
        ours: list[list[int]] = []
        theirs: list[list[int]] = []
        for _ in range(runs + 1):  # the first is a warm-up
            started = time.perf_counter()
            ours = [[t.id for t in r.tokens] for r in engine.generate([Prompt(text) for text in texts], settings)]
            ours_s.append(time.perf_counter() - started)
            started = time.perf_counter()
            theirs = [generate(other, prompt, tokens) for prompt in prompts]
            theirs_s.append(time.perf_counter() - started)
    n_tokens = sum(map(len, ours))
    mine, reference = statistics.median(ours_s[1:]), statistics.median(theirs_s[1:])
    click.echo(f"{len(texts)} prompts, {n_tokens} tokens, {n_threads} threads, median of {runs} alternating runs")
    click.echo(f"foreal_local leader-only  {mine:.3f} s  {n_tokens / mine:8.1f} tokens/s")
    click.echo(f"llama_cpp.Llama           {reference:.3f} s  {n_tokens / reference:8.1f} tokens/s")
    click.echo(f"ratio of times            {mine / reference:.3f}")
    click.echo(f"tokens equal              {'yes' if ours == theirs else 'NO'}")
    sys.exit(0 if ours == theirs else 1)


def generate(model: Llama, prompt: list[int], n: int) -> list[int]:
    """Greedy tokens of llama_cpp.Llama, the end-of-generation token included."""
    model.reset()
    written: list[int] = []
    for token in model.generate(prompt, temp=0.0, repeat_penalty=1.0, top_k=1):
        written.append(token)
        if token == model.token_eos() or len(written) == n:
            break
    return written


if __name__ == "__main__":
    main()
