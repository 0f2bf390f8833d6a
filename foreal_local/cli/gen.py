"""foreal-gen: answer a file of prompts. Parses, calls the engine, prints."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import generation_of, prompting_of, runtime_of
from .asking import file_of, prompt_argument, prompts_of
from .cluster import check_ray, cluster_run, ray_options
from .command import ForealCommand, option
from .options import (
    background_option,
    loss_option,
    measured_in,
    method_options,
    mode_option,
    model_options,
    preset_option,
    prompting_options,
    record_options,
    sampling_options,
    settings_in,
)
from .streams import require_output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..batch.request import BatchRequest
    from ..config import Pair
    from ..method.roles import Role
    from ..results import Prompt

EPILOG = """\b
Examples:
  foreal-gen 'Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?'
  foreal-gen 'How many apples does Anna have?' < notes.txt     # about a document
  foreal-gen --prompt-file question.txt
  foreal-gen --file prompts.txt -o answers.jsonl --parallel 8
  foreal-gen --file prompts.txt -o answers.jsonl --resume --checkpoint unfinished
  foreal-gen --file prompts.jsonl -o answers --ray             # on a Ray cluster, in parts
  foreal-gen -l leader.gguf -d draft.gguf -f prompts.jsonl --trace trace.jsonl --temp 0
Every option is also an environment variable: FOREAL_CTX_SIZE=4096 for --ctx-size.
Exit codes: 0 all done, 1 some prompts failed, 2 usage, 130 interrupted."""


_FIRST = (
    "pair", "leader", "draft", "file", "prompt_file", "output", "parallel", "mode", "temp", "max_tokens",
)  # fmt: skip


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@prompt_argument
@option("--file", "-f", metavar="PATH", help="Prompts: a line each (text), or JSON objects (.jsonl); - is stdin.")
@option("--prompt", multiple=True, metavar="TEXT", help="A prompt; repeatable; - is stdin.", envvar=None)
@option("--prompt-file", multiple=True, metavar="FILE", help="A prompt: all of a file; repeatable.", envvar=None)
@option("--lines", is_flag=True, help="Each line of stdin is a prompt, as with --file -.", envvar=None)
@option("--output", "-o", metavar="FILE", help="Write the results here, each as soon as it is finished; - is stdout.")
@option(
    "--format",
    type=click.Choice(["text", "jsonl"]),
    help="Answers, or records.  [default: text on stdout, jsonl with -o]",
)
@option("--parallel", "-P", type=int, default=1, metavar="N", help="Prompts answered at a time.")
@option("--trace", metavar="FILE", help="Write every decision here, one JSON object per line.")
@option("--resume", is_flag=True, help="Keep the records that --output has of these prompts and settings; do the rest.")
@option("--checkpoint", metavar="DIR", help="Keep unfinished responses here, and go on with those found.")
@option("--checkpoint-every", type=int, default=256, metavar="N", help="Tokens of a response between two savings.")
@option(
    "--reasoning",
    type=click.Choice(["auto", "show", "hide"]),
    default="auto",
    help="On stderr; auto: terminals.",
)
@option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="The leader's words in colour.",
)
@background_option
@option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
@model_options()
@preset_option
@mode_option
@loss_option
@method_options
@sampling_options
@record_options
@prompting_options
@ray_options
@click.version_option(__version__, prog_name="foreal-gen")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Answer PROMPT, or many prompts, with FoReaL-Decoding: a leader starts sentences, a draft finishes them.

    What is piped in stands before PROMPT, as a document that it is about; without PROMPT it is the prompt.
    Answers go to stdout, everything else to stderr.
    """
    from ..batch.run import BatchRun
    from ..pairs import limits_of
    from ..runtime.room import check_room
    from .loading import pair_of, with_models

    on_cluster = check_ray(values, "trace", "format", "reasoning", "loss")
    values, entry = with_models(values, context)
    require_output("name a file with --output", values["output"] not in (None, "", "-"))
    request = replace(_request_of(values, context), limits=limits_of(entry))

    def pair_for(roles: set[Role]) -> Pair:
        pair = pair_of(values, entry, roles)
        if request.format == "text":  # else there is a record that says so
            check_room([prompt.content for prompt in request.prompts], pair, roles, request.runtime)
        return pair

    if on_cluster:
        sys.exit(cluster_run(values, entry, _prompts_of_file(values, request))(request, pair_for).execute())
    sys.exit(BatchRun(request, pair_for).execute())


def _prompts_of_file(values: dict[str, Any], request: BatchRequest) -> Iterable[Prompt]:
    """Those of --file or --lines, read one by one."""
    from ..cluster.source import PromptFile

    file = file_of(values)
    return PromptFile(file, request.settings, request.prompting, _note) if file else ()


def _request_of(values: dict[str, Any], context: click.Context) -> BatchRequest:
    """What the options ask for; reads the prompts."""
    from ..batch.request import BatchRequest
    from ..memory.fitting import fitting
    from .loading import color_of

    by_name = settings_in(values)
    settings, prompting = generation_of(by_name), prompting_of(by_name)
    on_terminal = values["reasoning"] == "auto" and sys.stderr.isatty()
    return BatchRequest(
        prompts=prompts_of(values, settings, prompting, _note, with_file=values["ray"] is None),
        settings=settings,
        prompting=prompting,
        runtime=runtime_of(by_name),
        parallel=values["parallel"],
        output=values["output"],
        format=values["format"],
        trace=values["trace"],
        resume=values["resume"],
        checkpoint=values["checkpoint"],
        checkpoint_every=values["checkpoint_every"],
        inputs={"--file": file_of(values), **{f"--prompt-file {path}": path for path in values["prompt_file"]}},
        color=color_of(values["color"]),
        background=values["background"],
        show_reasoning=values["reasoning"] == "show" or on_terminal,
        quiet=values["quiet"],
        measured=measured_in(values, context),
        loss=values["loss"],
        fitting=fitting(values["fit"], _note),
    )


def _note(text: str) -> None:
    click.echo(f"foreal-gen: {text}", err=True)
