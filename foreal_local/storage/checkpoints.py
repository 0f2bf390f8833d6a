"""A folder with a session file for each running sequence of a batch, so that a crash costs little.

Knows which file is whose and when it is to be written; session.py knows what is in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from ..config import Generation
from ..errors import SessionError, UsageError
from ..method.roles import Role
from ..method.sequence import Sequence
from ..runtime.model import Identity, Snapshot
from .files import remove_scratch
from .run_file import RunFile
from .session import Session, read_session, write_session


class Checkpoints:
    """The checkpoints of one run.

    folder: where they are; it is created
    every: tokens of a response between two savings
    on_note: gets lines for the user
    """

    EVERY = 256

    def __init__(self, folder: Path, every: int = EVERY, on_note: Callable[[str], None] = lambda note: None) -> None:
        if every < 1:
            raise UsageError(f"--checkpoint-every is {every}, but must be 1 or more")
        self.folder, self.every, self._note = folder, every, on_note
        self._n_saved: dict[str, int] = {}
        self._run = RunFile(folder, SessionError, on_note)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(f"cannot use {folder} for checkpoints: {error.strerror or error}") from None

    def clean(self) -> None:
        """Remove half-written files of a run that was killed. Call it only while no other run uses the folder."""
        remove_scratch(self.folder)

    def settle_seed(self, settings: Generation) -> Generation:
        """See RunFile."""
        return self._run.settle_seed(settings)

    def settle_time(self, now: str | None) -> str:
        """See RunFile."""
        return self._run.settle_time(now)

    def path(self, id: str, settings_hash: str) -> Path:
        """The file of a prompt's response with these settings."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", id)[:40]
        digest = hashlib.blake2b(f"{settings_hash} {id}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return self.folder / f"{name}.{digest}.session"

    def load(self, id: str, settings_hash: str, identity: Identity) -> Session | None:
        """What was saved of this response; None where nothing can be resumed."""
        path = self.path(id, settings_hash)
        if not path.exists():
            return None
        try:
            session = read_session(path, identity)
        except SessionError as error:
            self._note(f"prompt {id}: {error}; it begins again")
            return None
        if not session.sequence.tokens:
            return None
        for note in session.notes:
            self._note(f"prompt {id}: {note}")
        self._note(f"prompt {id}: goes on after {len(session.sequence.tokens)} tokens")
        session.sequence.show_again()
        session.sequence.reopen()  # the context may be larger now
        self._n_saved[id] = len(session.sequence.tokens)
        return session

    def due(self, sequence: Sequence) -> bool:
        """Whether enough tokens were written since the last saving."""
        return len(sequence.tokens) - self._n_saved.get(sequence.id, 0) >= self.every

    def save(self, sequence: Sequence, settings_hash: str, states: dict[Role, Snapshot], identity: Identity) -> None:
        """Save an unfinished sequence; SessionError where that fails, and then an older checkpoint stays."""
        path = self.path(sequence.id, settings_hash)
        try:
            write_session(path, sequence, states, identity)
        except OSError as error:
            raise SessionError(f"cannot write {path}: {error.strerror or error}; an older checkpoint stays") from None
        self._n_saved[sequence.id] = len(sequence.tokens)

    def remove(self, id: str, settings_hash: str) -> None:
        """Remove the checkpoint of a response whose result is written."""
        self.path(id, settings_hash).unlink(missing_ok=True)
        self._n_saved.pop(id, None)

    def close(self) -> None:
        """End a complete run: what is kept of it is removed, unless there are checkpoints of other prompts."""
        if not any(self.folder.glob("*.session")):
            self._run.remove()
