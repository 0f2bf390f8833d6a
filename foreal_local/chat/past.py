"""Earlier messages: the last answer of a loaded conversation on the screen, and all of a conversation as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ..method.roles import Role
from .conversation import Conversation, Message
from .screen import Screen


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
            screen.paragraph(f">>> {message.content}")
        else:
            _show_again(message, screen)


def _show_again(message: Message, screen: Screen) -> None:
    """Show an answer without its reasoning, in its authors' styles."""
    visible = message.parts[1].rstrip()
    spans, end = [], len(message.content)
    for author, n in reversed(message.spans):
        spans.append((Role(author), message.content[max(0, end - n) : end]))
        end -= n
    n_surplus = len(message.content) - len(message.content.rstrip())
    keep = len(visible) + n_surplus
    shown: list[tuple[Role, str]] = []
    for role, text in spans:
        shown.append((role, text[-keep:] if keep < len(text) else text))
        keep -= len(text)
        if keep <= 0:
            break
    for role, text in reversed(shown if visible else []):
        screen.words(text, role, thinking=False)
    screen.end_line()


def short(text: str) -> str:
    """A text in one line of 60 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def markdown(messages: list[Message]) -> Iterator[str]:
    """A conversation as Markdown, piece by piece."""
    for message in messages:
        if message.role == "user":
            yield f"## {short(message.content)}\n\n{message.content}\n\n"
            continue
        reasoning, answer = message.parts
        if reasoning:
            yield f"<details><summary>Reasoning</summary>\n\n{reasoning}\n\n</details>\n\n"
        yield f"{answer}\n\n" + ("*(stopped)*\n\n" if message.finish_reason == "cancelled" else "")
