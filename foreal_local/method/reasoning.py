"""Reasoning and answer of a response: the tags between them, whole or while the text comes."""

from __future__ import annotations

THINK, END_THINK = "<think>", "</think>"


def split_reasoning(text: str, starts_thinking: bool) -> tuple[str, str]:
    """Reasoning and answer of a response; all is answer where no reasoning was opened."""
    before, tag, rest = text.partition(THINK)
    if tag and not before.strip():
        text, starts_thinking = rest, True
    if not starts_thinking:
        return "", text
    reasoning, _, answer = text.partition(END_THINK)
    return reasoning.strip(), answer.strip()


class ReasoningSplitter:
    """The same split while the text comes: feed pieces, get (is_reasoning, text) parts.

    A piece that may be the beginning of a tag is held back until it is decided; `rest` gives it up.
    """

    def __init__(self, starts_thinking: bool) -> None:
        self._thinking = starts_thinking
        self._held = ""
        self._at_start = not starts_thinking
        self._may_repeat = starts_thinking  # the tag that the prompt has opened already

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return self._thinking

    def feed(self, text: str) -> list[tuple[bool, str]]:
        text = self._held + text
        self._held = ""
        parts: list[tuple[bool, str]] = []
        if self._may_repeat and text:
            visible = text.lstrip()
            if THINK.startswith(visible):
                self._may_repeat = visible != THINK
                self._held = text if self._may_repeat else ""
                return parts
            self._may_repeat = False
            text = visible[len(THINK) :] if visible.startswith(THINK) else text
        while text:
            tag = END_THINK if self._thinking else THINK if self._at_start else ""
            if not tag:
                parts.append((False, text))
                break
            before, found, after = text.partition(tag)
            if found and (self._thinking or not before.strip()):
                if self._thinking:
                    parts.append((True, before))
                self._thinking, self._at_start, text = not self._thinking, False, after
                continue
            keep = _tag_beginning(text, tag)
            if self._at_start and text[: len(text) - keep].strip():
                self._at_start = False
                continue
            if self._at_start:  # white space that a tag may follow
                self._held = text
                break
            parts.append((True, text[: len(text) - keep]))
            self._held = text[len(text) - keep :]
            break
        return [(thinking, part) for thinking, part in parts if part]

    def rest(self) -> list[tuple[bool, str]]:
        held, self._held = self._held, ""
        return [(self._thinking, held)] if held else []


def _tag_beginning(text: str, tag: str) -> int:
    """How many characters at the end of the text could begin the tag."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return size
    return 0
