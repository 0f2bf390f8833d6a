r"""Which unit an answer gives, and what it is worth in another's: 5 km is not 5 m, and 1000 m is 1 km.

Knows common units, their prefixes and how they are combined. A unit that is not known (5 apples) says nothing, and
neither does a bare number. One that is ambiguous (25 C) has several meanings, of which any will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

from .characters import as_latex


@dataclass(frozen=True)
class Unit:
    """A product of powers of base units.

    factor: what it is worth in them
    powers: of each base unit that it has
    """

    factor: Fraction = Fraction(1)
    powers: frozenset[tuple[str, int]] = frozenset()

    def times(self, other: Unit, power: int = 1) -> Unit:
        powers = dict(self.powers)
        for base, n in other.powers:
            powers[base] = powers.get(base, 0) + n * power
        return Unit(self.factor * other.factor**power, frozenset(item for item in powers.items() if item[1]))


Meanings = frozenset[Unit]
_Table = dict[str, Meanings]

_BASES = "m g s A K mol rad deg degC degF year $ € £ ¥ ₹ B"
_DEFINITIONS = """
meter metre = m; gram gramme = g; second sec = s; ampere amp = A; kelvin = K; mole = mol; radian = rad; degree ° = deg
L l liter litre = 1/1000 m^3; M = 1000 mol/m^3; t tonne ton = 1000000 g; ton = 907185 g; ha hectare = 10000 m^2
N newton = 1000 g*m/s^2; J joule = 1 N*m; W watt = 1 J/s; C coulomb = 1 A*s; V volt = 1 W/A; F farad = 1 C/V
Ω ohm = 1 V/A; T tesla = 1 V*s/m^2; H henry = 1 V*s/A; S siemens = 1 A/V; Hz hertz = 1 /s; Pa pascal = 1 N/m^2
bar = 100000 Pa; eV electronvolt = 1.602176634e-19 J; cal calorie = 4.184 J; Wh = 3600 J
min minute = 60 s; h hr hour = 3600 s; day = 86400 s; wk week = 604800 s; yr = 1 year; mo month = 1/12 year
decade = 10 year; century centuries = 100 year; rpm = 1/60 Hz
in inch inches " = 0.0254 m; ft foot feet ' = 0.3048 m; yd yard = 3 ft; mi mile = 5280 ft; acre = 43560 ft^2
mph = 1 mi/h; kph kmph = 1000 m/h; oz ounce = 28.349523125 g; lb pound = 16 oz; gal gallon = 3.785411784 L
qt quart = 1/4 gal; pt pint = 1/2 qt; cup = 1/2 pt; tbsp tablespoon = 1/16 cup; tsp teaspoon = 1/3 tbsp
°C celsius C ° deg degree = 1 degC; °F fahrenheit F ° deg degree = 1 degF
dollar USD = $; cent ¢ = 1/100 $; euro EUR = €; cent = 1/100 €; GBP pound = £; pence penny = 1/100 £
yen JPY = ¥; rupee INR = ₹; byte = B; bit = 1/8 B
"""
_PREFIXES = {"k": 3, "M": 6, "G": 9, "T": 12, "c": -2, "d": -1, "m": -3, "μ": -6, "u": -6, "n": -9, "p": -12}
_WITH_PREFIX = "m g s A K mol B L l N J W V C F T Ω H S Hz Pa eV cal Wh bar M"
_LONG_PREFIXES = {"kilo": 3, "mega": 6, "giga": 9, "tera": 12, "centi": -2, "deci": -1, "milli": -3, "micro": -6}
_LONG_PREFIXES |= {"hecto": 2, "nano": -9, "pico": -12}
_WITH_LONG_PREFIX = (
    "meter metre gram gramme second ampere amp mole liter litre joule watt volt ohm hertz pascal newton calorie byte "
    "electronvolt tesla farad coulomb"
)
_OTHERWISE = ("pm", "dB")
"""What looks like a prefix and a unit, and is something else."""


@lru_cache(maxsize=1)
def _table() -> _Table:
    """The meanings of each name."""
    table: _Table = {name: frozenset({Unit(powers=frozenset({(name, 1)}))}) for name in _BASES.split()}
    for definition in re.split(r"[;\n]\s*", _DEFINITIONS.strip()):
        names, _, worth = definition.partition(" = ")
        factor, _, unit = worth.rpartition(" ")
        meanings = _scaled(Fraction(factor or 1), _product(unit, table))
        table |= {name: table.get(name, frozenset()) | meanings for name in names.split()}
    for prefixes, names in ((_PREFIXES, _WITH_PREFIX), (_LONG_PREFIXES, _WITH_LONG_PREFIX)):
        for (prefix, power), name in product(prefixes.items(), names.split()):
            if prefix + name not in _OTHERWISE:
                table.setdefault(prefix + name, _scaled(Fraction(10) ** power, table[name]))
    return table


def _scaled(factor: Fraction, meanings: Iterable[Unit]) -> Meanings:
    return frozenset(Unit(factor).times(unit) for unit in meanings)


# ---------------------------------------------------------------- reading
_NAME = r"[A-Za-zμΩ°]+\.?|[$€£¥₹¢'\"]"
_TOKEN = re.compile(
    r"\s*(?:(?P<over>/|per\b)|(?P<open>\()|(?P<close>\))|(?P<before>(?:square|sq|cubic|cu)(?![a-z])\.?)|"
    rf"(?P<name>{_NAME})(?P<power>\s*\^-?\d|\s+(?:squared|cubed)\b)?|[·*.-])\s*"
)
_POWERS = {"sq": 2, "cu": 3}


def _product(text: str, table: _Table) -> Meanings:
    """What a text of units, such as kg·m/s^2 or miles per hour, may mean; nothing where a part of it is not known."""
    meanings, sign, of_group, size, at = frozenset({Unit()}), 1, 1, 1, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            return frozenset()
        at = token.end()
        if token["over"]:
            sign = -1
        elif token["open"]:
            of_group, sign = sign, 1
        elif token["close"]:
            of_group = 1
        elif token["before"]:
            size = _POWERS[token["before"][:2]]
        elif token["name"]:
            power = (token["power"] or "").strip(" ^")
            n = (_POWERS[power[:2]] if power.isalpha() else int(power or 1)) * size * sign * of_group
            meanings = frozenset(a.times(b, n) for a, b in product(meanings, _meanings(token["name"], table)))
            sign = size = 1
    return meanings - {Unit()}


def _meanings(name: str, table: _Table) -> Meanings:
    name = name.rstrip(".")
    spellings = [name, name.lower()] if len(name) > 3 else [name]
    spellings += [spelling[:-1] for spelling in spellings if len(spelling) > 2 and spelling.endswith("s")]
    return next((table[spelling] for spelling in spellings if spelling in table), frozenset())


_MARKED = re.compile(r"\\(?:text\w*|mathrm|mbox|hbox|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*((?!\d)[^{}]*)\}\s*\{\s*((?!\d)[^{}]*)\}")
_SIGNS = {r"\cdot": "·", r"\Omega": "Ω", r"\mu": "μ", r"\degree": "°", r"^\circ": "°", r"^{\circ}": "°"}
_BLANK = re.compile(
    r"\\[,;:! ]|~|\\(?:left|right)\b|(?<=°)\s+(?=[CFK]\b)|(?i:\bdegrees?\s+(?=celsius|fahrenheit|[CF]\b))"
)
_SCALE = re.compile(r"(?<=\d)\s*(?:hundred|thousand|million|billion|trillion)\b", re.I)
_TAIL = re.compile(r"(?:[\d})!]|\\pi)\s*(?=[A-Za-zμΩ°'\"/])((?:[A-Za-zμΩ°'\"/·*().\s]|\^-?\d)*?)[\s.]*$")
_CURRENCY = re.compile(r"^[\s\\($-]*?(\$|[€£¥₹]|USD|EUR|GBP|INR|JPY)|([€£¥₹¢]|USD|EUR|GBP|INR|JPY|\\\$)[\s$).\\]*$")


@lru_cache(maxsize=4096)
def _units_of(answer: str) -> Meanings:
    """What the unit at the end of an answer, or a currency before it, may mean; nothing where there is none."""
    currency = _CURRENCY.search(answer)
    sign = "" if not currency or (currency[1] == "$" and _is_delimiter(answer)) else (currency[1] or currency[2])
    text = as_latex(answer).replace("\\$", " ").replace("$", " ")
    for _ in range(2):
        text = _MARKED.sub(r" \1 ", text)
    for written, meant in _SIGNS.items():
        text = text.replace(written + " ", meant).replace(written, meant)
    text = _BLANK.sub(" ", re.sub(r"\^\s*\{\s*(-?\d)\s*\}", r"^\1", text)).replace("° ", "°")
    tail = _TAIL.search(_SCALE.sub("", _FRACTION.sub(r" \1/(\2)", text)))
    unit = tail[1].partition(" of ")[0].strip() if tail else ""
    if sign:
        unit = sign.lstrip("\\") + (unit if re.match(r"/|per\b", unit) else "")
    return _product(unit, _table())


def _is_delimiter(answer: str) -> bool:
    """Whether a $ stands around a formula, and not before a price."""
    return answer.count("$") - answer.count(r"\$") > 1


def ratio(answer: str, right: str) -> Fraction | None:
    """What one of the answer's unit is worth in that of the other: 1000 for km and m, 0 for km and kg.

    None where one of them has no unit that is known, which may stand in the problem.
    """
    ours, theirs = _units_of(answer), _units_of(right)
    if not ours or not theirs:
        return None
    ratios = [a.factor / b.factor for a, b in product(ours, theirs) if a.powers == b.powers]
    return Fraction(1) if 1 in ratios else max(ratios, default=Fraction(0))
