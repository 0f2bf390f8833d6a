"""Training of one network of the pair: documents, batches, optimiser, loop."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from pair.network import Network, Shape, set_structured_start
from pair.problems import DRAFT, LEADER, NAMES, Relation, make_problem, write_chain
from pair.tokens import END_THINK, render_answer, render_prompt

Segment = tuple[str, int]  # text, and how many of its first tokens are not learned (-1: none is)
NOT_LEARNED = -1
LEADER_OPENING = 3  # tokens of a leader's sentence that the draft does not learn


@dataclass(frozen=True)
class Recipe:
    """How one role is trained; `share_alone` is the part of chains it writes without the other role."""

    role: str
    share_alone: float
    error_rate: dict[str, float]
    n_batch_tokens: int = 6000
    rate_matrices: float = 0.02
    rate_rest: float = 0.003
    hold: float = 0.4  # part of the time before the rate falls
    share_short: float = 0.2  # chains cut soon after the conclusion
    share_later: float = 0.3  # problems that come after others in a conversation


RECIPES = {
    LEADER: Recipe(LEADER, share_alone=0.3, error_rate={LEADER: 0.03, DRAFT: 0.06}),
    DRAFT: Recipe(DRAFT, share_alone=0.35, error_rate={LEADER: 0.03, DRAFT: 0.04}),
}


def drill(rng: random.Random, role: str, progress: float) -> list[Segment]:
    """Dense practice: sums, or each fact of a problem recalled twice in random order (fewer facts early on)."""
    if rng.random() < 0.5:
        segments: list[Segment] = [(render_prompt("Sums."), NOT_LEARNED)]
        while len(segments) < 33:
            relation = Relation(rng.choice("++--*"), rng.randint(2, 9), "")
            value = rng.randint(2, 97)
            if 2 <= relation.apply(value) <= 99:
                left, right = relation.sum(value, relation.slip(value) if role == DRAFT else None).split(" =")
                segments += [(f" so {rng.choice(NAMES)} has {left} =", NOT_LEARNED), (f"{right},", 0)]
        return segments
    most = 1 if progress < 0.1 else 2 if progress < 0.2 else 3
    problem = make_problem(rng, steps=rng.randint(1, most), distractors=rng.randint(0, 1 if most == 1 else 2))
    segments = [(render_prompt(problem.text), NOT_LEARNED)]
    for _ in range(2):
        for name in rng.sample(list(problem.values), len(problem.values)):
            segments += [(f" {name}", NOT_LEARNED), (problem.fact(name)[len(name) :] + ".", 0)]
    return segments


def chain_document(rng: random.Random, recipe: Recipe, is_held_out: Callable[[str], bool]) -> list[Segment]:
    problem = make_problem(rng, alike=rng.random() < 0.4)
    while is_held_out(problem.text):
        problem = make_problem(rng)
    alone = rng.random() < recipe.share_alone
    share = float(recipe.role == LEADER) if alone else rng.choice([0.3, 0.6, 0.6, 0.8])
    sentences, ended_by, number = write_chain(problem, rng, share, recipe.error_rate)
    short = rng.random() < recipe.share_short
    earlier = []
    if rng.random() < recipe.share_later:
        for _ in range(rng.randint(1, 6)):
            other = make_problem(rng, steps=2)
            earlier.append((other.text, other.answer))
    segments: list[Segment] = [(render_prompt(problem.text, earlier), NOT_LEARNED)]
    for i, sentence in enumerate(sentences):
        text = (" " if i else "") + sentence.text
        if sentence.author == LEADER and recipe.role == DRAFT:
            segments += followed(text) if sentence.correct else [(text, NOT_LEARNED)]
        else:
            learned = sentence.author == recipe.role and sentence.correct
            segments.append((text, 0 if learned else NOT_LEARNED))
        if short and "the answer is" in sentence.text:
            break
    else:
        # To end here is only learned by the role that would; what follows, the number concluded, by both.
        segments.append((f"\n{END_THINK}", 0 if ended_by == recipe.role else NOT_LEARNED))
        segments.append((render_answer(number), 0))
    return segments


def followed(text: str) -> list[Segment]:
    """A leader's sentence as the draft learns to finish it: not how it opens, nor what its sum gives."""
    head, equals, rest = text.partition(" =")
    if not equals:
        return [(text, LEADER_OPENING)]
    result, comma, tail = rest.partition(",")
    return [(head + equals, LEADER_OPENING), (result, NOT_LEARNED), (comma + tail, 0)]


def documents(recipe: Recipe, seed: int, progress: list[float], held_out: set[str]) -> Iterator[list[Segment]]:
    rng = random.Random(f"{recipe.role}-{seed}")
    while True:
        if rng.random() < (0.7 if progress[0] < 0.2 else 0.2):
            yield drill(rng, recipe.role, progress[0])
        else:
            yield chain_document(rng, recipe, held_out.__contains__)


