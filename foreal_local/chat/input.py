"""Where a chat's lines come from: a line editor on a terminal, plain lines from a pipe."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document

FENCE = '"""'


class Source(Protocol):
    """Gives the user's lines; EOFError at the end, KeyboardInterrupt when the user clears the line."""

    def read(self, prompt: str = ">>> ", default: str = "") -> str: ...


def read_message(source: Source, prompt: str = ">>> ", default: str = "") -> str:
    """The user's next message: a line, or several lines between two \"\"\"."""
    text = source.read(prompt, default)
    if not text.lstrip().startswith(FENCE):
        return text
    text = text.lstrip()[len(FENCE) :]
    lines = [text]
    while not lines[-1].rstrip().endswith(FENCE):
        try:
            lines.append(source.read("... "))
        except EOFError:  # the input ends before the second """: the message ends there too
            lines.append(FENCE)
    lines[-1] = lines[-1].rstrip()[: -len(FENCE)]
    return "\n".join(lines).strip("\n")


class PipedLines:
    """Lines of a pipe or a file, without a prompt."""

    def read(self, prompt: str = "", default: str = "") -> str:
        try:
            line = sys.stdin.buffer.readline()
        except OSError as error:
            raise UsageError(f"cannot read standard input: {error.strerror or error}") from None
        if not line:
            raise EOFError
        return line.decode("utf-8", "replace").rstrip("\r\n")


class NoLines:
    """No lines at all: the chat ends with what it was started with."""

    def read(self, prompt: str = "", default: str = "") -> str:
        raise EOFError


class LineEditor:
    """A prompt_toolkit editor: history across sessions, completion of commands, Alt-Enter for a line more.

    history: the file of earlier lines; None: there is no place for one
    commands: names and help of what is completed
    toolbar: the text under the line
    """

    def __init__(
        self, history: Path | None, commands: Callable[[], dict[str, str]], toolbar: Callable[[], str]
    ) -> None:
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

        remembered: Any = InMemoryHistory()
        if history:
            with contextlib.suppress(OSError):
                history.parent.mkdir(parents=True, exist_ok=True)
                history.touch(mode=0o600)
                remembered = FileHistory(str(history))
        self._session: PromptSession[str] = PromptSession(
            history=remembered,
            completer=Commands(),
            complete_while_typing=False,
            key_bindings=keys,
            bottom_toolbar=toolbar,
            prompt_continuation=lambda width, number, soft: "" if soft else "... ",
            enable_open_in_editor=False,
        )

    def read(self, prompt: str = ">>> ", default: str = "") -> str:
        """A line. Ctrl-C is a key while the editor has the terminal, and a signal just before and after that."""
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            return self._session.prompt(prompt, default=default, handle_sigint=False)
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        """Clear the line as the key does, in the editor's own loop: an exception here would crash the editor."""
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
        for command, help in commands.items():
            if command.startswith(name):
                yield Completion(command, start_position=-len(name), display_meta=help)
    elif name in ("/read", "/save", "/load", "/export", "/write"):
        yield from PathCompleter(expanduser=True).get_completions(Document(rest), None)  # type: ignore[arg-type]
