#!/usr/bin/env python3
"""JSON answers against a schema: how many are valid, in each mode, and what the grammar costs for each token.

    python scripts/measure_grammar.py --leader LEADER --draft DRAFT [-n 200]

Questions with numbers of their own are answered with --json-schema; jsonschema, which knows nothing of grammars, says
which answers are valid. The cost is the time in the grammar (masks, copies, accepted tokens) for each token written,
measured inside this process; the time of the whole run stands beside it. Needs the jsonschema package ('.[test]').
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jsonschema

sys.path.insert(0, str(Path(__file__).parent.parent))
from foreal_local.config import Pair, Runtime, generation_of
from foreal_local.engine import Engine
from foreal_local.presets import preset
from foreal_local.results import Prompt
from foreal_local.runtime.llama.grammar import LlamaGrammar
from foreal_local.runtime.llama.json_schema import JsonGrammar

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": 5,
            "items": {
                "type": "object",
                "properties": {"calculation": {"type": "string", "maxLength": 80}, "value": {"type": "number"}},
                "required": ["calculation", "value"],
                "additionalProperties": False,
            },
        },
        "unit": {"enum": ["apples", "pens", "cups", "coins", "other"]},
        "certain": {"type": "boolean"},
        "note": {"type": ["string", "null"], "maxLength": 40},
        "answer": {"type": "integer"},
    },
    "required": ["steps", "unit", "certain", "note", "answer"],
    "additionalProperties": False,
}
MODES: dict[str, dict[str, Any]] = {
    "leader": {"mode": "leader"},
    "speculative": {"mode": "speculative", "proposals": 4},
    "foreal": {"mode": "foreal"},
    "balanced": {**preset("balanced"), "proposals": 16},
}
QUESTION = (
    "A box holds {a} {thing}. {n} such boxes are packed, then {b} {thing} are taken out. How many {thing} are left? "
    "Answer in JSON with your steps."
)


@click.command()
@click.option("--leader", "-l", required=True)
@click.option("--draft", "-d", required=True)
@click.option("-n", "n_answers", default=200, show_default=True, help="Answers in all, shared out among the modes.")
@click.option("--temp", default=0.6, show_default=True)
@click.option("--parallel", "-P", default=4, show_default=True)
@click.option("--threads", "-t", type=int)
@click.option("--only", type=click.Choice(list(MODES)), multiple=True)
def main(
    leader: str, draft: str, n_answers: int, temp: float, parallel: int, threads: int | None, only: tuple[str, ...]
) -> None:
    """Count valid answers, and time the grammar."""
    names = list(only) or list(MODES)
    clock = Clock()
    with Engine(Pair(leader, draft), runtime=Runtime(ctx_size=1024, threads=threads), n_slots=parallel) as engine:
        click.echo(
            f"{'':13}{'answers':>8}{'valid':>7}{'tokens':>8}{'seconds':>9}{'grammar, ms/token':>19}{'of the time':>13}"
        )
        for number, name in enumerate(names):
            n = n_answers // len(names) + (number < n_answers % len(names))
            click.echo(f"{name:13}" + measure(engine, MODES[name], n, number * n_answers, temp, clock))
    click.echo(f"temp {temp:g}, seed 1, {parallel} at a time")


def measure(engine: Engine, mode: dict[str, Any], n: int, first: int, temp: float, clock: Clock) -> str:
    settings = generation_of({**mode, "temp": temp, "seed": 1, "max_tokens": 600, "json_schema": json.dumps(SCHEMA)})
    things = SCHEMA["properties"]["unit"]["enum"][:4]
    prompts = [
        Prompt(QUESTION.format(a=2 + i % 37, n=2 + i % 11, b=1 + i % 5, thing=things[i % 4]), index=i)
        for i in range(first, first + n)
    ]
    started, clock.seconds = time.perf_counter(), 0.0
    results = engine.generate(prompts, settings)
    seconds = time.perf_counter() - started
    n_tokens = sum(len(result.tokens) for result in results)
    n_valid = sum(map(is_valid, (result.answer for result in results)))
    each = clock.seconds / max(1, n_tokens) * 1000
    return f"{n:8}{n_valid:7}{n_tokens:8}{seconds:9.1f}{each:19.3f}{clock.seconds / seconds:13.1%}"


def is_valid(text: str) -> bool:
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        click.echo(f"not valid: {text}", err=True)
        return False
    return True


class Clock:
    """Seconds in the grammar's own calls."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0
        for kind in (LlamaGrammar, JsonGrammar):
            for name in ("allowed", "after"):
                setattr(kind, name, self._timed(getattr(kind, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            self._depth += 1
            started = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return timed


if __name__ == "__main__":
    main()