def batches(tokenizer: Tokenizer, source: Iterator[list[Segment]], n_tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens and targets (rows, time) of rows of like length, about n_tokens a batch; targets -100: no loss."""
    rng = random.Random(0)
    while True:
        pool = [next(source) for _ in range(240)]
        encoded = iter(tokenizer.encode_batch([text for segments in pool for text, _ in segments]))
        rows = []
        for segments in pool:
            tokens: list[int] = []
            targets: list[int] = []
            for _, skip in segments:
                piece = next(encoded).ids
                n_skip = len(piece) if skip == NOT_LEARNED else min(skip, len(piece))
                tokens += piece
                targets += [-100] * n_skip + piece[n_skip:]
            rows.append((tokens, [*targets[1:], -100]))
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > n_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            length = max(len(tokens) for tokens, _ in group)
            tokens_out = torch.zeros((len(group), length), dtype=torch.long)
            targets_out = torch.full((len(group), length), -100)
            for i, (tokens, targets) in enumerate(group):
                tokens_out[i, : len(tokens)] = torch.tensor(tokens)
                targets_out[i, : len(targets)] = torch.tensor(targets)
            yield tokens_out, targets_out


class Muon:
    """Momentum made orthogonal by Newton-Schulz steps (Jordan et al., 2024), for the blocks' matrices."""

    def __init__(self, weights: list[tuple[Tensor, int]]) -> None:
        self.weights = [(weight, n_parts, torch.zeros_like(weight)) for weight, n_parts in weights]

    @torch.no_grad()
    def step(self, rate: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        for weight, n_parts, average in self.weights:
            assert weight.grad is not None
            average.lerp_(weight.grad, 1 - momentum)
            update = weight.grad.lerp(average, momentum).view(n_parts, -1, weight.shape[1])
            update = self.orthogonal(update) * max(1.0, update.shape[1] / update.shape[2]) ** 0.5
            weight.mul_(1 - rate * decay).add_(update.reshape(weight.shape), alpha=-rate)
            weight.grad = None

    @staticmethod
    def orthogonal(matrix: Tensor) -> Tensor:
        x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        for _ in range(5):
            square = x @ x.mT
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        return x.mT if tall else x


def _capabilities() -> dict[str, bool]:
    return getattr(torch.cpu, "get_capabilities", dict)()  # older ones have no such function


def in_half_precision() -> torch.autocast:
    """Matrices multiplied in bfloat16 where the processor has units for it: more than twice as fast, else slower."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_capabilities().get("amx_bf16", False))


def examples(tokenizer: Tokenizer, recipe: Recipe, held_out: set[str], n: int = 4) -> list[tuple[Tensor, Tensor]]:
    """A few batches of the role's documents."""
    return list(islice(batches(tokenizer, documents(recipe, 99, [1.0], held_out), recipe.n_batch_tokens), n))


def train(
    tokenizer: Tokenizer,
    shape: Shape,
    recipe: Recipe,
    minutes: float,
    seed: int,
    held_out: set[str],
    path: Path,
    start: Network | None = None,
) -> Network:
    """Train for so many minutes (batches are made in a thread); `path` keeps the newest checkpoint.

    `start`: go on from this network, at a rate that only falls from half the first round's.
    """
    torch.manual_seed(seed)
    again, n_tokens = start is not None, 0
    network = start or Network(shape)
    if not again:
        set_structured_start(network)
    parts = [(b.qkv, 3) for b in network.blocks] + [(b.out, 1) for b in network.blocks]
    parts += [(b.gate_up, 2) for b in network.blocks] + [(b.down, 1) for b in network.blocks]
    muon = Muon([(linear.weight, n) for linear, n in parts])
    matrices = {id(linear.weight) for linear, _ in parts}
    rest = [p for p in network.parameters() if id(p) not in matrices]
    adam = torch.optim.AdamW(rest, lr=recipe.rate_rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    progress = [0.0]
    ready: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(6)

    def feed() -> None:
        for batch in batches(tokenizer, documents(recipe, seed, progress, held_out), recipe.n_batch_tokens):
            ready.put(batch)

    threading.Thread(target=feed, daemon=True).start()
    step = 0
    spent = shown = saved = 0.0  # seconds of work: a paused process, or a busy machine, must not use up its minutes
    losses: list[float] = []
    while spent < minutes * 60:
        started = time.thread_time()
        part = spent / (minutes * 60)
        progress[0] = 1.0 if again else part
        scale = min(1.0, (step + 1) / 50)
        hold = 0.0 if again else recipe.hold
        if part > hold:
            scale *= max(0.02, (1 - part) / (1 - hold)) * (0.5 if again else 1.0)
        tokens, targets = ready.get()
        with in_half_precision():
            loss = network.loss(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for group in adam.param_groups:
            group["lr"] = recipe.rate_rest * scale
        with in_half_precision():
            muon.step(recipe.rate_matrices * scale)
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
        n_tokens += int((tokens != 0).sum())
        step += 1
        spent += time.thread_time() - started
        if spent - shown > 30:
            mean = sum(losses) / len(losses)
            print(
                f"{recipe.role} {spent / 60:.1f} min, step {step}, {n_tokens / 1e6:.2f} M tokens, loss {mean:.4f}",
                flush=True,
            )
            shown, losses = spent, []
        if spent - saved > 180:
            save(network, path, n_tokens, spent)
            saved = spent
    save(network, path, n_tokens, spent)
    return network


def save(network: Network, path: Path, n_tokens: int, seconds: float) -> None:
    scratch = path.with_suffix(".part")
    torch.save(
        {"shape": network.shape, "weights": network.state_dict(), "n_tokens": n_tokens, "seconds": seconds},
        scratch,
    )
    scratch.replace(path)


def load(path: Path) -> tuple[Network, int, float]:
    """The network of a checkpoint, the tokens and the seconds of its training."""
    saved = torch.load(path, weights_only=False)
    network = Network(saved["shape"])
    network.load_state_dict(saved["weights"])
    return network, saved["n_tokens"], saved["seconds"]
