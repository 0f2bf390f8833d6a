"""The report of an analysis: its tables and figures on one page. Knows what was measured, no options and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..analysis.analysis import Findings
from ..analysis.misalignment import Misalignment
from . import analysis_plots as plots
from .analysis_advice import advice_of
from .analysis_tables import tables_of
from .report import Picture, Report, timestamp
from .table import Table, with_interval


def analysis_report(findings: Findings, facts: Mapping[str, Mapping[str, str]]) -> Report:
    """`facts`: how the figures came about, in groups."""
    by_draft, request = findings.figures, findings.request
    tables = [_without_bars(table) for table in tables_of(findings)]
    first = next(iter(by_draft.values()))
    return Report(
        f"Where {', '.join(by_draft)} would not write what {request.leader.path.name} wrote",
        f"{first.n_responses} responses, {first.n_tokens} tokens, {first.n_sentences} sentences; {timestamp()}",
        [
            *(f"{name}: {_gist(figures)}" for name, figures in by_draft.items()),
            *(f"{it}." for it in advice_of(findings)),
        ],
        tables[:1],
        _analysis_pictures(by_draft, request.bin_width),
        facts,
        details=tables[1:],
    )


def _without_bars(table: Table) -> Table:
    """A table without the terminal's drawing of a curve, which is a figure here."""
    if table.columns[-1] != "<":
        return table
    return replace(table, columns=table.columns[:-1], rows=[row[:-1] for row in table.rows])


def _gist(figures: Misalignment) -> str:
    handoffs = figures.handoffs
    misaligned, written = (with_interval(share, ".1f", 100) for share in (figures.overall, handoffs.expected))
    return (
        f"its most likely token is not the leader's at {misaligned} % of the positions; at "
        f"n={handoffs.n} p={handoffs.p:g} k={handoffs.k} it would write {written} % of the tokens, "
        "if the text stayed the leader's."
    )


def _analysis_pictures(by_draft: dict[str, Misalignment], width: int) -> list[Picture]:
    first = next(iter(by_draft.values()))
    own = first.handoffs
    interval = "Lines: 95 % intervals over responses."
    if len(by_draft) == 1:
        same_k = [handoffs for handoffs in first.grid if handoffs.k == own.k]
        by_label = {f"n={handoffs.n} k={handoffs.k}": handoffs for handoffs in (own, *same_k)}
    else:
        by_label = {name: figures.handoffs for name, figures in by_draft.items()}
    return [
        Picture(
            "along-sentence",
            "Misaligned, by token of the sentence",
            f"The paper's local diminish is a fall from left to right. {interval}",
            plots.along_sentence({name: figures.along_sentence for name, figures in by_draft.items()}),
        ),
        Picture(
            "along-response",
            "Misaligned, by position in the response",
            f"The paper's global rebound is a curve that does not fall for good. {interval}",
            plots.along_response({name: figures.along_response for name, figures in by_draft.items()}, width),
        ),
        Picture(
            "entropy",
            "How unsure the models are",
            f"Where the draft's most likely token is the leader's, and where it is not. {interval}",
            plots.entropies({name: (figures.aligned, figures.misaligned) for name, figures in by_draft.items()}),
        ),
        Picture(
            "handoffs",
            "Led sentences handed over, by token",
            f"If the leader led every sentence; n={own.n} k={own.k} is what was asked for.",
            plots.handed_over(by_label),
        ),
    ]
