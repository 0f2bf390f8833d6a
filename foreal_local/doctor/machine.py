"""What is wrong with a machine, as far as models are concerned, and where its models are kept."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..memory.words import in_words
from .findings import Cache, Problem

if TYPE_CHECKING:
    from ..memory.machine import Machine

_LITTLE_MEMORY = 2 * 10**9
_LITTLE_DISK = 5 * 10**9
_LITTLE_OF_A_GPU = 0.5
_INSTALL = "pip install --force-reinstall --no-cache-dir 'llama-cpp-python>=0.3.36,<0.4'"
_GPUS = (
    ("proc/driver/nvidia/version", "an NVIDIA GPU", "GGML_CUDA"),
    ("dev/kfd", "an AMD GPU", "GGML_VULKAN"),
)
"""Files that say that a GPU is there, what it is, and what llama.cpp is built with to use it."""


def problems_of(machine: Machine, root: Path = Path("/")) -> Iterator[Problem]:
    """What is wrong with a machine.

    root: where its files begin
    """
    yield from _gpu_problems(machine, root)
    memory = machine.memory
    if memory.free < _LITTLE_MEMORY:
        where = (
            f"the limit of this group of processes ({memory.limit.where})" if memory.limit and memory.is_limited else ""
        )
        text = f"{in_words(memory.free)} of memory are free" + (
            f": {where} is {in_words(memory.limit.total)}" if where and memory.limit else ""
        )
        yield Problem(text, "raise that limit" if where else "end other programs, or take a small pair (foreal pairs)")
    if machine.avoids_amx:
        text = "llama.cpp was compiled by a GCC whose code for AMX crashes; its fastest kernels are not used"
        yield Problem(text, f"with GCC 12.4, 13.3, 14 or later: {_INSTALL}")
    if machine.cores < machine.processors // 2:
        text = f"{machine.cores} of {machine.processors} processors may be used by this process"
        yield Problem(text, "taskset or the container's settings say which; more cores are faster")


def _gpu_problems(machine: Machine, root: Path) -> Iterator[Problem]:
    if machine.backends and not machine.devices:
        names = " and ".join(machine.backends)
        yield Problem(
            f"llama.cpp is built for {names}, but finds no GPU",
            "see whether the driver works (nvidia-smi, vulkaninfo), and whether a container may use the GPU",
        )
    if not machine.backends:
        unused = next(((name, flag) for file, name, flag in _GPUS if (root / file).exists()), None)
        if unused is None and platform.system() == "Darwin" and platform.machine() == "arm64":
            unused = ("a GPU", "GGML_METAL")
        if unused:
            name, flag = unused
            text = f"there is {name}, but this llama-cpp-python is built for the CPU alone"
            yield Problem(text, f'CMAKE_ARGS="-D{flag}=on" {_INSTALL}')
    for device in machine.devices:
        if device.total > 0 and device.free < _LITTLE_OF_A_GPU * device.total:
            text = f"{in_words(device.free)} of the {in_words(device.total)} of {device.name} are free"
            yield Problem(text, "end what else uses it (nvidia-smi lists it), or layers stay on the CPU")


def cache_here() -> Cache:
    """The hub's cache, and what models take there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    files = {path.resolve(): path for path in folder.glob("models--*/snapshots/*/**/*.gguf")}
    sizes = [path.stat().st_size for path in files if path.is_file()]
    on_disk = next(each for each in (folder, *folder.parents) if each.exists())
    return Cache(folder, len(sizes), sum(sizes), shutil.disk_usage(on_disk).free)


def problems_of_cache(cache: Cache) -> Iterator[Problem]:
    """What is wrong with it."""
    if cache.free < _LITTLE_DISK:
        text = f"{in_words(cache.free)} of disk are free where models are kept ({cache.folder})"
        yield Problem(text, "free some space, or set HF_HOME to a folder on a larger disk")
