r"""Plain numbers: read from a normalised answer, and compared by what their digits say.

A decimal stands for what rounds to it. Numbers below 1 are equal where six significant digits are; from 1 on
where six places are, or all that are written of six digits or more. Only zero equals zero.
Knows no units, no LaTeX but that of a number, and no sympy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

SIX = 6  # digits that two numbers share, one of them a decimal, to be the same
_MOST_ZEROS = 400  # of a power of ten that is read here: 10^{999999999} would take all memory


@dataclass(frozen=True)
class Number:
    """A number as it is written.

    value: exactly what is written
    step: what one unit in its last written place is worth, 0.01 for 3.14; 0 for what is exact, as 7 and 1/3 are
    """

    value: Fraction
    step: Fraction = Fraction(0)

    def times(self, factor: Fraction) -> Number:
        return Number(self.value * factor, self.step * abs(factor))


_NUMBER = re.compile(
    r"(?P<sign>[-+]?)"
    r"(?:(?P<whole>\d+(?:\.\d*)?|\.\d+)?"
    r"(?:/(?P<below>\d+(?:\.\d+)?)"
    r"|\\frac\{(?P<top>-?\d+(?:\.\d+)?)\}\{(?P<bottom>-?\d+(?:\.\d+)?)\}"
    r"|\\overline\{(?P<period>\d+)\})?)"
    r"(?:(?:(?<=[\d}])\\(?:times|cdot)\s*|(?<![\d}]))10\^(?:\{(?P<power>-?\d{1,4})\}|(?P<digit>\d)))?"
)


def number(plain: str) -> Number | None:
    r"""The number that a normalised answer is: 7, -3.5, 7/2, 3\frac{1}{2}, 0.\overline{3}, 6.02\times10^{23}."""
    match = _NUMBER.fullmatch(plain)
    if not match or not any(match[part] for part in ("whole", "top", "power", "digit")):
        return None
    whole, places = match["whole"] or "", len((match["whole"] or "").partition(".")[2])
    power = int(match["power"] or match["digit"] or 0)
    if abs(power) > _MOST_ZEROS:
        return None
    value = Fraction(whole or (1 if match["power"] or match["digit"] else 0))
    try:
        if match["below"]:
            value /= Fraction(match["below"])
        elif match["top"]:
            part = Fraction(match["top"]) / Fraction(match["bottom"])
            value = value + part if whole else part
        elif match["period"]:
            value += Fraction(int(match["period"]), 10**places * (10 ** len(match["period"]) - 1))
    except ZeroDivisionError:
        return None
    exact = not places or match["below"] or match["top"] or match["period"]
    decimal = Number(value, Fraction(0) if exact else Fraction(1, 10**places))
    return decimal.times(Fraction(10) ** power * (-1 if match["sign"] == "-" else 1))


_SEPARATED = re.compile(r"(?P<before>[^\d()\[\]]*)(?P<digits>\d[\d.,'  \u202f]*\d)(?P<after>[^\d()\[\]]*)", re.DOTALL)
_SPACE = r"[.'  \u202f]"
_FORMS = (
    (re.compile(rf"\d{{1,3}}(?:{_SPACE}\d{{3}})+,\d+|\d+,\d{{1,2}}|0,\d+|\d+,\d{{4,}}"), ","),  # 1.234,56 and 12,5
    (re.compile(r"\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:'\d{3})+(?:\.\d+)?"), "."),  # 1.234.567
    (re.compile(r"\d{1,2}(?:,\d\d)+,\d{3}(?:\.\d+)?"), "."),  # 12,34,567
)


def in_other_countries(answer: str) -> str | None:
    """An answer with one number in it, with that written as in English: 1.234,56 and 12,5, 1.234.567, 12,34,567.

    None where it is none of these. What is read so may be meant as a list: only where one number is wanted it is none.
    """
    match = _SEPARATED.fullmatch(answer.replace(r"\,", " ").replace("{,}", ","))
    point = next((point for form, point in _FORMS if match and form.fullmatch(match["digits"])), None)
    if match is None or point is None:
        return None
    whole, mark, places = match["digits"].rpartition(",") if point == "," else (match["digits"], "", "")
    if point == "." and re.search(r"[,'].*\.", whole):
        whole, mark, places = whole.rpartition(".")
    return f"{match['before']}{re.sub('[^0-9]', '', whole)}{'.' if mark else ''}{places}{match['after']}"


def close(a: Number, b: Number) -> bool:
    """Are they the same number, so far as their decimals tell? What is exact must be equal."""
    if a.value == b.value:
        return True
    if a.value * b.value <= 0 or a.step == b.step == 0:
        return False
    sixth = Fraction(10) ** (exponent(max(abs(a.value), abs(b.value))) - SIX + 1)  # a unit in the sixth digit
    unit = max([min(sixth, Fraction(1, 10**SIX)), *(step for step in (a.step, b.step) if step <= sixth)])
    return 2 * abs(a.value - b.value) <= unit


def exponent(value: Fraction) -> int:
    """The power of ten of a positive number's first digit: 2 for 345, -1 for 0.5."""
    guess = len(str(value.numerator)) - len(str(value.denominator))
    return guess if value >= Fraction(10) ** guess else guess - 1
