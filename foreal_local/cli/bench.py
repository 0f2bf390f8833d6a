"""foreal bench: accuracy, work and time of leader, draft and both together. Parses, runs, grades, prints."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..batch.json_lines import objects
from ..config import MODES, Method, Sampling, generation_of, names_of, prompting_of, runtime_of
from ..errors import UsageError
from ..evaluation.experiments import parts_of
from ..settings import either
from ..storage.files import OutputError, check_writable, same_file
from .options import (
    ForealCommand,
    method_options,
    model_options,
    option,
    prompting_options,
    sampling_options,
    settings_in,
    typed_models,
    with_settings_of,
)

if TYPE_CHECKING:
    from ..evaluation.measures import Measures, Recommendation, Response
    from ..evaluation.problems.datasets import Problem
    from ..evaluation.statistics import Estimate
    from ..pairs import PairEntry

_WRITTEN = {"output": "output", "trace": "trace", "json": "figures", "recommend": "recommend"}

EPILOG = """\b
Examples:
  foreal bench --limit 200 -o bench.jsonl
  foreal bench --grid 'n=5,15,25;p=0.2,0.6,1.0' -o grid.jsonl --recommend best.toml
  foreal bench --modes leader,foreal,cue,speculative --grid 'proposals=3,5,8' -o peers.jsonl
  foreal bench --limit 50 -o bench.jsonl --report report    # report/report.html and figures
  foreal bench -l leader.gguf -d draft.gguf --problems MATH-500 --samples 4 -o math.jsonl
  foreal bench --problems MATH-500 --responses answers.jsonl      # grade what is there, without a model
A run that was stopped goes on from its --output.
Exit codes: 0 all done, 1 some responses failed, 2 usage, 130 interrupted."""


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option("--problems", default="heldout", metavar="SET", help="heldout, a JSONL file, MATH-500, AIME24, AMC23, ...")
@option("--limit", type=int, metavar="N", help="The first N problems.  [default: all]")
@option("--samples", type=int, default=1, metavar="N", help="Responses to each problem, with seeds of their own.")
@option("--modes", default="leader,draft,foreal", metavar="LIST", help="What is compared; also cue and speculative.")
@option("--grid", metavar="TEXT", help="Each point of a grid: 'n=5,15;p=0.6,1.0;k=5;proposals=3,8'.", envvar=None)
@option(
    "--responses", metavar="FILE", help="Grade and measure these JSON lines (id, text); no model runs.", envvar=None
)
@option("--output", "-o", metavar="FILE", help="Every response, as JSON lines; a stopped run goes on from it.")
@option("--trace", metavar="FILE", help="Write every token and decision there, as foreal-gen does.", envvar=None)
@option("--json", "figures", metavar="FILE", help="The figures of the table, as JSON.", envvar=None)
@option("--recommend", metavar="FILE", help="Write the fastest good setting as a file for --config.", envvar=None)
@option("--report", metavar="DIR", help="Write a page and figures there; needs matplotlib.", envvar=None)
@option("--loss", type=float, default=5.0, metavar="POINTS", help="Accuracy that a recommendation may lose.")
@option("--parallel", "-P", type=int, default=1, metavar="N", help="Prompts answered at a time; 1 for honest times.")
@option("--quiet", "-q", is_flag=True, help="No progress.")
@model_options
@method_options
@sampling_options
@prompting_options
@click.version_option(__version__, prog_name="foreal bench")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Compare leader, draft and FoReaL-Decoding on problems with known answers.

    All settings answer each problem in turn. The table says accuracy with a 95 % interval, length, work and time,
    and the ratios to the leader alone.
    """
    from ..evaluation.problems.datasets import load_problems
    from .loading import named_pair

    _check_files(values)
    if not 0 <= values["loss"] <= 100:
        raise UsageError(f"--loss is {values['loss']}, but must be between 0 and 100 points")
    if values["report"]:
        from ..evaluation.reports.report import check_folder

        check_folder(Path(values["report"]))
    problems = load_problems(
        values["problems"], limit=values["limit"], seed=values["seed"] or 0, offline=values["offline"]
    )
    if values["responses"]:
        entry, (responses, code) = None, (_given(Path(values["responses"]), problems, values["limit"]), 0)
    else:
        values = typed_models(values, context)
        entry = named_pair(values)
        if entry:
            values = with_settings_of(entry, values, context)
        responses, code = _answered(values, entry, problems)
    _tell(responses, values, entry, whole=code != 130)
    sys.exit(code)


