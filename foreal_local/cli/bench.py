"""foreal bench: accuracy, work and time of leader, draft and both together. Parses, runs the benchmark, prints."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import MODES, generation_of, prompting_of, runtime_of
from ..documents import name_of
from ..errors import UsageError
from ..presets import PRESETS
from ..settings import either
from ..storage.files import same_file
from ..storage.ownership import FIGURES, RECOMMENDATION, check_writable, write_result
from ..wrapping import wrapped
from .cluster import check_ray, cluster_run, ray_options
from .command import ForealCommand, option
from .options import (
    method_options,
    model_options,
    prompting_options,
    record_options,
    sampling_options,
    settings_in,
)
from .streams import require_output

if TYPE_CHECKING:
    from ..evaluation.benchmark import BenchRequest
    from ..evaluation.measures import Measures, Response
    from ..evaluation.problems.datasets import Problem
    from ..evaluation.recommendation import Recommendation
    from ..pairs import PairEntry

_WRITTEN = {"output": "output", "trace": "trace", "json": "figures", "recommend": "recommend"}

EPILOG = """\b
Examples:
  foreal bench --limit 20 -o bench.jsonl
  foreal bench --limit 20 --grid 'n=5,15;p=0.2,0.6' -o grid.jsonl --recommend best.toml
  foreal bench --limit 20 --modes leader,foreal,cue,speculative --grid 'proposals=3,8' -o peers.jsonl
  foreal bench --limit 20 -o bench.jsonl --report report    # report/report.html and figures
  foreal bench -l leader.gguf -d draft.gguf --problems problems.jsonl --samples 4 -o mine.jsonl
  foreal bench --problems problems.jsonl --responses responses.jsonl    # grade what is there, without a model
A run that was stopped goes on from its --output.
Exit codes: 0 all done, 1 some responses failed, 2 usage, 130 interrupted."""


_FIRST = (
    "pair", "leader", "draft", "problems", "limit", "modes", "grid", "output", "recommend", "report",
)  # fmt: skip


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--problems", default="heldout", metavar="SET", help="heldout, a JSONL file, - for stdin, MATH-500, AIME24, ..."
)
@option("--limit", type=int, metavar="N", help="The first N problems.  [default: all]")
@option("--samples", type=int, default=1, metavar="N", help="Responses to each problem, with seeds of their own.")
@option("--modes", default="leader,draft,foreal", metavar="LIST", help="Modes and presets.")
@option("--grid", metavar="TEXT", help="Each point of a grid: 'n=5,15;p=0.6,1.0;k=5;proposals=3,8'.", envvar=None)
@option(
    "--responses",
    metavar="FILE",
    help="Grade and measure these JSON lines (id, text; - is stdin); no model runs.",
    envvar=None,
)
@option("--output", "-o", metavar="FILE", help="Every response, as JSON lines; a stopped run goes on from it.")
@option("--trace", metavar="FILE", help="Write every token and decision there, as foreal-gen does.", envvar=None)
@option("--json", "figures", metavar="FILE", help="The figures of the table, as JSON.", envvar=None)
@option("--recommend", metavar="FILE", help="Write the fastest good setting as a file for --config.", envvar=None)
@option("--report", metavar="DIR", help="Write a page and figures there; needs matplotlib.", envvar=None)
@option("--loss", type=float, default=5.0, metavar="POINTS", help="Accuracy that a recommendation may lose.")
@option("--parallel", "-P", type=int, default=1, metavar="N", help="Prompts answered at a time; 1 for honest times.")
@option("--quiet", "-q", is_flag=True, help="No progress.")
@model_options()
@method_options
@sampling_options
@record_options
@prompting_options
@ray_options
@click.version_option(__version__, prog_name="foreal bench")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Compare leader, draft and FoReaL-Decoding on problems with known answers.

    All settings answer each problem in turn. The table says accuracy with a 95 % interval, length, work and time,
    and the ratios to the leader alone.
    """
    from ..evaluation.benchmark import read_responses, run_benchmark
    from ..evaluation.problems.datasets import load_problems
    from .loading import pair_of, with_models

    on_cluster = check_ray(values, "trace")
    _check_files(values)
    written = any(values[name] for name in ("output", "figures", "recommend", "report"))
    require_output("name a file with --json, or --report", written)
    if not 0 <= values["loss"] <= 100:
        raise UsageError(f"--loss is {values['loss']}, but must be between 0 and 100 points")
    if values["report"]:
        from ..evaluation.reports.report import check_folder

        check_folder(Path(values["report"]))
    problems = load_problems(
        values["problems"], limit=values["limit"], seed=values["seed"] or 0, offline=values["offline"], note=_note
    )
    values["problems"] = name_of(values["problems"])
    if values["responses"] and on_cluster:
        raise UsageError("--responses are graded without a model: leave --ray out")
    if values["responses"]:
        entry, code = None, 0
        responses = read_responses(values["responses"], problems, values["limit"], _note)
    else:
        values, entry = with_models(values, context)
        request, make_run = _request_of(values, problems), cluster_run(values, entry) if on_cluster else None
        responses, code = run_benchmark(request, lambda roles: pair_of(values, entry, roles), make_run)
    _report(responses, values, entry, whole=code != 130)
    sys.exit(code)


