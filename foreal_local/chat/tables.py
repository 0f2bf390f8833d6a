"""Tables of Markdown on a terminal, as wide as their cells, or as the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from .markdown import Piece, Table


def drawn(table: Table[Any], style: Callable[[Piece[Any]], str], columns: int) -> list[str]:
    """The table's lines; `style` gives a piece of a cell with the terminal's codes."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    n_columns = max(map(len, table.rows))
    frame = RichTable(box=box.MINIMAL, show_edge=False, pad_edge=False, header_style="bold")
    heading, *rows = [
        [Text.from_ansi("".join(map(style, cell))) for cell in [*row, *[[]] * (n_columns - len(row))]]
        for row in table.rows
    ]
    for i, cell in enumerate(heading):
        right = i < len(table.right) and table.right[i]
        frame.add_column(cell, justify="right" if right else "left", overflow="fold")
    for row in rows:
        frame.add_row(*row)
    out = io.StringIO()
    colours = {"force_terminal": True, "color_system": "256", "no_color": False, "legacy_windows": False}
    Console(file=out, width=columns, highlight=False, **colours).print(frame)  # type: ignore[arg-type]
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]
