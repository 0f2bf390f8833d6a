r"""How answers are stated (a box, "the answer is", ####, a letter) and written (LaTeX, units, fractions).

Finds the final answer in a text and brings it into one form. Knows no references and no grades.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from .datasets import LETTERS, Problem, last_boxed

LONGEST = 500  # characters of an answer that is read: those of MATH have up to a hundred

# ---- finding the answer ----

_TAIL = (
    r"[:*\s]*(?:the (?:\w+ )?answer is\b[:*\s]*)?"  # Final answer: The final answer is 12.
    r"(?:(?:therefore|thus|then|simply|about|approximately|exactly|equal to|option|choice)[,:]?\s+)*"
    r"(?:(?:\\\[|\$\$)(?P<display>.+?)(?:\\\]|\$\$)|(?P<line>[^\n]+))"
)
_HEADING, _HASHES = r"^[#* \t]*(?:final )?answer[* \t]*$", r"\#{4}(?![^\n]*\banswer\b)"
_STATED = re.compile(rf"(?:{_HEADING}|{_HASHES}|\banswer\b[^\n.:]{{0,60}}?(?:\bis\b|:)){_TAIL}", re.I | re.M | re.S)
_STATED_CHOICE = re.compile(rf"\b(?:correct|right|best) (?:option|choice) is{_TAIL}", re.I | re.S)
_REMARK = re.compile(r"(?:also|clear|consistent|correct|incorrect|not|right|wrong|valid)\b", re.I)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_MOST_WORDS = 12  # of a stated answer: more is a remark on the answer
_SENTENCE_END = re.compile(r"[.;](?=\s|$)|,?\s+(?:because|since|as|so|where|which|after)\b")


def final_answer(text: str, problem: Problem) -> str | None:
    """The last box that is not empty, else the last answer stated in words, else all if that is just an answer."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    stated = list(_STATED.finditer(text))
    if problem.kind == "choice":
        stated += _STATED_CHOICE.finditer(text)
    for match in sorted(stated, key=lambda match: match.start(), reverse=True):
        answer = _SENTENCE_END.split(_plain(match["display"] or match["line"]), maxsplit=1)[0]
        if _plain(answer) and not _REMARK.match(answer) and len(_WORD.findall(answer)) <= _MOST_WORDS:
            return _plain(answer)
    text = _plain(text)
    if problem.kind == "choice":
        last = _plain(text.rpartition("\n")[2])
        return last if _LETTER.fullmatch(last) else None
    return text if len(text) <= LONGEST and number(normalised(text)) is not None else None


def _plain(text: str) -> str:
    """Text without blanks and the marks of Markdown around it."""
    return text.strip("*_` \n\t")


# ---- multiple choice ----

_LETTER = re.compile(r"(?:(?:option|choice|answer)\s+)?[(\[]?([A-Za-z])[)\]]?[.:]?", re.I)


def chosen_letter(answer: str, choices: tuple[str, ...]) -> str | None:
    r"""The letter that is meant by B, (b), B., \text{(B)}, "B) 42 m" or the text of a choice; None if unclear."""
    letters, plain = LETTERS[: len(choices)], _untagged(answer)
    whole = _LETTER.fullmatch(plain)
    if whole:
        return whole[1].upper() if whole[1].upper() in letters else None
    for form in (_bare, normalised):
        meant = [letter for letter, choice in zip(letters, choices, strict=True) if form(choice) == form(answer)]
        if len(meant) == 1:
            return meant[0]
    start = re.match(rf"(?:option |choice )?(?:\(([{letters}])\)|([{letters}])(?:[.:),]|\s+[-–(]))", plain, re.I)
    if start:
        return (start[1] or start[2]).upper()
    named = set(re.findall(rf"\(([{letters}])\)", plain))
    return named.pop() if len(named) == 1 else None


def _untagged(text: str) -> str:
    return _plain(re.sub(r"\\(?:text(?:bf|rm)?|mathrm|mathbf|boldsymbol)\s*\{([^{}]*)\}|[$*`]", r"\1", text))


def _bare(text: str) -> str:
    """A choice without styles and blanks, its units kept: 10 km is not 10 kg."""
    return re.sub(r"\s|\\[,;!]|~|\.$", "", _untagged(text)).lower()


# ---- one form for each way to write an answer ----

