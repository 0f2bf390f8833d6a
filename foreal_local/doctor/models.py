"""Whether a pair fits a machine: its plan, and what is wrong where it has none."""

from __future__ import annotations

from ..errors import NotEnoughMemoryError
from ..memory.fit import Fitted, fit, need_of
from ..memory.machine import Machine
from ..memory.request import FitRequest
from ..memory.simulator import Simulator
from .findings import Problem


def planned(request: FitRequest, machine: Machine) -> tuple[Fitted, list[Problem]]:
    """What of a pair fits, and what is changed or missing. Where it does not fit at all, what it needs."""
    with Simulator() as simulator:
        try:
            fitted = fit(request, machine, simulator, thorough=True)
        except NotEnoughMemoryError as error:
            return Fitted(request, need_of(request, machine, simulator)), [Problem(str(error), stops=True)]
        reason, refuses = simulator.reason, simulator.refuses
    problems = [Problem(text) for text in (fitted.changed, fitted.warning) if text]
    if fitted.need is None:
        text = reason if refuses else f"llama.cpp does not tell what the models would take: {reason}"
        problems.append(Problem(text, stops=refuses))
    return fitted, problems
