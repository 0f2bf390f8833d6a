"""Answers on a terminal: the answer on stdout, the reasoning on stderr, words in their author's style."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import click
from wcwidth import wcswidth

from ..method.reasoning import ReasoningSplitter, ReasoningTags
from ..method.roles import Role
from ..method.tokens import FinishReason, Token
from ..palette import Palette
from ..results import Result
from ..runtime.messages import PromptContent, TokenIds
from ..wrapping import wrapped


@dataclass(frozen=True)
class Styles:
    """How texts look: the draft's are plain, the leader's in colour, or underlined on a terminal without colours.

    color: in colour; None: on a terminal
    palette: the colours
    """

    color: bool | None
    palette: Palette

    def of(self, author: Role, soft: bool = False) -> dict[str, Any]:
        """What click.style takes for an author's words in colour; soft: reasoning."""
        if author is Role.LEADER:
            return {"fg": self.palette.leader}
        return {"fg": self.palette.soft} if soft else {}

    def styled(self, text: str, author: Role, soft: bool, stream: IO[str]) -> str:
        """An author's words for this stream."""
        if self.in_colour(stream):
            return click.style(text, **self.of(author, soft))
        shows = stream.isatty() and os.environ.get("TERM") != "dumb"
        return click.style(text, underline=True) if shows and author is Role.LEADER else text

    def soft(self, text: str, stream: IO[str]) -> str:
        """A text of the program."""
        return click.style(text, fg=self.palette.soft) if stream.isatty() and self.in_colour(stream) else text

    def in_colour(self, stream: IO[str]) -> bool:
        if self.color is None:
            return stream.isatty() and os.environ.get("TERM") != "dumb"
        return self.color

    def legend(self, stream: IO[str]) -> str:
        """How the words of each author look."""
        return " ".join(self.styled(str(role), role, False, stream) for role in Role)


class AnswerPrinter:
    """Prints one response as it is written: the answer on stdout, the reasoning on stderr.

    tags: what stands around the reasoning
    styles: of the words
    show_reasoning: print the reasoning, too
    """

    def __init__(self, tags: ReasoningTags, styles: Styles, show_reasoning: bool) -> None:
        self._splitter = ReasoningSplitter(tags)
        self._styles, self._show_reasoning = styles, show_reasoning
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
            if self._last and sys.stdout.isatty() and sys.stderr.isatty():
                click.echo("", err=True)  # colours alone do not tell the answer from the reasoning
        if thinking and not self._show_reasoning:
            return
        stream: IO[str] = sys.stderr if thinking else sys.stdout
        click.echo(self._styles.styled(text, self._author, thinking, stream), nl=False, err=thinking, color=True)
        stream.flush()
        self._last = (thinking, text.endswith("\n"))

    def _break_line(self) -> None:
        if self._last is not None and not self._last[1]:
            click.echo("", err=self._last[0])


class Headings:
    """What stands before answers on a terminal, and tells those of several prompts apart. A pipe gets answers alone.

    styles: of the words
    n_prompts: there are
    quiet: nothing on stderr while the answers go elsewhere, and no legend of the styles
    tell: prints a line on stderr
    """

    def __init__(self, styles: Styles, n_prompts: int, quiet: bool, tell: Callable[[str], None]) -> None:
        self._styles, self._n_prompts, self._tell = styles, n_prompts, tell
        self._shown = sys.stdout.isatty() or (sys.stderr.isatty() and not quiet)
        self._legend = not quiet and sys.stdout.isatty()

    def show(self, index: int, content: PromptContent) -> None:
        """Before the answer to this prompt: its number and its words, as wide as the terminal at most."""
        if not self._shown:
            return
        stream = sys.stderr if sys.stderr.isatty() else sys.stdout
        if self._legend and (legend := self._styles.legend(sys.stdout)) != "leader draft":
            self._print(legend, stream)
        self._legend = False
        if self._n_prompts > 1:
            line = _heading(f"[{index + 1}/{self._n_prompts}]", _words_of(content))
            self._print("\n" * bool(index) + self._styles.soft(line, stream), stream)

    def _print(self, line: str, stream: IO[str]) -> None:
        if stream is sys.stderr:
            self._tell(line)
        else:
            click.echo(line, color=True)


def _words_of(content: PromptContent) -> str:
    """What a prompt asks last."""
    if isinstance(content, TokenIds):
        return " ".join(map(str, content))
    return content if isinstance(content, str) else content[-1]["content"]


def _heading(number: str, text: str) -> str:
    """A prompt in one line of the terminal: how it begins; of a document its end, where a question about it stands."""
    words, room = " ".join(text.split()), shutil.get_terminal_size().columns - 1
    if wcswidth(line := f"{number} {words}") <= room:
        return line
    if len(words) > _DOCUMENT:
        words = words[-room:]
        while words and wcswidth(f"{number} … {words}") > room:
            words = words[1:].lstrip()
        return f"{number} … {words}"
    while line and wcswidth(line) > room - 1:
        line = line[:-1]
    return f"{line}…"


_DOCUMENT = 160
"""Characters of a prompt that is taken for a document with a question behind it."""


def print_rows(rows: list[tuple[str, str]], styles: Styles) -> None:
    """Print a table of labels and texts on stderr, as wide as the terminal at most."""
    width = max(len(label) for label, _ in rows)
    columns = shutil.get_terminal_size().columns - width - 3 if sys.stderr.isatty() else 0
    for label, text in rows:
        lines = wrapped(text, max(20, columns)) if columns else [text]
        for shown, line in zip([label, *[""] * len(lines)], lines, strict=False):
            click.echo(f"{styles.soft(f'{shown:<{width}}', sys.stderr)}  {line}", err=True, color=True)


def ending_of(result: Result, most_context: int) -> str | None:
    """How a response was ended before its models ended it; None where its answer ended, at a stop text too.

    most_context: tokens that the models were trained for
    """
    reason, name, where = result.finish_reason, f"prompt {result.id}", result.submission.prompt.where
    inside = " inside the reasoning" if result.ends_inside_reasoning else ""
    after = f"after {len(result.tokens)} tokens{inside}"
    if reason is FinishReason.ERROR:
        return f"{name}{f' ({where})' if where else ''} failed: {result.error}"
    if reason is FinishReason.CONTEXT:
        is_all = result.submission.ctx_size >= most_context
        way = f"the models were trained for {most_context} tokens" if is_all else "raise --ctx-size"
        return f"{name}: the context is full {after}: {way}"
    if reason is FinishReason.LENGTH:
        return f"{name}: ended by --max-tokens {after}"
    if result.stopped_by is not None and inside:
        return f"{name}: ended at the stop text {result.stopped_by!r} {after}"
    return None
