"""foreal bench: accuracy, work and time of leader, draft and both together. Parses, runs, grades, prints."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import MODES, Mode
from ..errors import UsageError
from .options import (
    ForealCommand,
    generation_of,
    method_options,
    model_options,
    option,
    prompting_options,
    sampling_options,
    typed_models,
    with_settings_of,
)

if TYPE_CHECKING:
    from ..evaluation.datasets import Problem
    from ..evaluation.measures import Measures, Response
    from ..hub import PairEntry

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
    from ..evaluation.datasets import load_problems
    from .loading import named_pair

    if values["report"]:
        from ..evaluation.report import check_folder

        check_folder(Path(values["report"]))
    problems = load_problems(
        values["problems"], limit=values["limit"], seed=values["seed"] or 0, offline=values["offline"]
    )
    if values["responses"]:
        entry, (responses, code) = None, (_given(Path(values["responses"]), problems), 0)
    else:
        values = typed_models(values, context)
        entry = named_pair(values)
        if entry:
            values = with_settings_of(entry, values, context)
        responses, code = _answered(values, entry, problems)
    _tell(responses, values | ({"report": None} if code == 130 else {}), entry)
    sys.exit(code)


# ---------------------------------------------------------------- responses
def _answered(values: dict[str, Any], entry: PairEntry | None, problems: list[Problem]) -> tuple[list[Response], int]:
    """Run what is not in the output yet, and grade all of it."""
    from dataclasses import replace

    from ..evaluation.experiments import parts_of, prompts_for, settings_for
    from ..evaluation.grading import check_installed
    from .answering import Run

    check_installed(problems)
    base = generation_of(values)
    base = base if base.seed is not None else replace(base, seed=0)
    if values["samples"] < 1:
        raise UsageError(f"--samples is {values['samples']}, but must be 1 or more")
    settings = settings_for(base, _modes(values["modes"]), values["grid"])
    with tempfile.TemporaryDirectory() as scratch:
        output = values["output"] or str(Path(scratch) / "responses.jsonl")
        rest = {"file": None, "output": output, "format": "jsonl", "resume": True, "checkpoint": None}
        rest |= {"checkpoint_every": 1, "reasoning": "hide", "color": "never"}
        prompts = prompts_for(problems, settings, values["samples"])
        code = Run(values | rest, entry, base, prompts, summary=False, name="foreal bench").execute()
        wanted = {prompt.id for prompt in prompts}
        records = [record for record in _lines(Path(output)) if record.get("id") in wanted]
    by_id = {problem.id: problem for problem in problems}
    order = {setting.name: i for i, setting in enumerate(settings)}
    responses = []
    for record in records:
        name, setting, sample = parts_of(record["id"])
        responses.append(_graded(by_id[name], setting, sample, record))
    return sorted(responses, key=lambda response: order[response.setting]), code


def _given(path: Path, problems: list[Problem]) -> list[Response]:
    """Responses of any origin, by their problems' ids; those of a benchmark keep their settings."""
    from ..evaluation.experiments import parts_of

    by_id = {problem.id: problem for problem in problems}
    responses = []
    for number, record in enumerate(_lines(path), 1):
        id, text = str(record.get("id")), record.get("text")
        if not isinstance(text, str):
            raise UsageError(f"{path}:{number}: a response needs `id` and `text`")
        name, setting, sample = (id, str(record.get("setting", "responses")), 0)
        if name not in by_id and id.count("|") >= 2:
            name, setting, sample = parts_of(id)
        if name not in by_id:
            raise UsageError(f"{path}:{number}: no problem has the id {name!r}: --problems names the set it is of")
        responses.append(_graded(by_id[name], setting, sample, record))
    return responses


