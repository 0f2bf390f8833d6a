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
from .problems.datasets import Problem

_SEPARATOR = "|"


@dataclass(frozen=True)
class Setting:
    """A way to answer, by the name that stands in the tables."""

    name: str
    generation: Generation


_AXES: dict[Mode, tuple[str, ...]] = {Mode.FOREAL: ("n", "p", "k"), Mode.CUE: ("p",), Mode.SPECULATIVE: ("proposals",)}
"""What a grid varies of each mode; the modes of one model have nothing to vary."""

_ORDER = (Mode.LEADER, Mode.DRAFT, Mode.CUE, Mode.SPECULATIVE, Mode.FOREAL)


def settings_for(base: Generation, modes: Iterable[Mode], grid: str | None = None) -> list[Setting]:
    """The modes' settings, leader first; with a grid ("n=5,15;p=0.6,1;k=5") each at all its own points of it."""
    points, wanted = _points(grid), set(modes)
    unused = set(points) - {axis for mode in wanted for axis in _AXES.get(mode, ())}
    if unused:
        raise UsageError(f"--grid varies {sorted(unused)[0]}, which none of --modes has: leave it out, or add the mode")
    settings = []
    for mode in sorted(wanted, key=_ORDER.index):
        names = _AXES.get(mode, ())
        values = [points.get(name, [getattr(base.method, name)]) for name in names]
        for point in itertools.product(*values):
            own = dict(zip(names, point, strict=True))
            name = " ".join([str(mode), *(f"{axis}={value:g}" for axis, value in own.items())])
            settings.append(Setting(name, replace(base, mode=mode, method=replace(base.method, **own))))
    return settings


def _points(grid: str | None) -> dict[str, list[int | float]]:
    """The values of each axis that a grid names."""
    axes: dict[str, list[int | float]] = {}
    known = {axis for names in _AXES.values() for axis in names}
    for part in filter(None, (grid or "").split(";")):
        name, equals, values = part.partition("=")
        name = name.strip()
        if name not in known or not equals or name in axes:
            raise UsageError(f"--grid has {part.strip()!r}: write it as n=5,15,25;p=0.2,0.6,1.0;k=5;proposals=3,8")
        try:
            numbers = [float(value) if name == "p" else int(value) for value in values.split(",")]
        except ValueError:
            raise UsageError(f"--grid has {values!r} for {name}, but must have numbers between commas") from None
        axes[name] = list(dict.fromkeys(numbers))
    return axes


def prompts_for(problems: list[Problem], settings: list[Setting], n_samples: int) -> list[Prompt]:
    """Problem by problem, each under all settings in a turning order, so that a machine that drifts hurts all alike.

    Sample i has the seed + i. All settings of a problem and sample have the same random numbers: gates are drawn
    alike, speculation writes what the leader writes, and a setting's figures do not depend on which others there are.
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
                        number * n_samples + sample,
                    )
                )
    return prompts


def parts_of(id: str) -> tuple[str, str, int] | None:
    """Problem, setting and sample of a response's id; None for one that prompts_for has not made."""
    problem, *rest = id.rsplit(_SEPARATOR, 2)
    if len(rest) != 2 or not rest[1].isdecimal():
        return None
    return problem, rest[0], int(rest[1])
