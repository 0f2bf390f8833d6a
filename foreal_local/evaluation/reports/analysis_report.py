"""The report of an analysis: its tables and figures on one page. Knows what was measured, no options and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..analysis.analysis import Findings
from ..analysis.misalignment import Misalignment
from . import analysis_plots as plots
from .analysis_tables import tables_of
from .bench_report import told_in
from .report import Picture, Report, timestamp
from .table import Table


def analysis_report(findings: Findings, facts: Mapping[str, Mapping[str, str]]) -> Report:
    """`facts`: how the figures came about, in groups."""
    found, request = findings.figures, findings.request
    tables = [_without_bars(table) for table in tables_of(findings)]
    first = next(iter(found.values()))
    return Report(
        f"Where {', '.join(found)} would not write what {request.leader.path.name} wrote",
        f"{first.n_responses} responses, {first.n_tokens} tokens, {first.n_sentences} sentences; {timestamp()}",
        [f"{name}: {_gist(one)}" for name, one in found.items()],
        tables[:1],
        _analysis_pictures(found, request.bin_width),
        facts,
        details=tables[1:],
    )


def _without_bars(table: Table) -> Table:
    """A table without the terminal's drawing of a curve, which is a figure here."""
    if table.columns[-1] != "<":
        return table
    return replace(table, columns=table.columns[:-1], rows=[row[:-1] for row in table.rows])


def _gist(one: Misalignment) -> str:
    written = f"n={one.handoffs.n} p={one.handoffs.p:g} k={one.handoffs.k}"
    return (
        f"its most likely token is not the leader's at {told_in(one.overall, '.1f', 100)} % of the positions; at "
        f"{written} it would write {told_in(one.handoffs.expected, '.1f', 100)} % of the tokens, "
        "if the text stayed the leader's."
    )


def _analysis_pictures(found: dict[str, Misalignment], width: int) -> list[Picture]:
    interval = "Lines: 95 % intervals over responses."
    if len(found) == 1:
        one = next(iter(found.values()))
        handoffs = {f"n={h.n} k={h.k}": h for h in (one.handoffs, *(h for h in one.grid if h.k == one.handoffs.k))}
    else:
        handoffs = {name: one.handoffs for name, one in found.items()}
    own = next(iter(found.values())).handoffs
    return [
        Picture(
            "along-sentence",
            "Misaligned, by token of the sentence",
            f"The paper's local diminish is a fall from left to right. {interval}",
            plots.along_sentence({name: one.along_sentence for name, one in found.items()}),
        ),
        Picture(
            "along-response",
            "Misaligned, by position in the response",
            f"The paper's global rebound is a curve that does not fall for good. {interval}",
            plots.along_response({name: one.along_response for name, one in found.items()}, width),
        ),
        Picture(
            "entropy",
            "How unsure the models are",
            f"Where the draft's most likely token is the leader's, and where it is not. {interval}",
            plots.entropies({name: (one.aligned, one.misaligned) for name, one in found.items()}),
        ),
        Picture(
            "handoffs",
            "Led sentences handed over, by token",
            f"If the leader led every sentence; n={own.n} k={own.k} is what was asked for.",
            plots.handed_over(handoffs),
        ),
    ]
