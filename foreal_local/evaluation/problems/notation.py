r"""One form for each way to write an answer: in LaTeX, plainly (sqrt(2)/2, 3e8, 2*pi), in Unicode (½, x², 3·10⁴).

Words become \text{word}, letters that are factors stay as they are. Knows no references and no grades.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from .characters import as_latex
from .number_words import as_digits
from .units import FUNCTIONS, TEXT, without_text_units, without_units

Rewrites = tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]


def _rewrites(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> Rewrites:
    return tuple((re.compile(pattern), new) for pattern, new in rules)


def _rewritten(text: str, rewrites: Rewrites) -> str:
    for pattern, new in rewrites:
        text = pattern.sub(new, text)
    return text


@lru_cache(maxsize=4096)
def normalised(answer: str) -> str:
    r"""An answer in one form: no styles, units, currency, "x =" or needless blanks; \frac12 as \frac{1}{2}."""
    words: list[str] = []
    text = _unstyled(_rewritten(as_latex(answer), _LAYOUT))
    text = _untexted(_rewritten(text, _ORDINALS), words)
    text = _rewritten(_with_arguments(_rewritten(text, _PLAIN)), _POWERS)
    text = _rewritten(without_units(_rewritten(text, _NUMBERS)), _FORMULAS)
    text = _rewritten(text.strip(), _BLANKS)
    return _MARK.sub(lambda match: words[ord(match[0]) - _FIRST_MARK], _with_words(text)).strip()


# ---- LaTeX: layout and styles ----

_INSIDE = r"((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)"  # of braces, with two more levels of them
_SWITCHES = (
    r"left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|bf|rm|it|sf|tt|em|bfseries|itshape|"
    r"normalsize|small|large|Large|LARGE|huge|Huge"
)
_STYLES = r"math(?:rm|bf|it|sf|tt|normal)|boldsymbol|bm|operatorname\*?|underline|uline|emph|boxed|fbox|ensuremath"
_LAYOUT = _rewrites(
    (r"(?<=[\w)}\]$])(?<!\.)\.\s*$", ""),
    (r"\\\\\s*\[[\d.]+ *[a-z]{2}\]", r"\\\\"),  # space between the rows of a matrix
    (rf"\\(?:{_SWITCHES})(?![A-Za-z])", ""),
    (r"\\(?:text)?color(?:\s*\[\w+\])?\s*\{[^{}]*\}|\\colorbox\s*\{[^{}]*\}", ""),
    (r"\\(?:label|tag|[hv]space|[hv]?phantom)\*?\s*\{[^{}]*\}", ""),
    (r"(?i)^\s*(?:about|approximately|approx\.|roughly)\s+|\s*\((?:approximately|approx\.?|rounded)\)\s*$", ""),
    (r"<sup>(.*?)</sup>", r"^{\1}"),
    (r"<sub>(.*?)</sub>", r"_{\1}"),
    (r"(?<=\d)(?:,\\!|\{,\}|\\,)\s*(?=\d{3})", ""),  # between thousands
    (r"(?<=\d)_(?=\d{3}(?!\d))", ""),
    (r"(?<![\w)\]}])\*\*([^*]+)\*\*", r"\1"),
    (r"(?<=[\w)\]}])\s*\*\*\s*(?=[\w(\\{-])", "^"),
    (r"\\!|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]|\*\*|`", ""),
    (r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|~", " "),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", "°"),
    (r"\\?%|\\?\$", " "),
    (r"^\s*(?:Rs\.?|US|USD|EUR|GBP|INR|JPY|CNY)\s*(?=[\d.])|(?<=\d)\s*(?:USD|EUR|GBP|INR|JPY|CNY|¢)\s*$", ""),
)
_STYLED = re.compile(rf"\\(?:{_STYLES})\s*\{{{_INSIDE}\}}")


def _unstyled(text: str) -> str:
    for _ in range(4):  # styles stand in one another
        text, n_styles = _STYLED.subn(r" \1 ", _kept_units(text))
        if not n_styles:
            break
    whole = re.fullmatch(rf"\s*\{{{_INSIDE}\}}\s*", text)
    return whole[1] if whole and ("," not in whole[1] or whole[1].lstrip()[0] in "([\\") else text


def _kept_units(text: str) -> str:
    r"""\mathrm{cm} at the end of a number is no style but a unit."""
    return without_text_units(text)


# ---- text ----

_ORDINALS = _rewrites(
    (
        r"(?<=\d)\s*(?:\^\s*\{\s*\\\w+\s*\{\s*O\s*\}\s*\}|\^\s*\{\s*O\s*\}|\^?\s*\\text\w*\s*\{\s*O\s*\}|\^?O(?![A-Za-z]))".replace(
            "O", "(?:st|nd|rd|th)"
        ),
        "",
    ),
)
_TEXT = re.compile(rf"{TEXT}\s*\{{{_INSIDE}\}}")
_FIRST_MARK = 0xE000  # of the private use area: no answer has them, since they have no meaning
_MARK = re.compile("[\ue000-\uf8ff]")
_NOT_ONE_WORD = re.compile(rf"\b(?:and|or|[ap]\.?\s?m|{FUNCTIONS})\b\.?", re.I)


def _marked(content: str, words: list[str]) -> str:
    """A word that was text as one character, safe from what is done to formulas; anything else without its braces."""
    if digits := as_digits(content):
        return f" {digits} "
    letters = re.sub(r"[\s.'-]", "", re.sub(r"^\s*(?:an?|the)\s+", "", content, flags=re.I))
    if not letters.isalpha() or len(letters) < 2 or _NOT_ONE_WORD.search(content):
        return f" {content} "
    words.append(_as_word(letters))
    return chr(_FIRST_MARK + len(words) - 1)


def _untexted(text: str, words: list[str]) -> str:
    for _ in range(3):  # text stands in text
        text, n_texts = _TEXT.subn(lambda match: _marked(match[1], words), without_text_units(text))
        if not n_texts:
            break
    return text


def _as_word(letters: str) -> str:
    word = letters.lower().replace("doesnotexist", "dne")
    return (
        r"\emptyset"
        if re.fullmatch(r"(?:there(?:is|are))?no(?:real)?solutions?|none|(?:the)?emptyset", word)
        else rf"\text{{{word}}}"
    )


_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z{])")

_START, _END = re.compile(r"(?:^|[,;(\[=]|\\\{)\s*$"), re.compile(r"\s*(?:$|[,;)\]=]|\\\})")  # of a list's part


def _with_words(text: str) -> str:
    r"""Words that are written without \text, with it; products of letters as they are."""

    def word(match: re.Match[str]) -> str:
        before = match.string[: match.start()]
        command = re.search(r"\\(?:triangle |begin\{|end\{|math\w+\{)$", before)
        alone = _START.search(before) and _END.match(match.string, match.end())
        if command or not _is_word(match[0], bool(alone)):
            return match[0]
        return _as_word(match[0])

    return _PLAIN_WORD.sub(word, text)


def _is_word(letters: str, alone: bool) -> bool:
    """A word, a name or an order like BAC; abc and mgh are products.

    Letters that are neighbours in the alphabet, or without a vowel, are factors.
    alone: all of an answer, or of a list's part
    """
    n, lower = len(letters), letters.lower()
    if lower in ("no", "on"):
        return alone
    neighbours = ord(max(lower)) - ord(min(lower)) <= n and len(set(lower)) == n
    if letters.isupper():
        return n > 2
    if n < 3 or (neighbours and letters.islower()):
        return False
    if letters[0].isupper() and letters[1:].islower():
        return True
    return (alone or n > 4) and bool(re.search("[aeiouy]", lower))


# ---- plain notation ----

_GREEK = "alpha|beta|gamma|delta|theta|phi|omega|lambda|mu|sigma|rho|tau"
_INVERSE = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
_PLAIN = _rewrites(
    (r"\.\.\.|\\(?:[cv]?dots[cbm]?)(?![A-Za-z])", r"\\ldots "),
    (r"(?<![A-Za-z\\])(?:pi|Pi|PI)(?=[rRdh]?(?![A-Za-z]))", r"\\pi "),
    (rf"(?<![A-Za-z\\])({_GREEK})(?![A-Za-z])", r"\\\1 "),
    (r"(?<![A-Za-z\\])(?:[Ii]nf(?:inity)?|oo)(?![A-Za-z])", r"\\infty "),
    (r"(?<![A-Za-z\\])(frac|sqrt|cdot|times|pm)(?=\s*[\[{])", r"\\\1"),
    (r"(?<![A-Za-z\\])log_?(\d+)\s*\(", r"\\log_{\1}("),
    (r"(?<![A-Za-z\\])(gcd|lcm|max|min|det)(?=\s*\()", r"\\\1"),
    (
        r"(?<![A-Za-z\\])(a(?:sin|cos|tan)|arc(?:sin|cos|tan)|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|lg|ln)"
        r"(?=\s*[(\d^_{|\\]|\s+[A-Za-z]|[xyzn](?![A-Za-z]))",
        lambda match: f"\\{_INVERSE.get(match[1], match[1])} ",
    ),
    (r"<=|\\leq(?:slant)?(?![A-Za-z])", r"\\le "),
    (r">=|\\geq(?:slant)?(?![A-Za-z])", r"\\ge "),
    (r"(?<!\d)!=|\\neq(?![A-Za-z])", r"\\ne "),
    (r"(?<=[)\]}])\s*(?:U|u|union)\s*(?=[(\[]|\\\{)", r"\\cup "),
    (r"(?<![A-Za-z\\])sqrt\s*(-?(?:\d+(?:\.\d+)?|\\pi|\\frac\{\w+\}\{\w+\}|[A-Za-z])(?![A-Za-z]))", r"\\sqrt{\1}"),
    (r"(?<![A-Za-z\\])cbrt\s*(-?(?:\d+|[A-Za-z])(?![A-Za-z]))", r"\\sqrt[3]{\1}"),
    (r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}"),
    (r"(?i)^\s*(?:all real numbers|all reals|the real numbers)\s*$", r"\\mathbb{R}"),
    (r"\\langle(?![A-Za-z])", "("),
    (r"\\rangle(?![A-Za-z])", ")"),
    (r"(?<![A-Za-z])([A-Za-z])('+|\^\{?\\prime\}?)", r"\1_{p}"),
)
_CALL = re.compile(r"\\?(?<![A-Za-z])(sqrt|cbrt|exp|abs|floor|ceil)\s*\(|(\^)\s*\(")
_CALLS = {
    "sqrt": (r"\sqrt{", "}"),
    "cbrt": (r"\sqrt[3]{", "}"),
    "exp": ("e^{", "}"),
    "abs": ("|", "|"),
    "floor": (r"\lfloor ", r"\rfloor "),
    "ceil": (r"\lceil ", r"\rceil "),
    "^": ("^{", "}"),
}


def _with_arguments(text: str) -> str:
    """sqrt(...), exp(...) and ^(...) in LaTeX, where the parentheses end."""
    start = 0
    while match := _CALL.search(text, start):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        before, after = _CALLS[match[1] or match[2]]
        start = match.start() + len(before)
        if depth == 0:
            text = f"{text[: match.start()]}{before}{text[match.end() : end - 1]}{after}{text[end:]}"
    return text


_POWERS = _rewrites(
    (r"\^\s*(-\s*(?:\d+(?:\.\d+)?|[A-Za-z])|\d+\.\d+|\d{2,})", r"^{\1}"),
    (r"\^\s*\{\s*\+?\s*(-?)\s*([^{}]*?)\s*\}", r"^{\1\2}"),
    (r"_(\d{2,})", r"_{\1}"),
    (r"\*\s*-\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\cdot (-\1)"),
    (r"(?<=[\w)}\]!|])\s*\*(?=\s*[\w(\\{|])", r"\\cdot "),
)

# ---- numbers ----

_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TRIGONOMETRIC = r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])[^,=;]*"


def _radians(match: re.Match[str]) -> str:
    r"""30° as \frac{30\pi}{180} where it is the angle of a sine, else as 30."""
    clause = re.split(r"[,=;]", match.string[: match.start()])[-1]
    return rf"\frac{{{match[1]}\pi }}{{180}}" if re.search(_TRIGONOMETRIC, clause) else f"{match[1]} "


_NUMBERS = _rewrites(
    (r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)[eE]\+?(-?\d{1,4})(?![\w.])", r"\1\\times10^{\2}"),
    (r"(?<=\d)\s*(?:[xX]|\\times)\s*(?=10\s*\^)", r"\\times"),
    (r"(?<=\d)\s+x\s+(?=\d)", r"\\times "),
    (r"(?<!\d)(\d{1,3})\s*[Cc]\s*(\d{1,3})(?!\w)", r"\\binom{\1}{\2}"),
    (rf"(?<=\d)\s*({'|'.join(_SCALES)})\b", lambda match: rf"\times10^{{{_SCALES[match[1]]}}}"),
    (r"^[A-Za-z\s-]+$", lambda match: as_digits(match[0]) or match[0]),
    (r"(?i)^\s*(?:12\s+)?noon\s*$", "12:00pm"),
    (r"(?i)^\s*(?:12\s+)?midnight\s*$", "12:00am"),
    (r"(\d+(?:\.\d+)?)\s*°", _radians),
    (r"°", " "),
    (r"(\d*\.\d*?)(\d+?)\2{2,}\s*\\ldots\s*$", r"\1\\overline{\2}"),
    (r"\\(?:bar|dot)\s*\{?(\d+)\}?", r"\\overline{\1}"),
    (r"(?<![\d.])(0\.\d*|\d+\.)\((\d+)\)", r"\1\\overline{\2}"),
    (r"(?<=\d)\s*(?:([Aa])|[Pp])\.?\s?[Mm]\b\.?", lambda match: "am" if match[1] else "pm"),
)

# ---- formulas ----

_THOUSANDS = r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?"
_NAME = (
    r"(?:[A-Za-z]|\\[a-z]+(?:\s*\{?[A-Za-z]{1,3}\}?)?|[A-Z]{2,3}|[A-Za-z]{4,}|[\ue000-\uf8ff])"
    r"(?:_\{\w+\}|_\w)?(?:\s*\([A-Za-z]\))?"
)
_BOUND = r"(?:[^\[\](){}<>,;]|\([^()]*\)|\{[^{}]*\})+"  # of an interval
_SETS = _rewrites(
    (rf"\]({_BOUND})[,;]({_BOUND})\[", r"(\1,\2)"),  # ]2, 5[ of the ISO
    (rf"\]({_BOUND})[,;]({_BOUND})\](?!\s*\[)", r"(\1,\2]"),
    (rf"(?<!\])\[({_BOUND})[,;]({_BOUND})\[", r"[\1,\2)"),
    (rf"([\[(])({_BOUND});({_BOUND})([\])])", r"\1\2,\3\4"),
    (r"(?<=\\mathbb\{R\})\s*(?:-|\\backslash|\\)\s*(?=\\\{)", r"\\setminus "),
    (
        r"^\s*\\\{\s*(\w)\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid|\||:)\s*(?=[^{}]*\1)([^{}]*(?:<|>|\\[lg]e\b|\\ne\b)[^{}]*)\\\}\s*$",
        r"\2",
    ),
)
_FORMULAS = _SETS + _rewrites(
    (r"^\s*(-?\d+)\s+(\d+)\s*/\s*(\d+)\s*$", r"\1\\frac{\2}{\3}"),
    (r"^\s*(\w)\s*>\s*([^<>,]+?)\s*\band\b\s*\1\s*(<|\\le\b)([^<>,]+)$", r"\2<\1\3\4"),
    (r"^\s*(\w)\s*\\ge\b\s*([^<>,]+?)\s*\band\b\s*\1\s*(<|\\le\b)([^<>,]+)$", r"\2\\le \1\3\4"),
    (r"(?:,\s*)?\b(?:and|or)\b", ","),
    (r"(?<![\w.^/}])(\d+)/(\d+)(?=\s+(?:[A-Za-z]|\\pi|\\sqrt)|\s*\()", r"\\frac{\1}{\2}"),  # 2/3 x
    (r"(?<![\w.^/}])([2-9]|\d\d+)/(\d+)(?=\\pi)", r"\\frac{\1}{\2}"),  # 4/3 of pi; 1/2pi may mean 1/(2pi)
    (r"\\sqrt\[(\d*[13579])\]\s*\{\s*-(\d+)\s*\}", r"-\\sqrt[\1]{\2}"),  # the real root
    (r"\\hat\s*\{?\s*\\?([ijk])(?:math)?\s*\}?", r"\1"),
    (r"\\varnothing|\\\{\s*\\\}", r"\\emptyset "),
    (r"[\[(]\s*(\\begin\{(?:array\}\{[^{}]*|matrix)\}.*\\end\{(?:array|matrix)\})\s*[\])]", r"\1"),
    (r"\{(?:[pbBV]|small)matrix\}|\{array\}(?:\s*\{[lcr| ]*\})?", "{matrix}"),
    (r"^\s*\[\s*\[(.*)\]\s*\]\s*$", lambda match: _matrix(match[1])),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\frac\s*(\w|\\pi)\s*(\w|\\pi)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\w|\\pi)\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
    (r"\\[dt]?binom\s*(\w)\s*(\w)", r"\\binom{\1}{\2}"),
    (r"\\sqrt\s*(\d+|\w)", r"\\sqrt{\1}"),
    (
        r"\\angle\s*([A-Z])([A-Z])([A-Z])(?![A-Za-z])",
        lambda match: rf"\angle {min(match[1], match[3])}{match[2]}{max(match[1], match[3])}",
    ),
    (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
    (r"^\s*\(\s*(-?\d+|[A-Za-z])\s*\)\s*$", r"\1"),
    (r"^\s*\(([A-H])\)\s*[\w\\\ue000-\uf8ff]..*$", r"\1"),  # (C) Plane
    (r"^\s*(?:\\approx|\\sim|=|\\equiv)(?![A-Za-z])|^\s*(?:an?|the)\s+(?=[a-z]{3,}\s*$)", ""),
    (r"\\pmod\s*(?:\{[^{}]*\}|\d+)\s*$|\(?\s*\\?mod\s*\{?\d+\}?\s*\)?\s*$", ""),
    (r"\\equiv(?![A-Za-z])", "="),
    (rf"^((?:[^=<>A-Za-z\\]|\\(?:frac|sqrt|pi|cdot|times|pm)(?![A-Za-z]))+)=\s*({_NAME})\s*$", r"\2=\1"),  # 5 = x
    (r"^[\d\s+*/^().!-]*\d[\d\s+*/^().!-]*=(?=[^=A-Za-z\\]*$)", ""),  # 3 + 4 = 7
    (rf"^\s*{_NAME}\s*(?:=|\\in(?![A-Za-z]))([^=]*)$", r"\1"),  # x =
    (rf"^\s*[-+]?{_THOUSANDS}\s*$|(?<=[^\\]\{{){_THOUSANDS}(?=\}})", lambda match: re.sub("[, ]", "", match[0])),
)
_BLANKS = _rewrites(
    (r"(\\[A-Za-z]+)\s+(?=[A-Za-z])", "\\1\0"),
    (r"(?<!\d)\s+|\s+(?!\d)", ""),
    ("\0", " "),
    (r",", ", "),
    (r"(?<=[A-Za-z]{3})-(?=[A-Za-z]{3})", ""),
    (r"(?<=\w)\.$|\\$", ""),
)


def _matrix(rows: str) -> str:
    cells: Iterable[str] = (row.replace(",", "&") for row in re.split(r"\]\s*,\s*\[", rows))
    return r"\begin{matrix}" + r"\\".join(cells) + r"\end{matrix}"
