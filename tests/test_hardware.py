"""What follows from the machine and the build: kernels that crash are left alone."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import pytest
from commands import environment, run

from foreal_local.runtime.hardware import amx_crashes, plan_lanes

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
def test_builds_whose_amx_code_crashes_are_told(compiler: bytes, info: str, crashes: bool, tmp_path: Path) -> None:
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
