"""What a benchmark runs: settings, and the prompts of all problems under all of them, in turn.

Every response is an ordinary record of foreal-gen, whose id says problem, setting and sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..config import MODES, SETTINGS, Generation, find_setting, generation_of, in_force
from ..errors import UsageError
from ..method.modes import axes_of
from ..presets import PRESETS, preset
from ..results import Prompt
from .problems.datasets import Problem

_SEPARATOR = "|"


@dataclass(frozen=True)
class BenchSetting:
    """A way to answer, by the name that stands in the tables."""

    name: str
    generation: Generation


def settings_for(base: Generation, modes: Iterable[str], grid: str | None = None) -> list[BenchSetting]:
    """The modes' settings, the default mode last; with a grid ("n=5,15;p=0.6,1;k=5") each at all its own points of it.

    A preset's name among the modes stands for its settings, which no grid varies. A grid may vary whatever a mode has
    (Mode.settings); the mode's axes stand in the names of its settings always, others where the grid names them or
    where they are not the default's.
    """
    wanted = [mode for mode in dict.fromkeys(modes) if mode not in PRESETS]
    points = _points(grid, {name for mode in wanted for name in MODES[mode].settings})
    default, order = Generation().mode, list(MODES)
    found: dict[str, Generation] = {}
    for mode in sorted(wanted, key=lambda mode: (mode == default, order.index(mode))):
        row = MODES[mode]
        of_mode = in_force(replace(base, mode=mode))
        others = {name for name in row.settings if name in of_mode and of_mode[name] != SETTINGS[name].default}
        told_always = {*row.axes, *points, *(others - set(row.of_speed))}
        names = [name for name in row.settings if name in told_always]
        values = [points.get(name, [getattr(base.method, name)]) for name in names]
        for point in itertools.product(*values):
            own = dict(zip(names, point, strict=True))
            method = replace(base.method, **own)
            told = axes_of(mode, method)
            words = [f"{name}={_shown(value)}" for name, value in own.items() if name in told or name not in row.axes]
            found.setdefault(" ".join([mode, *words]), replace(base, mode=mode, method=method))
    named = [name for name in dict.fromkeys(modes) if name in PRESETS]
    found |= {name: generation_of(preset(name), base) for name in named}
    return [BenchSetting(name, generation) for name, generation in found.items()]


def _shown(value: object) -> str:
    return "auto" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _points(grid: str | None, known: set[str]) -> dict[str, list[Any]]:
    """The values of each axis that a grid names."""
    axes: dict[str, list[Any]] = {}
    every = {name for mode in MODES.values() for name in mode.settings}
    for part in filter(None, (grid or "").split(";")):
        name, equals, values = part.partition("=")
        setting = find_setting(name.strip())
        if setting is None or setting.name not in every or not equals or setting.name in axes:
            raise UsageError(f"--grid has {part.strip()!r}: write it as n=5,15,25;p=0.2,0.6,1.0;k=5;proposals=3,8")
        if setting.name not in known:
            raise UsageError(f"--grid varies {setting.name}, which none of --modes has: leave it out, or add the mode")
        try:
            found = [setting.from_text(value.strip()) for value in values.split(",")]
        except UsageError:
            kind = "numbers" if setting.kind in (int, float) else "values"
            raise UsageError(f"--grid has {values!r} for {name}, but must have {kind} between commas") from None
        axes[setting.name] = list(dict.fromkeys(found))
    return axes


def prompts_for(problems: list[Problem], settings: list[BenchSetting], n_samples: int) -> list[Prompt]:
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
