"""The chat itself: reads a message or a command, lets the conversation answer, shows it, keeps the session."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..config import prompting_of
from ..errors import ContextFullError, ForealError, SessionError, UsageError
from ..method.reasoning import split_reasoning
from ..method.tokens import FinishReason
from ..results import Chunk, Event, PromptProgress
from ..settings import Setting
from ..storage.session import write_beside
from .commands import (
    OF_THE_MODELS,
    OF_THE_PROMPT,
    budget_of,
    changed,
    describe_chat,
    help_lines,
    parse,
    setting_named,
    thinking_of,
)
from .conversation import Conversation
from .input import LineEditor, Source, read_message
from .past import markdown, short, show_loaded
from .screen import Screen, count, ending_of, figures, gauge, totals
from .signals import hang_up, nothing, stoppable, without_echo

_NEARLY_FULL = 0.85
Reopen = Callable[[dict[str, Any]], Conversation]


class Chat:
    """One chat: its conversation, its screen, and the session file that it keeps, if any.

    `reopen` makes an empty conversation with changes to how the models run.
    """

    def __init__(
        self, conversation: Conversation, screen: Screen, reopen: Reopen, session: Path | None, about: list[str]
    ) -> None:
        self.conversation, self.screen, self.session = conversation, screen, session
        self._reopen, self._about = reopen, about
        self._source: Source | None = None
        self._leaving = self._announced = False
        self._n_used = 0

    # ---------------------------------------------------------------- the loop
    def run(self, source: Source) -> int:
        """Until the user leaves; the exit code. On a pipe a failed message makes it 1, and the rest is still asked."""
        self._source = source
        code = 0
        if isinstance(source, LineEditor):
            # Ctrl-C clears the line (the editor sees to it) and stops answers; between the two it does nothing.
            signal.signal(signal.SIGINT, nothing)
        while not self._leaving:
            try:
                self._n_used = self.conversation.n_prompt()
                text = read_message(source).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            try:
                if text:
                    self._take(text)
            except ForealError as error:
                code = 0 if self.screen.is_terminal else 1
                self.screen.note(f"{error}")
            except KeyboardInterrupt:
                if not self.screen.is_terminal:
                    return 130
        return code

    def _take(self, text: str) -> None:
        if not text.startswith("/"):
            self._ask(text)
            return
        command, argument = parse(text)
        getattr(self, f"do_{command.name}")(argument)

    def toolbar(self) -> str:
        """The line under the prompt: how full the context is, and what writes."""
        conversation = self.conversation
        parts = [
            gauge(self._n_used, conversation.engine.ctx_size),
            self._settings(),
        ]
        if self.session:
            parts.append(self.session.stem)
        return f" {' · '.join(parts)}"

    def _settings(self) -> str:
        conversation = self.conversation
        return describe_chat(conversation.settings, conversation.think_budget, conversation.thinking)

    # ---------------------------------------------------------------- answers
    def _ask(self, text: str) -> bool:
        """False where there was no room, and the user left it so."""
        while True:
            try:
                answer = self.conversation.ask(text)
                break
            except ContextFullError as error:
                if not self._make_room(str(error)):
                    return False
        self._show(answer)
        return True

    def _show(self, answer: Iterator[Event]) -> None:
        view, started, first = self.screen.answer(), time.perf_counter(), None
        stopped = False
        with without_echo(), hang_up() as hung_up:
            try:
                with stoppable(), contextlib.closing(answer) as events:  # type: ignore[type-var]
                    for event in events:
                        if isinstance(event, PromptProgress):
                            self.screen.status(f"reading {event.n_done} of {event.n_all} tokens")
                        elif isinstance(event, Chunk):
                            first = first if first is not None else time.perf_counter() - started
                            view.feed(event)
            except KeyboardInterrupt:
                stopped = True
            if hung_up:
                self._keep()
                raise SystemExit(128 + hung_up[0])
            view.end()
            self._close(time.perf_counter() - started, first, stopped)
            if hung_up:  # meanwhile
                raise SystemExit(128 + hung_up[0])

    def _close(self, seconds: float, first: float | None, stopped: bool) -> None:
        conversation, result = self.conversation, self.conversation.result
        assert result is not None
        if result.finish_reason is FinishReason.ERROR:
            self.screen.note(f"failed: {result.error}")
        if self.screen.is_terminal:
            self.screen.note(figures(result, seconds, first))
        elif (ending := ending_of(result)) and result.finish_reason is not FinishReason.ERROR:
            self.screen.note(
                f"answer {len(conversation.messages) // 2}: {ending} after {count(len(result.tokens), 'token')}"
            )
        for note in conversation.notes:
            self.screen.note(note)
        conversation.notes.clear()
        self._keep()
        self._warn_when_nearly_full()
        if stopped and not self.screen.is_terminal:
            raise KeyboardInterrupt

    def _warn_when_nearly_full(self) -> None:
        n_used, n_all = self.conversation.n_prompt(), self.conversation.engine.ctx_size
        asks = isinstance(self._source, LineEditor)
        if asks and n_used > _NEARLY_FULL * n_all and not self._announced:
            self._announced = True
            self.screen.note(
                f"the context is nearly full ({n_used} of {n_all} tokens): soon you will be asked what to drop"
            )

    def _make_room(self, reason: str) -> bool:
        """Ask what to do about a full context; False to leave it as it is."""
        if not isinstance(self._source, LineEditor):
            raise ContextFullError(f"{reason}: give a larger --ctx-size, or begin a new conversation")
        self.screen.line(reason)
        self.screen.line("  d  drop the oldest question and answer    c  clear the conversation")
        self.screen.line("  N  a context of N tokens (a number)       Enter  leave it")
        assert self._source is not None
        try:
            choice = self._source.read("what now? ").strip().lower()
        except EOFError:
            return False
        if choice == "d":
            if not self.conversation.drop_oldest():
                self.screen.line("there is nothing older to drop")
                return False
        elif choice == "c":
            self.conversation.clear()
        elif choice.isdecimal():
            self._move({"ctx_size": int(choice)})
        else:
            return False
        self._announced = False
        return True

    def _move(self, changes: dict[str, Any]) -> None:
        """Go on in a new engine; the text is evaluated again there."""
        old = self.conversation
        new = self._reopen(changes)
        new.messages, new.settings, new.prompting, new.cost = old.messages, old.settings, old.prompting, old.cost
        new.think_budget = old.think_budget
        self.conversation = new

    def _keep(self) -> None:
        if self.session:
            self._save(self.session)

    def _save(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.conversation.save(path)
        except OSError as error:
            raise SessionError(f"cannot write {path}: {error.strerror or error}; an older session stays") from None

    # ---------------------------------------------------------------- commands
    def do_help(self, _: str) -> None:
        for line in help_lines():
            self.screen.line(line)

    def do_set(self, argument: str) -> None:
        name, _, value = argument.partition(" ")
        if not value.strip():
            raise UsageError(f"/set {name} needs a value, such as /set temp 0.6")
        name, text = name.replace("_", "-"), value.strip()
        if name == "think-budget":
            self.conversation.think_budget = budget_of(text)
        elif name == "thinking":
            self.conversation.set_thinking(thinking_of(text))
        else:
            self._set(setting_named(name), text)
        self.screen.note(self._settings())

    def _set(self, setting: Setting, text: str) -> None:
        """Those of the models open them again; the conversation's text is then evaluated again."""
        conversation, value = self.conversation, setting.from_text(text)
        if setting in OF_THE_MODELS:
            self._move({setting.name: value})
            self.screen.note(f"{setting.shown_name}: {value}; the models were opened again")
        elif setting.name == "system":
            self.do_system(value or "")
        elif setting in OF_THE_PROMPT:
            conversation.prompting = prompting_of({setting.name: value}, conversation.prompting)
            self.screen.note(f"{setting.shown_name}: {getattr(conversation.prompting, setting.name)}")
        else:
            conversation.settings = changed(conversation.settings, setting.name, text)

    def do_mode(self, argument: str) -> None:
        self.conversation.settings = changed(self.conversation.settings, "mode", argument)
        self.screen.note(self._settings())

    def do_show(self, _: str) -> None:
        conversation = self.conversation
        for line in self._about:
            self.screen.line(line)
        self.screen.line(f"settings  {self._settings()}")
        self.screen.line(f"system    {conversation.prompting.system or 'none'}")
        self.screen.line(f"context   {gauge(conversation.n_prompt(), conversation.engine.ctx_size)} tokens")
        self.screen.line(f"session   {self.session or 'none (--session NAME keeps one)'}")

    def do_system(self, argument: str) -> None:
        self.conversation.set_system(argument or None)  # an error, and no change, where a template has no place for it
        self.screen.note(f"system message: {argument}" if argument else "no system message")

    def do_regen(self, _: str) -> None:
        self._show(self.conversation.regenerate(secrets.randbits(31)))

    def do_undo(self, _: str) -> None:
        text = self.conversation.undo()
        self.screen.note(f"taken back: {short(text)}" if text else "there is nothing to take back")
        self._keep()

    def do_edit(self, _: str) -> None:
        asked = [message.content for message in self.conversation.messages if message.role == "user"]
        if not asked:
            raise UsageError("there is no question to edit yet")
        text = self._edited(asked[-1]).strip()
        before = list(self.conversation.messages)
        if text:
            self.conversation.undo()
            if not self._ask(text):
                self.conversation.messages = before

    def _edited(self, text: str) -> str:
        if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
            try:
                return click.edit(text, require_save=False) or ""
            except click.ClickException as error:
                raise UsageError(f"{error.format_message()}: $VISUAL or $EDITOR names an editor") from None
        assert self._source is not None
        try:
            return self._source.read("edit> ", default=text)
        except (KeyboardInterrupt, EOFError):
            return ""

    def do_read(self, argument: str) -> None:
        path, text = _file_and_rest(argument)
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read {path}: {reason}") from None
        self._ask(f"{text.strip()}\n\n{content}".strip())

    def do_think(self, argument: str) -> None:
        if argument == "last":
            answers = [message for message in self.conversation.messages if message.role == "assistant"]
            reasoning = split_reasoning(answers[-1].content, False)[0] if answers else ""
            self.screen.paragraph(reasoning or "the last answer has no reasoning")
        elif argument in ("show", "hide"):
            self.screen.show_thinking = argument == "show"
            self.screen.note(f"reasoning is {'shown' if argument == 'show' else 'hidden'}")
        else:
            raise UsageError(f"/think is {argument!r}, but must be show, hide or last")

    def do_colors(self, argument: str) -> None:
        if argument not in ("on", "off"):
            raise UsageError(f"/colors is {argument!r}, but must be on or off")
        self.screen.colored = self.screen.styled and argument == "on"
        self.screen.note(f"colors are {argument}")

    def do_stats(self, _: str) -> None:
        for line in totals(self.conversation.cost, sum(m.role == "assistant" for m in self.conversation.messages)):
            self.screen.line(line)

    def do_save(self, argument: str) -> None:
        path = Path(argument).expanduser() if argument else self.session
        if path is None:
            raise UsageError("/save needs a FILE here: only a chat with --session NAME has one of its own")
        self._save(path)
        self.screen.note(f"saved in {path}")

    def do_load(self, argument: str) -> None:
        self.conversation.load(Path(argument).expanduser())
        show_loaded(self.conversation, self.screen)
        self._keep()

    def do_export(self, argument: str) -> None:
        path = Path(argument).expanduser()
        try:
            write_beside(path, ["".join(markdown(self.conversation.messages)).encode("utf-8", "replace")])
        except OSError as error:
            raise SessionError(f"cannot write {path}: {error.strerror or error}") from None
        self.screen.note(f"written to {path}")

    def do_clear(self, _: str) -> None:
        self.conversation.clear()
        self._announced = False
        self.screen.note("a new conversation")
        self._keep()

    def do_exit(self, _: str) -> None:
        self._leaving = True


def editor_for(chat: Chat, history: Path) -> LineEditor:
    """The line editor of a chat on a terminal."""
    from .commands import NAMES

    return LineEditor(history, lambda: {name: command.about for name, command in NAMES.items()}, chat.toolbar)


def _file_and_rest(argument: str) -> tuple[Path, str]:
    """A file's name, which may have spaces, and the text after it."""
    words = argument.split(" ")
    for n in range(len(words), 0, -1):
        path = Path(" ".join(words[:n])).expanduser()
        if path.is_file():
            return path, " ".join(words[n:])
    return Path(words[0]).expanduser(), " ".join(words[1:])
