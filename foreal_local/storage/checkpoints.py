"""A folder with a session file for each running sequence of a batch, so that a crash costs little.

Knows which file is whose and when it is to be written; session.py knows what is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Generation
from ..errors import SessionError, UsageError
from ..method.roles import Role
from ..method.sequence import Sequence
from ..results import with_seed
from ..runtime.model import Identity, Snapshot
from .files import remove_scratch, replace_file
from .ownership import was_there
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(f"cannot use {folder} for checkpoints: {error.strerror or error}") from None

    def clean(self) -> None:
        """Remove half-written files of a run that was killed. Call it only while no other run uses the folder."""
        remove_scratch(self.folder)

    def settle_seed(self, settings: Generation) -> Generation:
        """The settings with a seed: their own, or that of the stopped run whose checkpoints these are, or a new one.

        The folder keeps a seed that is drawn here, for the run that resumes this one.
        """
        if settings.seed is not None:
            return settings
        kept = self._kept().get("seed")
        if isinstance(kept, int):
            return replace(settings, seed=kept)
        settings = with_seed(settings)
        self._keep("seed", settings.seed)
        return settings

    def settle_time(self, now: str) -> str:
        """The time for chat templates: that of the stopped run whose checkpoints these are, or this one, which the
        folder keeps then."""
        kept = self._kept().get("now")
        if isinstance(kept, str):
            return kept
        self._keep("now", now)
        return now

    def _kept(self) -> dict[str, Any]:
        """What the folder keeps of the run, at least one of these; nothing where its file is missing, or is something
        else."""
        file = self._run_file
        try:
            kept = json.loads(file.read_bytes()) if file.is_file() else None
        except (OSError, ValueError, RecursionError):
            return {}
        types = {"seed": int, "now": str}
        if not isinstance(kept, dict) or any(type(value) is not types.get(name) for name, value in kept.items()):
            return {}
        return kept if kept.get("seed", 0) >= 0 else {}

    def _keep(self, name: str, value: object) -> None:
        file, earlier = self._run_file, self._kept()
        content = [json.dumps({**earlier, name: value}).encode()]
        try:
            aside = replace_file(file, content, is_own=lambda file: bool(earlier))
        except OSError as error:
            raise SessionError(f"cannot write {file}: {error.strerror or error}") from None
        if aside:
            self._note(was_there(file, aside))

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

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
        if not any(self.folder.glob("*.session")) and self._kept():
            self._run_file.unlink(missing_ok=True)
