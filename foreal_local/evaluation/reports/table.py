"""A table of texts, for a terminal, a pipe or a page; and estimates as texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..statistics import Estimate


@dataclass(frozen=True)
class Table:
    """Rows of texts under named columns.

    title: stands above the table
    columns: the names. The first column is flushed left and the others right, unless "<" begins their name.
    rows: as many texts in each as there are columns
    notes: lines under the table
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


def with_interval(estimate: Estimate | None, style: str, factor: float = 1.0) -> str:
    """An estimate and its interval as text: 51.0 (44.1 to 57.9). `style` is a format of numbers."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    values = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{_no_minus_zero(x * factor):{style}}" for x in values)
    return value if math.isnan(estimate.low) or math.isnan(estimate.high) else f"{value} ({low} to {high})"


def _no_minus_zero(value: float) -> float:
    return 0.0 if abs(value) < 1e-12 else value
