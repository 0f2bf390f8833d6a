"""Answers on a terminal: the answer on stdout, the reasoning on stderr, words in their author's style."""

from __future__ import annotations

import sys
from typing import IO, Any, ClassVar

import click

from ..method.reasoning import ReasoningSplitter, ReasoningTags
from ..method.roles import Role
from ..method.tokens import FinishReason, Token
from ..results import Result


class AnswerPrinter:
    """Prints one response as it is written: the answer on stdout, the reasoning on stderr and dim.

    tags: what stands around the reasoning
    color: words coloured by author, the leader's bold; None: on a terminal
    show_reasoning: print the reasoning, too
    """

    STYLES: ClassVar[dict[Role, dict[str, Any]]] = {
        Role.LEADER: {"fg": "cyan", "bold": True},
        Role.DRAFT: {"fg": "yellow"},
    }

    def __init__(self, tags: ReasoningTags, color: bool | None, show_reasoning: bool) -> None:
        self._splitter = ReasoningSplitter(tags)
        self._color, self._show_reasoning = color, show_reasoning
        self._last: tuple[bool, bool] | None = None  # whether the last text was reasoning, and ended its line
        self._author = Role.LEADER

    def feed(self, tokens: list[Token]) -> None:
        for token in tokens:
            self._author = token.author
            for thinking, text in self._splitter.feed(token.text):
                self._print(thinking, text)

    def end(self) -> None:
        for thinking, text in self._splitter.rest():
            self._print(thinking, text)
        if self._last is None or self._last[0]:
            self._break_line()
            click.echo("")  # an answer line of its own, even when it is empty
        elif not self._last[1]:
            click.echo("")

    def _print(self, thinking: bool, text: str) -> None:
        if self._last is None or self._last[0] != thinking:
            text = text.lstrip("\n")
            if not text:
                return
            self._break_line()
        if thinking and not self._show_reasoning:
            return
        style = dict(self.STYLES[self._author])
        if thinking:
            style |= {"dim": True, "bold": False, "underline": self._author is Role.LEADER}
        click.echo(self._styled(text, style, thinking), nl=False, err=thinking, color=self._color)
        (sys.stderr if thinking else sys.stdout).flush()
        self._last = (thinking, text.endswith("\n"))

    def _styled(self, text: str, style: dict[str, Any], thinking: bool) -> str:
        stream: IO[str] = sys.stderr if thinking else sys.stdout
        coloured = stream.isatty() if self._color is None else self._color
        return click.style(text, **style) if coloured else text

    def _break_line(self) -> None:
        if self._last is not None and not self._last[1]:
            click.echo("", err=self._last[0])


def heading_of(text: str) -> str:
    """A prompt in a line; of a long one its end, where a question about a document stands."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"… {line[-150:]}"


def ending_of(result: Result) -> str | None:
    """How a response was ended before its models ended it; None where its answer ended, at a stop text too."""
    reason, name, where = result.finish_reason, f"prompt {result.id}", result.submission.prompt.where
    inside = " inside the reasoning" if result.ends_inside_reasoning else ""
    after = f"after {len(result.tokens)} tokens{inside}"
    if reason is FinishReason.ERROR:
        return f"{name}{f' ({where})' if where else ''} failed: {result.error}"
    if reason is FinishReason.CONTEXT:
        return f"{name}: the context is full {after}: raise --ctx-size"
    if reason is FinishReason.LENGTH:
        return f"{name}: ended by --max-tokens {after}"
    if result.stopped_by is not None and inside:
        return f"{name}: ended at the stop text {result.stopped_by!r} {after}"
    return None
