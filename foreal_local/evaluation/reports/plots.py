"""A benchmark's figures, and what all figures share: style, the Pareto front, PNG and SVG.

Knows estimates, names and units. Does not know responses, files or pages. matplotlib (the extra `bench`) is imported
only where something is drawn, without pyplot: no screen and no global state. Colour never stands alone: markers,
line styles, hatches and fills say the same in print and to colour-blind readers (the colours but the
leader's and the draft's are Okabe and Ito's).
"""

from __future__ import annotations

import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ParamSpec

from ...errors import UsageError
from ...method.ledger import UNITS
from ...palette import PALETTES, hexadecimal
from ..statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
INSTALL = "pip install 'matplotlib>=3.8'"
LEADER_COLOUR, DRAFT_COLOUR = hexadecimal(PALETTES["light"].leader), "#4D4D4D"  # as in the chat
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
LINE_COLOURS = ("#000000", "#009E73", "#CC79A7", "#7F7F7F")
MARKERS = ("o", "^", "v", "P", "<", "X", ">", "p", "h")
LINES = ("-", "--", "-.", ":")
FRONT = "Pareto front (filled)"
_FIXED = {"leader": (LEADER_COLOUR, "s"), "draft": (DRAFT_COLOUR, "D")}
_WIDTH = 4.8  # inches: still readable on a telephone
_INK = "#1d1f21"
_DARK = {b"#ffffff": b"#1f2225", b"#000000": b"#e6e6e3", b"#1d1f21": b"#e6e6e3", b"#555555": b"#a3a8ad"}
_DARK |= {b"#e4e4e4": b"#3a3e42", DRAFT_COLOUR.lower().encode(): b"#b5b9bd"}
_DARK |= {LEADER_COLOUR.lower().encode(): hexadecimal(PALETTES["dark"].leader).lower().encode()}
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "text.color": _INK,
    "text.parse_math": False,  # names of models and settings are no formulas
    "xtick.color": _INK,
    "ytick.color": _INK,
}


@dataclass(frozen=True)
class Point:
    """A setting in a plane; nan where a figure or an interval is unknown.

    x: what it costs
    y: what it reaches
    """

    name: str
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class MeanLength:
    """The length of a setting's mean response.

    leader: tokens that the leader wrote
    draft: tokens that the draft wrote
    length: their sum, with its interval
    """

    name: str
    leader: float
    draft: float
    length: Estimate


@dataclass(frozen=True)
class Sweep:
    """Settings that differ in k alone, by rising k.

    name: what they have in common
    accuracy: of each k
    handoffs: of each k, in a response
    """

    name: str
    k: list[int]
    accuracy: list[Estimate]
    handoffs: list[Estimate]


def check_matplotlib() -> None:
    """UsageError that says what to install where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise UsageError(f"matplotlib is needed for --report: install it with: {INSTALL}")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function that draws a figure, in the style of all."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        check_matplotlib()
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return in_style


def new_figure(height: float = 3.6, n_rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, one above the other with one x axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0])


def image(figure: Figure, kind: str, name: str) -> bytes:
    """The figure as "png" or "svg"; the same figure always gives the same bytes."""
    from matplotlib import rc_context

    data = io.BytesIO()
    with rc_context(_STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters that its font does not have: they show as boxes
        figure.savefig(data, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return data.getvalue()


def darkened(vector: bytes) -> bytes:
    """An SVG of `image` for a dark page: paper, grid, axes, texts, black lines and both authors in other colours."""
    return re.sub(rb"#[0-9a-f]{6}\b", lambda match: _DARK.get(match[0], match[0]), vector)


# ---------------------------------------------------------------- what figures are made of
def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats: each reaches more than everything that costs as much or less. By rising cost."""
    known = [p for p in points if math.isfinite(p.x.value) and math.isfinite(p.y.value)]
    front: list[Point] = []
    for point in sorted(known, key=lambda p: (p.x.value, -p.y.value)):
        if not front or point.y.value > front[-1].y.value:
            front.append(point)
    return front


def scale_of(values: Sequence[float], unit: str) -> tuple[float, str]:
    """What to divide FLOPs by, and their unit, for numbers that can be read."""
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    return next(((factor, prefix + unit) for factor, prefix in UNITS if largest >= factor), (1.0, unit))


def look(name: str, number: int) -> dict[str, Any]:
    """Colour and marker: those of the leader and of the draft are always the same."""
    colour, marker = _FIXED.get(name, (COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]))
    return {"color": colour, "marker": marker}


