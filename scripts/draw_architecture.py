#!/usr/bin/env python3
"""docs/architecture.svg: the package's folders and modules in layers, and who imports whom, from the sources.

    python scripts/draw_architecture.py            # draw the picture
    python scripts/draw_architecture.py --check    # only say whether it shows the present imports

Left out: __main__ and the package's __init__, which only name what others have; the imports of what everything uses
(BASE); and what follows from other arrows: where a imports b and b imports c, a may import c.
"""

from __future__ import annotations

import ast
import html
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "foreal_local"
PICTURE = ROOT / "docs" / "architecture.svg"
Graph = dict[str, set[str]]

BASE = ("config", "settings", "errors")
OUTSIDE = {"llama_cpp": ("llama-cpp-python", "evaluates the models")}
ABOUT = {
    "cli": "the commands: options in, text out",
    "chat": "a conversation of many turns, and its terminal",
    "batch": "files of prompts: records, traces, resuming",
    "cluster": "prompt sets on many machines, by Ray Data",
    "evaluation": "problems, grades, measures, analyses, reports",
    "server": "the same engine over HTTP",
    "loading": "names of models in, an engine out",
    "engine": "a loaded pair that answers many prompts at a time",
    "asynchronous": "coroutines wait while threads answer",
    "by_name": "settings as keyword arguments",
    "catalog": "models that are here, families, what fits",
    "hub": "models by path or hub name",
    "downloads": "files into the hub's cache, resumed",
    "pairs": "pairs by name",
    "storage": "sessions and checkpoints on disk, never half-written",
    "results": "prompts in; tokens as they come and results out",
    "runtime": "slots, turns and batches of both models",
    "method": "the algorithm: sentences, gates, flows, one response",
    "offline": "runs over many prompts, with checkpoints",
    "saving": "unfinished responses into checkpoints and back",
    "lane": "one scheduler and the prompts that it answers",
    "config": "every setting, its default and its range",
    "settings": "what options, /set and files make of a setting",
    "errors": "every error, and its exit code",
}

WIDTH, MARGIN, GAP = 860, 24, 28
BOX, HEIGHT, ROW = 250, 62, 96
BEND, DUMMY, SMALL_GAP = 18, 16, 6
LETTER = 6.4  # mean width of one in the small text
NAME_SIZE = 15.0  # pixels of a name


# ---------------------------------------------------------------- what imports what
def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which names types and loads nothing."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _loaded(child)


def imports() -> tuple[Graph, Graph]:
    """Each folder's or top-level module's imports among them, and its imports from outside (of OUTSIDE)."""
    inside: Graph = {}
    outside: Graph = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        owner = parts[0]
        if owner in ("__init__", "__main__"):
            continue
        found, other = _imported(path, list(parts[:-1]))
        inside.setdefault(owner, set()).update(found - {owner})
        outside.setdefault(owner, set()).update(other & OUTSIDE.keys())
    return {name: found & inside.keys() for name, found in inside.items()}, outside