# ---------------------------------------------------------------- responses
def _answered(values: dict[str, Any], entry: PairEntry | None, problems: list[Problem]) -> tuple[list[Response], int]:
    """Run what is not in the output yet, and grade all of it."""
    from dataclasses import replace

    from ..batch.request import BatchRequest
    from ..batch.run import BatchRun
    from ..evaluation.experiments import prompts_for, settings_for
    from ..evaluation.problems.grading import check_installed
    from .loading import pair_of

    check_installed(problems)
    given = settings_in(values)
    base = generation_of(given)
    base = base if base.seed is not None else replace(base, seed=0)
    if values["samples"] < 1:
        raise UsageError(f"--samples is {values['samples']}, but must be 1 or more")
    settings = settings_for(base, _modes(values["modes"]), values["grid"])
    with tempfile.TemporaryDirectory() as scratch:
        output = values["output"] or str(Path(scratch) / "responses.jsonl")
        request = BatchRequest(
            prompts=prompts_for(problems, settings, values["samples"]),
            settings=base,
            prompting=prompting_of(given),
            runtime=runtime_of(given),
            parallel=values["parallel"],
            output=output,
            trace=values["trace"],
            resume=True,
            quiet=values["quiet"],
            summary=False,
            name="foreal bench",
        )
        code = BatchRun(request, lambda roles: pair_of(values, entry, roles)).execute()
        wanted = {prompt.id for prompt in request.prompts}
        found = objects(output) if Path(output).exists() else iter(())
        records = [record for _, record in found if record.get("id") in wanted]
    by_id = {problem.id: problem for problem in problems}
    order = {setting.name: i for i, setting in enumerate(settings)}
    responses = []
    for record in records:
        name, setting, sample = parts_of(record["id"]) or (record["id"], "", 0)
        responses.append(_graded(by_id[name], setting, sample, record))
    return sorted(responses, key=lambda response: order[response.setting]), code


def _given(path: Path, problems: list[Problem], limit: int | None) -> list[Response]:
    """Responses of any origin, by their problems' ids; those of a benchmark keep their settings.

    Under a limit, those of other problems are left out.
    """
    by_id = {problem.id: problem for problem in problems}
    responses = []
    for where, record in objects(str(path)):
        id, text = str(record.get("id")), record.get("text")
        if not isinstance(text, str):
            raise UsageError(f"{where}: a response needs `id` (its problem's) and `text`")
        name, setting, sample = id, str(record.get("setting") or "responses"), 0
        if name not in by_id:
            name, setting, sample = parts_of(id) or (name, setting, sample)
        if name in by_id:
            responses.append(_graded(by_id[name], setting, sample, record))
        elif limit is None:
            raise UsageError(f"{where}: no problem has the id {name!r}: --problems names the set it is of")
    if not responses:
        raise UsageError(f"{path} has no responses to these problems: one JSON object on each line is expected")
    return responses


def _graded(problem: Problem, setting: str, sample: int, record: dict[str, Any]) -> Response:
    from ..evaluation.measures import Response, can_be_measured
    from ..evaluation.problems.grading import Grade, grade

    verdict = Grade.FAILED if record.get("error") else grade(record["text"], problem).grade
    measured = record if can_be_measured(record) else {}
    return Response(problem.id, setting, sample, verdict, record["text"], measured)


def _modes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or any(name not in MODES for name in names):
        raise UsageError(f"--modes is {text!r}, but must be of {either(MODES).removeprefix('one of ')}, with commas")
    return names


def _check_files(values: dict[str, Any]) -> None:
    """What is written must be writable, and not what is read, or written twice."""
    if values["output"] == "-":
        raise UsageError("--output is -, but must be a file: a run that was stopped goes on from it")
    written = {f"--{name}": values[key] for name, key in _WRITTEN.items() if values[key]}
    read = {f"--{name}": values[name] for name in ("problems", "responses") if values[name]}
    for path in written.values():
        check_writable(path)
    for name, path in written.items():
        for other, another in (read | written).items():
            if other != name and same_file(path, another):
                raise UsageError(f"{name} and {other} are the same file: {path}")


