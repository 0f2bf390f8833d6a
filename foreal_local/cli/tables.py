"""Tables on standard output: drawn by rich on a terminal, as plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from ..evaluation.reports.table import Table


def print_tables(tables: Iterable[Table]) -> None:
    """Print the tables in turn."""
    print_table = _print_drawn if sys.stdout.isatty() else _print_lines
    for table in tables:
        print_table(table)


def _print_lines(table: Table) -> None:
    widths = [max(map(len, column)) for column in zip(table.names, *table.rows, strict=True)]
    click.echo(table.title)
    for row in (table.names, *table.rows):
        cells = [
            f"{cell:<{width}}" if left else f"{cell:>{width}}"
            for cell, width, left in zip(row, widths, table.flushed_left, strict=True)
        ]
        click.echo(("  " + "  ".join(cells)).rstrip())
    for note in table.notes:
        click.echo(f"  {note}")
    click.echo("")


def _print_drawn(table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for name, left in zip(table.names, table.flushed_left, strict=True):
        drawn.add_column(Text(name), justify="left" if left else "right")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))  # a word may look like rich's markup
    console.print(Text(table.title, "bold"))
    console.print(drawn)
    for note in table.notes:
        console.print(Padding(Text(note), (0, 0, 0, 2)))
    console.print()