_NO_UNIT = r"(?:[ei]\b|and|or|mod|arc\w+|cos|cot|csc|exp|log|ln|sec|sin|sqrt|tan|[ap]\.?\s?m)\b"
_UNIT = r"(?:[A-Za-z]{3}|[ck]?m\b|mm|k?g\b|ft|lb)[A-Za-z /.]*"
_SQUARED = r"(?:\s*\^\s*\{?[23]\}?)?"
_THOUSANDS = r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?"
_INSIDE = r"((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)"  # of braces, with two more levels of them
_STYLES = r"text(?:bf|rm|it|normal)?|math(?:rm|bf|it)|boldsymbol|mbox|operatorname"
_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?<=[\w)}\]$])\.\s*$", ""),
        (r"\\\\\s*\[[\d.]+ *[a-z]{2}\]", r"\\\\"),  # space between the rows of a matrix
        (r"²", "^2"),
        (r"³", "^3"),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle)(?![A-Za-z])", ""),
        (r"(?<=\d)(?:,\\!|\{,\}|\\,)\s*(?=\d{3})", ""),  # between thousands
        (r"\\!|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]|[*`]{2}", ""),
        (r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|~", " "),
        (r"\\?%|\\?\$|[€£]|\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])|°", " "),
        (rf"(?<=[\w}})])\s*\\(?:text|mbox|textrm|mathrm)\s*\{{\s*(?!\s|{_NO_UNIT})[^{{}}\d]*\}}{_SQUARED}[\s.]*$", ""),
        (rf"\\(?:{_STYLES})\s*\{{{_INSIDE}\}}", r" \1 "),
        (rf"(?:(?<=\d)|(?:(?<=\}})|(?<=\\pi))(?!\s+\w{{3}}$))\s+(?!{_NO_UNIT}){_UNIT}{_SQUARED}\s*$", ""),
        (r"^\s*(-?\d+)\s+(\d+)\s*/\s*(\d+)\s*$", r"\1\\frac{\2}{\3}"),
        (r"(?:,\s*)?\b(?:and|or)\b", ","),
        (r"−|–", "-"),
        (r"π", r"\\pi "),
        (r"∞", r"\\infty "),
        (r"≤|<=|\\leq(?:slant)?(?![A-Za-z])", r"\\le "),
        (r"≥|>=|\\geq(?:slant)?(?![A-Za-z])", r"\\ge "),
        (r"∪", r"\\cup "),
        (r"\\varnothing|∅", r"\\emptyset "),
        (r"\\(?:c?dots|\.\.\.)(?![A-Za-z])", r"\\ldots "),
        (r"\{[pb]matrix\}", "{matrix}"),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\w|\\pi)\s*(\w|\\pi)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\w|\\pi)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
        (r"^\s*\(\s*(-?\d+|[A-Za-z])\s*\)\s*$", r"\1"),
        (r"^\s*\(([A-H])\)\s*[\w\\]..*$", r"\1"),  # (C) Plane
        (r"^\s*(?:\\approx|\\sim)(?![A-Za-z])|\\pmod\s*\{[^{}]*\}\s*$|^\s*(?:an?|the)\s+(?=[a-z]{3,}\s*$)", ""),
        (r"^\s*(?:[A-Za-z]|\\[a-z]+)(?:_\w|\([a-z]\))?\s*(?:=|\\in(?![A-Za-z]))([^=]*)$", r"\1"),  # x =
        (rf"^\s*[-+]?{_THOUSANDS}\s*$|(?<=[^\\]\{{){_THOUSANDS}(?=\}})", lambda match: re.sub("[, ]", "", match[0])),
        (r"(\\[A-Za-z]+)\s+(?=[A-Za-z])", "\\1\0"),
        (r"(?<!\d)\s+|\s+(?!\d)", ""),
        ("\0", " "),
        (r",", ", "),
        (r"(?<=\w)\.$|\\$", ""),
    )
)


@lru_cache(maxsize=4096)
def normalised(answer: str) -> str:
    r"""An answer in one form: no styles, units, currency, "x =" or needless blanks; \frac12 as \frac{1}{2}."""
    for pattern, new in _REWRITES:
        answer = pattern.sub(new, answer)
    answer = answer.strip()
    return answer.lower() if answer.isalpha() else answer


_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d+(?:\.\d*)?|\.\d+)?"
    r"(?:/(?P<below>\d+)|\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>\d+)\}|\\overline\{(?P<period>\d+)\})?"
)


def number(plain: str) -> Fraction | None:
    r"""What a normalised answer is worth if it is a plain number: 7, -3.5, 7/2, 3\frac{1}{2}, 0.\overline{3}."""
    match = _NUMBER.fullmatch(plain)
    if not match or not (match["whole"] or match["top"]):
        return None
    value = Fraction(match["whole"] or 0)
    try:
        if match["below"]:
            value /= int(match["below"])
        elif match["top"]:
            value += Fraction(int(match["top"]), int(match["bottom"]))
        elif match["period"]:
            n_places = len(match["whole"].partition(".")[2])  # 0.08\overline{3}
            value += Fraction(int(match["period"]), 10**n_places * (10 ** len(match["period"]) - 1))
    except ZeroDivisionError:
        return None
    return -value if match["sign"] == "-" else value
