#!/usr/bin/env python3
"""docs/costs.svg: where two models pay, by what their tokens cost; measured points, and what the plan's model says.

    python scripts/draw_costs.py                                # draws the points of docs/costs.json
    python scripts/draw_costs.py --add 'NAME=bench.jsonl'       # first adds those of a benchmark's responses

A benchmark for a point has the modes leader, auto, speculative and fast, on one machine in one run:

    foreal bench -l LEADER -d DRAFT --problems FILE --temp 0 --modes leader,auto,speculative,fast -o bench.jsonl

The costs of both models come from what mode auto has measured (`speculation.plan` of its records).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foreal_local.choice import Measured
from foreal_local.evaluation.reports.plots import COLOURS, LINES, MARKERS, image, legend_below, new_figure, styled
from foreal_local.method.plan import Plan, Speed
from foreal_local.method.roles import Role

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
READ = 16
MEASURED = {"speculative": "lossless speculation", "fast": "review (--preset fast)"}
READINGS = {
    "reading as on an H100 (16 tokens cost 1.6)": {1: 1.0, 2: 1.0, 4: 1.6, 8: 1.6, 12: 1.6, 16: 2.1},
    "as on two CPU cores (4 cost 1.8, 16 cost 5)": {1: 1.0, 2: 1.8, 4: 1.8, 8: 3.4, 12: 4.7, 16: 5.0},
    "token by token (16 cost 16)": {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 12: 12.0, 16: 16.0},
}
"""What reading some tokens at once costs, in tokens of the leader: rounded from what was measured (docs/costs.json)."""
ACCEPTANCE = 0.9
"""Of the real pair, on mathematics: 8.3 tokens a round with 12 proposals, 3.4 with 3."""
FAST = Measured("foreal", 0, 0.0, {Role.LEADER: (0.09, 1.18), Role.DRAFT: (1.18, 1.18)})
"""Calls and tokens for each token of the real pair's responses to a hundred problems, reviewed sentence by sentence
(docs/results.md)."""


@click.command()
@click.option("--add", multiple=True, metavar="NAME=FILE", help="Add or replace a point.")
def main(add: tuple[str, ...]) -> None:
    """Draw docs/costs.svg."""
    file = DOCS / "costs.json"
    points: dict[str, dict[str, float]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for each in add:
        name, _, path = each.partition("=")
        lines = Path(path).read_text("utf-8").splitlines()
        points[name] = point_of(map(json.loads, lines))
        click.echo(f"{name}: {points[name]}")
    file.write_text(json.dumps(points, indent=1) + "\n", "utf-8")
    (DOCS / "costs.svg").write_bytes(image(draw(points), "svg", "costs"))


def point_of(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """A machine's costs, and the speed of each measured mode against the leader alone, in tokens a second."""
    tokens: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    plan: dict[str, Any] = {}
    for record in records:
        setting = record["id"].rsplit("|", 2)[1].split()[0]
        tokens[setting] += record["usage"]["completion_tokens"]
        seconds[setting] += record["seconds"]
        if setting == "auto":
            plan = record["speculation"]["plan"]
    speed = {name: tokens[name] / seconds[name] for name in tokens}
    leader = {int(size): ms for size, ms in plan["leader_ms"].items()}
    own = Speed(leader)
    point = {"draft": plan["draft_ms"]["1"] / leader[1], "read_16": own.of(READ) / own.of(1)}
    point |= {name: speed[name] / speed["leader"] for name in ("auto", *MEASURED) if name in speed}
    return {name: round(value, 3) for name, value in point.items()}


@styled
def draw(points: dict[str, dict[str, float]]) -> Figure:
    figure, rows = new_figure(7.2, n_rows=2)
    shares = [i / 100 for i in range(3, 101)]
    for axes, (mode, title) in zip(rows, MEASURED.items(), strict=True):
        for colour, line, (label, seconds) in zip(COLOURS, LINES, READINGS.items(), strict=False):
            plans = [Plan({Role.LEADER: Speed(seconds), Role.DRAFT: Speed({1: share})}) for share in shares]
            gains = [plan.best(ACCEPTANCE)[1] if mode == "speculative" else FAST.gain(plan) for plan in plans]
            axes.plot(shares, gains, color=colour, linestyle=line, label=f"model: {label}")
        for marker, (name, point) in zip(MARKERS, points.items(), strict=False):
            if mode in point:
                label = f"measured: {name} (16 cost {point['read_16']:.1f})"
                axes.plot(point["draft"], point[mode], marker, color="black", label=label, linestyle="none")
        axes.axhline(1.0, color="#555555", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks([0.03, 0.1, 0.2, 0.5, 1.0], ["0.03", "0.1", "0.2", "0.5", "1"])
        axes.set_ylabel("speed against leader alone")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylim(0)
    rows[-1].set_xlabel("cost of a draft's token, in tokens of the leader")
    legend_below(figure, rows[0], n_columns=1)
    return figure


if __name__ == "__main__":
    main()
