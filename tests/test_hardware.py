"""What follows from the machine and the build: kernels that crash are left alone, contexts are planned."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from commands import environment, run

from foreal_local.config import Runtime
from foreal_local.runtime.hardware import ContextPlan, amx_crashes, plan_context, plan_lanes, plan_slots

MODELS = Path(__file__).parent.parent / "models"
AMX = "CPU : AVX512 = 1 | AMX_INT8 = 1 | OPENMP = 1 | "
Q8_0, Q4_0 = 7, 2  # llama.cpp's file types


@pytest.mark.parametrize(
    ("compiler", "info", "crashes"),
    [
        (b"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0", AMX, True),
        (b"GCC: (Ubuntu 11.4.0-1ubuntu1) 11.4.0", AMX, True),
        (b"GCC: (GNU) 10.2.1", AMX, True),
        (b"GCC: (GNU) 12.4.0", AMX, False),
        (b"GCC: (GNU) 13.2.0", AMX, True),
        (b"GCC: (GNU) 13.3.0", AMX, False),
        (b"GCC: (GNU) 14.1.0", AMX, False),
        (b"clang version 16.0.6", AMX, False),
        (b"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0", "CPU : AVX2 = 1 | ", False),
    ],
)
def test_builds_whose_amx_code_crashes_are_recognised(
    compiler: bytes, info: str, crashes: bool, tmp_path: Path
) -> None:
    """Guards a process that ends, and kernels left out where they work."""
    library = tmp_path / "libggml-cpu.so"
    library.write_bytes(b"\x7fELF\0" + compiler + b"\0rest")
    assert amx_crashes(info, library) == crashes
    assert not amx_crashes(info, tmp_path / "gone.so")


@pytest.mark.parametrize("kind", [Q8_0, Q4_0])
def test_quantised_models_answer(kind: int, tmp_path: Path) -> None:
    """Guards builds that crash on AMX as soon as several tokens are evaluated at once (in a process of its own)."""
    for role in ("leader", "draft"):
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.pure, params.nthread = kind, True, 1
        source, target = MODELS / f"tiny-{role}.gguf", tmp_path / f"{role}.gguf"
        code = llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params))
        assert code == 0
    env = environment((tmp_path / "leader.gguf", tmp_path / "draft.gguf"), tmp_path)
    done = run("--prompt", "Tom has 12 apples and Anna has 3 more.", "--max-tokens", "8", "--temp", "0", env=env)
    assert done.returncode == 0, done.stderr
    assert "8 tokens" in done.stderr


def test_small_models_run_in_lanes_on_a_processor_only() -> None:
    assert plan_lanes(9_000_000, 4, gpu=False) == 4
    assert plan_lanes(9_000_000, 4, gpu=True) == plan_lanes(9_000_000_000, 4, gpu=False) == 1


def test_slots_are_dealt_out_to_the_lanes() -> None:
    """Guards slots that are lost or made up, lanes without any, and --lanes that is not heard."""
    small, large = 9_000_000, 9_000_000_000
    assert plan_slots(Runtime(), 5, 2, small, gpu=False) == [3, 2]
    assert plan_slots(Runtime(), 2, 8, small, gpu=False) == [1, 1]
    assert plan_slots(Runtime(), 5, 2, large, gpu=False) == [5]
    assert plan_slots(Runtime(lanes=3), 8, 2, large, gpu=True) == [3, 3, 2]


# ---------------------------------------------------------------- contexts
def plan(settings: Runtime | None = None, **options: Any) -> ContextPlan:
    """The plan for a model of 8 heads of 64 numbers on a CPU, but for what is said otherwise."""
    usual = {"n_slots": 1, "n_ctx": 1024, "threads": 2, "n_heads": 8, "head_size": 64, "gpu": False}
    return plan_context(settings or Runtime(), **{**usual, **options})


def test_a_plan_says_what_was_asked_for() -> None:
    """Guards settings that are lost on the way to llama.cpp."""
    found = plan(Runtime(rollback=3), n_slots=4, n_ctx=100, threads=7, prefix_slot=True)
    assert (found.n_slots, found.n_ctx, found.threads, found.n_rollback) == (4, 100, 7, 3)
    assert (found.has_prefix_slot, found.n_sequences) == (True, 5)
    assert (plan(n_slots=4).has_prefix_slot, plan(n_slots=4).n_sequences) == (False, 4)


@pytest.mark.parametrize(
    ("n_slots", "prefix_slot", "separate", "n_cells", "unified"),
    [
        (1, False, False, 100, False),
        (4, False, False, 400, True),
        (4, True, False, 400, True),
        (1, True, False, 100, True),
        (1, False, True, 100, False),
        (4, False, True, 400, False),
        (4, True, True, 500, False),
    ],
)
def test_every_slot_has_its_cells(n_slots: int, prefix_slot: bool, separate: bool, n_cells: int, unified: bool) -> None:
    """Guards a shared buffer that is larger for a prefix slot, and separate ones of which the prefix slot has none."""
    found = plan(n_slots=n_slots, n_ctx=100, prefix_slot=prefix_slot, separate_caches=separate)
    assert (found.n_cells, found.kv_unified) == (n_cells, unified)


@pytest.mark.parametrize(
    ("batch_size", "n_slots", "prefix_slot", "n_batch", "n_ubatch", "n_outputs"),
    [
        (512, 1, False, 512, 512, 64),
        (512, 4, False, 512, 192, 144),
        (512, 5, False, 512, 153, 180),
        (512, 8, True, 512, 96, 288),
        (8, 1, False, 8, 8, 8),
        (3, 4, False, 4, 4, 4),
        (3, 4, True, 5, 5, 5),
    ],
)
def test_a_batch_has_room_for_every_sequence(
    batch_size: int, n_slots: int, prefix_slot: bool, n_batch: int, n_ubatch: int, n_outputs: int
) -> None:
    """Guards batches and graphs of fewer tokens than sequences (llama.cpp ends the process), and logits for a whole
    batch, which cost memory."""
    found = plan(Runtime(batch_size=batch_size), n_slots=n_slots, prefix_slot=prefix_slot)
    assert (found.n_batch, found.n_ubatch, found.n_outputs) == (n_batch, n_ubatch, n_outputs)


def test_a_graph_keeps_room_for_every_sequence_in_a_long_cache() -> None:
    """Guards a graph that the scores make smaller than the number of sequences."""
    found = plan(Runtime(batch_size=60), n_slots=100, n_ctx=128)
    assert (found.flash_attention, found.n_batch, found.n_ubatch) == ("off", 100, 100)


def test_separate_caches_have_small_scores() -> None:
    """Guards graphs cut for cells that no row looks at: with a cache of its own each slot reads only that one."""
    assert plan(n_slots=8).n_ubatch == 96
    assert plan(n_slots=8, separate_caches=True).n_ubatch == 512
    long = {"n_slots": 8, "n_ctx": 8192}
    assert plan(**long).flash_attention == "auto"
    assert plan(**long, separate_caches=True).flash_attention == "off"


def test_attention_is_llama_cpps_choice_on_a_gpu() -> None:
    """Guards a CPU's choices that are made for a GPU."""
    found = plan(gpu=True, head_size=32)
    assert (found.flash_attention, found.n_ubatch, found.type_k, found.type_v) == ("auto", 512, "f16", "f16")


@pytest.mark.parametrize(
    ("asked", "options", "types"),
    [
        ({}, {}, ("f16", "f16")),
        ({}, {"head_size": 32}, ("f32", "f32")),
        ({}, {"head_size": 32, "n_slots": 2}, ("f16", "f16")),
        ({}, {"head_size": 32, "n_ctx": 100_000}, ("f16", "f16")),
        ({"kv_type_k": "q8_0"}, {"head_size": 32}, ("q8_0", "f32")),
        ({"kv_type_v": "bf16"}, {"head_size": 32}, ("f32", "bf16")),
        ({"kv_type_k": "q4_0", "kv_type_v": "q8_0"}, {}, ("q4_0", "q8_0")),
    ],
)
def test_a_cache_type_of_the_users_is_kept(
    asked: dict[str, Any], options: dict[str, Any], types: tuple[str, str]
) -> None:
    """Guards a named type that "auto" replaces, and an "auto" that follows the other type."""
    found = plan(Runtime(**asked), **options)
    assert (found.type_k, found.type_v) == types
