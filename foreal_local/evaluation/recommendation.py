"""Which setting of a benchmark to use: the fastest whose accuracy is near enough to the leader's, and how sure that is.

Knows measures and records; no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .measures import Measures, Record
from .statistics import Estimate

_FEWEST_RECORDS = 20
_FEWEST_PROBLEMS = 10


@dataclass(frozen=True)
class Recommendation:
    """Which setting to use.

    setting: its name; None where two models do not pay, or where too little is known
    reason: why not, or what the setting saves
    """

    setting: str | None
    reason: str


def recommend(measures: list[Measures], loss: float, records: list[Record]) -> Recommendation:
    """The setting that takes the least time among those whose accuracy is within `loss` (0 to 1) of the leader's."""
    leader = next((m for m in measures if m.setting == "leader"), None)
    tried = [m for m in measures if m.of_both and "seconds" in m.ratios and math.isfinite(m.ratios["seconds"].value)]
    if leader is None or not tried:
        needed = "responses of the leader and of both models to the same problems, with their times"
        return Recommendation(None, f"a recommendation needs {needed}")
    n_problems = min(m.n_shared for m in tried)
    if too_little := _too_little(leader, n_problems):
        return Recommendation(None, f"too little for a recommendation: {too_little}")
    good = [m for m in tried if _difference(m).value >= -loss]
    price = _prices(records)
    if not good:
        best = max(tried, key=lambda m: m.accuracy.value)
        return Recommendation(
            None,
            f"two models do not pay here at a loss of {100 * loss:g} points at most: the best setting, {best.setting}, "
            f"has {best.accuracy.value:.1%} of the answers right and the leader {leader.accuracy.value:.1%}, in "
            f"{best.ratios['seconds'].value:.2f} of the time{_doubt(best, loss, n_problems)}{price}",
        )
    best = min(good, key=lambda m: m.ratios["seconds"].value)
    time = best.ratios["seconds"]
    if time.value >= 1.0:
        return Recommendation(
            None,
            f"two models do not pay here: the fastest setting, {best.setting}, takes {time.value:.2f} of the time"
            f"{_doubt_of_time(time)}{price}",
        )
    return Recommendation(
        best.setting,
        f"{best.setting}: on {n_problems} problems {best.accuracy.value:.1%} right "
        f"(leader {leader.accuracy.value:.1%}) in {time.value:.2f} of the time{_with_flops(best)}"
        f"{_doubt(best, loss, n_problems)}{_doubt_of_time(time)}{price}",
    )


def _too_little(leader: Measures, n_problems: int) -> str | None:
    """Why nothing can be recommended whatever the settings have reached; None where something can."""
    if n_problems < _FEWEST_PROBLEMS:
        return f"{n_problems} problem{'s' * (n_problems != 1)}, and at least {_FEWEST_PROBLEMS} are needed"
    return None if leader.n_right else f"{n_problems} problems, and the leader has solved none of them"


def _with_flops(best: Measures) -> str:
    ratio = best.ratios["flops_generation"].value
    return f", with {ratio:.2f} of its FLOPs of generation" if math.isfinite(ratio) else ""


# ---------------------------------------------------------------- how sure it is
def _difference(m: Measures) -> Estimate:
    assert m.accuracy_difference is not None
    return m.accuracy_difference


def _doubt(m: Measures, loss: float, n_problems: int) -> str:
    """What the interval of a setting's loss leaves open; "" where all of it is on one side of the limit."""
    difference = _difference(m)
    if not difference.low < -loss <= difference.high:
        return ""
    if difference.value >= -loss:
        open_ = f"at 95 % it may lose up to {-100 * difference.low:.1f} points"
        reach = difference.value - difference.low
    else:
        least = 100 * max(0.0, -difference.high)
        open_ = f"at 95 % it may lose as little as {least:.1f} points"
        reach = difference.high - difference.value
    return f"; {open_}: {_needed(n_problems, reach, abs(difference.value + loss))}"


def _needed(n_problems: int, reach: float, distance: float) -> str:
    """How many problems would tell, an interval being as wide as 1 / sqrt(problems)."""
    needed = n_problems * (reach / distance) ** 2 if distance > 1e-9 else math.inf
    if needed > _MOST_PROBLEMS:
        return "more problems would tell"
    step = 10 ** max(0, math.floor(math.log10(needed)) - 1)  # two digits: it is an estimate
    return f"about {math.ceil(needed / step) * step} problems would tell"


_MOST_PROBLEMS = 100_000


def _doubt_of_time(time: Estimate) -> str:
    if not time.low < 1.0 < time.high:
        return ""
    return f"; at 95 % it takes {time.low:.2f} to {time.high:.2f} of the time, so that faster or slower cannot be told"


# ---------------------------------------------------------------- what reading costs
def _prices(records: list[Record]) -> str:
    """What reading a token costs the leader, as a share of what writing one costs; catching up is paid with it.

    Least squares over the responses: seconds = a x decoded + b x prefilled tokens. Both can be estimated because the
    leader reads little when it is alone, and much with a draft.
    """
    costs = [record["cost"]["leader"] for record in records]
    costs = [cost for cost in costs if cost["decode_tokens"] + cost["prefill_tokens"]]
    if len(costs) < _FEWEST_RECORDS:
        return ""
    evaluated = np.array([[cost["decode_tokens"], cost["prefill_tokens"]] for cost in costs], float)
    (write, read), _, rank, _ = np.linalg.lstsq(evaluated, np.array([cost["seconds"] for cost in costs]), rcond=None)
    if rank < 2 or write <= 0 or read <= 0:
        return ""
    return f"; here the leader reads a token in about {read / write:.2f} of the time that it takes to write one"
