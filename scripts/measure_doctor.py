"""What foreal doctor expects a token to take in each mode, and what it then takes, in turn, in one process.

    python scripts/measure_doctor.py leader.gguf draft.gguf
    python scripts/measure_doctor.py --cpu-time leader.gguf draft.gguf    # where other programs keep cores busy

Ten of the bundled problems are answered in each mode, 96 tokens each; before each problem evaluations are timed anew.
Times are without those of the prompts. --cpu-time counts the time that processors have worked for it, all threads
together: where other programs run, that is hardly longer. docs/measurements.md keeps the last figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict

if "--cpu-time" in sys.argv:
    sys.argv.remove("--cpu-time")
    time.perf_counter = time.process_time

from foreal_local import Engine, Pair
from foreal_local.config import Generation, Runtime, generation_of
from foreal_local.doctor.speed import expected_of, measured
from foreal_local.hub import bundled_dir
from foreal_local.presets import PRESETS

MODES = ("leader", "draft", "paper", "faithful", "fast")
FIRST, N_PROBLEMS, N_TOKENS = 14, 10, 96  # those before are where doctor/speed.py's table is from


def settings_of(name: str) -> Generation:
    """Greedy, so that the same is written each time."""
    values = dict(PRESETS.get(name, {"mode": name}))
    return generation_of(values | {"temp": 0.0, "max_tokens": N_TOKENS, "seed": 0})


def main(leader: str, draft: str) -> None:
    lines = (bundled_dir() / "heldout.jsonl").read_text("utf-8").splitlines()[FIRST : FIRST + N_PROBLEMS]
    taken: dict[str, float] = defaultdict(float)
    wanted: dict[str, float] = defaultdict(float)
    runtime = Runtime(ctx_size=1024, threads=2)
    with Engine(Pair(leader, draft), runtime=runtime, settings=Generation(mode="leader")) as engine:
        for line in lines:
            expected = {each.name.split()[1]: each.seconds for each in expected_of(measured(engine.loaded))}
            for name in MODES:
                result = engine.generate(json.loads(line)["prompt"], settings=settings_of(name))
                seconds = sum(cost.seconds - cost.prompt_seconds for cost in result.cost.values())
                taken[name] += 1e3 * seconds / len(result.tokens) / N_PROBLEMS
                wanted[name] += 1e3 * expected[name] / N_PROBLEMS
    print("| mode | expected, ms a token | taken | off by |\n|---|---|---|---|")
    for name in MODES:
        off = wanted[name] / taken[name] - 1
        print(f"| {name} | {wanted[name]:.1f} | {taken[name]:.1f} | {off:+.0%} |")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
