"""What this machine has, as far as models need it: memory that is free, GPUs, cores."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import psutil

from ..runtime.hardware import usable_cores
from ..runtime.llama import Device
from .cgroups import Limit, tightest_limit

_UNKNOWN = 2**60  # bytes; more than there can be


@dataclass(frozen=True)
class Memory:
    """The computer's memory, in bytes.

    total: all there is; 0 where the system does not tell, and then there is enough of everything
    available: what programs can still have without the system writing to its swap space
    swap: what is free of that
    limit: of this process's group; None: there is none
    """

    total: int
    available: int
    swap: int = 0
    limit: Limit | None = None

    @property
    def free(self) -> int:
        """What this process can still have."""
        available = self.available if self.total else _UNKNOWN
        return min(available, self.limit.free) if self.limit else available

    @property
    def is_limited(self) -> bool:
        """Whether it is a limit that leaves least."""
        return self.limit is not None and self.limit.free == self.free


@dataclass(frozen=True)
class Machine:
    """What models can run on.

    memory: the computer's
    devices: GPUs that llama.cpp would use
    cores: that this process may use
    processors: that the system has, as it counts them
    backends: what llama.cpp can compute with besides the processor
    has_rpc: models may lie on several machines
    avoids_amx: its build would crash on this processor's AMX
    """

    memory: Memory
    devices: tuple[Device, ...] = ()
    cores: int = 1
    processors: int = 1
    backends: tuple[str, ...] = ()
    has_rpc: bool = False
    avoids_amx: bool = False


def this_machine() -> Machine:
    """This one, now. InstallationError where llama-cpp-python cannot be used."""
    from ..runtime import llama

    return Machine(
        memory=memory_here(),
        devices=tuple(llama.devices()),
        cores=usable_cores(),
        processors=os.cpu_count() or 1,
        backends=tuple(llama.backends()),
        has_rpc=llama.has_rpc(),
        avoids_amx=llama.avoids_amx(),
    )


def memory_here() -> Memory:
    """This machine's memory, now."""
    limit = tightest_limit()
    try:
        found = psutil.virtual_memory()
        with warnings.catch_warnings():  # of a system that tells only a part
            warnings.simplefilter("ignore")
            swap = psutil.swap_memory().free
    except (OSError, RuntimeError):
        return Memory(0, 0, 0, limit)
    if limit and limit.total >= found.total:
        limit = None
    return Memory(found.total, found.available, 0 if limit else swap, limit)
