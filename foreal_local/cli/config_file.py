"""--config FILE: settings of a TOML file, as the values of options that nobody has given."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from ..by_name import nearest
from ..config import SETTINGS
from ..errors import UsageError
from .command import ORIGINS, CliError, parameter_of

MEASURED = "foreal_local.measured"
"""Where a context's `meta` has the table [measured] of --config."""


def read_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Settings of a file stand where neither the command line nor a variable says otherwise."""
    if path is None:
        return
    text, settings = _tables(path)
    context.meta[MEASURED] = settings.pop("measured", None)
    known = {name: parameter for parameter in context.command.params for name in _names_of(parameter)}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        parameter, origin = known.get(name.replace("-", "_")), f"{_place(path, text, name)}: {name}"
        if parameter is None or parameter.name in (None, "config"):
            near = nearest(name, known)
            hint = f" (did you mean {near}?)" if near else ""
            raise CliError(UsageError(f"{origin}: no option of {context.command_path}{hint}"))
        if parameter.type is click.INT and (isinstance(value, bool) or not isinstance(value, (int, str))):
            raise CliError(UsageError(f"{origin} is {value!r}, but must be a whole number"))
        values[str(parameter.name)] = [value] if parameter.multiple and isinstance(value, str) else value
        context.meta.setdefault(ORIGINS, {})[str(parameter.name)] = origin
    context.default_map = {**(context.default_map or {}), **values}


def _tables(path: str) -> tuple[str, dict[str, Any]]:
    """A TOML file's text, and what it says."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = Path(path).read_text("utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        raise CliError(UsageError(f"cannot read {path}: {error.strerror or error}")) from None
    except ValueError as error:
        raise CliError(UsageError(f"{path} is not TOML: {error}")) from None


def _place(path: str, text: str, key: str) -> str:
    """The file, and the line that a key stands in."""
    found = re.search(rf"""^[ \t]*["']?{re.escape(key)}["']?[ \t]*=""", text, re.MULTILINE)
    return f"{path}:{text[: found.end()].count(chr(10)) + 1}" if found else path


def _names_of(parameter: click.Parameter) -> set[str]:
    """What a file may call an option, with _ for -: its own names, and those of its setting's field."""
    names = {str(parameter.name)} | {name.lstrip("-").replace("-", "_") for name in parameter.opts}
    return names.union(*(setting.names for setting in SETTINGS.values() if parameter_of(setting) == parameter.name))
