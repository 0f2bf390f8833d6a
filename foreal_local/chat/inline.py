"""Markdown inside of a line: bold, italics, struck out, code; mathematics is left as it is.

Read while the line is written: `settle` tells the part that no later character can change. Rules are stricter than
CommonMark's where answers of models have stars and underscores that mark nothing: in `2*3*4`, `x**2`, `__init__`.
"""

from __future__ import annotations

import re

BOLD, ITALIC, STRIKE, CODE = "bold", "italic", "strike", "code"
Part = tuple[int, int, tuple[str, ...]]
"""From, to, and the marks of what stands between."""
_MARKED = {"*": (ITALIC, BOLD, BOLD + ITALIC), "_": (ITALIC, BOLD, BOLD + ITALIC), "~": ("", STRIKE, "")}
_SPECIAL = re.compile(r"[\\`*_~$]")
_RUN = re.compile(r"\\.|(`+)[^`](?:.*?[^`])?\1(?!`)|(?P<open>`+)|(?P<mark>[*_~])(?P=mark)*", re.DOTALL)
_MATHS = {"(": r"\)", "[": r"\]"}
_LONGEST = 400
"""Characters after which a mark that nothing closes is text: so much is held back at most."""


def settle(text: str, begin: int, final: bool, ticks: bool = False) -> tuple[list[Part], int]:
    """The parts of a line from `begin` on, and how far they reach: what is behind that depends on what follows.

    final: nothing follows
    ticks: backticks stay, where code cannot be shown otherwise
    """
    parts: list[Part] = []
    at = begin
    while at < len(text):
        match = _SPECIAL.search(text, at)
        end = match.start() if match else len(text)
        if end > at:
            parts.append((at, end, ()))
            at = end
            continue
        found = _marked(text, at, final or len(text) - at > _LONGEST, ticks)
        if found is None:
            break
        parts += found[0]
        at = found[1]
    return parts, at


def _marked(text: str, at: int, final: bool, ticks: bool) -> tuple[list[Part], int] | None:
    """The parts that the mark at this place makes, and where they end; None where that is not known yet."""
    char = text[at]
    if char == "\\":
        return _escaped(text, at, final)
    end = at
    while end < len(text) and text[end] == char:
        end += 1
    if end == len(text) and not final:
        return None
    if char == "`":
        return _code(text, at, end, final, ticks)
    if char == "$":
        return _dollars(text, at, end, final)
    return _emphasis(text, at, end, final, ticks)


def _escaped(text: str, at: int, final: bool) -> tuple[list[Part], int] | None:
    if at + 1 == len(text):
        return ([(at, at + 1, ())], at + 1) if final else None
    char = text[at + 1]
    if char in _MATHS:
        return _literal(text, at, at + 2, text.find(_MATHS[char], at + 2), 2, final)
    if char in "*_`~#|$":
        return [(at + 1, at + 2, ())], at + 2
    return [(at, at + 2, ())], at + 2


def _literal(text: str, at: int, begin: int, end: int, n: int, final: bool) -> tuple[list[Part], int] | None:
    """All up to a closing mark of n characters at `end` as it is; where there is none, the opening mark alone."""
    if end < 0:
        return ([(at, begin, ())], begin) if final else None
    return [(at, end + n, ())], end + n


def _code(text: str, at: int, end: int, final: bool, ticks: bool) -> tuple[list[Part], int] | None:
    n = end - at
    match = re.compile(rf"(?<!`)`{{{n}}}(?!`)").search(text, end)
    if match is None or (match.end() == len(text) and not final):
        return ([(at, end, ())], end) if final else None
    begin, stop = end, match.start()
    if stop - begin > 2 and text[begin] == text[stop - 1] == " ":
        begin, stop = begin + 1, stop - 1
    return [(at, match.end(), (CODE,)) if ticks else (begin, stop, (CODE,))], match.end()


def _dollars(text: str, at: int, end: int, final: bool) -> tuple[list[Part], int] | None:
    """Mathematics between dollars: they touch it, and no digit follows, so that prices are none."""
    n = end - at
    if n > 2 or end == len(text) or text[end].isspace() or _is_word(text, at - 1):
        return [(at, end, ())], end
    match = re.compile(rf"(?<![\s\\$])\${{{n}}}(?![\d$])").search(text, end + 1)
    if match and match.end() == len(text) and not final:
        return None
    return _literal(text, at, end, match.start() if match else -1, n, final)


def _emphasis(text: str, at: int, end: int, final: bool, ticks: bool) -> tuple[list[Part], int] | None:
    n, char = end - at, text[at]
    mark = _MARKED[char][n - 1] if n <= 3 else ""
    before = text[at - 1] if at else " "
    if not mark or end == len(text) or text[end].isspace() or before in ")]}" or _is_word(text, at - 1):
        return [(at, end, ())], end
    close = _closer(text, end, char, n, final)
    if close is None or (close + n == len(text) and not final):
        return ([(at, end, ())], end) if final else None
    if char == "_" and n > 1 and " " not in text[end:close]:
        return [(at, close + n, ())], close + n  # a name of Python: __init__
    marks = (BOLD, ITALIC) if mark == BOLD + ITALIC else (mark,)
    inner, _ = settle(text[:close], end, True, ticks)
    return [(begin, stop, (*marks, *more)) for begin, stop, more in inner], close + n


def _closer(text: str, begin: int, char: str, n: int, final: bool) -> int | None:
    """Where the marks are closed; marks inside of code are none, and it may still be closed."""
    for match in _RUN.finditer(text, begin):
        if match["open"] and not final:
            return None
        if match["mark"] != char or len(match[0]) != n:
            continue
        if not text[match.start() - 1].isspace() and not _is_word(text, match.end()):
            return match.start()
    return None


def _is_word(text: str, at: int) -> bool:
    """Whether a letter of an alphabet, or a digit, stands here: scripts without spaces have words at any place."""
    return 0 <= at < len(text) and text[at].isalnum() and text[at] < "\u2e80"
