"""What a folder keeps of the run that it is of, for the run that goes on with it: the seed, and the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..config import Generation
from ..errors import ForealError
from ..results import with_seed
from .files import replace_file
from .ownership import was_there


def clock_time() -> str:
    """What the clock says, in the form that chat templates are told."""
    return datetime.now().isoformat(timespec="seconds")


class RunFile:
    """The file run.json of a folder, which must be there before anything is kept.

    error: is raised where the file cannot be written
    on_note: gets lines for the user
    """

    def __init__(self, folder: Path, error: type[ForealError], on_note: Callable[[str], None]) -> None:
        self.path, self._error, self._note = folder / "run.json", error, on_note

    @property
    def seed(self) -> int | None:
        """Of the run whose folder this is; None where nobody knows."""
        return self._kept().get("seed")

    @property
    def now(self) -> str | None:
        """The time that this run told chat templates; None where it told none."""
        return self._kept().get("now")

    def settle_seed(self, settings: Generation) -> Generation:
        """The settings with a seed: their own, or that of the stopped run whose folder this is, or a new one.

        The folder keeps it, for the run that resumes this one.
        """
        settings = with_seed(settings if settings.seed is not None else replace(settings, seed=self.seed))
        self.keep(settings.seed)
        return settings

    def settle_time(self, now: str | None) -> str:
        """The time for chat templates: the one that is given, or that of the stopped run whose folder this is, or that
        of the clock. The folder keeps it, as it does the seed."""
        now = now or self.now or clock_time()
        self.keep(now=now)
        return now

    def _kept(self) -> dict[str, Any]:
        """What the file has, at least one of these; nothing where it is missing, or is something else."""
        try:
            kept = json.loads(self.path.read_bytes()) if self.path.is_file() else None
        except (OSError, ValueError, RecursionError):
            return {}
        types = {"seed": int, "now": str}
        if not isinstance(kept, dict) or any(type(value) is not types.get(name) for name, value in kept.items()):
            return {}
        return kept if kept.get("seed", 0) >= 0 else {}

    def keep(self, seed: int | None = None, now: str | None = None) -> None:
        """Put what is not None into the file; a file of somebody else is kept under a numbered name."""
        earlier = self._kept()
        values = earlier | {name: value for name, value in (("seed", seed), ("now", now)) if value is not None}
        if values == earlier:
            return
        content = [json.dumps(values).encode()]
        try:
            aside = replace_file(self.path, content, is_own=lambda file: bool(earlier))
        except OSError as error:
            raise self._error(f"cannot write {self.path}: {error.strerror or error}") from None
        if aside:
            self._note(was_there(self.path, aside))

    def remove(self) -> None:
        """At the end of a complete run; a file of somebody else stays."""
        if self._kept():
            self.path.unlink(missing_ok=True)
