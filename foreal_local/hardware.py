"""What this machine has: cores for threads."""

from __future__ import annotations

import os
import re
from pathlib import Path


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
