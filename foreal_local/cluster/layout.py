"""How a cluster's machines are shared out: actors, and the threads or the GPU of each. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..runtime.hardware import plan_lanes

_MOST_TOGETHER = 16
_FEWEST_JOURNEYS = 100
"""Journeys that each slot makes at least, where several prompts travel together: what a machine has in hand, and what
the others wait for at the end, is a hundredth of its work."""
_SLOTS_TO_SERVE = 512
"""Slots of the cluster that the driver can fill with one prompt at a time: a task costs it some milliseconds
(scripts/measure_ray.py), and a response takes seconds."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: what of it Ray may give away."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Layout:
    """What each actor gets.

    n_actors: there are
    threads: CPUs of each, and threads that evaluate there
    n_nodes: machines that have room for some
    gpus: GPUs of each
    """

    n_actors: int
    threads: int
    n_nodes: int
    gpus: int = 0

    def describe(self, n_actors: int) -> str:
        """So many of them, in words."""
        each = f"{self.threads} CPU{'s' * (self.threads > 1)}{' and a GPU' * bool(self.gpus)}"
        machines = f"{self.n_nodes} machine{'s' * (self.n_nodes > 1)}"
        one_each = " each" * (n_actors > 1)
        return f"{n_actors} actor{'s' * (n_actors > 1)} with {each}{one_each}, in a Ray cluster with room on {machines}"

    def together(self, n_prompts: int, parallel: int) -> int:
        """How many of n_prompts travel together.

        parallel: prompts that an actor answers at a time
        """
        n_slots = self.n_actors * parallel
        wanted = max(n_prompts // (_FEWEST_JOURNEYS * n_slots), n_slots // _SLOTS_TO_SERVE)
        return min(_MOST_TOGETHER, max(1, wanted))


def layout_of(
    nodes: Sequence[Node], *, n_bytes: int, threads: int | None, parallel: int, on_gpu: bool, n_actors: int | None
) -> Layout:
    """As many actors as the machines have room for, or n_actors of them. UsageError where no machine has room for one.

    n_bytes: of both models' weights
    threads: of each actor; None: one for each of its prompts where the models are small, else those of the smallest
        machine, shared between its GPUs
    parallel: prompts that an actor answers at a time
    on_gpu: the models go to a GPU, where the cluster has one
    """
    gpus = int(on_gpu and any(node.gpus >= 1 for node in nodes))
    usable = [node for node in nodes if node.cpus >= 1 and node.gpus >= gpus]
    if not usable:
        raise UsageError("no machine of this Ray cluster has a CPU to give away: start it with --num-cpus")
    if threads is None:
        cpus = min(int(node.cpus // max(1, node.gpus if gpus else 1)) for node in usable)
        is_small = plan_lanes(n_bytes, 2, bool(gpus)) > 1
        threads = max(1, min(parallel, cpus) if is_small else cpus)
    most = max(int(node.cpus) for node in usable)
    if threads > most:
        raise UsageError(f"--threads is {threads}, and no machine of this Ray cluster has more than {most} CPUs for it")
    rooms = [min(int(node.cpus // threads), int(node.gpus) if gpus else 10**9) for node in usable]
    return Layout(n_actors or sum(rooms), threads, sum(map(bool, rooms)), gpus)
