"""A command: its errors in one line, which says where a value came from, and its help in sections.

Knows no option by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ..by_name import nearest
from ..config import SETTINGS
from ..errors import ForealError, UsageError
from ..settings import Setting
from .streams import StreamsCommand

ORIGINS = "foreal_local.origins"
"""Where a context's `meta` has the places of values that files give, by the names of their parameters."""
FIRST, OWN, MODELS, METHOD, REVIEW, SAMPLING, PROMPTING, RUNNING, HELP = SECTIONS = (
    "Most used",
    "Input and output",
    "Models",
    "Method",
    "Review by the leader",
    "Sampling and length",
    "Prompt and chat template",
    "How the models run",
    "Help",
)
"""The sections of a command's options, in the order of its help."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class CliError(click.ClickException):
    """A ForealError as click prints it: one line, and the error's exit code."""

    def __init__(self, error: ForealError, note: str = "") -> None:
        super().__init__(" ".join(f"{error}{note}".split()))
        self.exit_code = error.exit_code  # type: ignore[misc]


class ForealOption(click.Option):
    """An option with the section of the help that it stands in."""

    def __init__(self, *arguments: Any, section: str = OWN, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section


class ForealCommand(StreamsCommand):
    """A command whose errors are one line on stderr and whose Ctrl-C ends with 130.

    first: the parameters that its help begins with
    """

    def __init__(self, *arguments: Any, first: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.first = first

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            shown = [each for each in self.get_params(ctx) if isinstance(each, click.Option) and not each.hidden]
            near = nearest(error.option_name, [max(option.opts, key=len) for option in shown])
            hint = f". Did you mean '{near}'?" if near else "; --help lists all."
            raise click.NoSuchOption(
                error.option_name, f"No such option '{error.option_name}'{hint}", (), ctx
            ) from None
        except click.BadParameter as error:
            if error.param is not None and (origin := origin_of(ctx, error.param)):
                option = max(error.param.opts, key=len)
                error.param_hint = f"'{origin}'" if origin == option else f"'{origin}' ({option})"
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ForealError as error:
            raise CliError(error, _origins_in(error, ctx)) from error
        except KeyboardInterrupt:
            ctx.exit(130)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options that most people need, then all others by what they are for."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
        options = {each.name: each for each in self.get_params(ctx) if isinstance(each, click.Option)}
        first = [options.pop(name) for name in self.first]
        for parameter in [*first, *options.values()]:
            if record := parameter.get_help_record(ctx):
                name = FIRST if parameter in first else getattr(parameter, "section", HELP)
                sections[name].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def option(*names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """click.option with FOREAL_<LONG_NAME> as its environment variable."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    attributes.setdefault("envvar", "FOREAL_" + long.strip("-").replace("-", "_").upper())
    attributes.setdefault("cls", ForealOption)
    if attributes.get("default") is not None and not attributes.get("multiple"):
        attributes.setdefault("show_default", True)
    return click.option(*names, **attributes)


def together(*decorators: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in their order."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def parameter_of(setting: Setting) -> str:
    """What click calls a setting's option."""
    return setting.option.strip("-").replace("-", "_")


# ---------------------------------------------------------------- where values come from
def origin_of(context: click.Context, parameter: click.Parameter) -> str:
    """Where the parameter's value came from: an option, a variable, or a key of a file; "" for a default."""
    name, source = str(parameter.name), click.core.ParameterSource
    found = context.get_parameter_source(name)
    if found is source.COMMANDLINE:
        return max(parameter.opts, key=len)
    if found is source.ENVIRONMENT:
        return str(parameter.envvar)
    of_files: dict[str, str] = context.meta.get(ORIGINS, {})
    return of_files.get(name, "")


def _origins_in(error: ForealError, context: click.Context) -> str:
    """Where the values came from that a message is about, as far as it does not say so itself."""
    text = str(error)
    setting = SETTINGS[error.setting] if isinstance(error, UsageError) and error.setting else None
    notes = []
    for parameter in context.command.params:
        origin = origin_of(context, parameter)
        if not origin or origin in text:
            continue
        named = next((name for name in parameter.opts if re.search(rf"(?<![\w-]){name}(?![\w-])", text)), None)
        if setting is not None and parameter.name == parameter_of(setting):
            notes.append(f"from {origin}")
        elif named and named.startswith("--"):
            notes.append(f"{named} is from {origin}")
    return f" ({', '.join(notes)})" if notes else ""
