"""Messages of a conversation, as they are given: a role and a text each; and prompts that are tokens already. Knows no
template and no vocabulary.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import UsageError
from ..settings import MOST_LEVELS, is_shallow, shown

Messages = list[dict[str, str]]


class TokenIds(tuple[int, ...]):
    """A prompt that is tokens already, in the ids of the leader; no chat template is put around it."""


PromptContent = str | Messages | TokenIds
"""What a prompt is: a text (one message of the user), messages, or tokens."""


SYSTEM_ROLES = ("system", "developer")
"""Who may say how the models shall answer. Newer interfaces call the system the developer."""

_TEXT_PARTS = ("text", "input_text", "output_text")
_ROLE = re.compile(r"[A-Za-z][\w-]*")


def as_messages(value: Any) -> Messages:
    """Messages from a JSON value; a content that is a list of text parts becomes one text, a part a line.

    UsageError where something is no message, and where a part is no text: it names the part's type.
    """
    if not isinstance(value, list) or not value:
        raise UsageError("`messages` must be a list of objects with `role` and `content`")
    return [_message(each) for each in value]


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
        raise UsageError(f"a message needs `role` and `content`, both texts: {shown(message)}")
    role, content = message["role"], message["content"]
    if not is_shallow(message):
        raise UsageError(f"a message has more than {MOST_LEVELS} lists and objects in each other")
    if not _ROLE.fullmatch(role):  # it stands in the prompt, beside the template's control tokens
        raise UsageError(
            f"the role of a message is {shown(role)}, but must be a word such as user, assistant or system"
        )
    if isinstance(content, list):
        content = "\n".join(_text_of(part) for part in content)
    if not isinstance(content, str):
        raise UsageError(f"a message needs `role` and `content`, both texts: {shown(message)}")
    return {**message, "content": content}


def _text_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _TEXT_PARTS:
        what = f"of type {shown(kind)}" if kind is not None else shown(part)
        raise UsageError(f"a part of a message's content is {what}: the models read text alone ({{'type': 'text'}})")
    if not isinstance(part.get("text"), str):
        raise UsageError(f"a part of a message's content has no `text`: {shown(part)}")
    return str(part["text"])


def unused_character(text: str) -> str:
    """A character for private use that the text does not have."""
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
