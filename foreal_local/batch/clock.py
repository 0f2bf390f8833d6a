"""The time that chat templates are told: one for all prompts of a run, also where it goes on another day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ..config import Prompting, with_time
from ..results import Prompt
from ..runtime.gguf_file import asks_for_time
from ..storage.checkpoints import Checkpoints
from .resume import EarlierOutput


def with_one_time(
    prompting: Prompting,
    prompts: list[Prompt],
    models: Iterable[Path],
    earlier: EarlierOutput | None,
    checkpoints: Checkpoints | None,
) -> tuple[Prompting, list[Prompt]]:
    """The run's prompting and prompts with a time, where a model's template asks for one and they name none: that of
    the output or the checkpoints that the run resumes, or now."""
    if not any(asks_for_time(path) for path in models):
        return prompting, prompts
    now = prompting.now or (earlier.now(str(p.id) for p in prompts) if earlier else None)
    if now is None:
        now = datetime.now().isoformat(timespec="seconds")
        now = checkpoints.settle_time(now) if checkpoints else now
    own = [replace(p, prompting=with_time(p.prompting, now)) if p.prompting else p for p in prompts]
    return with_time(prompting, now), own
