"""--report of foreal bench and foreal analyze: the page, with the command and its options beside the figures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import prompting_of, runtime_of
from ..evaluation.reports.bench_report import ReportTexts, bench_report
from ..evaluation.reports.bench_table import cut_off_line
from ..evaluation.reports.report import timestamp, write_report
from ..method.modes import roles_of
from ..method.roles import Role
from ..runtime.gguf_file import fingerprint
from ..storage.ownership import Note
from .loading import pair_of
from .options import settings_in

if TYPE_CHECKING:
    from ..evaluation.analysis.analysis import Findings
    from ..evaluation.measures import Measures, Response
    from ..evaluation.recommendation import Recommendation
    from ..pairs import PairEntry

Facts = dict[str, dict[str, str]]


def report_bench(
    values: dict[str, Any],
    entry: PairEntry | None,
    responses: Sequence[Response],
    measures: Sequence[Measures],
    recommendation: Recommendation,
    note: Note,
) -> Path:
    """Write the report of a benchmark, with a response that is written once more as an example; the report's path.

    note: hears of files that were there already and are kept
    """
    models: dict[str, Path] = {}
    example, notes = None, []
    if values["responses"]:
        notes.append("The responses came from a file: no model ran, and there is no example by author.")
    else:
        from ..evaluation.reports.bench_example import bench_example
        from ..memory.fitting import fitting

        modes = {record["mode"] for r in responses if (record := r.record)}
        roles = {role for mode in modes for role in roles_of(mode)}
        pair, by_name = pair_of(values, entry, roles), settings_in(values)
        models = {str(role): path for role, path in zip(Role, (pair.leader.path, pair.draft.path), strict=True)}
        models = {name: path for name, path in models.items() if Role(name) in roles}
        pair, runtime = fitting(values["fit"], lambda line: None)(pair, runtime_of(by_name))  # told by the benchmark
        example = bench_example(responses, recommendation.setting, pair, runtime, prompting_of(by_name))
    n_problems = len({response.problem for response in responses})
    if cut_off := cut_off_line(responses):
        notes.append(f"{cut_off}.")
    texts = ReportTexts(
        f"Leader, draft and both: {values['problems']}",
        f"{n_problems} problems, {len(measures)} settings, {len(responses)} responses; {timestamp()}",
        f"{'Recommended: ' if recommendation.setting else ''}{recommendation.reason}.",
        facts_of(values, models, sorted({r.record["seed"] for r in responses if r.record})),
        example,
        notes,
    )
    return write_report(Path(values["report"]), bench_report(responses, measures, texts), note)


def report_analysis(values: dict[str, Any], findings: Findings, note: Note) -> Path:
    """Write the report of an analysis; the report's path."""
    from ..evaluation.reports.analysis_report import analysis_report

    request = findings.request
    models = {"leader": request.leader.path} | {name: draft.path for name, draft in request.drafts.items()}
    facts = facts_of(values, models, [values["seed"]])
    return write_report(Path(values["report"]), analysis_report(findings, facts), note)


# ---------------------------------------------------------------- how the figures came about
def facts_of(values: Mapping[str, Any], models: Mapping[str, Path], seeds: Sequence[int]) -> Facts:
    """The command line, models by name and fingerprint, seeds, versions, and every option."""
    name = Path(sys.argv[0]).name
    command = shlex.join(["foreal" if name == "__main__.py" else name, *sys.argv[1:]])
    run = {"command": command, "written": timestamp(), "foreal_local": __version__, "python": sys.version.split()[0]}
    run |= {"seeds": ", ".join(map(str, seeds)) or "none"}
    known = {name: f"{path.name}, fingerprint {fingerprint(path)}" for name, path in models.items()}
    context = click.get_current_context(silent=True)
    names = {p.name: max(p.opts, key=len) for p in context.command.params} if context else {}
    options = {names.get(name, name): _as_text(value) for name, value in values.items()}
    options = dict(sorted(options.items()))
    facts = {"The run": run, "Models": known, "Settings": options}
    return {title: group for title, group in facts.items() if group}


def _as_text(value: Any) -> str:
    """An option's value in words."""
    if value is None or value == () or value == []:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
