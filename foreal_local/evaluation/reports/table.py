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


CANNOT_TELL = "cannot tell"
"""Stands for a figure that does not follow from what was measured, such as a ratio to nothing."""


def with_interval(estimate: Estimate | None, style: str, factor: float = 1.0, to: str = " to ") -> str:
    """An estimate and its interval as text: 51.0 (44.1 to 57.9), or "-" where there is none.

    style: a format of numbers
    to: what stands between the bounds, where neither has a sign
    """
    if estimate is None:
        return "-"
    if not math.isfinite(estimate.value):
        return CANNOT_TELL
    value, low, high = (number(x * factor, style) for x in (estimate.value, estimate.low, estimate.high))
    if not math.isfinite(estimate.low):
        return value
    dash = " to " if to == " to " or estimate.low < 0 or "+" in style else to
    return f"{value} ({low}{dash}{high})" if math.isfinite(estimate.high) else f"{value} ({low} or more)"


def number(value: float, style: str) -> str:
    """A number as text, without a minus before zero; words where it is not known, or without bounds."""
    return f"{_no_minus_zero(value):{style}}" if math.isfinite(value) else CANNOT_TELL


def _no_minus_zero(value: float) -> float:
    return 0.0 if abs(value) < 1e-12 else value
