"""What a benchmark's responses amount to: accuracy, length, work and time of each setting, and against the leader.

Knows records (dictionaries, as foreal-gen writes them) and grades; no model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .cut_off import count_cut_off
from .problems.grading import Grade
from .statistics import Estimate, bootstrap_mean, paired_bootstrap, wilson, without_certainty

Record = dict[str, Any]


@dataclass(frozen=True)
class Response:
    """A graded response to a problem.

    setting: the name of the setting that it was answered with
    sample: its number among the setting's responses to the problem
    record: what foreal-gen writes of it; {} for a response that is only a text
    finish_reason: why it ended; None where that is not known
    """

    problem: str
    setting: str
    sample: int
    grade: Grade
    text: str
    record: Record = field(default_factory=dict)
    finish_reason: str | None = None

    @property
    def measured(self) -> bool:
        """Whether its length, work and time are known; those of a failed response say nothing."""
        return bool(self.record) and self.grade is not Grade.FAILED


def can_be_measured(record: Record) -> bool:
    """Whether a record of any origin has all that foreal-gen writes of its settings, and of lengths, work and time."""
    try:
        others = [record["n"], record["p"], record["k"], record["seed"], record["sentences"]["handoffs"]]
        others += [record["cost"][role]["seconds"] for role in ("leader", "draft")]
        return isinstance(record["mode"], str) and all(
            math.isfinite(each) for each in [*others, *(value(record) for value in QUANTITIES.values())]
        )
    except (KeyError, TypeError, AttributeError):
        return False


@dataclass(frozen=True)
class Measures:
    """One setting's figures.

    n: responses
    n_problems: that these answer
    n_shared: those of them that the reference setting answers, too
    verdicts: how many of them have each grade
    cut_off: how many of them did not come to their end, by finish reason (cut_off.py)
    means: each quantity's mean over the responses whose work is known
    leader_calls_per_token: evaluations of the leader, its prompt's included, for each token of the responses
    ratios: of these means, and of the accuracy, to the reference setting's on the same problems
    accuracy_difference: to the reference setting's; None for that setting itself
    """

    setting: str
    n: int
    n_problems: int
    n_shared: int
    verdicts: dict[str, int]
    cut_off: dict[str, int]
    accuracy: Estimate
    means: dict[str, float]
    tokens_per_second: float
    leader_calls_per_token: float
    ratios: dict[str, Estimate]
    accuracy_difference: Estimate | None

    @property
    def n_right(self) -> int:
        return self.verdicts.get(str(Grade.CORRECT), 0)

    @property
    def n_cut_off(self) -> int:
        return sum(self.cut_off.values())

    @property
    def of_both(self) -> bool:
        """Whether both models take part, as far as the setting's name tells."""
        return self.setting.split()[0] not in _OF_ONE_MODEL

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_OF_ONE_MODEL = ("leader", "draft", "cue")


QUANTITIES: dict[str, Callable[[Record], float]] = {
    "length": lambda r: r["usage"]["completion_tokens"],
    "leader_tokens": lambda r: r["usage"]["leader_tokens"],
    "draft_tokens": lambda r: r["usage"]["draft_tokens"],
    "leader_calls": lambda r: r["cost"]["leader"]["calls"],
    "leader_share": lambda r: r["usage"]["leader_tokens"] / max(1, r["usage"]["completion_tokens"]),
    "flops_generation": lambda r: r["cost"]["flops_generation"],
    "flops_total": lambda r: r["cost"]["flops_total"],
    "decode_tokens": lambda r: _both(r, "decode_tokens"),
    "prefill_tokens": lambda r: _both(r, "prefill_tokens"),
    "seconds": lambda r: r["seconds"],
}
BAD = ("wrong", "missing", "unparsable", "failed")
RATIOS = ("length", "flops_generation", "flops_total", "seconds")


def _both(record: Record, name: str) -> float:
    return float(sum(record["cost"][role][name] for role in ("leader", "draft")))


def measure(responses: list[Response], reference: str = "leader", seed: int = 0) -> list[Measures]:
    """Each setting's figures, in the order in which the settings come first."""
    by_setting: dict[str, list[Response]] = {}
    for response in responses:
        by_setting.setdefault(response.setting, []).append(response)
    base = by_setting.get(reference, [])
    return [_measured(name, own, base, seed) for name, own in by_setting.items()]


def _measured(name: str, responses: list[Response], base: list[Response], seed: int) -> Measures:
    n_right = sum(response.grade is Grade.CORRECT for response in responses)
    measured, of_base = _with_known_work(responses), _with_known_work(base)
    records = [response.record for response in measured]
    means = {key: sum(map(value, records)) / len(records) for key, value in QUANTITIES.items()} if records else {}
    n_tokens, seconds = means.get("length", 0.0), means.get("seconds", 0.0)
    several = max(Counter(response.problem for response in responses).values(), default=0) > 1
    right = _by_problem(responses, lambda response: float(response.grade is Grade.CORRECT))
    accuracy = wilson(n_right, len(responses))
    if several:
        accuracy = bootstrap_mean(list(right.values()), seed=seed)
        if accuracy.low == accuracy.high:  # one problem, or all alike: no spread to draw
            accuracy = wilson(accuracy.value * len(right), len(right))
    ratios: dict[str, Estimate] = {}
    difference = None
    if base and base is not responses:
        pairs = _paired(right, _by_problem(base, lambda response: float(response.grade is Grade.CORRECT)))
        difference = without_certainty(paired_bootstrap(*pairs, seed=seed), len(pairs[0]))
        ratios["accuracy"] = paired_bootstrap(*pairs, statistic="ratio", seed=seed)
        for key in RATIOS if measured and of_base else ():
            of = QUANTITIES[key]
            pairs = _paired(*(_by_problem(some, lambda r, of=of: of(r.record)) for some in (measured, of_base)))  # type: ignore[misc]
            ratios[key] = paired_bootstrap(*pairs, statistic="ratio", seed=seed)
    return Measures(
        name,
        len(responses),
        len(right),
        len(right.keys() & {response.problem for response in base}),
        {str(grade): n for grade, n in Counter(response.grade for response in responses).items()},
        count_cut_off(response.finish_reason for response in responses),
        accuracy,
        means,
        n_tokens / seconds if seconds else 0.0,
        means["leader_calls"] / n_tokens if n_tokens else 0.0,
        ratios,
        difference,
    )


def _with_known_work(responses: list[Response]) -> list[Response]:
    return [response for response in responses if response.measured]


def _by_problem(responses: list[Response], value: Callable[[Response], float]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for response in responses:
        values.setdefault(response.problem, []).append(value(response))
    return values


def _paired(a: dict[str, list[float]], b: dict[str, list[float]]) -> tuple[list[list[float]], list[list[float]]]:
    """The values of the problems that are in both."""
    shared = [problem for problem in a if problem in b]
    return [a[problem] for problem in shared], [b[problem] for problem in shared]
