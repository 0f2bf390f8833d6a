#!/usr/bin/env python3
"""docs/options.md: every option of every command, from what --help says.

python scripts/make_options.py            # write the page
python scripts/make_options.py --check    # only say whether it is what the commands say
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from foreal_local.cli.main import main as foreal

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
HEAD = """# Options

<!-- Made by scripts/make_options.py from the commands' --help. Do not edit it by hand. -->

A setting is taken from the first of these that gives it: the command line, the environment variable, the file named
by `--config`, the pair's own settings in its pairs file, the default shown here. `FOREAL_STOP` and
`FOREAL_TEMPLATE_ARG` hold several texts, separated by spaces.
"""
_FIRST = {
    "gen": "foreal-gen",
    "chat": "foreal-chat",
    "bench": "foreal bench",
    "analyze": "foreal analyze",
    "pairs": "foreal pairs",
    "models": "foreal models",
    "pull": "foreal pull",
    "rpc-worker": "foreal rpc-worker",
    "serve": "foreal serve",
}
_DEFAULT = re.compile(r"\s*\[default: (.*)\]$")
_CHOICES = re.compile(r" \[([^\]]*\|[^\]]*)\]$")


class Row(NamedTuple):
    """One option, as its command's help shows it."""

    names: str
    about: str
    default: str
    variable: str


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where the page is not up to date.")
def main(check: bool) -> None:
    """Make docs/options.md."""
    text = page()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE.name} is not what the commands say: run python scripts/make_options.py")


def page() -> str:
    commands = dict(commands_of(foreal))
    rows = {name: rows_of(name, command) for name, command in commands.items()}
    users: dict[Row, list[str]] = {}
    for name, found in rows.items():
        for row in found:
            users.setdefault(row, []).append(name)
    parts = [HEAD]
    for name, command in commands.items():
        parts.append(section(full(name), command, [row for row in rows[name] if users[row] == [name]]))
    shared = [(*row, "all" if len(names) == len(rows) else ", ".join(names)) for row, names in users.items()]
    parts.append("## Options of several commands\n")
    parts.append(table([row for row in shared if row[-1] == "all" or "," in row[-1]]))
    return "\n".join(parts)


def commands_of(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """The group's commands, the most used ones first."""
    context = click.Context(group)
    names = group.list_commands(context)
    for name in [*(n for n in _FIRST if n in names), *sorted(set(names) - set(_FIRST))]:
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


def full(name: str) -> str:
    return _FIRST.get(name, f"foreal {name}")


def rows_of(name: str, command: click.Command) -> list[Row]:
    """The command's options in the order of its help."""
    context, rows = click.Context(command, info_name=full(name), **command.context_settings), []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        names, about = record
        default, choices = _DEFAULT.search(about), _CHOICES.search(names)
        about = _DEFAULT.sub("", about).strip()
        if choices:
            about = f"{about} One of {', '.join(choices[1].split('|'))}.".strip()
        variable = parameter.envvar if isinstance(parameter.envvar, str) else ""
        rows.append(Row(_CHOICES.sub("", names), about, default[1] if default else "", variable))
    return rows


def section(name: str, command: click.Command, rows: list[Row]) -> str:
    """What the command does, the options that it alone has, and the end of its help."""
    about = inspect.cleandoc(command.help or "")
    epilog = inspect.cleandoc((command.epilog or "").replace("\b\n", ""))
    parts = [f"## {name}\n", f"{about}\n", table([(*row, None) for row in rows])]
    if epilog:
        parts.append(f"```\n{epilog}\n```\n")
    return "\n".join(parts)


def table(rows: list[tuple[str, str, str, str, str | None]]) -> str:
    """A table of options; its last column, the commands, only where there is one."""
    with_commands = any(commands is not None for *_, commands in rows)
    head = ["option", "meaning", "default", "variable"] + ["commands"] * with_commands
    lines = [line_of(head), "|---" * len(head) + "|"]
    for names, about, default, variable, commands in rows:
        cells = [f"`{names}`", about, default, f"`{variable}`" if variable else ""]
        lines.append(line_of(cells + [commands or ""] * with_commands))
    return "\n".join(lines) + "\n"


def line_of(cells: list[str]) -> str:
    return "".join("| " + (cell.replace("|", r"\|") + " " if cell else "") for cell in cells) + "|"


if __name__ == "__main__":
    main()
