"""A table of texts, for a terminal, a pipe or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of texts under named columns.

    title: stands above the table.
    columns: the names. The first column is flushed left and the others right, unless "<" begins their name.
    rows: as many texts in each as there are columns.
    notes: lines under the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The columns' names as they are shown."""
        return [name.removeprefix("<") for name in self.columns]

    @property
    def flushed_left(self) -> list[bool]:
        """Whether each column is flushed left."""
        return [i == 0 or name.startswith("<") for i, name in enumerate(self.columns)]
