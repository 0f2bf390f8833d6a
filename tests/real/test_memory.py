"""How much memory models are expected to take, against what llama.cpp logs when it takes it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foreal_local.config import Pair, Runtime
from foreal_local.memory.simulator import Simulator
from foreal_local.method.roles import Role

from . import tiny_architectures, tiny_gguf

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from measure_memory import WAYS, expected, taken  # noqa: E402

WRITERS: dict[str, Callable[..., Path]] = {
    "llama": tiny_gguf.write_llama,
    "moe": tiny_gguf.write_moe,
    "gemma3": tiny_gguf.write_gemma3,
    "lfm2": tiny_gguf.write_lfm2,
    "mamba": tiny_gguf.write_mamba,
    "qwen2": tiny_architectures.write_qwen2,
    "qwen3": tiny_architectures.write_qwen3,
    "phi3": tiny_architectures.write_phi3,
    "deepseek2": tiny_architectures.write_deepseek2,
}
REAL = Path(os.environ.get("FOREAL_REAL_PAIR", "~/.cache/foreal-real-pair")).expanduser()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def assert_close(simulator: Simulator, pair: Pair, runtime: Runtime, n_slots: int, prefix_slot: bool) -> None:
    """Each part, and each model's sum, within 5 % (or what rounding to hundredths of MiB makes)."""
    before = expected(simulator, pair, runtime, n_slots, prefix_slot)
    after = taken(pair, runtime, n_slots, prefix_slot)
    for role in Role:
        for part, n_bytes in after[role].items():
            assert before[role][part] == pytest.approx(n_bytes, rel=0.05, abs=0.04 * 2**20), (role, part)
        total = sum(after[role].values())
        assert sum(before[role].values()) == pytest.approx(total, rel=0.05), (role, before[role], after[role])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", WRITERS)
def test_models_of_any_shape_take_what_was_expected(kind: str, seed: int, simulator: Simulator, tmp_path: Path) -> None:
    """Guards a kind of cache that is left out: sliding windows, compressed keys, recurrent states, of any shape."""
    draw = random.Random(f"{kind} {seed}")
    n_heads = draw.choice((2, 4, 8))
    shape = {"width": n_heads * draw.choice((16, 32, 64)), "n_layers": draw.randint(2, 7)}
    shape |= {} if kind == "mamba" else {"n_heads": n_heads, "width_ff": draw.choice((96, 256, 512))}
    model = WRITERS[kind](tmp_path / "model.gguf", seed=seed, **shape)
    type_k = draw.choice(("auto", "f32", "bf16"))
    runtime = Runtime(
        ctx_size=draw.choice((64, 700, 3000)),
        threads=1,
        batch_size=draw.choice((32, 512)),
        kv_type_k=type_k,
        kv_type_v=type_k,
        flash_attention=draw.choice(("auto", "on", "off")),
        lanes=draw.choice((None, 1, 2)),
        rollback=draw.choice((0, 4)),
    )
    assert_close(simulator, Pair(model, model), runtime, draw.choice((1, 3, 8)), draw.random() < 0.5)


@pytest.mark.parametrize("way", WAYS)
def test_the_bundled_pair_takes_what_was_expected(way: str, simulator: Simulator) -> None:
    runtime, n_slots, prefix_slot = WAYS[way]
    pair = Pair(ROOT / "models" / "tiny-leader.gguf", ROOT / "models" / "tiny-draft.gguf")
    assert_close(simulator, pair, runtime, n_slots, prefix_slot)


@pytest.mark.skipif(not (REAL / "leader.gguf").exists(), reason="the real pair is not here")
def test_a_real_pair_takes_what_was_expected(simulator: Simulator) -> None:
    """Guards weights that llama.cpp stores a second time, in another order: half as much again for Q4_K."""
    runtime, n_slots, prefix_slot = WAYS["8 prompts at a time"]
    assert_close(simulator, Pair(REAL / "leader.gguf", REAL / "draft.gguf"), runtime, n_slots, prefix_slot)


def test_files_that_are_no_models_have_a_reason(simulator: Simulator, tmp_path: Path) -> None:
    """Guards an answer that is missing without a word, and a process that is gone for the next question."""
    path = tmp_path / "no.gguf"
    path.write_bytes(b"no model")
    assert simulator.need(Pair(path, path), Runtime(), ctx_size=64) is None
    assert str(path) in simulator.reason
    bundled = ROOT / "models" / "tiny-draft.gguf"
    assert simulator.need(Pair(bundled, bundled), Runtime(), ctx_size=64) is not None
    assert simulator.reason == ""
