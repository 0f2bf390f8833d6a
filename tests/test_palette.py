"""Colours that can be read on every background, and that are the same wherever authors are shown."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.color import Color

from foreal_local.evaluation.reports.plots import DRAFT_COLOUR, LEADER_COLOUR
from foreal_local.palette import PALETTES, hexadecimal, palette_of, rgb

ROOT = Path(__file__).parents[1]
CSS = (ROOT / "foreal_local" / "evaluation" / "reports" / "report.css").read_text("utf-8")
BEST_OF_BOTH = 3.5
"""On dark grey, of colours that have 4.5 on white; 4.1 on both is what any colour can have at best."""


def luminance(colour: str) -> float:
    """The relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("palette", "background", "least"),
    [
        ("auto", "#ffffff", 4.5),
        ("auto", "#000000", 4.5),
        ("auto", "#1e1e1e", BEST_OF_BOTH),
        ("light", "#ffffff", 4.5),
        ("light", "#fafafa", 4.5),
        ("light", "#fdf6e3", 4.5),
        ("dark", "#000000", 4.5),
        ("dark", "#1e1e1e", 4.5),
        ("dark", "#282c34", 4.5),
    ],
)
def test_every_colour_can_be_read(palette: str, background: str, least: float) -> None:
    """Guards cyan on white, blue on black, and grey on either."""
    for name, number in asdict(PALETTES[palette]).items():
        assert contrast(hexadecimal(number), background) >= least, (name, number)


def test_contrast_is_that_of_the_standard() -> None:
    """Guards a formula that finds every colour readable."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_numbers_are_the_colours_that_terminals_show() -> None:
    """Guards contrasts of other colours than those that are shown."""
    for number in range(16, 256):
        assert rgb(number) == tuple(Color.from_ansi(number).get_truecolor())


@pytest.mark.parametrize(
    ("told", "palette"),
    [("0;15", "light"), ("15;0", "dark"), ("12;8", "dark"), ("0;default;15", "light"), ("", "auto")],
)
def test_a_terminal_may_tell_its_background(told: str, palette: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards colours for the other background where the terminal tells its own, and an option that it overrules."""
    monkeypatch.setenv("COLORFGBG", told)
    assert palette_of("auto") is PALETTES[palette]
    assert palette_of("light") is PALETTES["light"]


def test_reports_and_pictures_have_the_colours_of_the_chat() -> None:
    """Guards a leader that is blue here and orange there, and pages that cannot be read."""
    light, dark = (hexadecimal(PALETTES[name].leader) for name in ("light", "dark"))
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", part)) for part in CSS.split("@media")[:2]]
    assert [theme["leader"] for theme in themes] == [light, dark]
    for theme in themes:
        for name in ("leader", "ink", "soft", "miss", "hit"):
            assert min(contrast(theme[name], theme[back]) for back in ("page", "card")) >= 4.5, name
    assert light == LEADER_COLOUR
    assert min(contrast(colour, "#ffffff") for colour in (LEADER_COLOUR, DRAFT_COLOUR)) >= 4.5
    picture = (ROOT / "docs" / "answer.svg").read_text("utf-8")
    assert re.findall(r"\.leader \{ fill: (#\w+)", picture) == [light, dark]
    pages, texts = (
        re.findall(r"\.page \{ fill: (#\w+)", picture),
        re.findall(r"\.(?:draft|soft) \{ fill: (#\w+)", picture),
    )
    for page, colours in zip(pages, ([light, *texts[:2]], [dark, *texts[2:]]), strict=True):
        assert min(contrast(colour, page) for colour in colours) >= 4.5
