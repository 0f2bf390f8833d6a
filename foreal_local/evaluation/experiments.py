"""What a benchmark runs: settings, and the prompts of all problems under all of them, in turn.

Every response is an ordinary record of foreal-gen, whose id says problem, setting and sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..config import Generation, Mode
from ..errors import UsageError
from ..results import Prompt
from .datasets import Problem

_SEPARATOR = "|"


@dataclass(frozen=True)
class Setting:
    """A way to answer, by the name that stands in the tables."""

    name: str
    generation: Generation


def settings_for(base: Generation, modes: Iterable[Mode], grid: str | None = None) -> list[Setting]:
    """The modes' settings, leader first; with a grid ("n=5,15;p=0.6,1;k=5") foreal at each of its points."""
    found = []
    for mode in sorted(set(modes), key=list(Mode).index, reverse=False):
        if mode is not Mode.FOREAL:
            found.append(Setting(str(mode), replace(base, mode=mode)))
            continue
        for point in _points(grid):
            method = replace(base.method, **point)  # type: ignore[arg-type]
            name = f"foreal n={method.n} p={method.p:g} k={method.k}"
            found.append(Setting(name, replace(base, mode=mode, method=method)))
    return sorted(found, key=lambda setting: setting.generation.mode is Mode.FOREAL)


def _points(grid: str | None) -> list[dict[str, int | float]]:
    axes: dict[str, list[int | float]] = {}
    for part in filter(None, (grid or "").split(";")):
        name, equals, values = part.partition("=")
        name = name.strip()
        if name not in ("n", "p", "k") or not equals or name in axes:
            raise UsageError(f"--grid has {part.strip()!r}: write it as n=5,15,25;p=0.2,0.6,1.0;k=5")
        try:
            axes[name] = [float(value) if name == "p" else int(value) for value in values.split(",")]
        except ValueError:
            raise UsageError(f"--grid has {values!r} for {name}, but must have numbers between commas") from None
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def prompts_for(problems: list[Problem], settings: list[Setting], n_samples: int) -> list[Prompt]:
    """Problem by problem, each under all settings in a turning order, so that a machine that drifts hurts all alike.

    Sample i has the seed + i. All prompts of a problem and sample have other random numbers (their places differ).
    """
    prompts = []
    for number, problem in enumerate(problems):
        turned = settings[number % len(settings) :] + settings[: number % len(settings)]
        for sample in range(n_samples):
            for setting in turned:
                generation = setting.generation
                assert generation.seed is not None
                prompts.append(
                    Prompt(
                        problem.question,
                        _SEPARATOR.join((problem.id, setting.name, str(sample))),
                        replace(generation, seed=generation.seed + sample),
                    )
                )
    return prompts


def parts_of(id: str) -> tuple[str, str, int]:
    """Problem, setting and sample of a response's id."""
    problem, setting, sample = id.rsplit(_SEPARATOR, 2)
    return problem, setting, int(sample)
