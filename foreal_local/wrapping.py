"""Texts broken into lines between words, so that a file's name in them can be copied."""

from __future__ import annotations

import textwrap


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text; a word that is longer than a line stands whole."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
