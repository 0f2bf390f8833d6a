"""Where a chat's lines come from: a line editor on a terminal, plain lines from a pipe."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document

FENCE = '"""'


class Source(Protocol):
    """Gives what the user says; EOFError at the end, KeyboardInterrupt when a line was cleared."""

    def read(self, prompt: str = ">>> ", default: str = "") -> str: ...


def read_message(source: Source, prompt: str = ">>> ", default: str = "") -> str:
    """A line, or several between two \"\"\"."""
    text = source.read(prompt, default)
    if not text.lstrip().startswith(FENCE):
        return text
    text = text.lstrip()[len(FENCE) :]
    lines = [text]
    while not lines[-1].rstrip().endswith(FENCE):
        try:
            lines.append(source.read("... "))
        except EOFError:  # the input ends inside: what is there is the message
            lines.append(FENCE)
    lines[-1] = lines[-1].rstrip()[: -len(FENCE)]
    return "\n".join(lines).strip("\n")


class PipedLines:
    """Lines of a pipe or a file, without a prompt."""

    def read(self, prompt: str = "", default: str = "") -> str:
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        return line.decode("utf-8", "replace").rstrip("\r\n")


class LineEditor:
    """prompt_toolkit: history across sessions, completion of commands, Alt-Enter for a line more."""

    def __init__(self, history: Path, commands: Callable[[], dict[str, str]], toolbar: Callable[[], str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings

        class Commands(Completer):
            def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
                yield from _completions(document.text_before_cursor, commands())

        keys = KeyBindings()

        @keys.add("escape", "enter")
        def _(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        try:
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch(mode=0o600)
            kept: Any = FileHistory(str(history))
        except OSError:
            kept = InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            history=kept,
            completer=Commands(),
            complete_while_typing=False,
            key_bindings=keys,
            bottom_toolbar=toolbar,
            prompt_continuation=lambda width, number, soft: "" if soft else "... ",
            enable_open_in_editor=False,
        )

    def read(self, prompt: str = ">>> ", default: str = "") -> str:
        """Ctrl-C is a signal while the terminal is not in the editor's hands: there is no line yet, or no more."""
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            return self._session.prompt(prompt, default=default, handle_sigint=False)
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        """As the key, when the editor runs; an exception in its midst would be its crash."""
        editor = self._session.app
        if editor.loop is not None and editor.is_running:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                editor.loop.call_soon_threadsafe(self._clear_line)

    def _clear_line(self) -> None:
        editor = self._session.app
        if editor.is_running and not editor.is_done:
            editor.exit(exception=KeyboardInterrupt, style="class:aborting")


def _completions(text: str, commands: dict[str, str]) -> Iterator[Completion]:
    from prompt_toolkit.completion import Completion, PathCompleter
    from prompt_toolkit.document import Document

    if not text.startswith("/"):
        return
    name, space, rest = text.partition(" ")
    if not space:
        for command, about in commands.items():
            if command.startswith(name):
                yield Completion(command, start_position=-len(name), display_meta=about)
    elif name in ("/read", "/save", "/load", "/export"):
        yield from PathCompleter(expanduser=True).get_completions(Document(rest), None)  # type: ignore[arg-type]
