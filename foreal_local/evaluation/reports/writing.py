"""The reports of foreal bench and foreal analyze: options, models and the example, around the evaluation's figures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ... import __version__
from ...config import Generation, Method, Mode, Pair, Sampling
from ...method.sequence import Role
from ...results import Prompt, Result, roles_of
from ...runtime.gguf_file import fingerprint
from .report import Example, Picture, Report, write_report
from .table import Table

if TYPE_CHECKING:
    from ...hub import PairEntry
    from ..analysis.misalignment import Misalignment
    from ..measures import Measures, Recommendation, Response
    from .analysis_tables import About

Facts = dict[str, dict[str, str]]


# ---------------------------------------------------------------- foreal bench
def report_bench(
    values: dict[str, Any],
    entry: PairEntry | None,
    responses: Sequence[Response],
    measures: Sequence[Measures],
    found: Recommendation,
) -> Path:
    """Write the report of a benchmark into --report; its path. Runs the example's response once more."""
    from ...cli.loading import pair_of
    from .bench_report import Told, bench_report

    models: dict[str, Path] = {}
    example, notes = None, []
    if values["responses"]:
        notes.append("The responses came from a file: no model ran, and there is no example by author.")
    else:
        modes = {record["mode"] for r in responses if (record := r.record)}
        roles = {role for mode in modes for role in roles_of(Mode(mode))}
        pair = pair_of(values, entry, roles)
        models = {str(role): path for role, path in zip(Role, (pair.leader.path, pair.draft.path), strict=True)}
        models = {name: path for name, path in models.items() if Role(name) in roles}
        example = _example(values, pair, responses, found.setting)
    n_problems = len({response.problem for response in responses})
    told = Told(
        f"Leader, draft and both: {values['problems']}",
        f"{n_problems} problems, {len(measures)} settings, {len(responses)} responses; {_today()}",
        f"{'Recommended: ' if found.setting else ''}{found.reason}.",
        facts_of(values, models, sorted({r.record["seed"] for r in responses if r.record})),
        example,
        notes,
    )
    return write_report(Path(values["report"]), bench_report(responses, measures, told))


def _example(
    values: dict[str, Any], pair: Pair, responses: Sequence[Response], recommended: str | None
) -> Example | None:
    """foreal's first response, of the recommended setting if there is one."""
    tried = [r for r in responses if r.record and r.record["mode"] == "foreal" and not r.record["error"]]
    tried.sort(key=lambda r: r.setting != recommended)
    if not tried:
        return None
    from .example import example_html

    first = tried[0]
    again = answered_again(values, pair, first.record)
    note = f"The answer is {first.verdict}." if again.text == first.text else ""
    note += "" if note else "Written again for this page, it is not the response that was measured: rounding differs."
    title = f"An example: {first.setting}, problem {first.problem}"
    return Example(title, first.record["prompt"], example_html(again.tokens), note)


def answered_again(values: dict[str, Any], pair: Pair, record: dict[str, Any]) -> Result:
    """The response of a record once more, with its tokens: prompt, settings, seed and index are the record's."""
    from ...cli.options import prompting_of, runtime_of
    from ...engine import Engine

    method = Method(**{name: record[name] for name in ("n", "p", "k", "hits_from", "boundaries", "compare")})
    names = ("temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n")
    sampling = Sampling(**{name: record[name] for name in names})
    stop = tuple(record["stop"])
    settings = Generation(Mode(record["mode"]), method, sampling, record["seed"], record["max_tokens"], stop)
    prompt = Prompt(record["prompt"], record["id"], settings, record["index"])
    with Engine(pair, runtime=runtime_of(values)) as engine:
        return engine.generate([prompt], settings, prompting_of(values))[0]


# ---------------------------------------------------------------- foreal analyze
def report_analysis(
    values: dict[str, Any], models: Mapping[str, Path], about: About, found: dict[str, Misalignment]
) -> Path:
    """Write the report of an analysis into --report; its path."""
    from .analysis_tables import tables_of

    tables = [_without_bars(table) for table in tables_of(about, found)]
    first = next(iter(found.values()))
    report = Report(
        f"Where {', '.join(found)} would not write what {about.leader} wrote",
        f"{first.n_responses} responses, {first.n_tokens} tokens, {first.n_sentences} sentences; {_today()}",
        [f"{name}: {_gist(one)}" for name, one in found.items()],
        tables[:1],
        _analysis_pictures(found, values["bin"]),
        facts_of(values, models, [values["seed"]]),
        details=tables[1:],
    )
    return write_report(Path(values["report"]), report)


def _without_bars(table: Table) -> Table:
    """A table without the terminal's drawing of a curve, which is a figure here."""
    if table.columns[-1] != "<":
        return table
    return replace(table, columns=table.columns[:-1], rows=[row[:-1] for row in table.rows])


def _gist(one: Misalignment) -> str:
    from .bench_report import told_in

    written = f"n={one.handoffs.n} p={one.handoffs.p:g} k={one.handoffs.k}"
    return (
        f"its most likely token is not the leader's at {told_in(one.overall, '.1f', 100)} % of the positions; at "
        f"{written} it would write {told_in(one.handoffs.expected, '.1f', 100)} % of the tokens, "
        "if the text stayed the leader's."
    )


def _analysis_pictures(found: dict[str, Misalignment], width: int) -> list[Picture]:
    from . import analysis_plots as plots

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


# ---------------------------------------------------------------- how it came about
def facts_of(values: Mapping[str, Any], models: Mapping[str, Path], seeds: Sequence[int]) -> Facts:
    """The command line, models by name and fingerprint, seeds, versions, and every option."""
    name = Path(sys.argv[0]).name
    command = shlex.join(["foreal" if name == "__main__.py" else name, *sys.argv[1:]])
    run = {"command": command, "written": _today(), "foreal_local": __version__, "python": sys.version.split()[0]}
    run |= {"seeds": ", ".join(map(str, seeds)) or "none"}
    known = {name: f"{path.name}, fingerprint {fingerprint(path)}" for name, path in models.items()}
    context = click.get_current_context(silent=True)
    names = {p.name: max(p.opts, key=len) for p in context.command.params} if context else {}
    options = {names.get(name, name): _told(value) for name, value in values.items()}
    options = dict(sorted(options.items()))
    facts = {"The run": run, "Models": known, "Settings": options}
    return {title: group for title, group in facts.items() if group}


def _told(value: Any) -> str:
    if value is None or value == () or value == []:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
