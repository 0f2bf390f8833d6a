r"""Units after a number: 5 apples, 18 cm^2, 3\text{ m/s}, 5 mL, 60 °C. They are left out of a comparison.

Knows symbols of units and how words for them are told from formulas.
"""

from __future__ import annotations

import re

FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|lcm|gcd|max|min|det"
TEXT = r"\\(?:text(?:bf|rm|it|normal|sf|tt|up)?|mbox|hbox)"

_END = r"(?=[\s.]*(?:$|[,;)\]]|\\\}|\band\b|\bor\b|\\(?:text|mbox)\s*\{\s*(?:and|or)\b))"
_NO_UNIT = (
    r"(?:(?:[ei]|and|or|mod|arc\w+|cos|cot|csc|exp|log|ln|sec(?!\s*\.?\s*(?:$|[,;)]))|sin|sqrt|tan|"
    r"(?i:[ap]\.?\s?m)|(?i:thousand|[mbtr]+illion|e[+-]?\d+))\b)"
)
_SYMBOL = (
    r"(?:(?:[kMGTcdmnpu]|\\mu\s*)?(?:Pa|Hz|eV|mol|cal|Wh|bar|rad|\\Omega|[mgsLlJNWVAKCFTHM])"
    r"|h|hr|min|mi|yd|oz|ft|in|lb|pt|qt|ha|[km]ph|rpm|sec|°\s*[CFK]?)(?![A-Za-z])"
)
_POWER = r"(?:\s*\^\s*(?:\{-?[1-4]\}|-?[1-4]))?"
_PART = rf"{_SYMBOL}{_POWER}"
_FACTOR = rf"\s*(?:/|\\cdot|\*|\s)\s*\(?{_PART}(?:\s*\\cdot\s*{_PART})?\)?"
_SYMBOLS = rf"(?:sq\.?\s+|cu\.?\s+)?{_PART}(?:{_FACTOR}){{0,4}}"
_WORDS = rf"[A-Za-z]{{3}}[A-Za-z /.]*{_POWER}"

_IN_TEXT = re.compile(
    rf"(?<=[\w}})°])(?P<unit>(?:\s*(?:/|\\cdot|\\mu)?\s*(?:{TEXT}|\\mathrm)\s*\{{\s*(?!\s|{_NO_UNIT})[^{{}}\d]*\}}{_POWER}(?:\s*/)?)+){_END}"
)
_AFTER_DIGIT = re.compile(rf"(?<=\d)(?<!\^\d)\s+(?!{_NO_UNIT})(?:{_SYMBOLS}|{_WORDS}){_END}")
_AFTER_FORMULA = re.compile(
    rf"(?:(?<=\}})|(?<=\\pi))(?!\s+(?!rad|deg|min|sec)\w{{3}}$)\s+(?!{_NO_UNIT})(?![a-fh-ln-zA-Z](?![A-Za-z]))(?:{_SYMBOLS}|{_WORDS}){_END}"
)
_AFTER_POWER = re.compile(rf"(?<=10\^)(\{{-?\d+\}}|\d)\s+{_SYMBOLS}{_END}")
_ATTACHED = re.compile(rf"(?<=[\d}}])(?:{_SYMBOLS}|\\frac\{{{_SYMBOLS}\}}\{{{_SYMBOLS}\}}|\\text\{{[a-z]+\}}{_POWER})$")
_KELVIN = re.compile(r"(?<![\d\s}])\s*°\s*[CFK](?![A-Za-z])")  # of a unit: J/(g·°C)
_TEMPERATURE = re.compile(r"(?<=[\d}])\s*°\s*(?:(?:\\(?:text|mathrm)\s*\{\s*)[CFK]\s*\}|[CFK](?![A-Za-z]))")


def without_text_units(text: str) -> str:
    r"""An answer without units that are marked as text: 5\text{ cm}, 5~\mathrm{m/s}; \text{Amy} \text{Bob} stays."""
    return _IN_TEXT.sub(_unless_after_text, _KELVIN.sub("K", _TEMPERATURE.sub("°", text)))


def _unless_after_text(match: re.Match[str]) -> str:
    before = match.string[: match.start()]
    return match[0] if re.search(rf"{TEXT}\s*\{{[^{{}}]*\}}$", before) else " "


def without_units(text: str) -> str:
    """An answer without units that stand after a number and a blank: 5 apples, 5 mL."""
    for pattern in (_AFTER_DIGIT, _AFTER_FORMULA):
        text = pattern.sub(" ", text)
    return _AFTER_POWER.sub(r"\1 ", text)


def without_attached_unit(plain: str) -> str:
    """A normalised answer without the unit right behind its number, 5L, which could be a variable, too."""
    return _ATTACHED.sub("", plain)