# ---------------------------------------------------------------- what the options say
def _request_of(values: dict[str, Any], problems: list[Problem]) -> BenchRequest:
    from ..evaluation.benchmark import BenchRequest
    from ..memory.fitting import fitting

    by_name = settings_in(values)
    return BenchRequest(
        problems=problems,
        base=generation_of(by_name),
        modes=_modes(values["modes"]),
        grid=values["grid"],
        n_samples=values["samples"],
        prompting=prompting_of(by_name),
        runtime=runtime_of(by_name),
        parallel=values["parallel"],
        output=values["output"],
        trace=values["trace"],
        quiet=values["quiet"],
        fitting=fitting(values["fit"], _note),
    )


def _modes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [*MODES, *PRESETS]
    if not names or any(name not in known for name in names):
        raise UsageError(f"--modes is {text!r}, but must be of {either(known).removeprefix('one of ')}, with commas")
    return names


def _check_files(values: dict[str, Any]) -> None:
    """UsageError where a file cannot be written, or would be read or written under another option too."""
    if values["output"] == "-":
        raise UsageError("--output is -, but must be a file: a run that was stopped goes on from it")
    written = {f"--{name}": values[key] for name, key in _WRITTEN.items() if values[key]}
    read = {f"--{name}": values[name] for name in ("problems", "responses") if values[name]}
    if list(read.values()).count("-") > 1:
        raise UsageError("--problems and --responses are both -, and standard input can be read once")
    for name, path in written.items():
        if name != "--output" or values["ray"] is None:  # there a folder of parts, which the run checks
            check_writable(path, name)
    for name, path in written.items():
        for other, another in (read | written).items():
            if other != name and same_file(path, another):
                raise UsageError(f"{name} and {other} are the same file: {path}")


# ---------------------------------------------------------------- what is written and printed
def _report(responses: list[Response], values: dict[str, Any], entry: PairEntry | None, whole: bool) -> None:
    """Write the files, then print, so that no file is lost where the reader of the output stops reading.

    whole: whether all is done; an interrupted run writes no files
    """
    from ..evaluation.measures import measure
    from ..evaluation.recommendation import recommend
    from ..evaluation.reports.bench_table import cut_off_line, figures_of, stop_line, table_lines, verdict_lines

    wanted = [f"--{name}" for name in ("json", "recommend", "report") if values[_WRITTEN.get(name, name)]]
    unwritten = f"interrupted: {' and '.join(wanted)} are written once all is done; this command goes on"
    if not whole and wanted and not responses:
        click.echo(unwritten)
    if not responses:
        return
    measures = measure(responses)
    records = [r.record for r in responses if r.measured]
    recommendation = recommend(measures, values["loss"] / 100, records)
    width = shutil.get_terminal_size((100, 0)).columns
    lines = table_lines(measures)
    for told in (stop_line(records), cut_off_line(responses)):
        lines += ["", *wrapped(told, width)] if told else []
    if not whole and wanted:
        lines += ["", unwritten]
    if whole and values["figures"]:
        text = json.dumps(figures_of(values["problems"], measures), indent=1) + "\n"
        write_result(Path(values["figures"]), text.encode(), FIGURES, _note)
    if values["recommend"] and whole:
        lines += ["", *_recommended(recommendation, measures, responses, values, entry, width)]
    elif any(m.of_both for m in measures):
        lines += ["", *wrapped(recommendation.reason, width)]
    if whole and values["report"]:
        from .reports import report_bench

        lines += ["", f"report: {report_bench(values, entry, responses, measures, recommendation, _note)}"]
    for line in [*lines, "", *verdict_lines(measures)]:
        click.echo(line)


def _recommended(
    recommendation: Recommendation,
    measures: list[Measures],
    responses: list[Response],
    values: dict[str, Any],
    entry: PairEntry | None,
    width: int,
) -> list[str]:
    """Write the recommended setting to the file of --recommend; lines that say what was written, or why nothing."""
    from .recommended import config_of

    path = values["recommend"]
    if not recommendation.setting:
        before = " (what is there is of an earlier run)" if Path(path).is_file() else ""
        return wrapped(f"nothing written to {path}{before}: {recommendation.reason}", width)
    lost = next(m.accuracy_difference for m in measures if m.setting == recommendation.setting)
    text = config_of(recommendation, -100 * lost.value if lost else 0.0, responses, values, entry)
    write_result(Path(path), text.encode("utf-8", "replace"), RECOMMENDATION, _note)
    told = f"written to {path}: foreal-gen --config {shlex.quote(path)}"
    return [*wrapped(recommendation.reason, width), told]


def _note(line: str) -> None:
    click.echo(f"foreal bench: {line}", err=True)