# ---------------------------------------------------------------- what is told
def _tell(responses: list[Response], values: dict[str, Any], entry: PairEntry | None, whole: bool) -> None:
    """Write the files, then print: a reader that leaves early loses nothing. An interrupted run writes none."""
    from ..evaluation.measures import measure, recommend

    if not responses:
        return
    measures = measure(responses)
    found = recommend(measures, values["loss"] / 100, [r.record for r in responses if r.measured])
    lines = table(measures)
    if values["recommend"] or any(m.setting.startswith("foreal") for m in measures):
        lines += ["", *textwrap.wrap(found.reason, shutil.get_terminal_size((100, 0)).columns)]
    wanted = [f"--{name}" for name in ("json", "recommend", "report") if values[_WRITTEN.get(name, name)]]
    if not whole and wanted:
        lines += ["", f"interrupted: {' and '.join(wanted)} are written once all is done; this command goes on"]
    if whole and values["figures"]:
        content = {"problems": values["problems"], "settings": [m.as_dict() for m in measures]}
        _write(values["figures"], json.dumps(_finite(content), indent=1))
    if whole and values["recommend"] and found.setting:
        _write(values["recommend"], _config_of(found, responses, values))
        lines.append(f"written to {values['recommend']}: foreal-gen --config {values['recommend']}")
    if whole and values["report"]:
        from .reports import report_bench

        lines += ["", f"report: {report_bench(values, entry, responses, measures, found)}"]
    for line in lines:
        click.echo(line)


def _write(path: str, text: str) -> None:
    from ..storage.session import write_beside

    try:
        write_beside(Path(path), [text.encode()])
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _finite(value: Any) -> Any:
    """Without what JSON has no words for: null for nan and infinity."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_ASKED = ("pair", "leader", "draft", "ctx_size", "system", "template_arg")


def _config_of(found: Recommendation, responses: list[Response], values: dict[str, Any]) -> str:
    """The recommended setting as it was measured, as a file for --config: models and prompting too."""
    record = next(r.record for r in responses if r.setting == found.setting and r.measured)
    measured = [*names_of(Method), *names_of(Sampling), "max_tokens", "stop"]
    settings = {name: record[name] for name in measured if record.get(name) not in (None, [])}
    settings |= {name: values[name] for name in _ASKED if values[name] not in (None, [], ())}
    # What JSON writes of numbers, texts and lists is TOML too, but not its surrogate pairs.
    lines = [f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    return "".join(f"{line}\n" for line in [f"# {found.reason}", *lines])


def table(measures: list[Measures]) -> list[str]:
    """The lines of three tables: answers, work, and both against the leader alone."""
    from ..evaluation.measures import BAD

    width = max(len(m.setting) for m in measures)
    lines = [f"{'':{width}}  accuracy   95 % interval   wrong/missing/unread/failed   tokens  leader"]
    for m in measures:
        bad = "/".join(str(m.verdicts.get(v, 0)) for v in BAD)
        line = (
            f"{m.setting:{width}}  {m.accuracy.value:8.1%}  {m.accuracy.low:6.1%} - {m.accuracy.high:6.1%}  {bad:>27}"
        )
        lines.append(line + (f" {m.means['length']:8.1f} {m.means['leader_share']:7.0%}" if m.means else ""))
    measured = [m for m in measures if m.means]
    if measured:
        lines += ["", f"{'':{width}}  GFLOPs written      all   decoded  prefilled   seconds  tokens/s"]
    for m in measured:
        mean = m.means
        line = f"{m.setting:{width}} {mean['flops_generation'] / 1e9:15.3f} {mean['flops_total'] / 1e9:8.3f}"
        line += f" {mean['decode_tokens']:9.0f} {mean['prefill_tokens']:10.0f}"
        lines.append(line + f" {mean['seconds']:9.3f} {m.tokens_per_second:9.0f}")
    compared = [m for m in measures if m.accuracy_difference]
    if compared:
        head = "against the leader"
        width = max(width, len(head))
        lines += ["", f"{head:{width}}  accuracy          points lost          length  written            all   time"]
    for m in compared:
        lost = m.accuracy_difference
        assert lost is not None
        points = f"{_lost(lost.value)} ({_lost(lost.high)} to {_lost(lost.low)})"
        line = f"{m.setting:{width}}  {_ratio(m.ratios['accuracy'])}  {points:<20}"
        if "length" in m.ratios:
            line += f" {m.ratios['length'].value:6.2f}  {_ratio(m.ratios['flops_generation'])}"
            line += f" {m.ratios['flops_total'].value:5.2f} {m.ratios['seconds'].value:6.2f}"
        lines.append(line)
    return lines


def _ratio(one: Estimate) -> str:
    return f"{one.value:.2f} ({one.low:.2f}-{one.high:.2f})"


def _lost(difference: float) -> str:
    """Percentage points lost; no minus before 0.0."""
    return f"{round(-100 * difference, 1) + 0.0:.1f}"
