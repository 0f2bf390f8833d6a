"""Code in colours, line by line while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygments.lexer import Lexer

KEYWORD, STRING, NUMBER, SOFT, PLAIN = "keyword", "string", "number", "soft", "plain"
_MOST_LINES = 50
"""Lines of a block that are read for the colours of its last one."""


def lexer_for(language: str) -> Lexer | None:
    """What reads a language, by the name behind a fence; None for one that is not known."""
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language.strip("{.}").lower(), stripnl=False) if language else None
    except ClassNotFound:
        return None


def last_line(lexer: Lexer, lines: list[str]) -> list[tuple[str, str]]:
    """The last of these lines of code, in parts with their marks."""
    code = "\n".join(lines[-_MOST_LINES:])
    begin, at = code.rfind("\n") + 1, 0
    parts = []
    for kind, text in lexer.get_tokens(code):
        shown = text[max(0, begin - at) :].rstrip("\n") if at + len(text) > begin else ""
        at += len(text)
        if shown:
            parts.append((shown, _mark(kind)))
    return parts if "".join(text for text, _ in parts) == code[begin:] else [(code[begin:], PLAIN)]


def _mark(kind: object) -> str:
    from pygments.token import Comment, Keyword, Literal, Name, Number, String

    table = (
        (Comment, SOFT),
        (Keyword, KEYWORD),
        (Name.Tag, KEYWORD),
        (String, STRING),
        (Number, NUMBER),
        (Literal, STRING),
    )
    return next((mark for each, mark in table if kind in each), PLAIN)
