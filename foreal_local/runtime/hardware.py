"""What this machine has and what follows from it: cores for threads, how attention is computed and cached."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..config import Runtime


def usable_cores() -> int:
    """Physical cores this process may run on (llama.cpp is slower with two threads on one core)."""
    affinity = getattr(os, "sched_getaffinity", None)
    usable: set[int] = set(affinity(0)) if affinity else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            first = re.match(r"\d+", siblings.read_text())
        except OSError:
            return len(usable)
        cores.add(first[0] if first else str(cpu))
    return len(cores) or 1


# ---------------------------------------------------------------- builds that crash
_GCC = re.compile(rb"GCC: \([^)]*\) (\d+)\.(\d+)")
_MENDED = {11: 5, 12: 4, 13: 3}  # from GCC 14 on all are


def amx_crashes(system_info: str, library: Path) -> bool:
    """Whether a build of llama.cpp ends the process when it multiplies quantised weights on AMX.

    GCC before 11.5, 12.4 and 13.3 leaves out what fills the tile configuration (GCC PR 114098). `system_info` is
    llama.cpp's, `library` the file with its CPU kernels, in which the compiler has left its version.
    """
    if "AMX_INT8 = 1" not in system_info:
        return False
    try:
        found = _GCC.search(library.read_bytes())
    except OSError:
        return False
    if not found:
        return False
    major, minor = int(found[1]), int(found[2])
    return major < 14 and minor < _MENDED.get(major, 99)


# ---------------------------------------------------------------- lanes
_SMALL = 32 * 1024 * 1024
"""Bytes of weights below which lanes of one thread are faster than one lane with all: their graphs are too small
for several threads to gain much."""


def plan_lanes(n_bytes: int, threads: int, gpu: bool) -> int:
    """How many contexts evaluate side by side, for models of n_bytes together.

    One for each thread where they are small (scripts/compare_parallel.py measures it).
    """
    return threads if n_bytes <= _SMALL and not gpu else 1


# ---------------------------------------------------------------- attention and its cache
_SCORE_BYTES = 24 * 1024 * 1024  # most that attention scores may take without flash attention
_FEWEST_ROWS = 64  # tokens that then must fit one evaluation


@dataclass(frozen=True)
class AttentionPlan:
    """Whether flash attention is used ("auto": llama.cpp decides), and the tokens of one graph (ubatch)."""

    flash_attention: str
    n_ubatch: int


def plan_attention(settings: Runtime, gpu: bool, n_heads: int, n_cells: int) -> AttentionPlan:
    """What "auto" means: llama.cpp's choice, but no flash attention on the CPU.

    There it is as fast on some processors and half as fast on others (scripts/compare_llama.py measures it).
    Without it the scores take 4 bytes x n_heads x n_cells for each token of a graph, so that they bound the
    graph, and long contexts need it. A quantised V cache needs it too.
    """
    choice = AttentionPlan(settings.flash_attention, settings.batch_size)
    quantised = settings.kv_type_v not in ("auto", "f32", "f16", "bf16")
    if settings.flash_attention != "auto" or gpu or quantised:
        return choice
    n_rows = _SCORE_BYTES // (4 * max(1, n_heads) * n_cells)
    if n_rows < min(_FEWEST_ROWS, settings.batch_size):
        return choice
    return AttentionPlan("off", min(settings.batch_size, n_rows))


def auto_cache_type(plan: AttentionPlan, gpu: bool, head_size: int, n_slots: int) -> str:
    """What "auto" means for the KV cache: f16, but f32 for one sequence with very small heads on a CPU.

    llama.cpp's half-precision dot product takes 64 numbers at a time there; narrower heads are added up one by
    one, and in single precision that is a seventh faster (scripts/compare_llama.py). In batches it is not.
    """
    small = 0 < head_size < 64 and not gpu
    return "f32" if small and n_slots == 1 and plan.flash_attention == "off" else "f16"
