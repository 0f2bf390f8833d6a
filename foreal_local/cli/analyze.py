"""foreal analyze: where leader and drafts disagree. Parses, runs the analysis, prints its tables, writes its files."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import OF_WORKERS, Generation, ModelSettings, Sampling, generation_of, prompting_of, runtime_of
from ..errors import UsageError
from ..storage.files import LineFile, locked
from ..storage.ownership import check_writable, was_there
from ..wrapping import wrapped
from .command import MODELS, SAMPLING, ForealCommand, ForealOption, option
from .options import (
    model_options,
    prompting_options,
    setting_options,
    settings_in,
    with_settings_of,
)
from .streams import require_output

if TYPE_CHECKING:
    from ..evaluation.analysis.analysis import AnalysisRequest
    from ..evaluation.analysis.sources import SourceKind, SourceRequest

EPILOG = """\b
Examples:
  foreal analyze --limit 20
  foreal analyze -l leader.gguf -d draft.gguf -d other.gguf --problems problems.jsonl -o analysis.json
  foreal analyze --prompts prompts.txt --max-tokens 200
  foreal analyze --responses answers.jsonl     # of foreal-gen, or lines with `prompt` and `text`
  foreal analyze --trace trace.jsonl
Answers that take hours are better made by foreal-gen --mode leader --temp 0 --resume, and analysed with --responses.
Exit codes: 0 all done, 1 some prompts failed, 2 usage, 130 interrupted."""


_SOURCES: tuple[SourceKind, ...] = ("problems", "prompts", "responses", "trace")
_TYPED = click.core.ParameterSource.COMMANDLINE


class _ModelName(click.types.StringParamType):
    """The name of a model. FOREAL_DRAFT has one name, although the option is repeatable: a path may have spaces."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class _Drafts(ForealOption):
    """--draft any number of times; in a file of --config it is a text or a list of texts."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, [value] if isinstance(value, str) else value)


_drafts_option = option(
    "--draft",
    "-d",
    cls=_Drafts,
    section=MODELS,
    type=_ModelName(),
    multiple=True,
    metavar="MODEL",
    help="A draft beside the pair's own: a GGUF file, or owner/repo[:quant]; repeatable.",
)


_FIRST = (
    "pair", "leader", "draft", "problems", "prompts", "responses", "limit", "max_tokens", "output", "report",
)  # fmt: skip


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--problems", metavar="SET", help="heldout, a JSONL file, MATH-500, AIME24, ...  [default: heldout]", envvar=None
)
@option("--prompts", metavar="FILE", help="Prompts of any kind instead, as foreal-gen's --file.", envvar=None)
@option(
    "--responses",
    metavar="FILE",
    help="Responses that are there already: JSON lines with prompt and text.",
    envvar=None,
)
@option("--trace", metavar="FILE", help="Responses that are there already: a trace of foreal-gen.", envvar=None)
@option("--limit", type=int, metavar="N", help="At most so many.  [default: 100 problems; all of a file]")
@option("--output", "-o", metavar="FILE", help="Write all figures here, as JSON.")
@option("--report", metavar="DIR", help="Write a page and figures there; needs matplotlib.", envvar=None)
@option("--bin", type=int, default=32, metavar="N", help="Tokens of a bin along the response.")
@option(
    "--max-tokens",
    type=int,
    metavar="N",
    section=SAMPLING,
    help="Longest answer.  [default: until the end, or the context is full]",
)
@option("--parallel", "-P", type=int, default=4, metavar="N", help="Prompts answered, and responses read, at a time.")
@option("--seed", type=int, default=0, metavar="N", section=SAMPLING, help="Of the intervals, and of shuffled choices.")
@option("--quiet", "-q", is_flag=True, help="No progress.")
@model_options(_drafts_option, without=["rollback", *OF_WORKERS])
@setting_options("n", "p", "k", "hits_from", "boundaries", "compare", "tau")
@prompting_options
@click.version_option(__version__, prog_name="foreal analyze")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Show where a leader and its drafts disagree, along its responses and along their sentences.

    The leader answers greedily; every draft judges each position: is its most likely token the leader's? Tables go
    to stdout. They also tell what share of the tokens the draft would write for given n, p and k.
    """
    values, leader, drafts = _named_models(values, context)
    sys.exit(_analyse(values, leader, drafts))


def _named_models(values: dict[str, Any], context: click.Context) -> tuple[dict[str, Any], str, list[str]]:
    """The values with the pair's settings, the leader, and the drafts: the pair's own first, then those of --draft."""
    from ..pairs import DEFAULT_PAIR, find_pair

    typed = {name: context.get_parameter_source(name) is _TYPED for name in ("pair", "leader", "draft")}
    pair, leader, drafts = values["pair"], values["leader"], list(values["draft"])
    if typed["pair"] and not typed["leader"]:  # the command line goes before variables
        leader, drafts = None, drafts if typed["draft"] else []
    elif typed["leader"] and not typed["pair"]:
        pair = None
    if pair and leader:
        raise UsageError("--pair names the leader: leave out --leader, or --pair")
    if leader:
        if not drafts:
            raise UsageError("--draft is missing: a leader is analysed against one draft or more")
        return values, leader, drafts
    entry = find_pair(pair or DEFAULT_PAIR)
    return with_settings_of(entry, values, context), entry.leader, [entry.draft, *drafts]