def _imported(path: Path, here: list[str]) -> tuple[set[str], set[str]]:
    """First names under the package that a source imports anywhere, and the packages from outside."""
    inside, outside = set(), set()
    for node in _loaded(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [PACKAGE.name, *here[: len(here) - node.level + 1]] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for first, *rest in names:
            if first == PACKAGE.name:
                inside.update(rest[:1])
            else:
                outside.add(first)
    return inside, outside


def without_back_arrows(graph: Graph) -> tuple[Graph, list[tuple[str, str]]]:
    """The graph without the arrows that close a circle, and these; found from the top (`cli`) down."""
    done: set[str] = set()
    back: list[tuple[str, str]] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        for other in sorted(graph[name]):
            if other in path:
                back.append((name, other))
            elif other not in done:
                visit(other, (*path, other))
        done.add(name)

    for name in sorted(graph, key=lambda name: (name != "cli", name)):
        if name not in done:
            visit(name, (name,))
    return {name: {o for o in others if (name, o) not in back} for name, others in graph.items()}, sorted(back)


def reduced(graph: Graph) -> Graph:
    """Without the arrows that follow from longer ways."""

    def reach(name: str) -> set[str]:
        return graph[name].union(*(reach(other) for other in graph[name])) if graph[name] else set()

    return {name: {o for o in others if not any(o in reach(x) for x in others - {o})} for name, others in graph.items()}


def levels_of(graph: Graph) -> dict[str, int]:
    """Each box's level: above all that it imports, and not higher than what imports it needs."""
    level: dict[str, int] = {}

    def up(name: str) -> int:
        level[name] = level[name] if name in level else 1 + max(map(up, graph[name]), default=-1)
        return level[name]

    for name in sorted(graph):
        up(name)
    for name in sorted(level, key=lambda name: (-level[name], name)):
        users = [level[user] for user, others in graph.items() if name in others]
        level[name] = min(users) - 1 if users else level[name]
    return level


# ---------------------------------------------------------------- where it stands
@dataclass
class Layout:
    """Rows from the top, of names and of ways through a row: (importer, imported).

    `x`: the middles of each row's items; `widths`: of each row's boxes.
    """

    rows: list[list[str | tuple[str, str]]]
    x: list[dict[str | tuple[str, str], float]] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def width(self, name: str) -> float:
        return next(width for row, width in zip(self.rows, self.widths, strict=True) if name in row)


def laid_out(arrows: Graph, level: dict[str, int]) -> Layout:
    top = max(level.values())
    rows: list[list[str | tuple[str, str]]] = [[] for _ in range(top + 1)]
    for name in sorted(arrows):
        rows[top - level[name]].append(name)
        for other in sorted(arrows[name]):
            for between in range(level[other] + 1, level[name]):
                rows[top - between].append((name, other))
    layout = Layout(rows)
    for i, row in enumerate(rows):
        if i:
            row.sort(key=lambda item: (_wish(item, layout, arrows, i), str(item)))
        n_boxes = sum(isinstance(item, str) for item in row)
        gaps = [GAP if isinstance(a, str) or isinstance(b, str) else SMALL_GAP for a, b in pairwise(row)]
        free = WIDTH - 2 * MARGIN - sum(gaps) - DUMMY * (len(row) - n_boxes)
        box = min(BOX, free / n_boxes)
        widths = [box if isinstance(item, str) else DUMMY for item in row]
        left = (WIDTH - sum(widths) - sum(gaps)) / 2
        places: dict[str | tuple[str, str], float] = {}
        for item, width, gap in zip(row, widths, [*gaps, 0], strict=True):
            places[item] = left + width / 2
            left += width + gap
        layout.widths.append(box)
        layout.x.append(places)
    return layout


def _wish(item: str | tuple[str, str], layout: Layout, arrows: Graph, row: int) -> float:
    """The mean place of what stands above and points here."""
    above = layout.x[row - 1]
    if isinstance(item, tuple):
        return above.get(item, above.get(item[0], WIDTH / 2))
    users = [above[way] for way in above if (way[1] == item if isinstance(way, tuple) else item in arrows[way])]
    return sum(users) / len(users) if users else WIDTH / 2


# ---------------------------------------------------------------- drawing
STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de } .box { fill: #f6f8fa; stroke: #8c959f }
  .core { fill: #ddf4ff; stroke: #0969da }
  .base { fill: #f6f8fa; stroke: #d0d7de } .out { fill: none; stroke: #8c959f; stroke-dasharray: 5 4 }
  .name { fill: #1f2328; font: 600 15px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .about { fill: #59636e; font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
  .arrow { fill: none; stroke: #59636e; stroke-width: 1.4 } .head { fill: #59636e }
  .back { fill: none; stroke: #cf222e; stroke-width: 1.4; stroke-dasharray: 5 4 } .backhead { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d } .box { fill: #151b23; stroke: #656c76 }
    .core { fill: #121d2f; stroke: #4493f8 }
    .base { fill: #151b23; stroke: #3d444d } .out { stroke: #656c76 }
    .name { fill: #f0f6fc } .about { fill: #9198a1 } .arrow { stroke: #9198a1 } .head { fill: #9198a1 }
    .back { stroke: #f85149 } .backhead { fill: #f85149 }
  }
"""


def picture() -> str:
    graph, outside = imports()
    base = [name for name in BASE if name in graph]
    graph = {name: others - set(base) for name, others in graph.items() if name not in base}
    whole, back = without_back_arrows(graph)
    level, arrows = levels_of(whole), reduced(whole)
    layout = laid_out(arrows, level)
    y = {item: MARGIN + i * ROW for i, row in enumerate(layout.rows) for item in row if isinstance(item, str)}
    x = {item: place for places in layout.x for item, place in places.items() if isinstance(item, str)}
    parts = [*_arrows(arrows, layout, x, y), *_back_arrows(back, x, y)]
    parts += [_box(name, x[name], y[name], layout.width(name)) for name in sorted(x)]
    for name in sorted(x):
        for i, other in enumerate(sorted(outside.get(name, ()))):
            parts += _outside(other, x[name], y[name] + i * HEIGHT)
    bottom = MARGIN + len(layout.rows) * ROW
    width = (WIDTH - 2 * MARGIN - GAP * (len(base) - 1)) / max(1, len(base))
    for i, name in enumerate(base):
        parts.append(_box(name, MARGIN + width / 2 + i * (width + GAP), bottom, width, "base"))
    height = bottom + HEIGHT + 40
    everywhere = f"{', '.join(base[:-1])} and {base[-1]} are imported everywhere."
    note = f"An arrow: imports. {everywhere} What follows from other arrows is left out."
    note += " Dashed: against the layers." if back else ""
    parts.append(_text(note, WIDTH / 2, height - 14, "about"))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Folders and modules of foreal_local in layers, with arrows for imports">\n'
        f"<!-- Made by scripts/draw_architecture.py from the imports of foreal_local. -->\n<style>{STYLE}</style>\n"
        "<defs>\n" + _marker("head") + _marker("backhead") + "</defs>\n"
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _arrows(arrows: Graph, layout: Layout, x: dict[str, float], y: dict[str, float]) -> list[str]:
    """Lines from the lower edges of boxes to the upper edges of what they import, through the rows between."""
    found = []
    for name in sorted(arrows):
        others = sorted(arrows[name], key=lambda other: (x[other], other))
        for i, other in enumerate(others):
            users = sorted((user for user in arrows if other in arrows[user]), key=lambda user: (x[user], user))
            points = [(x[name] + _port(i, len(others)), y[name] + HEIGHT)]
            for row, places in enumerate(layout.x):
                if (name, other) in places:
                    points += [(places[name, other], MARGIN + row * ROW + at) for at in (0, HEIGHT)]
            points.append((x[other] + _port(users.index(name), len(users)), y[other] - 2))
            found.append(f'<path class="arrow" d="{_curve(points)}" marker-end="url(#head)"/>')
    return found


def _port(i: int, n: int) -> float:
    """Where line i of n meets a box, from its middle."""
    return (i - (n - 1) / 2) * min(60, (BOX - 60) / n)


def _curve(points: list[tuple[float, float]]) -> str:
    (x, y), *rest = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in rest:
        bend = min(BEND, (next_y - y) / 2)
        parts.append(f"C{x:.1f} {y + bend:.1f} {next_x:.1f} {next_y - bend:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return " ".join(parts)


def _back_arrows(back: list[tuple[str, str]], x: dict[str, float], y: dict[str, float]) -> list[str]:
    """Dashed lines around the right side of the boxes."""
    found, edge = [], max(x.values()) + BOX / 2
    for i, (name, other) in enumerate(back):
        right, top = x[name] + BOX / 2, y[name] + HEIGHT / 2
        to_x, to_y, side = x[other] + BOX / 2 + 2, y[other] + HEIGHT / 2 + 8 * i, edge + 40 + 20 * i
        path = f"M{right:.1f} {top:.1f} C{side:.1f} {top:.1f} {side:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        found.append(f'<path class="back" d="{path}" marker-end="url(#backhead)"/>')
    return found


def _outside(name: str, x: float, y: float) -> list[str]:
    """A library beside the box that uses it."""
    title, about = OUTSIDE[name]
    left, width, middle = x + BOX / 2 + 56, 190, y + HEIGHT / 2
    return [
        f'<path class="arrow" d="M{x + BOX / 2:.1f} {middle:.1f} H{left - 2:.1f}" marker-end="url(#head)"/>',
        f'<rect class="out" x="{left:.1f}" y="{y:.1f}" width="{width}" height="{HEIGHT}" rx="8"/>',
        _text(title, left + width / 2, y + 25, "name"),
        _text(about, left + width / 2, y + 45, "about"),
    ]


def _box(name: str, x: float, y: float, width: float, style: str = "") -> str:
    style = style or ("core" if name == "method" else "box")
    about = ABOUT.get(name) or _docstring(name)
    most = int((width - 16) / LETTER)
    widths = [*range(min(most, len(about) // 2 + 1), most), most]
    tries = (
        [textwrap.wrap(about, width, break_long_words=False) for width in widths] if len(about) > most else [[about]]
    )
    lines = next((lines for lines in tries if len(lines) < 3), tries[-1])[:2]
    folder = (PACKAGE / name).is_dir()
    parts = [
        f'<rect class="{style}" x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="8"/>'
    ]
    at = y + (25 if len(lines) < 2 else 21)
    title = f"{name}/" if folder else name
    parts.append(_text(title, x, at, "name", min(NAME_SIZE, (width - 10) / (0.6 * len(title)))))
    parts += [_text(line, x, at + 19 + 15 * i, "about") for i, line in enumerate(lines)]
    return "\n".join(parts)


def _docstring(name: str) -> str:
    path = PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _text(text: str, x: float, y: float, style: str, size: float = NAME_SIZE) -> str:
    """`size`: in pixels, of a name that its box is too narrow for."""
    smaller = f' style="font-size: {size:.1f}px"' if size < NAME_SIZE else ""
    return f'<text class="{style}"{smaller} x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{html.escape(text)}</text>'


def _marker(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path class="{name}" d="M0 0.5 L8 4 L0 7.5 z"/></marker>\n'
    )


@click.command()
@click.option("--check", is_flag=True, help="Draw nothing; exit code 1 where the picture is not up to date.")
def main(check: bool) -> None:
    """Draw docs/architecture.svg."""
    text = picture()
    if not check:
        PICTURE.write_text(text, encoding="utf-8")
    elif not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PICTURE.name} does not show the present imports: run python scripts/draw_architecture.py")


if __name__ == "__main__":
    main()
