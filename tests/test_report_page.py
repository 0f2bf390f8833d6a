"""Pages in a browser: no bar to scroll sideways, figures that follow dark mode, words that are explained."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_palette import contrast
from test_report import Reader, bench

from foreal_local.evaluation.reports.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = " with a name that is as long as the file names of models are, Q4_K_M.gguf"
ASKED = """<script>addEventListener("load", () => { document.title = [...document.querySelectorAll("iframe")].map(f => {
  const page = f.contentDocument, images = [...page.querySelectorAll("figure img")];
  const cut = [...page.querySelectorAll(".wide")].filter(box => box.scrollWidth > box.clientWidth).length;
  const rights = images.map(i => Math.round(i.getBoundingClientRect().right));
  return [page.documentElement.scrollWidth, cut, ...rights].join(",");
}).join(" ") })</script>"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("page"), bench(2, 5, name=LONG))


@pytest.mark.skipif(BROWSER is None, reason="there is no browser")
def test_a_page_fits_its_window(path: Path, tmp_path: Path) -> None:
    """Guards a page or a figure that is wider than a window or a telephone; a table scrolls inside its own box."""
    widths = (1280, 400)
    inside = html.escape(path.read_text("utf-8"))
    frames = "".join(f'<iframe srcdoc="{inside}" style="width:{w}px;height:600px;border:0"></iframe>' for w in widths)
    (tmp_path / "frames.html").write_text(f"<!DOCTYPE html><title></title>{ASKED}{frames}", "utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words = [*command, "--virtual-time-budget=5000", "--dump-dom", str(tmp_path / "frames.html")]
    found = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False).stdout
    title = re.search(r"<title>([\d, ]+)</title>", found)
    assert title, found[:300]
    for width, told in zip(widths, title[1].split(), strict=True):
        page, n_cut, *images = map(int, told.split(","))
        assert page <= width
        assert width < 1280 or not n_cut, "the last columns, seconds among them, are out of sight"
        assert len(images) == 5
        assert all(200 < right <= width for right in images)


def test_figures_follow_dark_mode(path: Path) -> None:
    """Guards black text on a dark page, and a white sheet in the midst of it."""
    reader = Reader(path.read_text("utf-8"))
    sources, images = reader.all("source"), reader.all("img")
    assert len(sources) == len(images) == 5
    for source, image in zip(sources, images, strict=True):
        assert source["media"] == "(prefers-color-scheme: dark)"
        dark, light = (base64.b64decode(each.partition(",")[2]) for each in (source["srcset"], image["src"]))
        assert not re.search(rb"#(ffffff|000000|1d1f21|555555)", dark)
        assert re.search(rb"fill: #1d1f21", light), "texts have a colour of their own"
        assert re.sub(rb"#[0-9a-f]{6}", b"", dark) == re.sub(rb"#[0-9a-f]{6}", b"", light)


def test_what_a_dark_figure_shows_can_be_seen(path: Path) -> None:
    """Guards the draft in dark grey on dark grey: only the colours of paper and texts were other ones."""
    grid, paper = "3a3e42", "1f2225"
    for source in Reader(path.read_text("utf-8")).all("source"):
        dark = base64.b64decode(source["srcset"].partition(",")[2]).decode()
        for colour in set(re.findall(r"#([0-9a-f]{6})\b", dark)) - {grid, paper}:
            assert contrast(f"#{colour}", f"#{paper}") >= 3, colour


def test_words_are_explained(path: Path) -> None:
    """Guards a page that only its makers can read."""
    reader = Reader(path.read_text("utf-8"))
    text = reader.text.partition("What the words mean")[2]
    for word in ("handoff", "cut off", "FLOPs", "Pareto front", "prefilled", "leader", "hit"):
        assert f"\n{word}" in text, word
    assert "tau" not in text.partition("Settings")[0], "only words of this page"
    titles = {attributes["title"] for attributes in reader.all("abbr")}
    assert any(title.startswith("cut off: responses that did not come to their own end") for title in titles)
