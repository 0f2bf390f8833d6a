"""foreal analyze: where leader and drafts disagree. Parses, runs the analysis, which prints."""

from __future__ import annotations

import sys
from typing import Any

import click

from .. import __version__
from ..errors import UsageError
from .options import ForealCommand, method_options, model_options_with, option, prompting_options, with_settings_of

EPILOG = """\b
Examples:
  foreal analyze --limit 40
  foreal analyze -l leader.gguf -d instruct.gguf -d base.gguf --problems MATH-500 -o analysis.json
  foreal analyze --prompts recipes.txt --max-tokens 2000
  foreal analyze --responses answers.jsonl     # of foreal-gen, or lines with `prompt` and `text`
  foreal analyze --trace trace.jsonl
Answers that take hours are better made by foreal-gen --mode leader --temp 0 --resume, and analysed with --responses.
Exit codes: 0 all done, 1 some prompts failed, 2 usage, 130 interrupted."""


_TYPED = click.core.ParameterSource.COMMANDLINE


class _ModelName(click.types.StringParamType):
    """A model's name is one name, also in FOREAL_DRAFT: a path may have spaces."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class _Drafts(click.Option):
    """--draft any number of times; a file of --config may name one as a text, or several as a list."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, [value] if isinstance(value, str) else value)


_drafts_option = option(
    "--draft",
    "-d",
    cls=_Drafts,
    type=_ModelName(),
    multiple=True,
    metavar="MODEL",
    help="A draft beside the pair's own: a GGUF file, or owner/repo[:quant]; repeatable.",
)


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
@option("--max-tokens", type=int, metavar="N", help="Longest answer.  [default: until the end, or the context is full]")
@option("--parallel", "-P", type=int, default=4, metavar="N", help="Prompts answered, and responses read, at a time.")
@option("--seed", type=int, default=0, metavar="N", help="Of the intervals, and of shuffled choices.")
@option("--quiet", "-q", is_flag=True, help="No progress.")
@model_options_with(_drafts_option)
@method_options
@prompting_options
@click.version_option(__version__, prog_name="foreal analyze")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Show where a leader and its drafts disagree, along its responses and along their sentences.

    The leader answers greedily; every draft judges each position: is its most likely token the leader's? Tables go
    to stdout. They also tell what share of the tokens the draft would write for given n, p and k.
    """
    values, leader, drafts = _named_models(values, context)
    from .analyze_run import Run

    sys.exit(Run(values, leader, drafts).execute())


def _named_models(values: dict[str, Any], context: click.Context) -> tuple[dict[str, Any], str, list[str]]:
    """The leader, and the drafts: a pair's own first, then those of --draft. The values with the pair's settings."""
    from ..hub import DEFAULT_PAIR, find_pair

    typed = {name: context.get_parameter_source(name) is _TYPED for name in ("pair", "leader", "draft")}
    pair, leader, drafts = values["pair"], values["leader"], list(values["draft"])
    if typed["pair"] and not typed["leader"]:  # what variables name gives way
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


if __name__ == "__main__":
    main()
