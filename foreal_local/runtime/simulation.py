"""What another process does to tell how much memory models would take: llama.cpp loads them without their weights.

Run as `python -m foreal_local.runtime.simulation`: reads a question from each line of its standard input, and writes
an answer to each, as JSON. memory/simulator.py asks. llama.cpp may end this process over what it cannot load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..config import runtime_of
from ..errors import ForealError
from ..method.roles import Role
from . import llama
from .opening import Lanes, Opening

Key = tuple[str, int]


class _Simulation:
    """Answers questions. Models stay loaded for the next one."""

    def __init__(self) -> None:
        self._loaded: dict[Key, llama.Weights] = {}
        self._abort = llama.Abort()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Bytes of each role by what they are for and by type of buffer. A file that has both roles, with as many
        layers on the GPU, is loaded once: its weights are the first role's."""
        models = {Role(role): (model["path"], model["gpu_layers"]) for role, model in question["models"].items()}
        weights = {role: self._weights(key) for role, key in models.items()}
        found: dict[str, Any] = {}
        seen: set[llama.Weights] = set()
        for role, each in weights.items():
            sizes, n_read = ({}, 0) if each in seen else llama.placed(each)
            found[str(role)] = {"weights": sizes, "mapped_read": n_read}
            seen.add(each)
        for role in weights:
            found[str(role)] |= self._contexts(weights, role, question)
        return found

    def _contexts(self, weights: dict[Role, llama.Weights], role: Role, question: dict[str, Any]) -> dict[str, Any]:
        """Of one role's contexts, in lanes as both roles have them."""
        opening = Opening(
            weights, runtime_of(question["runtime"]), question["n_slots"], question["ctx_size"], question["prefix_slot"]
        )
        lanes: Lanes = []
        logits = 0
        with llama.hearing() as heard:
            try:
                opening.open(lanes, self._abort, [role])
                logits = sum(lane[role].most_logits for lane in lanes)
            finally:
                for lane in lanes:
                    for context in lane.values():
                        context.close()
        return {"cache": heard.cache, "compute": heard.compute, "outputs": heard.output, "logits": logits}

    def _weights(self, key: Key) -> llama.Weights:
        if key not in self._loaded:
            path, gpu_layers = key
            self._loaded[key] = llama.Weights(Path(path), gpu_layers, simulated=True)
        return self._loaded[key]


def main() -> None:
    """Answer until the input ends."""
    simulation = _Simulation()
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"found": simulation.answer(json.loads(line))}
        except (ForealError, OSError) as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
