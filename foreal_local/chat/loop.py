"""The chat itself: reads messages and commands, shows the answers to messages, saves the session.

actions.py says what each command does.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ContextFullError, ForealError, SessionError
from ..method.tokens import FinishReason
from ..results import Chunk, Event, PromptProgress
from .actions import Actions
from .commands import NAMES, describe_chat, parse
from .conversation import Conversation
from .files import ChatFiles
from .input import LineEditor, Source, read_message
from .screen import Screen, count, ending_of, figures, gauge
from .signals import ignore, stopped_by_hang_up, stopping_on_ctrl_c, without_echo
from .view import AnswerView

_NEARLY_FULL = 0.85
Reopen = Callable[[dict[str, Any]], Conversation]


class Chat:
    """One chat.

    conversation: its messages and the engine that answers
    screen: where answers and notes are shown
    reopen: makes an empty conversation in a new engine, with changes to how the models run
    session: the file that the conversation is saved in after each answer; None: it is not saved
    models: lines that describe the models
    """

    def __init__(
        self, conversation: Conversation, screen: Screen, reopen: Reopen, session: Path | None, models: list[str]
    ) -> None:
        self.conversation, self.screen, self.session, self.models = conversation, screen, session, models
        self.actions = Actions(self)
        self.files = ChatFiles(self)
        self.source: Source | None = None  # of the user's lines, while the chat runs
        self._reopen = reopen
        self._leaving = False
        self._has_warned = False  # that the context is nearly full
        self._told: set[str] = set()  # warnings
        self._n_used = 0  # tokens of the context that the next prompt takes, for the toolbar

    # ---------------------------------------------------------------- the loop
    def run(self, source: Source) -> int:
        """Answer until the user leaves; the exit code.

        On a pipe a message that fails makes the exit code 1, and the messages after it are still answered.
        """
        self.source = source
        code = 0
        if isinstance(source, LineEditor):
            # Ctrl-C clears the line (in the editor) and stops an answer; at any other moment it does nothing.
            signal.signal(signal.SIGINT, ignore)
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
                    self._handle(text)
            except ForealError as error:
                code = 0 if self.screen.is_terminal else 1
                self.screen.note(f"{error}")
            except KeyboardInterrupt:
                if not self.screen.is_terminal:
                    return 130
        return code

    def _handle(self, text: str) -> None:
        """Answer a message, or carry out a command."""
        if not text.startswith("/"):
            self.ask(text)
            return
        command, argument = parse(text)
        getattr(self.actions, f"do_{command.name}")(argument)

    def tell_warnings(self) -> None:
        """Show what the user should know of the models and was not told yet."""
        for warning in self.conversation.engine.warnings:
            if warning not in self._told:
                self.screen.note(f"warning: {warning}")
                self._told.add(warning)

    def leave(self) -> None:
        """End `run` before it reads another line."""
        self._leaving = True

    def toolbar(self) -> str:
        """The line under the prompt: how full the context is, the settings, the session."""
        conversation = self.conversation
        parts = [
            gauge(self._n_used, conversation.engine.ctx_size),
            self.settings_line(),
        ]
        if self.session:
            parts.append(self.session.stem)
        return f" {' · '.join(parts)}"

    def settings_line(self) -> str:
        conversation = self.conversation
        return describe_chat(conversation.settings, conversation.think_budget, conversation.thinking)

    # ---------------------------------------------------------------- answers
    def ask(self, text: str) -> bool:
        """Answer a message and show the answer; False where the context has no room and the user makes none."""
        while True:
            try:
                answer = self.conversation.ask(text)
                break
            except ContextFullError as error:
                if not self._make_room(str(error)):
                    return False
        self.show(answer)
        return True

    def show(self, answer: Iterator[Event]) -> None:
        """Show an answer as it is written, until it ends or is stopped; then save the session."""
        view, started, first_after = AnswerView(self.screen), time.perf_counter(), None
        stopped, earlier = False, self.conversation.result
        whole = self.conversation.engine.loaded.abort.held if self.screen.is_terminal else contextlib.nullcontext
        self.conversation.on_draft = view.sketch if self.screen.colored else None
        with without_echo(), stopped_by_hang_up() as hang_ups:
            try:
                with stopping_on_ctrl_c(), contextlib.closing(answer) as events:  # type: ignore[type-var]
                    for event in events:
                        if isinstance(event, PromptProgress):
                            self.screen.status(f"reading {event.n_done} of {event.n_all} tokens")
                        elif isinstance(event, Chunk):
                            if first_after is None:
                                first_after = time.perf_counter() - started
                            with whole():  # no word twice or in half: Ctrl-C waits for this
                                view.feed(event)
            except KeyboardInterrupt:
                stopped = True
            if hang_ups:
                self.save_session()
                raise SystemExit(128 + hang_ups[0])
            if (result := self.conversation.result) is not None and result is not earlier:  # what a stop has settled
                view.feed(Chunk(result.index, result.id, result.tokens[view.n_tokens :], result.sequence.tags))
            view.end()
            self._finish_answer(time.perf_counter() - started, first_after, stopped)
            if hang_ups:  # came after the answer
                raise SystemExit(128 + hang_ups[0])

    def _finish_answer(self, seconds: float, first_after: float | None, stopped: bool) -> None:
        """The figures and notes of an answer that has ended; its session is saved."""
        conversation, result = self.conversation, self.conversation.result
        assert result is not None
        if result.finish_reason is FinishReason.ERROR:
            self.screen.note(f"failed: {result.error}")
            self.screen.note("the conversation is as it was before this question")
        if self.screen.is_terminal:
            self.screen.note(figures(result, seconds, first_after))
        elif (ending := ending_of(result)) and result.finish_reason is not FinishReason.ERROR:
            self.screen.note(
                f"answer {len(conversation.messages) // 2}: {ending} after {count(len(result.tokens), 'token')}"
            )
        for note in conversation.notes:
            self.screen.note(note)
        conversation.notes.clear()
        self.tell_warnings()
        self.save_session()
        self._warn_when_nearly_full()
        if stopped and not self.screen.is_terminal:
            raise KeyboardInterrupt

    def _warn_when_nearly_full(self) -> None:
        n_used, n_all = self.conversation.n_prompt(), self.conversation.engine.ctx_size
        can_ask = isinstance(self.source, LineEditor)
        if can_ask and n_used > _NEARLY_FULL * n_all and not self._has_warned:
            self._has_warned = True
            self.screen.note(
                f"the context is nearly full ({n_used} of {n_all} tokens): soon you will be asked what to drop"
            )

    def _make_room(self, reason: str) -> bool:
        """Ask the user how to make room in a full context; False where the user leaves it full."""
        if not isinstance(self.source, LineEditor):
            raise ContextFullError(f"{reason}: give a larger --ctx-size, or begin a new conversation")
        self.screen.line(reason)
        self.screen.line("  d  drop the oldest question and answer    c  clear the conversation")
        self.screen.line("  N  a context of N tokens (a number)       Enter  leave it")
        try:
            choice = self.source.read("what now? ").strip().lower()
        except EOFError:
            return False
        if choice == "d":
            if not self.conversation.drop_oldest():
                self.screen.line("there is nothing older to drop")
                return False
        elif choice == "c":
            self.conversation.clear()
        elif choice.isdecimal():
            self.reopen({"ctx_size": int(choice)})
        else:
            return False
        self._has_warned = False
        return True

    # ---------------------------------------------------------------- the conversation
    def clear(self) -> None:
        """Begin a new conversation."""
        self.conversation.clear()
        self.files.forget()
        self._has_warned = False

    def reopen(self, changes: dict[str, Any]) -> None:
        """Continue the conversation in a new engine, which evaluates its text again."""
        old = self.conversation
        new = self._reopen(changes)
        new.messages, new.settings, new.prompting, new.cost = old.messages, old.settings, old.prompting, old.cost
        new.think_budget, new.tally = old.think_budget, old.tally
        self.conversation = new

    def save_session(self) -> None:
        """Save the conversation in its session, if it has one."""
        if self.session:
            try:
                self.session.parent.mkdir(parents=True, exist_ok=True)
                self.conversation.save(self.session)
            except OSError as error:
                reason = error.strerror or error
                raise SessionError(f"cannot write {self.session}: {reason}; an older session stays") from None

    def confirm(self, question: str) -> bool:
        """Ask the user on a terminal, yes or no; on a pipe it is yes."""
        if not isinstance(self.source, LineEditor):
            return True
        try:
            return self.source.read(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except (EOFError, KeyboardInterrupt):
            return False


def editor_for(chat: Chat, history: Path) -> LineEditor:
    """The line editor of a chat on a terminal."""
    return LineEditor(history, lambda: {name: command.help for name, command in NAMES.items()}, chat.toolbar)
