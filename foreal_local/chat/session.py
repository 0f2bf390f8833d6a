"""A chat's session: the files that its conversation is kept in, as it is now and not only when the chat ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SessionError
from ..storage.files import locked, remove_scratch
from ..storage.session import read_content
from . import saved

if TYPE_CHECKING:
    from .conversation import Conversation


class ChatSession:
    """One session.

    name: as the user calls it
    path: messages and settings; small, written whenever they have changed
    states: what both models have evaluated, written after each answer; large, but it can be made again
    about: gives values that are kept with the conversation and are not its own: which models, how they run
    """

    def __init__(self, name: str, path: Path, states: Path) -> None:
        self.name, self.path, self.states = name, path, states
        self.about: Callable[[], dict[str, Any]] = dict
        self._kept = ""  # what is in the file

    # ---------------------------------------------------------------- reading
    @property
    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> dict[str, Any]:
        """What is in the file, before any model is open; {} where there is none. SessionError where it is damaged."""
        return read_content(self.path, saved.KIND) if self.exists else {}

    def load(self, conversation: Conversation, same_models: bool) -> None:
        """Load the conversation, with what both models had evaluated of it.

        same_models: they are those of the last time; else nothing is told of what they had evaluated
        """
        self.path.chmod(0o600)
        self.path.touch()  # when it was used last
        stored = saved.load(conversation, self.path)
        self._kept = _as_text(stored.content)
        notes = list(conversation.notes)
        if self.states.exists():
            saved.load_states(conversation, self.states)
        if not same_models:
            conversation.notes = notes if not stored.other_models else []
        if stored.states:  # of an earlier version, which kept them here
            self.save(conversation)

    def begin(self, conversation: Conversation) -> None:
        """A new one: there is a file once something has changed."""
        self._kept = _as_text(self._content(conversation))

    # ---------------------------------------------------------------- writing
    def make_folder(self) -> None:
        """Make the folder of sessions, which only its user can read; SessionError where there can be none."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            reason = error.strerror or error
            raise SessionError(
                f"cannot make the folder of sessions, {folder}: {reason}; leave out --session, or set XDG_CONFIG_HOME"
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other chats off it; what a chat that was killed has left half-written is removed. UsageError where
        another chat has it."""
        with locked(self.path, "the session"):
            remove_scratch(self.states.parent, self.states.name)
            yield

    def delete(self) -> None:
        """Remove its files; call it while it is locked."""
        self.states.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def keep(self, conversation: Conversation) -> None:
        """Write messages and settings, where they have changed."""
        content = self._content(conversation)
        text = _as_text(content)
        if text == self._kept:
            return
        try:
            saved.save_text(conversation, self.path, content)
        except OSError as error:
            reason = error.strerror or error
            raise SessionError(f"cannot write {self.path}: {reason}; an older session stays") from None
        self._kept = text

    def save(self, conversation: Conversation) -> str | None:
        """Write messages and settings, and then what both models have evaluated; a note where that cannot be written:
        the session is whole without it."""
        self.keep(conversation)
        try:
            self.states.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            saved.save_states(conversation, self.states)
        except OSError as error:
            return f"cannot write {self.states}: {error.strerror or error}; next time the conversation is read again"
        return None

    def _content(self, conversation: Conversation) -> dict[str, Any]:
        return saved.content_of(conversation) | self.about()


def _as_text(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)
