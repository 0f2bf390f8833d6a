#!/usr/bin/env python3
"""What a saved session costs and saves: size, saving and restoring against evaluating the same tokens again.

    python scripts/measure_restore.py [--tokens 2000]

One leader of each kind of memory, with random weights (about 30 to 100 MB) and a draft a quarter as wide, writes
until its stream has so many tokens. Its session is saved, and in a fresh engine its next token is made twice:
with the saved states, and without them. Needs the gguf package ('.[test]').
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from foreal_local.config import Generation, Method, ModelSettings, Pair, Prompting, Runtime, Sampling
from foreal_local.engine import Engine
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.runtime.model import Row
from foreal_local.runtime.scheduler import Scheduler
from foreal_local.storage.session import Session, read_session, write_session
from tests.real import tiny_gguf

KINDS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "llama (attention)": (tiny_gguf.write_llama, {"n_layers": 6, "n_heads": 8, "n_kv_heads": 4}),
    "moe (attention)": (tiny_gguf.write_moe, {"n_layers": 4, "n_heads": 8, "n_kv_heads": 4}),
    "gemma3 (sliding window)": (tiny_gguf.write_gemma3, {"n_layers": 6, "n_heads": 8, "n_kv_heads": 4, "window": 256}),
    "lfm2 (hybrid)": (tiny_gguf.write_lfm2, {"n_layers": 6, "n_heads": 8, "n_kv_heads": 4}),
    "mamba (recurrent)": (tiny_gguf.write_mamba, {"n_layers": 8, "width_state": 16}),
}
WIDTH = 512


@click.command()
@click.option("--tokens", default=2000, show_default=True, help="Tokens of the stream when it is saved.")
@click.option("--runs", default=5, show_default=True)
def main(tokens: int, runs: int) -> None:
    """Measure saved sessions of every kind of memory."""
    click.echo(
        f"{'':25}{'tokens':>7}{'state':>10}{'file':>10}{'more':>7}{'save':>9}{'restore':>9}{'evaluate':>10}{'ratio':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            pair = make_pair(Path(folder), kind)
            click.echo(f"{kind:25}" + measure(pair, Path(folder) / "one.session", tokens, runs))


def make_pair(folder: Path, kind: str) -> Pair:
    write, shape = KINDS[kind]
    words = tiny_gguf.plain().with_emphasis("<|im_end|>", 0.0)
    files = []
    for role, width in ((Role.LEADER, WIDTH), (Role.DRAFT, WIDTH // 4)):
        wide = {} if write is tiny_gguf.write_mamba else {"width_ff": 4 * width}
        path = folder / f"{write.__name__}-{role}.gguf"
        files.append(write(path, seed=len(files), width=width, n_context=8192, vocabulary=words, **shape, **wide))
    return Pair(*(ModelSettings(file) for file in files))


def measure(pair: Pair, path: Path, n_tokens: int, runs: int) -> str:
    runtime = Runtime(ctx_size=n_tokens + 128)
    with Engine(pair, runtime=runtime) as engine:
        sequence, scheduler = write_stream(engine, n_tokens)
        started = time.perf_counter()
        states = scheduler.save(sequence)
        write_session(path, sequence, states, engine.loaded.identity)
        saving = time.perf_counter() - started
    n_state, n_file = sum(len(state.data) for state in states.values()), path.stat().st_size
    times: dict[bool, list[float]] = {True: [], False: []}
    with Engine(pair, runtime=runtime) as engine:
        for _ in range(runs):
            for restored in times:
                started = time.perf_counter()
                go_on(engine, read_session(path, engine.loaded.identity), restored)
                times[restored].append(time.perf_counter() - started)
    restoring, evaluating = (statistics.median(times[restored]) for restored in (True, False))
    return (
        f"{n_tokens:7}{n_state / 1e6:7.2f} MB{n_file / 1e6:7.2f} MB{n_file / n_state - 1:7.1%}"
        f"{saving * 1e3:6.0f} ms{restoring * 1e3:6.0f} ms{evaluating * 1e3:7.0f} ms{restoring / evaluating:8.3f}"
    )


def write_stream(engine: Engine, n_tokens: int) -> tuple[Sequence, Scheduler]:
    """A running sequence of n_tokens, half of them written by the two models; random weights may end early."""
    ids = engine.encode(" the number is ten" * n_tokens, Prompting(raw=True)).ids
    for seed in range(100):
        settings = Generation(method=Method(n=6, k=0), sampling=Sampling(temp=1.0), seed=seed)
        prompt = {role: tokens[: n_tokens // 2] for role, tokens in ids.items()}
        sequence, scheduler = Sequence("one", 0, settings, prompt), scheduler_of(engine)
        scheduler.add(sequence)
        while len(sequence.tokens) < n_tokens - n_tokens // 2 and not scheduler.idle:
            scheduler.step()
        if not sequence.finished:
            return sequence, scheduler
        scheduler.close()
    raise click.ClickException("these weights end every response early")


def scheduler_of(engine: Engine) -> Scheduler:
    return Scheduler(dict(engine.loaded.lanes[0]), engine.loaded.tokens, engine.loaded.shapes)


def go_on(engine: Engine, session: Session, restored: bool) -> None:
    """Until both models have evaluated the stream again, or have been given it, and one has written more."""
    scheduler, sequence = scheduler_of(engine), session.sequence
    n_tokens = len(sequence.tokens)
    scheduler.add(sequence, session.states if restored else None)
    while len(sequence.tokens) == n_tokens and not scheduler.idle:
        scheduler.step()
    if not restored:
        for role in session.states:  # the other one, before its next turn
            model, cached = engine.loaded.lanes[0][role], session.states[role].n_tokens
            if not model.cached(0):
                list(model.evaluate([Row(0, sequence.views[role].ids[:cached], 1)]))
    scheduler.close()


if __name__ == "__main__":
    main()
