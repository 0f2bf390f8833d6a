"""One message of a conversation, and a conversation as the prompt that models read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..method.reasoning import DEFAULT_TAGS, ReasoningTags, split_reasoning
from ..method.roles import Role
from ..runtime.messages import Messages


@dataclass
class Message:
    """One message.

    role: "user" or "assistant"
    content: its text; of an answer, the reasoning in its tags too
    spans: of an answer, who wrote how many characters, part by part
    finish_reason: of an answer, how it ended
    tags: of an answer, those around its reasoning
    """

    role: str
    content: str
    spans: list[tuple[str, int]] = field(default_factory=list)
    finish_reason: str | None = None
    tags: ReasoningTags = DEFAULT_TAGS

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Message:
        """A message as `asdict` has made it; version 0.1.0 knows one pair of tags. An exception where it is none."""
        spans = [(str(Role(author)), int(n)) for author, n in saved["spans"]]
        message = cls(**{**saved, "spans": spans, "tags": ReasoningTags.of(saved.get("tags", {}))})
        if message.role not in ("user", "assistant") or not isinstance(message.content, str):
            raise ValueError(f"a message of {message.role!r}")
        return message

    @property
    def parts(self) -> tuple[str, str]:
        """Of an answer, its reasoning and the answer itself."""
        return split_reasoning(self.content, self.tags)


def with_question(messages: list[Message]) -> Messages:
    """The messages as a prompt: behind an answer comes a question."""
    return as_dicts([*messages, Message("user", ".")] if messages[-1].role == "assistant" else messages)


def as_dicts(messages: list[Message]) -> Messages:
    return [{"role": message.role, "content": message.content} for message in messages]
