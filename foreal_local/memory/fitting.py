"""Fits a pair before it is loaded, where that is wanted: what commands call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..config import Pair, Runtime
from ..method.roles import Role

NOT_PLANNED = "the {}'s memory is not planned, because its layers lie on workers"


def roles_here(runtime: Runtime, roles: Iterable[Role]) -> tuple[Role, ...]:
    """Those whose models this machine holds: others have workers, among which llama.cpp divides them."""
    return tuple(role for role in Role if role in set(roles) and not runtime.workers(str(role)))


class Fit(NamedTuple):
    """How a pair runs.

    pair: with the layers on the GPU that fit
    runtime: with the context and the types of caches that fit
    """

    pair: Pair
    runtime: Runtime


class Fitting(Protocol):
    """What is called before models are loaded."""

    def __call__(
        self,
        pair: Pair,
        runtime: Runtime,
        *,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        prefix_slot: bool = False,
    ) -> Fit: ...


def fitting(wanted: bool, note: Callable[[str], None]) -> Fitting:
    """Changes what does not fit this machine, and notes it in a line; NotEnoughMemoryError where nothing would fit,
    and UsageError where there are more slots than llama.cpp takes.

    wanted: else nothing is changed, or refused for want of memory
    """

    def fitted(
        pair: Pair,
        runtime: Runtime,
        *,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        prefix_slot: bool = False,
    ) -> Fit:
        from ..runtime.opening import require_slots

        require_slots(pair, runtime, n_slots, roles, prefix_slot)
        if not wanted:
            return Fit(pair, runtime)
        from .fit import fit
        from .machine import this_machine
        from .request import FitRequest
        from .simulator import Simulator

        present = roles_here(runtime, roles)
        for role in (role for role in Role if role in set(roles) and role not in present):
            note(f"{NOT_PLANNED.format(role)}: give --ctx-size if the default does not fit there")
        if not present:
            return Fit(pair, runtime)
        with Simulator() as simulator:
            found = fit(FitRequest(pair, runtime, n_slots, present, prefix_slot), this_machine(), simulator)
        for line in found.notes:
            note(line)
        return Fit(found.request.pair, found.request.runtime)

    return fitted


UNFITTED = fitting(False, lambda line: None)
"""Changes nothing."""
