"""Reasoning and answer of a response: the tags between them, whole or while the text comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ReasoningTags:
    """What stands around the reasoning of a response.

    opening, closing: the tags
    opened: the prompt has opened the reasoning, so that the response starts inside it
    may_open: the response may open it, where a grammar says how its answer begins
    """

    opening: str = "<think>"
    closing: str = "</think>"
    opened: bool = False
    may_open: bool = field(default=True, compare=False)

    @classmethod
    def of(cls, saved: dict[str, Any]) -> ReasoningTags:
        """Tags as `asdict` has made them; an exception where they are none."""
        tags = cls(**saved)
        if not all(tag and isinstance(tag, str) for tag in (tags.opening, tags.closing)):
            raise ValueError(f"reasoning between {tags.opening!r} and {tags.closing!r}")
        return tags


TAGS: tuple[ReasoningTags, ...] = (
    ReasoningTags(),  # most models
    ReasoningTags("[THINK]", "[/THINK]"),  # Magistral, Ministral
    ReasoningTags("<seed:think>", "</seed:think>"),  # Seed-OSS
    ReasoningTags("<mm:think>", "</mm:think>"),  # MiniMax
    ReasoningTags("<thinking>", "</thinking>"),
    ReasoningTags("<reasoning>", "</reasoning>"),
    ReasoningTags("<thought>", "</thought>"),  # EXAONE Deep
    ReasoningTags("◁think▷", "◁/think▷"),  # Kimi
    ReasoningTags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ReasoningTags("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
    ReasoningTags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ReasoningTags("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""The tags that are known. The first are those of a model that tells nothing of any."""
DEFAULT_TAGS = TAGS[0]


def split_reasoning(text: str, tags: ReasoningTags) -> tuple[str, str]:
    """Reasoning and answer of a response; all is answer where no reasoning was opened."""
    before, found, rest = text.partition(tags.opening)
    begins = bool(found) and not before.strip()
    if not begins and not tags.opened:
        return "", text
    reasoning, _, answer = (rest if begins else text).partition(tags.closing)
    return reasoning.strip(), answer.strip()


def ends_inside(text: str, reasoning: str, answer: str) -> bool:
    """Whether a response's text, with these parts, ends inside its reasoning."""
    return bool(reasoning) and not answer and text.rstrip().endswith(reasoning)


def answer_in(text: str) -> str:
    """What follows the reasoning in a text of which only the text is known: what stands behind the first closing tag of
    those that it begins with, or else of any. Where there is none, nothing of a text that begins with an opening tag,
    and all of another."""
    begun = [tags for tags in TAGS if text.lstrip().startswith(tags.opening)]
    ends = [(text.find(tags.closing), tags.closing) for tags in begun or TAGS if tags.closing in text]
    at, closing = min(ends, default=(len(text) if begun else 0, ""))
    return text[at + len(closing) :]


class ReasoningSplitter:
    """The same split while the text comes: feed pieces, get (is_reasoning, text) parts.

    A piece that may be the beginning of a tag is held back until it is decided; `rest` gives it up.

    reasoned: whether there has been reasoning
    """

    def __init__(self, tags: ReasoningTags) -> None:
        self._tags = tags
        self._thinking = self.reasoned = tags.opened
        self._held = ""
        self._at_start = not tags.opened
        self._may_repeat = tags.opened  # the tag that the prompt has opened already

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return self._thinking

    @property
    def held(self) -> str:
        """What is held back: it may be the beginning of a tag."""
        return self._held

    def feed(self, text: str) -> list[tuple[bool, str]]:
        text = self._held + text
        self._held = ""
        opening, closing = self._tags.opening, self._tags.closing
        parts: list[tuple[bool, str]] = []
        if self._may_repeat and text:
            visible = text.lstrip()
            if opening.startswith(visible):
                self._may_repeat = visible != opening
                self._held = text if self._may_repeat else ""
                return parts
            self._may_repeat = False
            text = visible[len(opening) :] if visible.startswith(opening) else text
        while text:
            tag = closing if self._thinking else opening if self._at_start else ""
            if not tag:
                parts.append((False, text))
                break
            before, found, after = text.partition(tag)
            if found and (self._thinking or not before.strip()):
                if self._thinking:
                    parts.append((True, before))
                self._thinking, self._at_start, text = not self._thinking, False, after
                self.reasoned = True
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
