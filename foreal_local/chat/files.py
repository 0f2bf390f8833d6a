"""The files that a chat writes when told to: /save, /export and /write. What is not of this conversation is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SessionError, UsageError
from ..storage.files import locked, replace_file, same_file
from ..storage.ownership import OwnFiles, check_writable, was_there
from ..storage.session import is_stored
from .past import markdown

if TYPE_CHECKING:
    from .loop import Chat


class ChatFiles:
    """What one chat has saved, exported and loaded: these files, as they were then, may be replaced."""

    def __init__(self, chat: Chat) -> None:
        self._chat, self._own = chat, OwnFiles()

    def forget(self) -> None:
        """Another conversation begins: the files are no longer its own."""
        self._own.clear()

    def loaded(self, path: Path) -> None:
        """Go on with a file's conversation, which is the chat's now."""
        self._own.clear()
        self._own.add(path)

    def save(self, path: Path) -> bool:
        """Save the conversation in a file; False where the user would rather keep what stands there."""
        if self._is_session(path):
            self._chat.save_session()
            return True

        def check() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(path, "/save")
            if not self._own.has(path) and not is_stored(path):
                raise UsageError(f"{path} is there already and is no saved conversation: name another file")

        def write() -> Path | None:
            with locked(path, "/save"):  # another chat may have it as its session
                return self._chat.conversation.save(path, self._own.has)

        return self._write(path, check, self._own.has, write)

    def export(self, path: Path) -> bool:
        """Write the conversation as Markdown; False where the user would rather keep what stands there."""
        text = "".join(markdown(self._chat.conversation.messages)).encode("utf-8", "replace")

        def check() -> None:
            if self._is_session(path):
                raise UsageError(f"/export {path} would replace this chat's session: name another file")
            check_writable(path, "/export")

        def may_go(file: Path) -> bool:
            if self._own.has(file):
                return True
            return file.stat().st_size <= len(text) and text.startswith(file.read_bytes())  # it is in the new text

        return self._write(path, check, may_go, lambda: replace_file(path, [text], is_own=may_go))

    def write(self, path: Path, text: str) -> bool:
        """Write a text of an answer; False where the user would rather keep what stands there."""

        def check() -> None:
            if self._is_session(path):
                raise UsageError(f"/write {path} would replace this chat's session: name another file")
            check_writable(path, "/write")

        content = [text.encode("utf-8", "replace")]
        return self._write(path, check, self._own.has, lambda: replace_file(path, content, is_own=self._own.has))

    def _is_session(self, path: Path) -> bool:
        session = self._chat.session
        return session is not None and same_file(session.path, path)

    def _write(
        self, path: Path, check: Callable[[], None], may_go: Callable[[Path], bool], write: Callable[[], Path | None]
    ) -> bool:
        """Write a file, and say what was kept of another one; on a terminal the user is asked before."""
        try:
            check()
            question = f"{path} is there already. Keep it under a number, and write?"
            if not may_go(path) and not self._chat.confirm(question):
                self._chat.screen.note(f"{path} is as it was")
                return False
            kept = write()
            self._own.add(path)
        except OSError as error:
            raise SessionError(f"cannot write {path}: {error.strerror or error}") from None
        if kept:
            self._chat.screen.note(was_there(path, kept))
        return True


def named(text: str) -> Path:
    """The file that a user names, with ~ for the home folder."""
    if "\0" in text:
        raise UsageError(f"{text!r} is no name of a file: it has a NUL character")
    return Path(os.path.expanduser(text))  # noqa: PTH111  (pathlib's raises for ~nobody)
