"""`foreal` on a machine that is pretended, as a script: `python on_machine.py gen ...`, with the machine as JSON in
FAKE_MACHINE: free (bytes of memory), swap, cgroup (a folder and a file that stand for the system's), gpus (name, total,
free, and shares where their memory is the computer's), cores, backends, amx."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ON_MACHINE = [sys.executable, str(Path(__file__).absolute())]


def pretended(**machine: Any) -> dict[str, str]:
    """The variable for a command on this machine."""
    return {"FAKE_MACHINE": json.dumps(machine, default=str)}


def machine_of(**fake: Any) -> Any:
    """The machine that is pretended, as memory/machine.py describes one."""
    from foreal_local.memory import machine
    from foreal_local.memory.cgroups import tightest_limit
    from foreal_local.runtime.llama import Device

    limit = tightest_limit(*map(Path, fake["cgroup"])) if "cgroup" in fake else None
    total = fake.get("total", 16 * 10**9)
    memory = machine.Memory(total, fake.get("free", 12 * 10**9), fake.get("swap", 0), limit)
    devices = [
        Device(gpu["name"], "a GPU", gpu["total"], gpu["free"], gpu.get("shares", False))
        for gpu in fake.get("gpus", ())
    ]
    backends, cores = tuple(fake.get("backends", ())), fake.get("cores", 2)
    return machine.Machine(memory, tuple(devices), cores, 2, backends, avoids_amx=fake.get("amx", False))


def main() -> None:
    sys.path.pop(0)  # this folder
    from foreal_local.cli.main import main as foreal
    from foreal_local.memory import machine

    here = machine_of(**json.loads(os.environ["FAKE_MACHINE"]))
    machine.this_machine = lambda: here
    foreal()


if __name__ == "__main__":
    main()