def _graded(problem: Problem, setting: str, sample: int, record: dict[str, Any]) -> Response:
    from ..evaluation.grading import grade
    from ..evaluation.measures import Response

    measured = record if {"usage", "cost", "seconds"} <= record.keys() else {}
    return Response(problem.id, setting, sample, grade(record["text"], problem).verdict, record["text"], measured)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{path}:{number} is not JSON: one object on each line is wanted") from None
        if not isinstance(record, dict):
            raise UsageError(f"{path}:{number} is no object: one with `id` and `text` is wanted")
        records.append(record)
    return records


def _modes(text: str) -> list[Mode]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Mode)]
    if unknown or not names:
        raise UsageError(f"--modes is {text!r}, but must be of {MODES}, with commas")
    return [Mode(name) for name in names]


# ---------------------------------------------------------------- what is told
def _tell(responses: list[Response], values: dict[str, Any], entry: PairEntry | None) -> None:
    from ..evaluation.measures import measure, recommend
    from ..session import write_beside

    if not responses:
        return
    measures = measure(responses)
    for line in table(measures):
        click.echo(line)
    if values["figures"]:
        content = {"problems": values["problems"], "settings": [m.as_dict() for m in measures]}
        write_beside(Path(values["figures"]), [json.dumps(content, indent=1).encode()])
    found = recommend(measures, values["loss"] / 100, [response.record for response in responses])
    if values["recommend"] or any(m.setting.startswith("foreal") for m in measures):
        click.echo(f"\n{found.reason}")
    if values["recommend"] and found.setting:
        settings = dict(part.split("=") for part in found.setting.split()[1:])
        lines = [f"# {found.reason}", *(f"{name} = {value}" for name, value in settings.items())]
        write_beside(Path(values["recommend"]), ["".join(f"{line}\n" for line in lines).encode()])
        click.echo(f"written to {values['recommend']}: foreal-gen --config {values['recommend']}")
    if values["report"]:
        from .reports import report_bench

        click.echo(f"\nreport: {report_bench(values, entry, responses, measures, found)}")


def table(measures: list[Measures]) -> list[str]:
    """The lines of the two tables: each setting by itself, and against the leader alone."""
    width = max(len(m.setting) for m in measures)
    lines = [
        f"{'':{width}}  accuracy  95 % interval   wrong/missing/unread   tokens  leader   GFLOPs: written  all   "
        "decoded  prefilled  seconds  tokens/s"
    ]
    for m in measures:
        bad = "/".join(str(m.verdicts.get(v, 0)) for v in ("wrong", "missing", "unparsable"))
        line = (
            f"{m.setting:{width}}  {m.accuracy.value:7.1%}  {m.accuracy.low:6.1%} - {m.accuracy.high:6.1%}  {bad:>20}"
        )
        if m.means:
            mean = m.means
            line += f" {mean['length']:8.1f} {mean['leader_share']:7.0%} {mean['flops_generation'] / 1e9:17.3f}"
            line += f" {mean['flops_total'] / 1e9:6.3f} {mean['decode_tokens']:8.0f} {mean['prefill_tokens']:10.0f}"
            line += f" {mean['seconds']:8.3f} {m.tokens_per_second:9.0f}"
        lines.append(line)
    compared = [m for m in measures if m.ratios]
    if compared:
        lines += [
            "",
            f"{'against the leader':{width + 20}}  accuracy     points lost        length   written     all   time",
        ]
    for m in compared:
        lost = m.accuracy_difference
        assert lost is not None
        text = f"{m.setting:{width + 20}}  {m.ratios['accuracy'].value:8.2f}  {_lost(lost.value):>5}"
        text += f" ({_lost(lost.high)} to {_lost(lost.low)})"
        for key, wide in (("length", 9), ("flops_generation", 9), ("flops_total", 7), ("seconds", 6)):
            text += f" {m.ratios[key].value:{wide}.2f}" if key in m.ratios else ""
        lines.append(text)
    return lines


def _lost(difference: float) -> str:
    """Percentage points lost; no minus before 0.0."""
    return f"{round(-100 * difference, 1) + 0.0:.1f}"
