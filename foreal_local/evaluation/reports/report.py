"""A report: one HTML page that needs nothing beside it, and its figures as PNG and SVG files.

Knows texts, tables, figures and how a page is made of them. Does not know what was measured. Everything that comes in
is text and is escaped, but `Report.example`, which example.py has made.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ForealError, UsageError
from ...storage.ownership import IMAGE, REPORT, VECTOR, Note, check_writable, write_result
from .example import escaped
from .plots import check_matplotlib, darkened, image
from .table import Table
from .terms import term_of, terms_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, _FIGURES = "report.html", "figures"
_STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True)
class Picture:
    """A figure.

    name: what its files are called
    """

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Example:
    """One response, token by token.

    title: what answered
    problem: what was asked
    html: the response, as example.py makes it; not escaped again.
    note: a line under it
    """

    title: str
    problem: str
    html: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What is on a page.

    summary: a line under the title
    conclusions: lines that say what follows from the figures
    tables: stand before the figures
    facts: how the figures came about, in groups
    example: one response, token by token
    notes: lines that limit what the page says
    details: tables that stand after the figures
    """

    title: str
    summary: str
    conclusions: Sequence[str]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    facts: Mapping[str, Mapping[str, str]]
    example: Example | None = None
    notes: Sequence[str] = ()
    details: Sequence[Table] = ()


def check_folder(folder: Path) -> None:
    """UsageError or OutputError before a long run whose report could not be drawn or written; makes the folders."""
    check_matplotlib()
    try:
        (folder / _FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise UsageError(f"cannot make the folder of --report {reason}") from None
    for file in (folder / PAGE, folder / _FIGURES / "a figure"):
        check_writable(file)


def write_report(folder: Path, report: Report, note: Note = lambda line: None) -> Path:
    """Write the page, figures/*.png and figures/*.svg, each whole or not at all; the page's path.

    note: hears of files that were there already, and are no earlier report's: they are kept under numbered names
    """
    figures = folder / _FIGURES
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ForealError(f"cannot write the report to {folder}: {error.strerror or error}") from None
    vectors = {picture.name: image(picture.figure, "svg", picture.name) for picture in report.pictures}
    write_result(folder / PAGE, page(report, vectors).encode("utf-8", "backslashreplace"), REPORT, note)
    for picture in report.pictures:
        write_result(figures / f"{picture.name}.svg", vectors[picture.name], VECTOR, note)
        write_result(figures / f"{picture.name}.png", image(picture.figure, "png", picture.name), IMAGE, note)
    return folder / PAGE


# ---------------------------------------------------------------- the page
def page(report: Report, vectors: Mapping[str, bytes]) -> str:
    """The whole page; `vectors` are the figures as SVG, by name."""
    parts = [
        "<!DOCTYPE html>\n",
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{escaped(report.title)}</title>\n",
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n",
        f'<h1>{escaped(report.title)}</h1>\n<p class="soft">{escaped(report.summary)}</p>\n',
        *(f'<p class="told">{escaped(text)}</p>\n' for text in report.conclusions),
        *(f'<p class="note">{escaped(text)}</p>\n' for text in report.notes),
        *(_table(table) for table in report.tables),
        _pictures(report.pictures, vectors),
        _example(report.example) if report.example else "",
        *(_table(table) for table in report.details),
        _terms(report),
        _facts(report.facts),
        "</body>\n</html>\n",
    ]
    return "".join(parts)


def _table(table: Table) -> str:
    plain = [' class="left"' if left else "" for left in table.flushed_left]
    head = "".join(f'<th scope="col"{of}>{_head(name)}</th>' for of, name in zip(plain, table.names, strict=True))
    rows = "".join(
        "<tr>"
        + "".join(f"<td{of}>{_cell(cell, bool(of))}</td>" for of, cell in zip(plain, row, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{escaped(note)}</p>\n' for note in table.notes)
    return (
        f'<h2>{escaped(table.title)}</h2>\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n{notes}"
    )


def _head(name: str) -> str:
    """A column's name; its meaning shows where the pointer is."""
    meaning = term_of(name)
    return f'<abbr title="{escaped(meaning)}">{escaped(name)}</abbr>' if meaning else escaped(name)


def _terms(report: Report) -> str:
    """The words of the page's tables that not everybody knows."""
    tables = [*report.tables, *report.details]
    shown = [text for table in tables for text in (table.title, *table.columns, *table.notes)]
    shown += [text for picture in report.pictures for text in (picture.title, picture.caption)]
    shown += report.conclusions
    found = terms_in(shown)
    return _facts({"What the words mean": found}) if found else ""


def _cell(text: str, is_left: bool) -> str:
    """A cell; a figure's interval stands small under it."""
    value, bracket, interval = text.partition(" (")
    if is_left or not (bracket and interval.endswith(")")):
        return escaped(text)
    return f"{escaped(value)} <small>({escaped(interval)}</small>"


def _pictures(pictures: Sequence[Picture], vectors: Mapping[str, bytes]) -> str:
    """An image in the page's text, so that its names and styles cannot meet those of another."""
    figures = "".join(
        f'<figure id="{escaped(picture.name)}">\n<h3>{escaped(picture.title)}</h3>\n'
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data(darkened(vectors[picture.name]))}">'
        f'<img alt="{escaped(f"{picture.title}. {picture.caption}")}" '
        f'src="{_data(vectors[picture.name])}"></picture>\n'
        f"<figcaption>{escaped(picture.caption)}</figcaption>\n</figure>\n"
        for picture in pictures
    )
    return f'<h2>Figures</h2>\n<div class="figures">\n{figures}</div>\n' if pictures else ""


def _data(vector: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(vector).decode()}"


def _example(example: Example) -> str:
    note = f'<p class="note">{escaped(example.note)}</p>\n' if example.note else ""
    return f'<h2>{escaped(example.title)}</h2>\n<p class="problem">{escaped(example.problem)}</p>\n{example.html}{note}'


def _facts(groups: Mapping[str, Mapping[str, str]]) -> str:
    return "".join(
        f"<h2>{escaped(title)}</h2>\n<dl>\n"
        + "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>\n" for name, value in facts.items())
        + "</dl>\n"
        for title, facts in groups.items()
    )


def timestamp() -> str:
    """Now, as a report tells it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
