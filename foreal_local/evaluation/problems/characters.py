r"""Unicode in answers, as LaTeX: ½ is \frac{1}{2}, x² is x^{2}, ≤ is \le, 𝑥 and ｘ are x.

Knows characters and nothing that is written with them.
"""

from __future__ import annotations

import re
import unicodedata

_RAISED, _ON_THE_LINE = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣʸᵃᵇᵏᵐ", "0123456789+-()nixyabkm"
_LOWERED, _ON_THE_LINE_TOO = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₒₓₖₘₙₚₛₜᵢⱼ", "0123456789+-()aeoxkmnpstij"
_FROM_SMALL = str.maketrans(_RAISED + _LOWERED, _ON_THE_LINE + _ON_THE_LINE_TOO)

_MEANINGS = {
    "-": "−–—‐‑‒―",
    r"\times ": "×✕✖⨯",
    r"\cdot ": "·⋅∙•∗",
    "/": "÷∕",
    ":": "∶",
    r"\pm ": "±",
    r"\mp ": "∓",
    "sqrt": "√",
    "cbrt": "∛",
    r"\le ": "≤⩽≦",
    r"\ge ": "≥⩾≧",
    r"\ne ": "≠",
    r"\approx ": "≈≃",
    r"\equiv ": "≡",
    r"\infty ": "∞",
    r"\in ": "∈",
    r"\cup ": "∪",
    r"\cap ": "∩",
    r"\setminus ": "∖",
    r"\emptyset ": "∅⌀",
    r"\langle ": "⟨〈",
    r"\rangle ": "⟩〉",
    r"\lfloor ": "⌊",
    r"\rfloor ": "⌋",
    r"\lceil ": "⌈",
    r"\rceil ": "⌉",
    r"\angle ": "∠",
    r"\triangle ": "△▵",
    r"\Delta ": "∆",
    r"\to ": "→",
    r"\ldots ": "…⋯",
    "°": "º˚",
    "'": "′’‘",
    '"': "″“”",
    "%": "٪",
    ",": "、",
    ".": "。",
} | {rf"\mathbb{{{letter}}}": char for letter, char in zip("RZQNC", "ℝℤℚℕℂ", strict=True)}
_SYMBOLS = str.maketrans({char: meaning for meaning, chars in _MEANINGS.items() for char in chars})

_SMALL_GREEK = "alpha beta gamma delta epsilon zeta eta theta kappa lamda mu nu xi pi rho sigma tau phi chi psi omega"
_CAPITAL_GREEK = "Gamma Delta Theta Lamda Xi Pi Sigma Phi Psi Omega"
_GREEK = str.maketrans(
    {
        unicodedata.lookup(f"greek {size} letter {name}"): "\\" + name.replace("amda", "ambda") + " "
        for size, names in (("small", _SMALL_GREEK), ("capital", _CAPITAL_GREEK))
        for name in names.split()
    }
)


def as_latex(text: str) -> str:
    """A text without characters that LaTeX, as answers use it, does not know; no control characters either."""
    text = re.sub("\f(?=rac)|\b(?=egin|inom|oxed)", lambda match: r"\f" if match[0] == "\f" else r"\b", text)
    if not text.isascii():
        text = re.sub(r"(?<=\d)(?<!· 10)(?<![·×]10)⁰(?![⁰-⁹])", "°", text)
        text = re.sub(rf"([{_RAISED}]+)[/⁄]([{_LOWERED}]+)", _small_fraction, text)
        text = re.sub(rf"[{_RAISED}]+", lambda match: f"^{{{match[0].translate(_FROM_SMALL)}}}", text)
        text = re.sub(rf"[{_LOWERED}]+", lambda match: f"_{{{match[0].translate(_FROM_SMALL)}}}", text)
        text = re.sub(r"(?:\d[\u0304\u0305])+", lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[0])}}}", text)
        text = re.sub("[¼-¾⅐-⅞↉]", lambda match: _fraction(*unicodedata.normalize("NFKC", match[0]).split("⁄")), text)
        text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)
        text = re.sub(r"(\d+)⁄(\d+)", lambda match: _fraction(match[1], match[2]), text).translate(_GREEK)
        text = "".join(map(_one, text))
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _fraction(top: str, bottom: str) -> str:
    return rf"\frac{{{top}}}{{{bottom}}}"


def _small_fraction(match: re.Match[str]) -> str:
    return _fraction(match[1].translate(_FROM_SMALL), match[2].translate(_FROM_SMALL))


def _one(char: str) -> str:
    """A digit of any script as 0 to 9; currency as nothing, and marks that nobody sees."""
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Sc" and char != "$":
        return " "
    return "" if category in ("Cf", "Co", "Cs") else char
