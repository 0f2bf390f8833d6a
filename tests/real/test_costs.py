"""What generating costs: shapes by hand from the models' recipes, and tokens and FLOPs counted by hand."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from foreal_local.method.ledger import Shape
from foreal_local.method.roles import Role
from foreal_local.runtime.gguf_file import read_shape

from .engines import DRAFT, LEADER, PAIRS, RAW, PairMaker, ask, open_engine, settings
from .models import TinyModels
from .tiny_gguf import plain

V, D = len(plain()), 64
HEAD = V * D + D  # output matrix and last norm; the input embedding table is only looked up
ATTENTION = D * D + 2 * 32 * D + D * D  # 4 heads of 16, 2 of them for keys and values
FEED_FORWARD = 3 * 128 * D
EXPERTS = 4 * D + 2 * (3 * 64 * D)  # the router, and 2 of 4 experts
CONVOLUTION = 3 * D * D + 3 * D + D * D
INNER, RANK, STATE = 128, 8, 8
MAMBA = 2 * INNER * D + (4 + 1) * INNER + (RANK + 2 * STATE) * INNER + (RANK + 1) * INNER + STATE * INNER + INNER
SHAPES = {
    "llama": Shape(HEAD + 2 * (D + ATTENTION + D + FEED_FORWARD), 2, D),
    "moe": Shape(HEAD + 2 * (D + ATTENTION + D + EXPERTS), 2, D),
    "gemma3": Shape(HEAD + 2 * (4 * D + 2 * 16 + ATTENTION + FEED_FORWARD), 2, D),
    "lfm2": Shape(HEAD + 3 * (2 * D + FEED_FORWARD) + 2 * 16 + ATTENTION + 2 * CONVOLUTION, 1, D),
    "mamba": Shape(HEAD + 2 * (D + MAMBA + D * INNER), 0, 0),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_are_those_of_the_recipes(kind: str, tiny: TinyModels) -> None:
    """Guards experts that are all counted, convolutions counted as attention, and a counted embedding table."""
    assert read_shape(tiny.model(kind)) == SHAPES[kind]


def test_a_tied_embedding_counts_once_as_the_output(tmp_path: Path) -> None:
    """Guards models without an output matrix, whose head would cost nothing."""
    writer = gguf.GGUFWriter(tmp_path / "tied.gguf", "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_head_count(2)
    for name, shape in (("token_embd", (50, 8)), ("output_norm", (8,)), ("blk.0.attn_q", (8, 8))):
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_shape(tmp_path / "tied.gguf") == Shape(50 * 8 + 8 + 8 * 8, 1, 8)


def flops(shape: Shape, first: int, last: int) -> float:
    """Tokens number first to last (from 1) of a stream, one by one by the formula of method.md."""
    return sum(2 * shape.n_weights + 4 * shape.n_layers * shape.width * context for context in range(first, last + 1))


@pytest.mark.parametrize("kind", SHAPES)
def test_a_model_alone_evaluates_each_token_once(kind: str, make: PairMaker) -> None:
    """Guards tokens that are evaluated twice or not counted: prompt in one go, then all but the last token."""
    (result,) = ask(make(kind), [" two" * 9], settings("leader", max_tokens=30))
    cost, record = result.cost[LEADER], result.as_dict()
    assert (cost.prefill_tokens, cost.decode_tokens, cost.calls) == (9, 29, 30)
    assert cost.flops == pytest.approx(flops(SHAPES[kind], 1, 38))
    assert record["cost"]["flops_total"] == record["cost"]["flops_leader_only"] == pytest.approx(cost.flops)
    assert record["cost"]["flops_generation"] == pytest.approx(flops(SHAPES[kind], 9, 38))
    assert record["usage"] == {"prompt_tokens": 9, "completion_tokens": 30, "leader_tokens": 30, "draft_tokens": 0}
    assert result.cost[DRAFT].tokens == 0


@pytest.mark.parametrize("name", PAIRS)
def test_both_models_evaluate_each_token_at_most_once(name: str, make: PairMaker) -> None:
    """Guards catch-up that starts over, and FLOPs that are not those of what was evaluated."""
    pair = make(name)
    shapes = dict(zip(Role, (SHAPES[kind] for kind in (name.split("+") * 2)[:2]), strict=True))
    (result,) = ask(pair, [" two" * 9], settings(n=2, k=1, max_tokens=80))
    total = 0.0
    for role in Role:
        cost, n_written = result.cost[role], result.sequence.n_written(role)
        assert 9 + n_written - 1 <= cost.tokens <= 9 + 80
        assert 0 < cost.decode_tokens <= n_written
        assert cost.flops == pytest.approx(flops(shapes[role], 1, cost.tokens)), "from the first token on, no gap"
        total += cost.flops
    record = result.as_dict()["cost"]
    assert record["flops_total"] == pytest.approx(total)
    assert record["flops_leader_only"] == pytest.approx(flops(shapes[LEADER], 1, 9 + 80 - 1))
    generation = sum(flops(shapes[t.author], 9 + i, 9 + i) for i, t in enumerate(result.tokens))
    checks = sum(flops(shapes[DRAFT], 9 + i, 9 + i) for i, t in enumerate(result.tokens) if t.hit is not None)
    assert record["flops_generation"] == pytest.approx(generation + checks)


def test_shared_calls_are_counted_once_for_the_engine(make: PairMaker) -> None:
    """Guards a summary that adds the calls of all sequences, or seconds that do not add up."""
    with open_engine(make("llama"), n_slots=4) as engine:
        results = engine.generate([" two", " wait", " so", " half"], settings("leader", max_tokens=20), RAW)
        total = engine.cost[LEADER]
    assert [result.cost[LEADER].calls for result in results] == [20] * 4
    assert total.calls == 20
    assert total.tokens == sum(result.cost[LEADER].tokens for result in results)
    assert total.seconds == pytest.approx(sum(result.cost[LEADER].seconds for result in results))
    assert total.seconds > 0
