"""What llama.cpp is expected to take, and what it then takes by its own log: weights, caches, compute buffers, outputs.

    python scripts/measure_memory.py                                  # the bundled pair
    python scripts/measure_memory.py leader.gguf draft.gguf ...       # pairs of your own, two files each

Each pair is opened in several ways; a line for each way and role, in MB. docs/measurements.md keeps the last figures.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from foreal_local.config import Pair, Runtime
from foreal_local.hub import bundled_dir
from foreal_local.memory.need import Need
from foreal_local.memory.simulator import Simulator
from foreal_local.method.roles import Role
from foreal_local.runtime import llama
from foreal_local.runtime.llama.library import library
from foreal_local.runtime.loaded import ctx_size_of
from foreal_local.runtime.opening import Lanes, Opening

PARTS = ("weights", "cache", "compute", "outputs")
_BUFFER = re.compile(r"\S+ +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
_PART = {"model": "weights", "KV": "cache", "RS": "cache", "compute": "compute", "output": "outputs"}
WAYS: dict[str, tuple[Runtime, int, bool]] = {
    "as by default": (Runtime(threads=1), 1, False),
    "8 prompts at a time": (Runtime(threads=1, ctx_size=2048), 8, True),
    "caches in q8_0": (Runtime(threads=1, ctx_size=4096, kv_type_k="q8_0", kv_type_v="q8_0"), 2, False),
}
"""How the models run, sequences at a time, and whether they share a prefix."""


def taken(pair: Pair, runtime: Runtime, n_slots: int, prefix_slot: bool) -> dict[Role, Counter[str]]:
    """Bytes that llama.cpp logs while it really opens both models, by role and by what they are for."""
    found: dict[Role, Counter[str]] = {}
    lanes: Lanes = []
    weights: dict[Role, llama.Weights] = {}
    abort, log = llama.Abort(), library()
    try:
        for role in Role:
            text: list[str] = []
            log.listener = text.append
            is_shared = role.other in weights and pair.leader == pair.draft  # one file for both is loaded once
            model = pair.of(role)
            weights[role] = weights[role.other] if is_shared else llama.Weights(model.path, model.gpu_layers)
            found[role] = _sums("".join(text))
        for role in Role:
            text.clear()
            Opening(weights, runtime, n_slots, ctx_size_of(pair, runtime), prefix_slot).open(lanes, abort, [role])
            found[role] += _sums("".join(text))
    finally:
        log.listener = None
        for lane in lanes:
            for context in lane.values():
                context.close()
        for each in set(weights.values()):
            each.close()
    return found


def _sums(text: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for kind, size in _BUFFER.findall(text):
        sums[_PART[kind]] += round(float(size) * 2**20)
    return sums


def expected(
    simulator: Simulator, pair: Pair, runtime: Runtime, n_slots: int, prefix_slot: bool
) -> dict[Role, Counter[str]]:
    """Bytes that are expected before anything is loaded."""
    need: Need | None = simulator.need(
        pair, runtime, ctx_size=ctx_size_of(pair, runtime), n_slots=n_slots, prefix_slot=prefix_slot
    )
    if need is None:
        raise SystemExit(f"no estimate: {simulator.reason}")
    return {
        role: Counter({part: sum(each.parts[part].values()) for part in PARTS}) for role, each in need.roles.items()
    }


def main(files: list[str]) -> None:
    pairs = [Pair(*map(Path, files[i : i + 2])) for i in range(0, len(files) - 1, 2)]
    pairs = pairs or [Pair(bundled_dir() / "tiny-leader.gguf", bundled_dir() / "tiny-draft.gguf")]
    print(f"| model | way | {' | '.join(f'{part}, expected and taken' for part in PARTS)} | off by |")
    print("|---" * (len(PARTS) + 3) + "|")
    with Simulator() as simulator:
        for pair in pairs:
            for name, (runtime, n_slots, prefix_slot) in WAYS.items():
                before = expected(simulator, pair, runtime, n_slots, prefix_slot)
                after = taken(pair, runtime, n_slots, prefix_slot)
                for role in Role:
                    cells = [f"{before[role][part] / 1e6:.1f}, {after[role][part] / 1e6:.1f}" for part in PARTS]
                    off = sum(before[role].values()) / sum(after[role].values()) - 1
                    print(f"| {pair.of(role).path.name} | {name} | {' | '.join(cells)} | {off:+.2%} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
