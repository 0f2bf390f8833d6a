"""Options shared by the commands, as decorators; every one is also an environment variable FOREAL_*.

Names and help are here; defaults come from config.py.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import (
    BOUNDARIES,
    COMPARE,
    FLASH_ATTENTION,
    HITS_FROM,
    KV_TYPES,
    Generation,
    Method,
    Mode,
    Prompting,
    Runtime,
    Sampling,
)
from ..errors import ForealError, UsageError

if TYPE_CHECKING:
    from ..hub import PairEntry

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_OWN_TEMPLATE_ARGS = {"messages", "add_generation_prompt", "bos_token", "eos_token"}
_METHOD, _SAMPLING, _RUNTIME, _GENERATION = Method(), Sampling(), Runtime(), Generation()


class CliError(click.ClickException):
    """A ForealError as click prints it: one line, and the error's exit code."""

    def __init__(self, error: ForealError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code  # type: ignore[misc]


class ForealCommand(click.Command):
    """A command whose errors are one line on stderr and whose Ctrl-C ends with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        for name in ("stdout", "stderr"):  # None where the caller has closed it
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w"))
        try:
            return super().invoke(ctx)
        except ForealError as error:
            raise CliError(error) from error
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is not None:
                raise  # click knows what a reader that left is
            # Standard output itself. What it still holds would fail again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CliError(ForealError(f"cannot write to standard output: {error.strerror or error}")) from error
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
    """What a file may call an option: its names as typed, also with _ for -."""
    return {str(parameter.name)} | {name.lstrip("-").replace("-", "_") for name in parameter.opts}


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
    option(
        "--ctx-size",
        "-c",
        type=int,
        metavar="N",
        help="Context per sequence.  [default: the models', up to 8192]",
    ),
    option("--threads", "-t", type=int, metavar="N", help="Threads.  [default: one per core]"),
    option(
        "--lanes", type=int, metavar="N", help="Evaluate in N contexts at a time.  [default: 1; small models: threads]"
    ),
    option("--leader-gpu-layers", type=int, default=-1, metavar="N", help="Leader's layers on the GPU; -1: all."),
    option("--draft-gpu-layers", type=int, default=-1, metavar="N", help="Draft's layers on the GPU; -1: all."),
    option("--batch-size", type=int, default=_RUNTIME.batch_size, metavar="N", help="Most tokens per evaluation."),
    option(
        "--flash-attn", type=click.Choice(FLASH_ATTENTION), default=_RUNTIME.flash_attention, help="Flash attention."
    ),
    option("--cache-type-k", type=click.Choice(KV_TYPES), default=_RUNTIME.kv_type_k, help="Type of the K cache."),
    option("--cache-type-v", type=click.Choice(KV_TYPES), default=_RUNTIME.kv_type_v, help="Type of the V cache."),
    option("--verbose", "-v", is_flag=True, help="llama.cpp's own log on stderr."),
)


def model_options_with(draft_option: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """The model options, with a --draft of the command's own."""
    return _all(_which_models, draft_option, _how_they_run)


model_options = model_options_with(
    option("--draft", "-d", metavar="MODEL", help="Draft: a GGUF file, or owner/repo[:quant] on the hub.")
)

mode_option = option(
    "--mode", type=click.Choice([str(m) for m in Mode]), default=str(_GENERATION.mode), help="Who writes."
)

method_options = _all(
    option("--lead-tokens", "-n", type=int, default=_METHOD.n, help="The leader's first tokens of a sentence."),
    option("--lead-prob", "-p", type=float, default=_METHOD.p, help="Chance that the leader leads a sentence."),
    option("--hits", "-k", type=int, default=_METHOD.k, help="Hits in a row before the draft takes over."),
    option("--hits-from", type=click.Choice(HITS_FROM), default=_METHOD.hits_from, help="Where hits are counted."),
    option(
        "--boundaries",
        type=click.Choice(BOUNDARIES),
        default=_METHOD.boundaries,
        help="What ends a sentence.",
    ),
    option(
        "--compare",
        type=click.Choice(COMPARE),
        default=_METHOD.compare,
        help="What is held against the draft.",
    ),
    option("--cue", default=_METHOD.cue, metavar="TEXT", help="Begins the led sentences of --mode cue."),
    option(
        "--proposals", type=int, default=_METHOD.proposals, metavar="N", help="Proposed at a time, --mode speculative."
    ),
)

sampling_options = _all(
    option("--temp", type=float, default=_SAMPLING.temp, help="Temperature; 0 is greedy."),
    option("--top-p", type=float, default=_SAMPLING.top_p, help="Nucleus; 1 is off."),
    option("--top-k", type=int, default=_SAMPLING.top_k, help="Most likely tokens kept; 0 is off."),
    option("--min-p", type=float, default=_SAMPLING.min_p, help="Least chance against the best; 0 is off."),
    option("--repeat-penalty", type=float, default=_SAMPLING.repeat_penalty, help="1 is off."),
    option("--repeat-last-n", type=int, default=_SAMPLING.repeat_last_n, help="Tokens it looks back on."),
    option("--seed", type=int, metavar="N", help="0 is a seed.  [default: drawn, and reported]"),
    option("--max-tokens", type=int, metavar="N", help="[default: until the end, or the context is full]"),
    option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable."),
)

prompting_options = _all(
    option("--system", metavar="TEXT", help="System message."),
    option("--raw", is_flag=True, help="No chat template: the prompt as it is."),
    option(
        "--template-arg",
        multiple=True,
        metavar="NAME=VALUE",
        help="A switch of the chat template, such as enable_thinking=false; repeatable.",
    ),
)


def method_of(values: dict[str, Any]) -> Method:
    return Method(
        n=values["lead_tokens"],
        p=values["lead_prob"],
        k=values["hits"],
        hits_from=values["hits_from"],
        boundaries=values["boundaries"],
        compare=values["compare"],
        cue=values["cue"],
        proposals=values["proposals"],
    )


def generation_of(values: dict[str, Any]) -> Generation:
    """The Generation of the method and sampling options."""
    names = ("temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n")
    return Generation(
        mode=Mode(values.get("mode", _GENERATION.mode)),
        method=method_of(values),
        sampling=Sampling(**{name: values[name] for name in names}),
        seed=values["seed"],
        max_tokens=values["max_tokens"],
        stop=tuple(values["stop"]),
    )


def typed_models(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, without models that a variable names where the command line names others."""
    typed = click.core.ParameterSource.COMMANDLINE
    by_pair = context.get_parameter_source("pair") is typed
    by_role = any(context.get_parameter_source(name) is typed for name in ("leader", "draft"))
    if by_pair == by_role:
        return values
    return values | ({"leader": None, "draft": None} if by_pair else {"pair": None})


def with_settings_of(entry: PairEntry, values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The values, those that nobody has given replaced by the pair's own settings."""
    own = {"lead_tokens": entry.n, "lead_prob": entry.p, "hits": entry.k, "temp": entry.temp, "top_p": entry.top_p}
    default = click.core.ParameterSource.DEFAULT  # a --config file gives DEFAULT_MAP
    return values | {
        name: value
        for name, value in own.items()
        if value is not None and context.get_parameter_source(name) is default
    }


def runtime_of(values: dict[str, Any]) -> Runtime:
    return Runtime(
        ctx_size=values["ctx_size"],
        threads=values["threads"],
        lanes=values["lanes"],
        batch_size=values["batch_size"],
        flash_attention=values["flash_attn"],
        kv_type_k=values["cache_type_k"],
        kv_type_v=values["cache_type_v"],
        verbose=values["verbose"],
    )


def prompting_of(values: dict[str, Any]) -> Prompting:
    """The Prompting of its options; template values are read as JSON where they are JSON."""
    arguments = {}
    for item in values["template_arg"]:
        name, equals, value = item.partition("=")
        if name in _OWN_TEMPLATE_ARGS:
            raise click.BadParameter(f"{name} is the program's own: it cannot be given", param_hint="--template-arg")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--template-arg")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return Prompting(system=values["system"], raw=values["raw"], template_args=arguments)
