"""A benchmark's report: its tables and figures, from graded responses and their measures.

Knows responses and measures. Knows no options, models or files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..measures import BAD, QUANTITIES, Measures, Record, Response
from ..statistics import Estimate, bootstrap_mean
from .plots import MeanLength, Point, Sweep, accuracy_against, k_sweep, lengths, scale_of
from .report import Example, Picture, Report
from .table import Table, with_interval

_N_DRAWS = 2000
_BETTER = "Left and above is better; filled: the Pareto front."
_COSTS = (
    ("flops_generation", "generation", "of the tokens written, as the paper counts"),
    ("flops_total", "everything evaluated", "of everything evaluated: prompts, catching up and checks too"),
)


@dataclass(frozen=True)
class ReportTexts:
    """What stands around the figures of a benchmark.

    summary: a line under the title
    recommendation: which setting to use, or why none
    facts: how the figures came about, in groups
    example: one response, token by token
    notes: lines that limit what the page says
    """

    title: str
    summary: str
    recommendation: str
    facts: Mapping[str, Mapping[str, str]]
    example: Example | None = None
    notes: Sequence[str] = ()


def bench_report(responses: Sequence[Response], measures: Sequence[Measures], texts: ReportTexts) -> Report:
    spreads = {m.setting: spread_of([r for r in responses if r.setting == m.setting]) for m in measures}
    flops = [spread[key].value for spread in spreads.values() for key, _, _ in _COSTS if spread]
    scale = scale_of(flops, "FLOPs")
    tables = [_by_setting(measures, spreads, scale)]
    if any(m.ratios for m in measures):
        tables.append(_against_leader(measures))
    return Report(
        texts.title,
        texts.summary,
        [texts.recommendation],
        tables,
        list(_pictures(responses, measures, spreads, scale)),
        texts.facts,
        texts.example,
        texts.notes,
    )


def spread_of(responses: Sequence[Response]) -> dict[str, Estimate]:
    """Each quantity's mean with its interval over problems; and handoffs'. Nothing of responses that are only texts."""
    values = QUANTITIES | {"handoffs": lambda record: record["sentences"]["handoffs"]}
    return {key: _mean(responses, value) for key, value in values.items()} if any(r.measured for r in responses) else {}


def _mean(responses: Sequence[Response], value: Callable[[Record], float]) -> Estimate:
    by_problem: dict[str, list[float]] = {}
    for response in responses:
        if response.measured:
            by_problem.setdefault(response.problem, []).append(float(value(response.record)))
    return bootstrap_mean(list(by_problem.values()), n=_N_DRAWS)


# ---------------------------------------------------------------- tables
def _by_setting(
    measures: Sequence[Measures], spreads: Mapping[str, dict[str, Estimate]], scale: tuple[float, str]
) -> Table:
    factor, unit = scale
    columns = ["setting", "responses", "accuracy, %", "wrong / missing / unread / failed", "cut off"]
    columns += ["tokens", "by the leader, %"]
    columns += [f"{unit}, generation", f"{unit}, all", "decoded", "prefilled", "seconds", "tokens/s"]
    rows = []
    for m in measures:
        bad = " / ".join(str(m.verdicts.get(grade, 0)) for grade in BAD)
        row = [m.setting, str(m.n), with_interval(m.accuracy, ".1f", 100), bad, str(m.n_cut_off)]
        spread = spreads[m.setting]
        if spread:
            row += [with_interval(spread["length"], ".1f"), with_interval(spread["leader_share"], ".0f", 100)]
            row += [with_interval(spread[key], ".3g", 1 / factor) for key, _, _ in _COSTS]
            row += [with_interval(spread[key], ".0f") for key in ("decode_tokens", "prefill_tokens")]
            row += [with_interval(spread["seconds"], ".3g"), f"{m.tokens_per_second:.0f}"]
        rows.append(row + ["-"] * (len(columns) - len(row)))
    notes = [
        "Means of a response; in brackets 95 % intervals over problems. Missing: no answer was found; unread: it could "
        "not be understood; failed: there is no response, and it counts in no mean but accuracy. Generation counts the "
        "tokens written, all counts everything that the models evaluated."
    ]
    return Table("By setting", columns, rows, notes)


def _against_leader(measures: Sequence[Measures]) -> Table:
    names = {"length": "length", "flops_generation": "FLOPs, generation", "flops_total": "FLOPs, all"}
    names |= {"seconds": "seconds"}
    rows = []
    for m in measures:
        if m.accuracy_difference is not None:
            row = [m.setting, with_interval(m.accuracy_difference, "+.1f", 100)]
            rows.append(row + [with_interval(m.ratios.get(key), ".2f") for key in ("accuracy", *names)])
    columns = ["setting", "accuracy, points", "accuracy, ratio", *(f"{name}, ratio" for name in names.values())]
    notes = ["On the same problems, with 95 % intervals of the paired bootstrap; a ratio below 1 is less than alone."]
    return Table("Against the leader alone", columns, rows, notes)


# ---------------------------------------------------------------- figures
def _pictures(
    responses: Sequence[Response],
    measures: Sequence[Measures],
    spreads: Mapping[str, dict[str, Estimate]],
    scale: tuple[float, str],
) -> Iterator[Picture]:
    measured = [m for m in measures if spreads[m.setting]]
    if not measured:
        return
    factor, unit = scale
    interval = "Lines: 95 % intervals."
    for key, name, of in _COSTS:
        points = [Point(m.setting, _divided(spreads[m.setting][key], factor), m.accuracy) for m in measured]
        caption = f"{unit} {of}. {interval} {_BETTER}"
        figure = accuracy_against(points, f"{unit} of a response, {name}")
        yield Picture(f"accuracy-{key.replace('_', '-')}", f"Accuracy against FLOPs of {name}", caption, figure)
    points = [Point(m.setting, spreads[m.setting]["seconds"], m.accuracy) for m in measured]
    caption = f"Wall clock on this machine. {interval} {_BETTER}"
    yield Picture(
        "accuracy-seconds", "Accuracy against seconds", caption, accuracy_against(points, "seconds of a response")
    )
    mean_lengths = [_mean_length(m.setting, spreads[m.setting]) for m in measured]
    yield Picture("length", "Length of a response", f"Who wrote how many tokens. {interval}", lengths(mean_lengths))
    sweeps = sweeps_of(responses, measured, spreads)
    if sweeps:
        yield Picture("k-sweep", "Accuracy and handoffs over k", f"At given n and p. {interval}", k_sweep(sweeps))


def _divided(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value / factor, estimate.low / factor, estimate.high / factor)


def _mean_length(setting: str, spread: Mapping[str, Estimate]) -> MeanLength:
    return MeanLength(setting, spread["leader_tokens"].value, spread["draft_tokens"].value, spread["length"])


def sweeps_of(
    responses: Sequence[Response], measures: Sequence[Measures], spreads: Mapping[str, dict[str, Estimate]]
) -> list[Sweep]:
    """foreal's settings that differ in k alone, by rising k; those without a second k are left out."""
    first = {r.setting: r.record for r in reversed(responses) if r.measured}
    groups: dict[tuple[int, float, str], list[tuple[int, Measures]]] = {}
    for m in measures:
        record = first[m.setting]
        if record["mode"] == "foreal":
            others = re.sub(r" k=\d+", "", m.setting).removeprefix("foreal ")
            groups.setdefault((record["n"], record["p"], others), []).append((record["k"], m))
    sweeps = []
    for (_, _, others), by_k in sorted(groups.items()):
        by_k.sort(key=lambda pair: pair[0])
        if len({k for k, _ in by_k}) > 1:
            settings = [m for _, m in by_k]
            handoffs = [spreads[m.setting]["handoffs"] for m in settings]
            sweeps.append(Sweep(others, [k for k, _ in by_k], [m.accuracy for m in settings], handoffs))
    return sweeps
