"""Reports: the Pareto front, figures as files, the page, the example, and --report of both commands."""

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, environment, run

from foreal_local.errors import ForealError, UsageError
from foreal_local.evaluation.measures import Response, measure
from foreal_local.evaluation.problems.grading import Grade
from foreal_local.evaluation.reports import plots
from foreal_local.evaluation.reports.bench_report import ReportTexts, bench_report
from foreal_local.evaluation.reports.example import MOST_TOKENS, escaped, example_html
from foreal_local.evaluation.reports.plots import Point, pareto, scale_of
from foreal_local.evaluation.reports.report import Example, Report, check_folder, page, write_report
from foreal_local.evaluation.reports.table import Table, with_interval
from foreal_local.evaluation.statistics import Estimate
from foreal_local.method.roles import Role
from foreal_local.method.tokens import Token

FOREAL = [sys.executable, "-m", "foreal_local"]
HOSTILE = "<script>alert('1')</script>\"&\x1b[0m\ud800http://evil.example/"
VOID = {"meta", "source", "img", "br", "link", "hr"}


# ---------------------------------------------------------------- what is in a page
class Reader(HTMLParser):
    """Elements, attributes and texts of a page; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.events: list[tuple[str, dict[str, str], str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice: {names}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def assert_self_contained(text: str) -> Reader:
    """Nothing is loaded or run: no scripts, links, forms or addresses but the figures' data."""
    reader = Reader(text)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "a", "base"}
    for _, attributes in reader.elements:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        assert all(attributes.get(name, "data:").startswith("data:") for name in ("src", "srcset"))
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    assert 'name="viewport"' in text
    return reader


# ---------------------------------------------------------------- responses and tokens, made up
def response(problem: int, setting: str, right: bool, seconds: float = 1.0, **method: Any) -> Response:
    mode = setting.split()[0]
    cost = {"decode_tokens": 90, "prefill_tokens": 30, "calls": 95, "seconds": seconds}
    record = {
        "mode": mode,
        **{"n": 15, "p": 0.6, "k": 5} | method,
        "usage": {
            "completion_tokens": 100,
            "leader_tokens": 100 if mode == "leader" else 40,
            "draft_tokens": 0 if mode == "leader" else 60,
        },
        "sentences": {"handoffs": 3},
        "cost": {"leader": cost, "draft": cost, "flops_generation": 1e12 * seconds, "flops_total": 2e12 * seconds},
        "seconds": seconds,
    }
    return Response(str(problem), setting, 0, Grade.CORRECT if right else Grade.WRONG, "", record)


def bench(*ks: int, name: str = "") -> Report:
    responses = [response(i, "leader", i > 0) for i in range(4)]
    for k in ks:
        responses += [response(i, f"foreal{name} k={k}", i > 1, 0.4 + i / 10, k=k) for i in range(4)]
    facts = {"Settings": {"--hits": "5", "--grid": f"k={ks}"}, "Models": {"leader": "m.gguf, fingerprint 00ff"}}
    return bench_report(responses, measure(responses), ReportTexts("A title", "A line", "Take k=2.", facts))


def token(text: str, author: str = "leader", sentence: int = 0, led: bool = True, **judged: Any) -> Token:
    return Token(1, Role(author), text, sentence, led, 1, **judged)


TOKENS = [
    token("So", "draft", 0, False),
    token(".", "draft", 0, False),
    token(" Wait", sentence=1),
    token(" it", sentence=1, hit=False),
    token(" is", sentence=1, hit=True, hits=1),
    token(" 4", sentence=1, hit=True, hits=2),
    token(" now", "draft", 1, hits=2),
    token(".", "draft", 1, hits=2),
    token(" Yes.", sentence=2),
    token(" No.", "draft", 3, False),
    token("", "draft", 3, False),
]


# ---------------------------------------------------------------- figures
def point(name: str, x: float, y: float) -> Point:
    return Point(name, Estimate(x, x, x), Estimate(y, math.nan, math.nan))


def test_the_pareto_front_of_known_points() -> None:
    """Guards a front that keeps a setting which another beats, drops one that none beats, or trips over nan."""
    points = [point("dear", 5, 0.9), point("cheap", 1, 0.3), point("beaten", 3, 0.2), point("equal, dearer", 2, 0.3)]
    points += [point("middle", 2, 0.5), point("worse at its cost", 5, 0.8), point("unknown", math.nan, 1.0)]
    assert [p.name for p in pareto(points)] == ["cheap", "middle", "dear"]
    assert pareto([]) == []


def test_flops_get_a_unit_that_can_be_read() -> None:
    """Guards axes that say 0.0004 TFLOPs."""
    assert scale_of([3e8, 2e12, math.nan], "FLOPs") == (1e12, "TFLOPs")
    assert scale_of([4e9], "FLOPs") == (1e9, "GFLOPs")
    assert scale_of([], "FLOPs") == (1.0, "FLOPs")


