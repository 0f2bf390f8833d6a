"""Options shared by the commands, as decorators; every one is also an environment variable FOREAL_*.

Those of settings come from config.py's table; others are where their command is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import SETTINGS, Method, Prompting, Runtime, Sampling, names_of
from ..errors import ForealError, UsageError
from ..palette import BACKGROUNDS
from ..presets import PRESETS, preset
from ..settings import Setting, arguments_of
from .streams import StreamsCommand

if TYPE_CHECKING:
    from ..choice import Measured
    from ..pairs import PairEntry

MEASURED = "foreal_local.measured"
"""Where a context's `meta` has the table [measured] of --config."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class CliError(click.ClickException):
    """A ForealError as click prints it: one line, and the error's exit code."""

    def __init__(self, error: ForealError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code  # type: ignore[misc]


class ForealCommand(StreamsCommand):
    """A command whose errors are one line on stderr and whose Ctrl-C ends with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ForealError as error:
            raise CliError(error) from error
        except KeyboardInterrupt:
            ctx.exit(130)


def option(*names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """click.option with FOREAL_<LONG_NAME> as its environment variable."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    attributes.setdefault("envvar", "FOREAL_" + long.strip("-").replace("-", "_").upper())
    if attributes.get("default") is not None and not attributes.get("multiple"):
        attributes.setdefault("show_default", True)
    return click.option(*names, **attributes)


def _all(*decorators: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    def decorate(function: Decorated) -> Decorated:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _read_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Settings of a file stand where neither the command line nor a variable says otherwise."""
    if path is None:
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        settings = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise CliError(UsageError(f"cannot read {path}: {error.strerror or error}")) from None
    except ValueError as error:
        raise CliError(UsageError(f"{path} is not TOML: {error}")) from None
    context.meta[MEASURED] = settings.pop("measured", None)
    known = {name: parameter for parameter in context.command.params for name in _names_of(parameter)}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        parameter = known.get(name.replace("-", "_"))
        if parameter is None or parameter.name in (None, "config"):
            raise CliError(UsageError(f"{path} sets {name!r}: no option of {context.command_path}"))
        if parameter.type is click.INT and (isinstance(value, bool) or not isinstance(value, (int, str))):
            raise CliError(UsageError(f"{path} sets {name} to {value!r}, but it must be a whole number"))
        values[str(parameter.name)] = [value] if parameter.multiple and isinstance(value, str) else value
    context.default_map = {**(context.default_map or {}), **values}


def _names_of(parameter: click.Parameter) -> set[str]:
    """What a file may call an option, with _ for -: its own names, and those of its setting's field."""
    names = {str(parameter.name)} | {name.lstrip("-").replace("-", "_") for name in parameter.opts}
    return names.union(*(setting.names for setting in SETTINGS.values() if parameter_of(setting) == parameter.name))


def setting_option(name: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """The option of a setting (config.py says its names, help and range)."""
    setting = SETTINGS[name]
    attributes = {"help": setting.help, "metavar": setting.metavar} | attributes
    if setting.kind is bool:
        attributes["is_flag"] = True
    elif setting.kind in (tuple, dict):
        attributes["multiple"] = True
    else:
        attributes["type"] = TableChoice(setting.choices) if setting.choices else setting.kind
        attributes["default"] = setting.default
    return option(setting.option, *([setting.short] if setting.short else []), **attributes)


def setting_options(*names: str) -> Callable[[Decorated], Decorated]:
    return _all(*(setting_option(name) for name in names))


class TableChoice(click.Choice):  # type: ignore[type-arg]
    """One of the names of a table, as the table is when it is asked."""

    def __init__(self, names: Callable[[], Collection[str]]) -> None:
        self._names = names
        super().__init__(list(names()))

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(self._names())

    @choices.setter
    def choices(self, _: object) -> None:
        """Click sets a copy, which the table may outgrow."""


_which_models = _all(
    option(
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="Settings from a TOML file, as foreal bench --recommend writes it: n, p, k, and any option by its name.",
    ),
    option("--pair", metavar="NAME", help="A pair by name (models/pairs.toml, or your own).  [default: tiny]"),
    option("--leader", "-l", metavar="MODEL", help="Leader: a GGUF file, or owner/repo[:quant] on the hub."),
)

_how_they_run = _all(
    option("--offline", is_flag=True, help="Use only files that are already here."),
    setting_options("ctx_size", "threads", "lanes"),
    option("--leader-gpu-layers", type=int, default=-1, metavar="N", help="Leader's layers on the GPU; -1: all."),
    option("--draft-gpu-layers", type=int, default=-1, metavar="N", help="Draft's layers on the GPU; -1: all."),
    setting_options(*(name for name in names_of(Runtime) if name not in ("ctx_size", "threads", "lanes"))),
)


def model_options_with(draft_option: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """The model options, with a --draft of the command's own."""
    return _all(_which_models, draft_option, _how_they_run)


model_options = model_options_with(
    option("--draft", "-d", metavar="MODEL", help="Draft: a GGUF file, or owner/repo[:quant] on the hub.")
)

mode_option = setting_option("mode")
preset_option = option(
    "--preset", type=click.Choice(list(PRESETS)), help="Settings by name; single options go before them."
)
loss_option = option(
    "--loss", type=float, metavar="POINTS", envvar=None,
    help="--mode auto with a --config of foreal bench: accuracy that its setting may lose.",
)  # fmt: skip
background_option = option(
    "--background", type=click.Choice(BACKGROUNDS), default="auto", help="Colours for this background; auto: for both."
)
method_options = setting_options(*names_of(Method))
sampling_options = setting_options(*names_of(Sampling), "seed", "max_tokens", "stop", "stop_in_reasoning")
prompting_options = setting_options(*names_of(Prompting))


# ---------------------------------------------------------------- from options to settings
def measured_in(values: dict[str, Any], context: click.Context) -> Measured | None:
    """What --config says of the setting that --mode auto may choose; None without --loss."""
    from ..choice import Measured

    loss, file = values["loss"], context.default_map or {}
    if loss is None:
        return None
    if not 0 <= loss <= 100:
        raise UsageError(f"--loss is {loss:g}, but must be between 0 and 100 points")
    if values["mode"] != "auto":
        raise UsageError(f"--loss is for --mode auto, and the mode is {values['mode']}")
    if context.meta.get(MEASURED) is None:
        raise UsageError("--loss needs --config FILE as foreal bench --recommend writes it, with its table [measured]")
    for name in names_of(Method, Sampling):
        parameter = parameter_of(SETTINGS[name])
        if parameter in file and values[parameter] != file[parameter]:
            raise UsageError(
                f"{SETTINGS[name].option} is {values[parameter]}, but the file's figures are of {file[parameter]}: "
                "leave it out, or --loss"
            )
    return Measured.of(file.get("mode"), context.meta[MEASURED])


def settings_in(values: dict[str, Any]) -> dict[str, Any]:
    """The settings among a command's options, by their fields' names."""
    found = {}
    for setting in SETTINGS.values():
        parameter = parameter_of(setting)
        if parameter in values:
            value = values[parameter]
            is_text = setting.kind is dict and not isinstance(value, dict)  # else of a pairs or a config file
            found[setting.name] = arguments_of(value, setting.option) if is_text else value
    return found


def parameter_of(setting: Setting) -> str:
    """What click calls a setting's option."""
    return setting.option.strip("-").replace("-", "_")


def typed_settings(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """Those of `settings_in` that somebody gave: on the command line, by a variable or in a file."""
    default = click.core.ParameterSource.DEFAULT
    typed = {
        name: value
        for name, value in settings_in(values).items()
        if context.get_parameter_source(parameter_of(SETTINGS[name])) is not default
    }
    return (preset(values["preset"]) if values.get("preset") else {}) | typed


def typed_models(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, without models that a variable names where the command line names others."""
    typed = click.core.ParameterSource.COMMANDLINE
    by_pair = context.get_parameter_source("pair") is typed
    by_role = any(context.get_parameter_source(name) is typed for name in ("leader", "draft"))
    if by_pair == by_role:
        return values
    return values | ({"leader": None, "draft": None} if by_pair else {"pair": None})


def with_preset(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, those that nobody has given replaced by the preset's, where one is named."""
    if not values["preset"]:
        return values
    default = click.core.ParameterSource.DEFAULT
    own = {parameter_of(SETTINGS[name]): value for name, value in preset(values["preset"]).items()}
    return values | {name: value for name, value in own.items() if context.get_parameter_source(name) is default}


def with_settings_of(entry: PairEntry, values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, those that nobody has given replaced by the pair's own settings."""
    own = {parameter_of(SETTINGS[name]): value for name, value in entry.settings.items()}
    default = click.core.ParameterSource.DEFAULT  # a --config file gives DEFAULT_MAP
    return values | {
        name: value for name, value in own.items() if name in values and context.get_parameter_source(name) is default
    }
