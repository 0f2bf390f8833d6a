#!/usr/bin/env python3
"""Lossless speculation here against llama.cpp's own (llama-speculative-simple): time, and equal text.

    python scripts/compare_speculative.py PROGRAM LEADER DRAFT [--proposals 5] [--tokens 200] [--prompts 5] [--runs 3]

PROGRAM is built from the sources of the llama-cpp-python that is installed, without Python:

    pip download --no-deps --no-binary :all: llama-cpp-python==VERSION
    tar xzf llama_cpp_python-VERSION.tar.gz
    cmake -S llama_cpp_python-VERSION/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF \
        -DBUILD_SHARED_LIBS=OFF        # and -DGGML_CUDA=ON where this is about a GPU
    cmake --build build --target llama-speculative-simple -j

Both propose the same number of tokens each time and write greedily. The two take turns, prompt by prompt. A time is
that of prompt and response, without the loading of the models; the medians of each prompt's runs are added up.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from foreal_local.config import Generation, Method, Pair, Prompting, Runtime, Sampling
from foreal_local.engine import Engine
from foreal_local.hub import bundled_dir
from foreal_local.method.roles import Role
from foreal_local.results import Prompt
from foreal_local.runtime.hardware import usable_cores

_PHASE = re.compile(r"(?:encoded|decoded) +(\d+) tokens in +([\d.]+) seconds")
_COUNT = re.compile(r"n_(drafted|accept) += (\d+)")


@dataclass(frozen=True)
class Answer:
    """One response: its text, the tokens written, seconds for prompt and response, proposals made and accepted."""

    text: str
    n_tokens: int
    seconds: float
    n_proposed: int
    n_accepted: int


@click.command()
@click.argument("program", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("leader", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("draft", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problems", default=None, help="JSON lines with `problem` or `prompt`.  [default: models/demo.txt]")
@click.option("--proposals", default=5, show_default=True)
@click.option("--tokens", default=200, show_default=True)
@click.option("--prompts", "n_prompts", default=5, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--threads", default=None, type=int)
@click.option("--ctx-size", default=2048, show_default=True)
def main(
    program: Path,
    leader: Path,
    draft: Path,
    problems: str | None,
    proposals: int,
    tokens: int,
    n_prompts: int,
    runs: int,
    threads: int | None,
    ctx_size: int,
) -> None:
    """Compare --mode speculative with llama-speculative-simple."""
    n_threads = threads or usable_cores()
    settings = Generation(
        mode="speculative", method=Method(proposals=proposals), sampling=Sampling(temp=0), seed=0, max_tokens=tokens
    )
    runtime = Runtime(ctx_size=ctx_size, threads=n_threads)
    ours: list[list[Answer]] = []
    theirs: list[list[Answer]] = []
    with Engine(Pair(leader, draft), runtime=runtime, settings=settings) as engine:
        for text in _texts(problems, n_prompts):
            rendered = _rendered(engine, text)
            ours.append([])
            theirs.append([])
            for _ in range(runs):
                ours[-1].append(_ours(engine, rendered, settings))
                theirs[-1].append(_theirs(program, leader, draft, rendered, proposals, tokens, n_threads, ctx_size))
    mine, reference = _total(ours), _total(theirs)
    click.echo(f"{len(ours)} prompts, {proposals} proposals at a time, {n_threads} threads, medians of {runs} runs")
    for name, answers, seconds in (("foreal_local", ours, mine), ("llama-speculative-simple", theirs, reference)):
        firsts = [each[0] for each in answers]
        n_tokens, n_proposed = sum(a.n_tokens for a in firsts), sum(a.n_proposed for a in firsts)
        accepted = sum(a.n_accepted for a in firsts) / max(1, n_proposed)
        speed = f"{seconds:8.2f} s  {n_tokens / seconds:7.1f} tokens/s"
        click.echo(f"{name:25} {speed}  {n_tokens} tokens, {n_proposed} proposed, {accepted:.0%} accepted")
    pairs = [(a[0].text.strip(), b[0].text.strip()) for a, b in zip(ours, theirs, strict=True)]
    same = sum(a.startswith(b) or b.startswith(a) for a, b in pairs)  # one may be a few tokens longer
    click.echo(f"ratio of times            {mine / reference:.3f}")
    click.echo(f"equal texts               {same} of {len(ours)}")


def _texts(problems: str | None, n: int) -> list[str]:
    lines = Path(problems or bundled_dir() / "demo.txt").read_text(encoding="utf-8").splitlines()[:n]
    if problems is None:
        return lines
    rows = [json.loads(line) for line in lines]
    return [str(row.get("prompt") or row["problem"]) for row in rows]


def _rendered(engine: Engine, text: str) -> str:
    """The prompt as the leader's chat template has it: llama-speculative-simple has none."""
    vocabulary = engine.loaded._vocabularies[Role.LEADER]
    ids = engine.encode(text).ids[Role.LEADER]
    return b"".join((vocabulary.piece if vocabulary.is_ordinary(id) else vocabulary.text)(id) for id in ids).decode()


def _ours(engine: Engine, text: str, settings: Generation) -> Answer:
    result = engine.generate(Prompt(text), settings, Prompting(raw=True))
    sequence = result.sequence
    return Answer(result.text, len(result.tokens), result.seconds, sequence.n_proposed, sequence.n_accepted)


def _theirs(
    program: Path, leader: Path, draft: Path, prompt: str, proposals: int, tokens: int, threads: int, ctx_size: int
) -> Answer:
    options = {
        "-m": leader, "-md": draft, "-p": prompt, "-n": tokens - 1, "-c": ctx_size, "-t": threads, "-td": threads,
        "--temp": 0, "--top-k": 1, "--spec-type": "draft-simple", "--spec-draft-n-max": proposals,
        "--spec-draft-n-min": 0, "--spec-draft-p-min": 0, "-ngl": 99, "-ngld": 99, "-lv": 4,
    }  # fmt: skip
    command = [str(program), "--no-escape", *(str(word) for pair in options.items() for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    phases = _PHASE.findall(done.stderr + done.stdout)
    if done.returncode or len(phases) != 2:
        sys.exit(f"{program} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    counts = {name: int(n) for name, n in _COUNT.findall(done.stderr + done.stdout)}
    answer = done.stdout.strip().removeprefix(prompt.strip())
    seconds = sum(float(seconds) for _, seconds in phases)
    return Answer(answer, int(phases[1][0]), seconds, counts.get("drafted", 0), counts.get("accept", 0))


def _total(answers: list[list[Answer]]) -> float:
    return sum(statistics.median(a.seconds for a in runs) for runs in answers)


if __name__ == "__main__":
    main()
