"""The colours of everything that shows who wrote what: chat, foreal-gen, reports and pictures.

The draft's words have the default colour, the leader's one of their own. The numbers are those of the 256 colours of
xterm, whose RGB values themes do not change; so their contrast is known (tests/test_palette.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours for one kind of background.

    leader: what the leader wrote
    soft: reasoning, notes, fences, comments in code
    keyword, string, number: in code; inline code looks like a string
    """

    leader: int
    soft: int
    keyword: int
    string: int
    number: int


BACKGROUNDS = ("auto", "light", "dark")
PALETTES = {
    "auto": Palette(leader=63, soft=243, keyword=163, string=29, number=131),
    "light": Palette(leader=25, soft=241, keyword=90, string=22, number=94),
    "dark": Palette(leader=75, soft=247, keyword=176, string=107, number=179),
}
"""Those of "auto" have a contrast of 4.5 on white as well as on black, which leaves these few: between white and a
dark grey such as #1e1e1e no colour can have it (at best 4.1 on both)."""


def palette_of(background: str) -> Palette:
    """The palette for a background of BACKGROUNDS; "auto": what COLORFGBG tells, which some terminals set."""
    if background == "auto":
        number = os.environ.get("COLORFGBG", "").rpartition(";")[2]
        if number.isdecimal() and int(number) < 16:
            background = "light" if int(number) in (7, *range(9, 16)) else "dark"
    return PALETTES[background]


def rgb(number: int) -> tuple[int, int, int]:
    """The colour of a number from 16 to 255."""
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return grey, grey, grey
    levels = (0, 95, 135, 175, 215, 255)
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return levels[red], levels[green], levels[blue]


def hexadecimal(number: int) -> str:
    """The colour of a number as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*rgb(number))
