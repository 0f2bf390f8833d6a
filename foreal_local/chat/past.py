"""Earlier messages: the last answer of a loaded conversation on the screen, and all of a conversation as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ..method.roles import Role
from .conversation import Conversation, Message
from .fences import closed
from .screen import Screen
from .view import TextView


def show_loaded(conversation: Conversation, screen: Screen) -> None:
    """Show how long the loaded conversation is, and its last question and answer."""
    for note in conversation.notes:
        screen.note(note)
    conversation.notes.clear()
    if not conversation.messages:
        return
    n = sum(message.role == "user" for message in conversation.messages)
    screen.note(f"a conversation of {n} question{'' if n == 1 else 's'}; the last:")
    last = conversation.messages[-2:] if conversation.messages[-1].role == "assistant" else conversation.messages[-1:]
    for message in last:
        if message.role == "user":
            question = TextView(screen, markdown=False)
            screen.words(">>> ", Role.DRAFT, thinking=False)  # in the default colour
            question.feed(message.content, Role.DRAFT, thinking=False)
            question.end()
        else:
            show_again(message, screen, screen.markdown)


def show_again(message: Message, screen: Screen, markdown: bool, reasoning: bool = False) -> None:
    """Show an answer, or its reasoning, in its authors' styles."""
    text = message.parts[0 if reasoning else 1].rstrip()
    begin = message.content.find(text) if reasoning else message.content.rfind(text)
    view = TextView(screen, markdown)
    for author, part in _authored(message, begin, begin + len(text)):
        view.feed(part, author, reasoning)
    view.end()


def _authored(message: Message, begin: int, end: int) -> Iterator[tuple[Role, str]]:
    """A part of an answer, and who wrote it; the spans end with the answer."""
    at = len(message.content) - sum(n for _, n in message.spans)
    for author, n in message.spans:
        part = message.content[max(begin, at, 0) : max(0, min(end, at + n))]
        if part:
            yield Role(author), part
        at += n


def short(text: str) -> str:
    """A text in one line of 60 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def markdown(messages: list[Message]) -> Iterator[str]:
    """A conversation as Markdown, piece by piece; a block of code that a cut has left open is closed."""
    for message in messages:
        if message.role == "user":
            yield f"## {short(message.content)}\n\n{closed(message.content)}\n\n"
            continue
        reasoning, answer = message.parts
        if reasoning:
            yield f"<details><summary>Reasoning</summary>\n\n{closed(reasoning)}\n\n</details>\n\n"
        yield f"{closed(answer)}\n\n" + ("*(stopped)*\n\n" if message.finish_reason == "cancelled" else "")