@pytest.mark.parametrize(("ks", "has_sweep"), [((5,), False), ((2, 5, 8), True)])
def test_figures_are_files_and_in_the_page(ks: tuple[int, ...], has_sweep: bool, tmp_path: Path) -> None:
    """Guards a figure that is missing in a folder or in the page, and a k sweep of one k."""
    report = bench(*ks)
    path = write_report(tmp_path / "new" / "folder", report)
    names = ["accuracy-flops-generation", "accuracy-flops-total", "accuracy-seconds", "length"]
    names += ["k-sweep"] if has_sweep else []
    assert [picture.name for picture in report.pictures] == names
    for name in names:
        assert (path.parent / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert ElementTree.parse(path.parent / f"figures/{name}.svg").getroot().tag.endswith("svg")
    files = {file.name for file in (path.parent / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}, "scratch files are left"
    reader = assert_self_contained(path.read_text("utf-8"))
    images = reader.all("img")
    assert [figure["id"] for figure in reader.all("figure")] == names
    assert all(image["src"].startswith("data:image/svg+xml;base64,") and image["alt"] for image in images)


def test_the_same_figure_gives_the_same_bytes() -> None:
    """Guards reports that differ from run to run by ids and dates inside of figures."""
    for kind in ("svg", "png"):
        one, other = (plots.image(bench(2).pictures[0].figure, kind, "a") for _ in range(2))
        assert one == other


def test_names_are_no_formulas() -> None:
    """Guards a setting's name that matplotlib takes for mathematics ($...$), and fails to parse."""
    figure = plots.accuracy_against([point("$\\frac{", 1, 0.5), point("_hidden", 2, 0.7)], "$x")
    assert plots.image(figure, "svg", "x")


def test_unknown_figures_can_be_drawn() -> None:
    """Guards a plot that fails where there is no interval, no number, or nothing at all."""
    nothing = Estimate(math.nan, math.nan, math.nan)
    for points in ([], [Point("a", nothing, nothing)]):
        assert plots.image(plots.accuracy_against(points, "x"), "svg", "x")


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards a traceback, and a run of hours whose report cannot be drawn."""
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'matplotlib>=3.8'"):
        check_folder(tmp_path)
    with pytest.raises(UsageError, match="matplotlib"):
        plots.lengths([])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Guards a report that is refused only after everything has run."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="--report"):
        check_folder(tmp_path / "file")
    with pytest.raises(ForealError, match="cannot write the report"):
        write_report(tmp_path / "file", bench(2))
    assert (tmp_path / "file").read_text() == "mine"


# ---------------------------------------------------------------- the page
def test_the_page_shows_every_setting_and_fact() -> None:
    """Guards a table that leaves out a setting, and a page that does not say how it came about."""
    report = bench(2, 5)
    reader = assert_self_contained(page(report, {p.name: b"" for p in report.pictures}))
    for text in ("A title", "A line", "Take k=2.", "--hits", "--grid", "k=(2, 5)", "m.gguf, fingerprint 00ff"):
        assert text in reader.text
    for setting in ("leader", "foreal k=2", "foreal k=5"):
        assert setting in reader.text
    assert "75.0" in reader.text, "the leader's accuracy"
    assert "TFLOPs, generation" in reader.text
    assert reader.text.count("foreal k=2") == 2, "once by itself, once against the leader"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Guards problems, tokens, names and settings that could run a script or break the page."""
    table = Table(HOSTILE, [HOSTILE, f"<{HOSTILE}"], [[HOSTILE, f"1 ({HOSTILE})"]], [HOSTILE])
    example = Example(HOSTILE, HOSTILE, example_html([token(HOSTILE)]), HOSTILE)
    bad = bench(2, name=HOSTILE.replace("\ud800", ""))
    facts = {HOSTILE: {HOSTILE: HOSTILE}}
    report = Report(HOSTILE, HOSTILE, [HOSTILE], [table, *bad.tables], bad.pictures, facts, example, [HOSTILE])
    reader = assert_self_contained(write_report(tmp_path, report).read_text("utf-8"))
    assert "<script>alert('1')</script>\"&␛[0m\ufffdhttp://evil.example/" in reader.text


def test_texts_without_records_make_a_page() -> None:
    """Guards --responses of texts alone: there is accuracy, but no cost to draw."""
    responses = [Response("1", "responses", 0, Grade.MISSING, "?")]
    report = bench_report(responses, measure(responses), ReportTexts("t", "s", "r", {}))
    assert report.pictures == []
    assert "0.0" in Reader(page(report, {})).text


def test_figures_as_text() -> None:
    """Guards -0.0, and intervals of what is unknown."""
    assert with_interval(Estimate(-0.0, -0.0, 0.5), "+.1f", 100) == "+0.0 (+0.0 to +50.0)"
    assert with_interval(Estimate(1.0, math.nan, math.nan), ".2f") == "1.00"
    assert with_interval(Estimate(math.nan, 0.0, 1.0), ".2f") == "cannot tell"
    assert with_interval(Estimate(math.inf, math.inf, math.inf), ".2f") == "cannot tell"
    assert with_interval(Estimate(2.0, 0.5, math.inf), ".2f") == "2.00 (0.50 or more)"
    assert with_interval(Estimate(-2.0, -3.0, -1.0), ".0f", to="-") == "-2 (-3 to -1)"
    assert with_interval(None, ".2f") == "-"


# ---------------------------------------------------------------- the example
def marks(text: str) -> Iterator[str]:
    """gate and handoff, and the classes with the text of each token, in order."""
    body = text.partition('<div class="example">')[2]
    for kind, classes, inside in re.findall(r'<(i|span) class="([^"]*)"[^>]*>([^<]*)', body):
        yield classes if kind == "i" else f"{classes}:{inside}"


def test_marks_stand_at_the_right_tokens() -> None:
    """Guards a gate, hit, miss or handoff at a neighbour, and a handoff where the draft leads a sentence."""
    assert list(marks(example_html(TOKENS))) == [
        "draft:So",
        "draft:.",
        "gate",
        "leader: Wait",
        "leader miss: it",
        "leader hit: is",
        "leader hit: 4",
        "handoff",
        "draft: now",
        "draft:.",
        "gate",
        "leader: Yes.",
        "draft: No.",
        "draft empty:",
    ]


def test_tooltips_and_copied_text() -> None:
    """Guards marks that get into the text, and tooltips that say something else than the token."""
    text = example_html(TOKENS)
    titles = [attributes["title"] for attributes in Reader(text).all("span") if "title" in attributes]
    assert titles[3] == "leader, sentence 2, token 2; miss"
    assert titles[5] == "leader, sentence 2, token 4; hit, 2 in a row"
    assert 'title="handoff: 2 hits in a row"' in text
    example = Reader(text.partition("</p>")[2])
    assert example.text.strip() == "".join(t.text for t in TOKENS)


def test_a_long_example_is_cut_and_says_so() -> None:
    """Guards a page of many megabytes for one long response."""
    text = example_html([token("a", sentence=i) for i in range(MOST_TOKENS + 7)])
    assert len(list(marks(text))) == 2 * MOST_TOKENS
    assert "7 more tokens are not shown" in text
    assert "more tokens" not in example_html(TOKENS)
    assert example_html([])


def test_line_breaks_stay() -> None:
    """Guards a response whose lines run together, or show as pictures of control characters."""
    assert escaped("a\n\tb\rc\x00") == "a\n\tb␍c␀"


# ---------------------------------------------------------------- both commands
@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")


def test_bench_writes_a_report(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards --report: models, seeds, options, the command and an example by author, of the run itself."""
    words = ["bench", "--limit", "3", "--max-tokens", "60", "--grid", "k=2,5", "--seed", "7", "--report", tmp_path]
    done = run(*words, "-o", tmp_path / "out.jsonl", env=bundled, command=FOREAL)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "report.html"
    assert f"\nreport: {path}\n" in done.stdout
    assert path.stat().st_size < 2_000_000
    text = path.read_text("utf-8")
    reader = assert_self_contained(text)
    for told in ("tiny-leader.gguf, fingerprint ", "--max-tokens60", "--grid", "seeds7", "foreal bench --limit 3"):
        assert told in reader.text
    assert (tmp_path / "figures/k-sweep.png").exists()
    names = [mark.partition(":")[0] for mark in marks(text)]
    assert {"gate", "leader", "draft"} <= set(names)
    assert "Written again for this page" not in text, "the example is not the response that was measured"
    assert sum(name.startswith(("leader", "draft")) for name in names) <= 60


def test_analyze_writes_a_report(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards --report of analyze: its four figures and all of its tables."""
    leader = ROOT / "models/tiny-leader.gguf"
    words = ["analyze", "--limit", "3", "--max-tokens", "60", "-d", leader, "--report", tmp_path]
    done = run(*words, env=bundled, command=FOREAL)
    assert done.returncode == 0, done.stderr
    reader = assert_self_contained((tmp_path / "report.html").read_text("utf-8"))
    names = ["along-sentence", "along-response", "entropy", "handoffs"]
    assert [figure["id"] for figure in reader.all("figure")] == names
    for told in ("the gain to expect", "most frequent misaligned words", "tiny-draft.gguf, fingerprint "):
        assert told in reader.text
    for name in ("tiny-draft.gguf", "tiny-leader.gguf"):
        assert f"{name}: what --review ratio would rewrite, by tau" in reader.text
    assert "####" not in reader.text