def bars(estimates: Sequence[Estimate], factor: float = 1.0) -> list[list[float]]:
    """matplotlib's error bars; none where an interval is unknown."""
    pairs = [(e.value - e.low, e.high - e.value) for e in estimates]
    known = [tuple(max(0.0, side) if math.isfinite(side) else 0.0 for side in pair) for pair in pairs]
    return [[pair[side] * factor for pair in known] for side in (0, 1)]


_COLUMN = 27  # characters of a name in a legend of two columns


def shortened(name: str, longest: int) -> str:
    """The name, or its ends: what tells quantizations apart is last."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def legend_below(figure: Figure, axes: Axes) -> None:
    """The legend under the axes, without intervals; the Pareto front, drawn as a line, comes last and not first."""
    named = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda each: each[1] == FRONT)
    n_columns = 2 if max((len(name) for _, name in named), default=0) <= _COLUMN else 1
    longest = 2 * _COLUMN  # characters, of a model's file name say
    figure.legend(
        [handle[0] if isinstance(handle, tuple) else handle for handle, _ in named],
        [shortened(name, longest) for _, name in named],
        loc="outside lower center",
        ncols=n_columns,
    )


def curve(axes: Axes, x: Sequence[float], y: Sequence[Estimate], name: str, number: int, factor: float = 1.0) -> None:
    """A line with its intervals."""
    axes.errorbar(
        x,
        [e.value * factor for e in y],
        yerr=bars(y, factor),
        label=name,
        linestyle=LINES[(number + number // len(LINE_COLOURS)) % len(LINES)],  # no pair with a colour twice
        markersize=4,
        linewidth=1.4,
        elinewidth=0.8,
        capsize=2,
        color=LINE_COLOURS[number % len(LINE_COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
    )


# ---------------------------------------------------------------- figures of a benchmark
@styled
def accuracy_against(points: Sequence[Point], x_label: str) -> Figure:
    """Accuracy in % over a cost; filled markers and a step line are the Pareto front. x and y (0 to 1) as given."""
    figure, (axes,) = new_figure(3.4 + 0.11 * len(points))
    front = pareto(points)
    for number, point in enumerate(points):
        style = look(point.name, number)
        axes.errorbar(
            [point.x.value],
            [100 * point.y.value],
            xerr=bars([point.x]),
            yerr=bars([point.y], 100),
            label=point.name,
            linestyle="none",
            markersize=7,
            markerfacecolor=style["color"] if point in front else "white",
            elinewidth=0.8,
            capsize=2,
            **style,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(-4, 104)
    if front:
        right = axes.get_xlim()[1]
        x, y = [p.x.value for p in front], [100 * p.y.value for p in front]
        line: dict[str, Any] = {"color": "#555555", "linewidth": 1.0, "linestyle": "--", "zorder": 1}
        axes.step([*x, right], [*y, y[-1]], where="post", label=FRONT, **line)
        axes.set_xlim(0, right)
    axes.set_xlabel(x_label)
    axes.set_ylabel("accuracy, %")
    legend_below(figure, axes)
    return figure


@styled
def lengths(settings: Sequence[MeanLength]) -> Figure:
    """Tokens of a response by setting, and who wrote them."""
    figure, (axes,) = new_figure(1.5 + 0.32 * len(settings))
    places = list(range(len(settings)))
    leader = [s.leader for s in settings]
    edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5, "height": 0.66}
    axes.barh(places, leader, label="written by the leader", color=LEADER_COLOUR, **edge)
    draft = [s.draft for s in settings]
    axes.barh(places, draft, left=leader, label="by the draft", color=DRAFT_COLOUR, hatch="///", **edge)
    totals = [s.length for s in settings]
    x = [e.value for e in totals]
    axes.errorbar(x, places, xerr=bars(totals), fmt="none", ecolor="black", elinewidth=1.0, capsize=3)
    axes.set_yticks(places, [shortened(s.name, 32) for s in settings])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("tokens of a response")
    legend_below(figure, axes)
    return figure


@styled
def k_sweep(sweeps: Sequence[Sweep]) -> Figure:
    """Accuracy and handoffs over k, a line for each n and p."""
    figure, (above, below) = new_figure(4.6 + 0.1 * len(sweeps), n_rows=2)
    for number, sweep in enumerate(sweeps):
        curve(above, sweep.k, sweep.accuracy, sweep.name, number, 100)
        curve(below, sweep.k, sweep.handoffs, sweep.name, number)
    above.set_ylim(-4, 104)
    above.set_ylabel("accuracy, %")
    below.set_ylim(bottom=0)
    below.set_ylabel("handoffs in a response")
    below.set_xlabel("k, hits in a row before the draft takes over")
    below.set_xticks(sorted({k for sweep in sweeps for k in sweep.k}))
    legend_below(figure, above)
    return figure
