"""The chat itself: reads messages and commands, shows the answers to messages, saves the session.

actions.py says what each command does.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ContextFullError, ForealError
from ..method.tokens import FinishReason
from ..results import Chunk, Event, PromptProgress
from .actions import Actions
from .commands import LEAVE, NAMES, InForce, describe_chat, parse
from .conversation import Conversation
from .figures import count, ending_of, figures, gauge
from .files import ChatFiles
from .input import LineEditor, NoLines, Source, read_message
from .screen import Screen
from .session import ChatSession
from .signals import ignore, stopped_by_hang_up, stopping_on_ctrl_c, without_echo
from .view import AnswerView

_NEARLY_FULL = 0.85
_INTERRUPTED = 130
Reopen = Callable[[dict[str, Any]], Conversation]


class Chat:
    """One chat.

    conversation: its messages and the engine that answers
    screen: where answers and notes are shown
    reopen: makes an empty conversation in a new engine, with changes to how the models run
    session: the files that the conversation is kept in; None: it is not kept
    models: lines that describe the models
    """

    def __init__(
        self, conversation: Conversation, screen: Screen, reopen: Reopen, session: ChatSession | None, models: list[str]
    ) -> None:
        self.conversation, self.screen, self.session, self.models = conversation, screen, session, models
        self.actions = Actions(self)
        self.files = ChatFiles(self)
        self.source: Source | None = None  # of the user's lines, while the chat runs
        self._reopen = reopen
        self._leaving = False
        self._has_warned = False  # that the context is nearly full
        self._has_failed = False  # the last message or command
        self._told: set[str] = set()  # warnings
        self._put_back = ""  # what stands in the next line before the user types
        self._n_used = 0  # tokens of the context that the next prompt takes, for the toolbar

    # ---------------------------------------------------------------- the loop
    def run(self, source: Source, first: str = "") -> int:
        """Answer until the user leaves; the exit code.

        On a pipe a message that fails makes the exit code 1, and the messages after it are still answered.

        first: a message that is asked before the first one is read, whatever it begins with
        """
        self.source = source
        if isinstance(source, LineEditor):
            # Ctrl-C clears the line (in the editor) and stops an answer; at any other moment it does nothing.
            signal.signal(signal.SIGINT, ignore)
        code = self._tried(self.ask, first) if first else 0
        while not self._leaving and code != _INTERRUPTED:
            try:
                self._n_used = self.conversation.n_prompt()
                line, self._put_back = self._put_back, ""
                text = read_message(source, default=line).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            if text:
                code = self._tried(self._handle, text) or code
        self.keep_session()
        return code

    def _tried(self, action: Callable[[str], object], text: str) -> int:
        """Do it; the exit code that is due to it."""
        self._has_failed = False
        try:
            action(text)
        except ForealError as error:
            self._has_failed = True
            self.screen.note(f"{error}")
        except KeyboardInterrupt:
            return 0 if self._goes_on_after_stop else _INTERRUPTED
        return 1 if self._has_failed and not isinstance(self.source, LineEditor) else 0

    @property
    def _goes_on_after_stop(self) -> bool:
        """Whether Ctrl-C ends an answer, and not the chat."""
        return self.screen.is_terminal and not isinstance(self.source, NoLines)

    def _handle(self, text: str) -> None:
        """Answer a message, or carry out a command."""
        if text.lower() in LEAVE and isinstance(self.source, LineEditor):
            self.leave()
            return
        if not text.startswith("/"):
            self.ask(text)
            return
        command, argument = parse(text)
        getattr(self.actions, f"do_{command.name}")(argument)
        self.keep_session()

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
        """The line under the prompt: how full the context is, the settings, the session. Where it is too long, the
        settings are cut, so that the session's name is always there."""
        n_ctx, columns = self.conversation.engine.ctx_size, shutil.get_terminal_size().columns
        name = [self.session.name] if self.session else []
        parts = [gauge(self._n_used, n_ctx), *name]
        room = columns - 2 - sum(len(part) + 3 for part in parts)
        settings = self.settings_line()
        if len(settings) > room:
            settings = f"{settings[: room - 1]}…" if room > 8 else ""
        parts[1:1] = [settings] * bool(settings)
        line = f" {' · '.join(parts)}"
        if name and len(line) >= columns:
            line = f" {self._n_used}/{n_ctx} · {name[0]}"
        return line[: columns - 1]

    def settings_line(self) -> str:
        conversation = self.conversation
        return describe_chat(conversation.settings, conversation.think_budget, conversation.thinking)

    def in_force(self) -> InForce:
        """All that /set can change."""
        conversation = self.conversation
        loaded = conversation.engine.loaded
        return InForce(
            conversation.settings,
            conversation.prompting,
            loaded.runtime,
            conversation.think_budget,
            loaded.ctx_size,
            self.screen.switches,
        )

    # ---------------------------------------------------------------- answers
    def ask(self, text: str, line: str | None = None) -> bool:
        """Answer a message and show the answer; False where the context has no room and the user makes none.

        line: what the user has typed for it; None: the message
        """
        while True:
            try:
                answer = self.conversation.ask(text)
                break
            except ContextFullError as error:
                if not self._make_room(str(error)):
                    return False
        self.show(answer, text if line is None else line)
        return True

    def show(self, answer: Iterator[Event], line: str = "") -> None:
        """Show an answer as it is written, until it ends or is stopped; then save the session.

        line: what is put back into the user's line where it is stopped before its first word
        """
        view, started, first_after = AnswerView(self.screen), time.perf_counter(), None
        stopped, earlier, before = False, self.conversation.result, self.conversation.messages
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
            if stopped and self._was_wordless() and isinstance(self.source, LineEditor):
                self.conversation.messages, self._put_back = before, line
                back = "the question is in the line again" if line else "the answer is as it was"
                self.screen.note(f"stopped before the first word: {back}")
            else:
                self._finish_answer(time.perf_counter() - started, first_after, stopped)
            if hang_ups:  # came after the answer
                raise SystemExit(128 + hang_ups[0])

    def _was_wordless(self) -> bool:
        """Whether nothing of the last answer was written yet."""
        result = self.conversation.result
        return result is not None and not (result.reasoning.strip() or result.answer.strip())

    def _finish_answer(self, seconds: float, first_after: float | None, stopped: bool) -> None:
        """The figures and notes of an answer that has ended; its session is saved."""
        conversation, result = self.conversation, self.conversation.result
        assert result is not None
        if result.finish_reason is FinishReason.ERROR:
            self._has_failed = True
            self.screen.note(f"failed: {result.error}")
            self.screen.note("the conversation is as it was before this question")
        if self.screen.is_terminal:
            alone = conversation.alone.of(result, conversation.engine.plan)
            self.screen.note(figures(result, seconds, first_after, alone))
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
        if stopped and not self._goes_on_after_stop:
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
        """Keep the conversation in its session, if it has one, with what both models have evaluated of it."""
        if self.session and (note := self.session.save(self.conversation)) and note not in self._told:
            self._told.add(note)
            self.screen.note(note)

    def keep_session(self) -> None:
        """Keep messages and settings in the session, if there is one and they have changed."""
        if self.session:
            self.session.keep(self.conversation)

    def confirm(self, question: str) -> bool:
        """Ask the user on a terminal, yes or no; on a pipe it is yes."""
        if not isinstance(self.source, LineEditor):
            return True
        try:
            return self.source.read(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except (EOFError, KeyboardInterrupt):
            return False


def editor_for(chat: Chat, history: Path | None) -> LineEditor:
    """The line editor of a chat on a terminal."""
    return LineEditor(history, lambda: {name: command.help for name, command in NAMES.items()}, chat.toolbar)
