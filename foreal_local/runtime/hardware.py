"""What this machine has and what follows from it: threads, lanes, how a context computes and caches attention."""

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


# ---------------------------------------------------------------- builds of llama.cpp that crash
_GCC = re.compile(rb"GCC: \([^)]*\) (\d+)\.(\d+)")
_FIRST_MENDED = {11: 5, 12: 4, 13: 3}  # minor version by major; from GCC 14 on all are


def amx_crashes(system_info: str, library: Path) -> bool:
    """Whether a build of llama.cpp ends the process when it multiplies quantised weights on AMX.

    GCC before 11.5, 12.4 and 13.3 leaves out what fills the tile configuration (GCC PR 114098).

    system_info: llama.cpp's
    library: the file with its CPU kernels, in which the compiler has left its version
    """
    if "AMX_INT8 = 1" not in system_info:
        return False
    try:
        version = _GCC.search(library.read_bytes())
    except OSError:
        return False
    if not version:
        return False
    major, minor = int(version[1]), int(version[2])
    return major < 14 and minor < _FIRST_MENDED.get(major, 99)


# ---------------------------------------------------------------- lanes
_SMALL = 32 * 1024 * 1024
"""Bytes of weights up to which lanes with one thread each are faster than one lane with all threads: so small a graph
gains little from several threads."""


def plan_lanes(n_bytes: int, threads: int, gpu: bool) -> int:
    """How many contexts evaluate side by side: one for each thread where the models are small, otherwise one.

    n_bytes: of both models' weights

    scripts/compare_parallel.py measures it.
    """
    return threads if n_bytes <= _SMALL and not gpu else 1


def plan_slots(settings: Runtime, n_slots: int, threads: int, n_bytes: int, gpu: bool) -> list[int]:
    """How many of n_slots each lane has. The settings say how many lanes there are; otherwise plan_lanes does."""
    n_lanes = min(n_slots, settings.lanes or plan_lanes(n_bytes, threads, gpu))
    return [len(range(lane, n_slots, n_lanes)) for lane in range(n_lanes)]


