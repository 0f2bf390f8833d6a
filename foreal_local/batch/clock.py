"""The time that chat templates are told: one for all prompts of a run, also where it goes on another day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..config import Prompting, with_time
from ..results import Prompt
from ..runtime.gguf_file import asks_for_time
from ..storage.checkpoints import Checkpoints
from ..storage.run_file import clock_time
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
    unnamed = (str(p.id) for p in prompts if p.prompting is None or p.prompting.now is None)
    now = settled_time(prompting.now or (earlier.now(unnamed) if earlier else None), models, checkpoints)
    own = [replace(p, prompting=with_run_time(p.prompting, now)) if p.prompting else p for p in prompts]
    return with_run_time(prompting, now), own


def settled_time(now: str | None, models: Iterable[Path], checkpoints: Checkpoints | None) -> str | None:
    """The run's time: the one that is given, or that of the checkpoints that the run resumes, which keep it, or that of
    the clock. None where no model's template asks for one."""
    if not any(asks_for_time(path) for path in models):
        return None
    return checkpoints.settle_time(now) if checkpoints else now or clock_time()


def with_run_time(prompting: Prompting, now: str | None) -> Prompting:
    """The prompting with the run's time, unless it names one; without any where no template reads it: nothing of the
    response follows from it then."""
    return replace(prompting, now=None) if now is None or prompting.raw else with_time(prompting, now)