# ---------------------------------------------------------------- the run
def _analyse(values: dict[str, Any], leader: str, drafts: list[str]) -> int:
    """Run the analysis, write the file, print the tables, make the report; the exit code."""
    from ..batch.progress import Bars
    from ..evaluation.analysis.analysis import Analysis
    from ..evaluation.analysis.callbacks import Callbacks
    from ..evaluation.analysis.record import record_of
    from ..evaluation.reports.analysis_advice import advice_of
    from ..evaluation.reports.analysis_tables import tables_of
    from ..memory.fitting import fitting
    from .tables import print_tables

    require_output("name a file with --output, or --report", bool(values["output"] or values["report"]))
    request = _request_of(values, leader, drafts)
    bars = Bars(not (values["quiet"] or values["verbose"]))
    fit = fitting(values["fit"], _note)
    analysis = Analysis(request, Callbacks(lambda line: bars.tell(_named(line)), bars.counting, bars.loading, fit))
    with contextlib.ExitStack() as stack:
        if values["output"]:
            stack.enter_context(locked(Path(values["output"]), "--output"))
        findings = analysis.run()
        if values["output"]:
            options = ("limit", "seed", "max_tokens", "bin", "parallel", "ctx_size")
            _write(values["output"], record_of(findings, {name: values[name] for name in options}))
    print_tables(tables_of(findings))
    if values["report"]:
        from .reports import report_analysis

        click.echo(f"report: {report_analysis(values, findings, _note)}\n")
    width = shutil.get_terminal_size((100, 0)).columns
    for line in advice_of(findings):
        click.echo("\n".join(wrapped(line, width)))
    return 1 if findings.n_failed else 0


def _request_of(values: dict[str, Any], leader: str, drafts: list[str]) -> AnalysisRequest:
    """The analysis that the options describe. Everything that can be wrong with them is checked here."""
    from ..evaluation.analysis.analysis import AnalysisRequest
    from ..evaluation.analysis.sources import read_source
    from ..evaluation.reports.report import check_folder
    from ..hub import resolve_model

    by_name = settings_in(values)
    method = generation_of(by_name).method
    for name in ("parallel", "bin"):
        if values[name] < 1:
            raise UsageError(f"--{name} is {values[name]}, but must be 1 or more")
    settings = Generation("leader", method, Sampling(temp=0), values["seed"], max_tokens=values["max_tokens"])
    if values["output"]:
        check_writable(values["output"], "--output")
    if values["report"]:
        check_folder(Path(values["report"]))
    runtime, prompting = runtime_of(by_name), prompting_of(by_name)
    source_request = _source_of(values)
    source = read_source(source_request, settings, _note)
    resolve = partial(resolve_model, offline=values["offline"], progress=not values["quiet"])
    paths = [resolve(draft) for draft in drafts]
    request = AnalysisRequest(
        leader=ModelSettings(resolve(leader), values["leader_gpu_layers"]),
        drafts={_name(path, paths): ModelSettings(path, values["draft_gpu_layers"]) for path in paths},
        source=source,
        source_name=source_request.name,
        settings=settings,
        runtime=runtime,
        prompting=prompting,
        n_slots=values["parallel"],
        bin_width=values["bin"],
    )
    files = [values[kind] for kind in _SOURCES if values[kind]]
    _refuse_to_overwrite(values["output"], [*files, request.leader.path, *paths])
    return request


def _source_of(values: dict[str, Any]) -> SourceRequest:
    """The source that an option names, or the default problem set; UsageError where two options name one each."""
    from ..evaluation.analysis.sources import SourceRequest
    from ..evaluation.problems.datasets import DEFAULT_SET

    named = [kind for kind in _SOURCES if values[kind]]
    if len(named) > 1:
        raise UsageError(f"--{named[0]} and --{named[1]} each name what is to be analysed: leave one out")
    kind, path = (named[0], values[named[0]]) if named else (_SOURCES[0], DEFAULT_SET)
    return SourceRequest(kind, path, values["limit"], values["offline"])


def _name(path: Path, paths: list[Path]) -> str:
    """The file's name; the whole path where two files have the same name."""
    return path.name if [other.name for other in paths].count(path.name) == 1 else str(path)


def _refuse_to_overwrite(output: str | None, read: list[str | Path]) -> None:
    """UsageError where the output is one of the files that are read."""
    if not output or not Path(output).exists():
        return
    for path in read:
        if Path(path).exists() and Path(path).samefile(output):
            raise UsageError(f"--output is a file that is read here: {path}")


# ---------------------------------------------------------------- the file and the screen
def _write(output: str, record: dict[str, Any]) -> None:
    file = LineFile(output)
    with contextlib.closing(file):
        if file.set_aside:
            _note(was_there(file.path, file.set_aside))
        file.write(json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n")


def _named(line: str) -> str:
    return f"foreal analyze: {line}"


def _note(line: str) -> None:
    click.echo(_named(line), err=True)


if __name__ == "__main__":
    main()
