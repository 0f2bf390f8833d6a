"""Options shared by the commands, as decorators; every one is also an environment variable FOREAL_*.

Those of settings come from config.py's table; others are where their command is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import OF_RECORDS, SETTINGS, Method, Prompting, Runtime, Sampling, names_of
from ..errors import UsageError
from ..palette import BACKGROUNDS
from ..presets import PRESETS, preset
from ..settings import arguments_of
from .command import (
    METHOD,
    MODELS,
    ORIGINS,
    PROMPTING,
    REVIEW,
    RUNNING,
    SAMPLING,
    option,
    parameter_of,
    together,
)
from .config_file import MEASURED, read_config

if TYPE_CHECKING:
    from ..choice import Measured
    from ..pairs import PairEntry

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def section_of(name: str) -> str:
    """The section of the help that a setting's option stands in."""
    setting = SETTINGS[name]
    if name == "review" or (setting.needs is not None and setting.needs[0] == "review"):
        return REVIEW
    sections = {
        "mode": METHOD,
        **dict.fromkeys(names_of(Method), METHOD),
        **dict.fromkeys(names_of(Prompting), PROMPTING),
    }
    return sections.get(name) or (RUNNING if name in names_of(Runtime) else SAMPLING)


def setting_option(name: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """The option of a setting (config.py says its names, help and range)."""
    setting = SETTINGS[name]
    attributes = {"help": setting.help, "metavar": setting.metavar, "section": section_of(name)} | attributes
    if setting.kind is bool:
        attributes["is_flag"] = True
    elif setting.kind in (tuple, dict):
        attributes["multiple"] = True
    else:
        attributes["type"] = TableChoice(setting.choices) if setting.choices else setting.kind
        attributes["default"] = setting.default
    return option(setting.option, *([setting.short] if setting.short else []), **attributes)


def setting_options(*names: str) -> Callable[[Decorated], Decorated]:
    return together(*(setting_option(name) for name in names))


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


_FIT = "Where memory is short: a smaller context, smaller caches, fewer layers on the GPU, unless you have given them."
_LAYERS = "{}'s layers on the GPU; -1: all."
_which_models = together(
    option(
        "--config",
        section=MODELS,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=read_config,
        help="Settings from a TOML file, as foreal bench --recommend writes it: n, p, k, and any option by its name.",
    ),
    option(
        "--pair",
        metavar="NAME",
        section=MODELS,
        help="A pair by name; foreal pairs lists them.  [default: tiny]",
    ),
    option(
        "--leader", "-l", metavar="MODEL", section=MODELS, help="Leader: a GGUF file, or owner/repo[:quant] on the hub."
    ),
)

_draft_option = option(
    "--draft", "-d", metavar="MODEL", section=MODELS, help="Draft: a GGUF file, or owner/repo[:quant] on the hub."
)
_BY_LAYERS = (
    option("--leader-gpu-layers", type=int, default=-1, metavar="N", section=RUNNING, help=_LAYERS.format("Leader")),
    option("--draft-gpu-layers", type=int, default=-1, metavar="N", section=RUNNING, help=_LAYERS.format("Draft")),
)


def model_options(
    draft_option: Callable[[Any], Any] = _draft_option, without: Collection[str] = ()
) -> Callable[[Decorated], Decorated]:
    """Which models, and how they run.

    draft_option: a --draft of the command's own
    without: settings that mean nothing to the command, and perhaps "offline" and "fit"
    """
    running = [name for name in names_of(Runtime) if name not in without]
    offline = option("--offline", is_flag=True, section=MODELS, help="Use only files that are already here.")
    fit = option("--fit/--no-fit", default=True, section=RUNNING, help=_FIT)
    before = [] if "offline" in without else [offline]
    after = [] if "fit" in without else [fit]
    return together(_which_models, draft_option, *before, setting_options(*running), *_BY_LAYERS, *after)


mode_option = setting_option("mode")
preset_option = option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    section=METHOD,
    help="Settings by name; single options go before them.",
)
loss_option = option(
    "--loss", type=float, metavar="POINTS", envvar=None, section=METHOD,
    help="--mode auto with a --config of foreal bench: accuracy that its setting may lose.",
)  # fmt: skip
background_option = option(
    "--background", type=click.Choice(BACKGROUNDS), default="auto", help="Colours for this background; auto: for both."
)
method_options = setting_options(*names_of(Method))
sampling_options = setting_options(
    *names_of(Sampling), "seed", "max_tokens", "stop", "stop_in_reasoning", "grammar", "json_schema"
)
record_options = setting_options(*OF_RECORDS)
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
            if is_text:
                value = arguments_of(value, setting.option)
            found[setting.name] = setting.read(value) if setting.document and value is not None else value
    return found


def is_default(context: click.Context, parameter: str) -> bool:
    """Whether nobody gave this option: not on the command line, by a variable or in a file."""
    return context.get_parameter_source(parameter) is click.core.ParameterSource.DEFAULT


def typed_settings(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """Those of `settings_in` that somebody gave: on the command line, by a variable or in a file."""
    typed = {
        name: value
        for name, value in settings_in(values).items()
        if not is_default(context, parameter_of(SETTINGS[name]))
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
    if not values.get("preset"):
        return values
    own = {parameter_of(SETTINGS[name]): value for name, value in preset(values["preset"]).items()}
    return values | {name: value for name, value in own.items() if is_default(context, name)}


def with_settings_of(entry: PairEntry, values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, those that nobody has given replaced by the pair's own settings."""
    own = {parameter_of(SETTINGS[name]): name for name in entry.settings}
    used = [each for each in own if each in values and is_default(context, each)]
    context.meta.setdefault(ORIGINS, {}).update({each: f"{own[each]} of {entry.where}" for each in used})
    return values | {each: entry.settings[own[each]] for each in used}
