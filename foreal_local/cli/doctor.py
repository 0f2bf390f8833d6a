"""foreal doctor: what this machine has, whether a pair fits it, and which mode pays. Parses, asks, prints."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from .. import __version__
from ..config import Pair, runtime_of
from ..errors import UsageError
from ..method.roles import Role
from .command import ForealCommand, option
from .options import model_options, settings_in
from .streams import require_output

EPILOG = """\b
Examples:
  foreal doctor
  foreal doctor --pair tiny --parallel 8
  foreal doctor -l leader.gguf -d draft.gguf --ctx-size 16384
  foreal doctor --pair qwen3-8b --json
Exit codes: 0 nothing keeps models from running, 1 something does, 2 usage."""

_FIRST = ("pair", "leader", "draft", "ctx_size", "parallel", "json")


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option("--parallel", "-P", type=int, default=1, metavar="N", help="Prompts answered at a time.")
@option("--measure/--no-measure", default=True, help="Load the pair, and time its evaluations.")
@option("--json", is_flag=True, help="All of it, for programs.", envvar=None)
@model_options(without=("verbose", "fit", "offline"))
@click.version_option(__version__, prog_name="foreal doctor")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Say what this machine has, what a pair needs of it, and which mode pays here; problems first.

    Without a pair: the machine. Nothing is downloaded.
    """
    from ..doctor.examine import examine_machine, examine_pair
    from ..doctor.report import lines_of

    require_output("findings are printed there")
    if values["parallel"] < 1:
        raise UsageError(f"--parallel is {values['parallel']}, but must be 1 or more")
    findings = examine_machine()
    if any(values[name] for name in ("pair", "leader", "draft")):
        examine_pair(
            findings,
            lambda: _pair_here(values, context),
            runtime_of(settings_in(values)),
            n_slots=values["parallel"],
            roles=_roles(values),
            measures=values["measure"],
            note=_note if sys.stderr.isatty() else lambda text: None,
        )
    if values["json"]:
        click.echo(json.dumps(findings.as_dict(), indent=1))
    else:
        for line in lines_of(findings):
            click.echo(line)
    sys.exit(1 if findings.stops else 0)


def _roles(values: dict[str, Any]) -> tuple[Role, ...]:
    """One model alone may be named."""
    named = tuple(role for role in Role if values[str(role)])
    return named or tuple(Role)


def _pair_here(values: dict[str, Any], context: click.Context) -> Pair:
    """The files of the pair that is named; nothing is downloaded."""
    from .loading import pair_of, with_models

    values, entry = with_models(values | {"offline": True, "quiet": True, "preset": None}, context)
    return pair_of(values, entry, set(_roles(values)))


def _note(text: str) -> None:
    click.echo(f"foreal doctor: {text} ...", err=True)
