"""foreal pairs: the pairs that --pair can name, and which of their files are here."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import click

from .. import __version__
from ..config import SETTINGS
from ..downloads import gigabytes
from ..hub import bundled_dir, found_here
from ..hub_names import all_parts
from ..method.roles import Role
from ..pairs import DEFAULT_PAIR, PairEntry, find_pair, load_pairs
from .command import ForealCommand
from .streams import require_output

EPILOG = """\b
Examples:
  foreal pairs
  foreal pairs qwen3-8b
To download one: foreal pull NAME.
Memory: both files, and both caches of 8192 tokens; buffers for computing come on top.
Pairs of your own: docs/pairs.md says which file they go into."""


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="[NAME]", required=False)
@click.version_option(__version__, prog_name="foreal pairs")
def main(name: str | None) -> None:
    """List the pairs that --pair can name, or show NAME: its models, its settings, and what of it is here.

    What is not here is downloaded when it is first used.
    """
    require_output("pairs are printed there")
    if name is not None:
        _show(find_pair(name))
        return
    entries = list(load_pairs().values())
    rows = [(entry.name, _size_of(entry), _memory_of(entry), _state_of(entry)) for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for entry, row in zip(entries, rows, strict=True):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        for line in _wrapped(_about(entry), 4):
            click.echo(line)


def _show(entry: PairEntry) -> None:
    memory = _memory_of(entry)
    click.echo(f"{entry.name}: {_state_of(entry)}, {_size_of(entry)}{memory and ', needs '}{memory}")
    for role, spec in _models_of(entry).items():
        path = found_here(spec)
        place = f"{path} ({gigabytes(_n_bytes(path))})" if path else "not here yet"
        if str(path) != spec:
            click.echo(f"  {role:8}  {spec}")
        click.echo(f"  {role if str(path) == spec else '':8}  {place}")
    for key, value in entry.settings.items():
        click.echo(f"  {SETTINGS[key].shown_name:8}  {value}")
    for line in _wrapped(_about(entry), 2):
        click.echo(line)
    click.echo(f"  {entry.where}")
    if not all(map(found_here, _models_of(entry).values())):
        click.echo(f"  get it: foreal pull {entry.name}")
    click.echo(f"  use it: foreal-chat --pair {entry.name}")


def _models_of(entry: PairEntry) -> dict[Role, str]:
    return {Role.LEADER: entry.leader, Role.DRAFT: entry.draft}


def _state_of(entry: PairEntry) -> str:
    """Whether its files are here, and whether it is the bundled pair, or the one that is used without --pair."""
    here = {role: found_here(spec) for role, spec in _models_of(entry).items()}
    if all(here.values()):
        inside = all(path and path.is_relative_to(bundled_dir()) for path in here.values())
        state = "bundled" if inside else "here"
    elif any(here.values()):
        state = f"the {next(role for role, path in here.items() if path)} is here"
    else:
        state = "not here"
    return f"{state}, used without --pair" if entry.name == DEFAULT_PAIR else state


def _about(entry: PairEntry) -> str:
    """What the pair is good for, and whether anybody has measured that."""
    return f"{entry.note} {'Measured: ' + entry.measured if entry.measured else 'Not measured here'}.".strip()


def _memory_of(entry: PairEntry) -> str:
    return f"{entry.memory_gb:g} GB of memory" if entry.memory_gb else ""


def _size_of(entry: PairEntry) -> str:
    """Of both models: of the files that are here, or as the pairs file says."""
    paths = [found_here(spec) for spec in _models_of(entry).values()]
    if all(paths):
        return gigabytes(sum(_n_bytes(path) for path in paths if path))
    return f"about {entry.download_gb:g} GB" if entry.download_gb else "size unknown"


def _n_bytes(path: Path) -> int:
    """Of a model with all its parts; of those that are there."""
    parts = [path.with_name(name) for name in all_parts(path.name)]
    return sum(part.stat().st_size for part in parts if part.is_file())


def _wrapped(text: str, indent: int) -> list[str]:
    width = min(100, shutil.get_terminal_size((100, 0)).columns)
    return textwrap.wrap(text, width, initial_indent=" " * indent, subsequent_indent=" " * indent)
