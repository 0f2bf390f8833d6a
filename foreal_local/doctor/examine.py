"""The examination: the machine, then the pair on it. What cannot be looked at is a problem, and ends nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Pair, Runtime
from ..errors import ForealError, InstallationError
from ..method.roles import Role
from .findings import Findings, Problem
from .machine import cache_here, problems_of, problems_of_cache

if TYPE_CHECKING:
    from ..memory.request import FitRequest

Note = Callable[[str], None]


def examine_machine() -> Findings:
    """What this machine has, and what is wrong with it."""
    findings = Findings()
    try:
        from ..memory.machine import this_machine

        findings.machine = this_machine()
        findings.version = metadata.version("llama-cpp-python")
        findings.problems += problems_of(findings.machine)
    except InstallationError as error:
        findings.problems.append(Problem(str(error), stops=True))
    try:
        findings.cache = cache_here()
        findings.problems += problems_of_cache(findings.cache)
    except OSError as error:
        findings.problems.append(
            Problem(f"the hub's cache cannot be read: {error}", "set HF_HOME to a folder of yours")
        )
    return findings


def examine_pair(
    findings: Findings,
    pair_for: Callable[[], Pair],
    runtime: Runtime,
    *,
    n_slots: int,
    roles: Iterable[Role],
    measures: bool,
    note: Note,
) -> None:
    """Add what there is to say of a pair on this machine.

    pair_for: finds its files
    measures: its models are loaded, and their evaluations timed
    """
    if findings.machine is None:
        return
    from ..memory.fitting import NOT_PLANNED, roles_here
    from ..memory.request import FitRequest

    try:
        pair = pair_for()
        wanted = tuple(role for role in Role if role in set(roles))
        findings.models = {role: pair.of(role).path for role in wanted}
        here = roles_here(runtime, wanted)
        findings.problems += [Problem(NOT_PLANNED.format(role)) for role in wanted if role not in here]
        _plan(findings, FitRequest(pair, runtime, n_slots, here))
        if measures and not findings.stops:
            _measure(findings, wanted, note)
    except ForealError as error:
        findings.problems.append(Problem(str(error), stops=True))
    findings.problems.sort(key=lambda problem: not problem.stops)


def _plan(findings: Findings, request: FitRequest) -> None:
    from ..memory.fit import Fitted
    from ..runtime.opening import require_slots
    from .models import planned

    assert findings.machine
    require_slots(request.pair, request.runtime, request.n_slots, request.roles)
    if not request.roles:
        findings.fitted = Fitted(request)
        return
    findings.fitted, problems = planned(request, findings.machine)
    findings.problems += problems


def _measure(findings: Findings, roles: tuple[Role, ...], note: Note) -> None:
    from ..runtime.hardware import usable_cores
    from ..runtime.loaded import LoadedPair
    from .speed import advice_of, busy_problem, expected_of, measured

    assert findings.fitted
    assert findings.machine
    request, cores = findings.fitted.request, findings.machine.cores
    findings.threads = request.runtime.threads or usable_cores()
    busy = busy_problem(os.getloadavg()[0], cores) if hasattr(os, "getloadavg") else None
    findings.problems += [busy] if busy else []
    note("measuring, for up to 20 seconds")
    loaded = LoadedPair(request.pair, runtime=request.runtime, n_slots=request.n_slots, roles=roles)
    try:
        findings.problems += [Problem(warning) for warning in loaded.warnings]
        findings.plan = measured(loaded)
    finally:
        loaded.close()
    if Role.LEADER in findings.plan.speeds:
        findings.expected = list(expected_of(findings.plan))
        findings.advice = advice_of(findings.expected)


def shortened(path: Path) -> str:
    """A path with ~ for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