def threads_each(settings: Runtime, threads: int, n_busy: int, n_bytes: int, gpu: bool) -> int:
    """Threads of each of n_busy lanes that evaluate: one where the models are small, unless the settings say otherwise.

    A second thread makes a small model hardly faster, and much slower where other programs keep a core busy: each of
    its hundreds of short steps then waits for a thread that has no core. scripts/measure_busy.py measures it.
    """
    if settings.threads is None and n_bytes <= _SMALL and not gpu:
        return 1
    return max(1, threads // n_busy)


# ---------------------------------------------------------------- waiting
_WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_WAIT_BRIEFLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def wait_briefly() -> None:
    """Let threads that wait for each other sleep soon, before the library that runs them is loaded.

    llama.cpp's threads meet hundreds of times for a token. By default they spin for milliseconds, which keeps the
    thread that they wait for from its core where another program needs one. What the user has set stays.
    """
    if not any(name in os.environ for name in _WAIT_SETTINGS):
        os.environ.update(_WAIT_BRIEFLY)


# ---------------------------------------------------------------- attention and its cache
_SCORE_BYTES = 24 * 1024 * 1024  # most that attention scores may take without flash attention
_FEWEST_ROWS = 64  # tokens of a graph that must be possible without flash attention, or llama.cpp decides


@dataclass(frozen=True)
class AttentionPlan:
    """How attention is computed.

    flash_attention: "on", "off" or "auto" (llama.cpp decides)
    n_ubatch: most tokens of one graph
    """

    flash_attention: str
    n_ubatch: int


def plan_attention(settings: Runtime, gpu: bool, n_heads: int, n_cells: int) -> AttentionPlan:
    """What "auto" means: llama.cpp decides, but on the CPU there is no flash attention if that is possible.

    On some processors flash attention is as fast as without, on others half as fast (scripts/compare_llama.py measures
    it). Without it the scores take 4 bytes x n_heads x n_cells for each token of a graph. So graphs are smaller, and
    long contexts need flash attention. A quantised V cache needs it, too.
    """
    as_set = AttentionPlan(settings.flash_attention, settings.batch_size)
    quantised = settings.kv_type_v not in ("auto", "f32", "f16", "bf16")
    if settings.flash_attention != "auto" or gpu or quantised:
        return as_set
    n_rows = _SCORE_BYTES // (4 * max(1, n_heads) * n_cells)
    if n_rows < min(_FEWEST_ROWS, settings.batch_size):
        return as_set
    return AttentionPlan("off", min(settings.batch_size, n_rows))


def auto_cache_type(plan: AttentionPlan, gpu: bool, head_size: int, n_slots: int) -> str:
    """What "auto" means for the KV cache: f16, but f32 for one sequence with very small heads on a CPU.

    On a CPU llama.cpp's half-precision dot product takes 64 numbers at a time, and those of narrower heads one by one.
    In single precision that is a seventh faster for one sequence, but no faster in batches (scripts/compare_llama.py).
    """
    small = 0 < head_size < 64 and not gpu
    return "f32" if small and n_slots == 1 and plan.flash_attention == "off" else "f16"


# ---------------------------------------------------------------- a context
_FEWEST_OUTPUTS, _OUTPUTS_PER_SLOT = 64, 36  # a review asks for as many as are proposed, and one more
LARGEST_PADDED = 64
"""Most tokens of an evaluation that is filled up (ContextPlan.has_padding_slot)."""
_SIZES_ON_GPU = (16, 32, LARGEST_PADDED)  # each has at least one token more than is wanted
MOST_SINGLY = 3
"""Tokens that a GPU evaluates faster one by one than as an evaluation of another size than the last."""


def padded_size(n_tokens: int, gpu: bool) -> int:
    """How many tokens an evaluation of n_tokens is filled up to, because so many take no longer, or less.

    On a GPU llama.cpp makes its graph anew for another size than the last, and 16 tokens are faster than 8. On a CPU
    its kernels take sixteen or four tokens at once, and what is left over one by one. docs/measurements.md has times.
    """
    if n_tokens >= LARGEST_PADDED:
        return n_tokens
    if gpu:
        return n_tokens if n_tokens <= MOST_SINGLY else next(size for size in _SIZES_ON_GPU if size > n_tokens)
    if n_tokens % 16 > 12:
        return n_tokens + 16 - n_tokens % 16
    return n_tokens + (n_tokens % 4 == 3 and n_tokens > 4)


@dataclass(frozen=True)
class ContextPlan:
    """How a context is made: its sizes, how it computes attention, how it stores keys and values.

    n_slots: sequences that are cached side by side
    n_ctx: most tokens of one sequence
    has_prefix_slot: whether there is one more slot, for a prefix that is copied into the others
    has_padding_slot: whether there is one more slot, for tokens that fill short evaluations up (padded_size)
    threads: threads that evaluate
    n_cells: tokens that the KV cache has room for, all slots together
    kv_unified: whether all slots share one KV buffer
    n_batch: most tokens of one evaluation
    n_ubatch: most tokens of one graph; llama.cpp splits an evaluation into graphs
    n_outputs: most tokens of one evaluation that get logits
    n_rollback: most tokens by which a recurrent memory can be rewound at once
    flash_attention: "on", "off" or "auto" (llama.cpp decides)
    type_k, type_v: element types of the KV cache
    """

    n_slots: int
    n_ctx: int
    has_prefix_slot: bool
    has_padding_slot: bool
    threads: int
    n_cells: int
    kv_unified: bool
    n_batch: int
    n_ubatch: int
    n_outputs: int
    n_rollback: int
    flash_attention: str
    type_k: str
    type_v: str

    @property
    def n_sequences(self) -> int:
        """All slots, the prefix slot and the padding slot too."""
        return self.n_slots + self.has_prefix_slot + self.has_padding_slot


def plan_context(
    settings: Runtime,
    *,
    n_slots: int,
    n_ctx: int,
    threads: int,
    n_heads: int,
    head_size: int,
    gpu: bool,
    prefix_slot: bool = False,
    separate_caches: bool = False,
    padding: bool = False,
) -> ContextPlan:
    """The context of a model with n_heads attention heads of head_size numbers each.

    prefix_slot: one more slot, for a shared prefix. A buffer that all slots share is not larger for it: the prefix slot
        uses cells that the others leave free.
    separate_caches: one KV buffer per slot. Attention reads less; llama.cpp batches only equally long rows of
        neighbouring slots.
    padding: short evaluations are filled up
    """
    padding = padding and not separate_caches and settings.batch_size >= LARGEST_PADDED
    n_sequences = n_slots + prefix_slot + padding
    n_cells = n_ctx * (n_sequences if separate_caches else n_slots) + padding * LARGEST_PADDED
    attention = plan_attention(settings, gpu, n_heads, n_ctx if separate_caches else n_cells)
    auto_type = auto_cache_type(attention, gpu, head_size, n_slots)
    # llama.cpp reserves a row per sequence, and needs more rows than a recurrent memory can be rewound by
    n_batch = max(settings.batch_size, n_sequences, settings.rollback + 2)
    return ContextPlan(
        n_slots=n_slots,
        n_ctx=n_ctx,
        has_prefix_slot=prefix_slot,
        has_padding_slot=padding,
        threads=threads,
        n_cells=n_cells,
        kv_unified=n_sequences > 1 and not separate_caches,
        n_batch=n_batch,
        n_ubatch=max(attention.n_ubatch, n_sequences, settings.rollback + 2),
        # Logits of a whole batch would cost memory: n_vocab floats for each of its tokens.
        n_outputs=min(n_batch, max(_FEWEST_OUTPUTS, _OUTPUTS_PER_SLOT * n_slots)),
        n_rollback=settings.rollback,
        flash_attention=attention.flash_attention,
        type_k=auto_type if settings.kv_type_k == "auto" else settings.kv_type_k,
        type_v=auto_type if settings.kv_type_v == "auto" else settings.kv_type_v,
    )
