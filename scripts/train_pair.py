#!/usr/bin/env python3
"""Make the bundled pair again: problems, tokenizer, leader, draft, GGUF files.

pip install '.[train]'
python scripts/train_pair.py problems              # models/heldout.jsonl, models/demo.txt
python scripts/train_pair.py train leader --minutes 90
python scripts/train_pair.py train draft --minutes 60
python scripts/train_pair.py export                # models/tiny-leader.gguf, models/tiny-draft.gguf

Further rounds go on from a model that was exported:

python scripts/train_pair.py train leader --minutes 30 --seed 1 --start models/tiny-leader.gguf
python scripts/train_pair.py export --tokenizer models/tiny-leader.gguf
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from pair.problems import make_problem

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
WORK = ROOT / "build" / "pair"
N_VOCAB = 544
SHAPES = {
    "leader": {"width": 192, "n_layers": 3, "n_heads": 6, "width_ff": 1536},
    "draft": {"width": 128, "n_layers": 3, "n_heads": 4, "width_ff": 320},
}


@click.group()
def main() -> None:
    """Make the bundled pair again."""


@main.command()
@click.option("--held-out", default=400, show_default=True)
@click.option("--demo", default=12, show_default=True)
def problems(held_out: int, demo: int) -> None:
    """Write the held-out problems with their answers, and the demo prompts."""
    rng = random.Random("held out")
    seen: dict[str, int] = {}
    while len(seen) < held_out + demo:
        problem = make_problem(rng, steps=2)
        seen[problem.text] = problem.answer
    pairs = list(seen.items())
    with open(MODELS / "heldout.jsonl", "w", encoding="utf-8") as file:
        for i, (text, answer) in enumerate(pairs[:held_out]):
            file.write(json.dumps({"id": f"heldout-{i}", "prompt": text, "answer": str(answer)}) + "\n")
    (MODELS / "demo.txt").write_text("".join(text + "\n" for text, _ in pairs[held_out:]), encoding="utf-8")


def never_seen() -> set[str]:
    """The texts that training must not see: the held-out problems and the demo's."""
    lines = (MODELS / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["prompt"] for line in lines} | set(
        (MODELS / "demo.txt").read_text(encoding="utf-8").splitlines()
    )


@main.command()
@click.argument("role", type=click.Choice(list(SHAPES)))
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    help="Go on from this GGUF of the role, with its tokenizer, in today's shape.",
)
def train(role: str, minutes: float, threads: int, seed: int, start: Path | None) -> None:
    """Train one role; the newest checkpoint is in build/pair."""
    import torch
    from pair.export import read_gguf
    from pair.network import Shape
    from pair.reshaping import reshaped
    from pair.tokens import read_tokenizer, train_tokenizer
    from pair.training import RECIPES, examples
    from pair.training import train as run_training

    torch.set_num_threads(threads)
    WORK.mkdir(parents=True, exist_ok=True)
    shape, recipe, held_out = Shape(N_VOCAB, **SHAPES[role]), RECIPES[role], never_seen()
    tokenizer = read_tokenizer(start) if start else train_tokenizer(N_VOCAB)
    network = reshaped(read_gguf(start), shape, examples(tokenizer, recipe, held_out)) if start else None
    run_training(tokenizer, shape, recipe, minutes, seed, held_out, WORK / f"{role}.pt", network)


@main.command()
@click.option("--tokenizer", "given", type=click.Path(path_type=Path), help="The GGUF that training started from.")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=MODELS, show_default=True)
def export(given: Path | None, folder: Path) -> None:
    """Write the newest checkpoints as tiny-leader.gguf and tiny-draft.gguf."""
    from pair.export import write_gguf
    from pair.tokens import read_tokenizer, train_tokenizer
    from pair.training import load

    tokenizer = read_tokenizer(given) if given else train_tokenizer(N_VOCAB)
    for role in SHAPES:
        if not (WORK / f"{role}.pt").exists():
            click.echo(f"no checkpoint of the {role}")
            continue
        network, n_tokens, seconds = load(WORK / f"{role}.pt")
        path = folder / f"tiny-{role}.gguf"
        about = f"{role} of a tiny pair for relational word problems"
        write_gguf(network, tokenizer, path, f"foreal tiny {role}", about)
        n_parameters = sum(p.numel() for p in network.parameters())
        last = f"{n_tokens / 1e6:.1f} M tokens and {seconds / 60:.0f} minutes in the last round"
        click.echo(f"{path.name}: {n_parameters} parameters, {last}")


@main.command()
@click.argument("role", type=click.Choice(list(SHAPES)))
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option("--share", default=0.5, show_default=True, help="The other's part.")
@click.option("--to", "target", type=click.Path(path_type=Path), required=True)
def average(role: str, one: Path, other: Path, share: float, target: Path) -> None:
    """Write the mean of two rounds of a role, weight by weight: between them in what it can do."""
    from pair.export import read_gguf, write_gguf
    from pair.tokens import read_tokenizer

    network, weights = read_gguf(one), read_gguf(other).state_dict()
    mean = {name: (1 - share) * weight + share * weights[name] for name, weight in network.state_dict().items()}
    network.load_state_dict(mean)
    about = f"{role} of a tiny pair for relational word problems"
    write_gguf(network, read_tokenizer(one), target, f"foreal tiny {role}", about)


if __name__ == "__main__":
    main()
