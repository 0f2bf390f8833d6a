"""A benchmark: all problems answered with all settings, and the responses graded; or responses of others graded.

Knows problems, settings and grades, and how a batch of prompts is run. Knows no options, and no figures (measures.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..batch.json_lines import objects
from ..batch.request import BatchRequest
from ..config import Generation, Pair, Prompting, Runtime
from ..documents import Note, name_of
from ..errors import UsageError
from ..memory.fitting import UNFITTED, Fitting
from ..method.roles import Role
from ..results import Prompt
from .experiments import parts_of, prompts_for, settings_for
from .measures import Record, Response, can_be_measured
from .problems.datasets import Problem
from .problems.grading import Grade, check_installed, grade


@dataclass(frozen=True)
class BenchRequest:
    """What a benchmark answers, and with what.

    problems: what is answered
    base: what the settings have in common; without a seed, its seed is 0
    modes: the modes that are compared
    grid: values of their settings, each combination of which is tried (experiments.settings_for); None: base's only
    n_samples: responses to each problem with each setting
    prompting: how problems become tokens
    runtime: how the models run
    parallel: prompts answered at a time
    output: a file for the responses, from which a stopped benchmark is resumed; None: they are not kept
    trace: a file for every decision; None: none is written
    quiet: no progress
    name: of the command, in notes on standard error
    fitting: what is asked whether the models fit
    """

    problems: list[Problem]
    base: Generation
    modes: list[str]
    grid: str | None = None
    n_samples: int = 1
    prompting: Prompting = field(default_factory=Prompting)
    runtime: Runtime = field(default_factory=Runtime)
    parallel: int = 1
    output: str | None = None
    trace: str | None = None
    quiet: bool = False
    name: str = "foreal bench"
    fitting: Fitting = UNFITTED

    def __post_init__(self) -> None:
        if self.n_samples < 1:
            raise UsageError(f"--samples is {self.n_samples}, but must be 1 or more")
        if self.base.seed is None:
            object.__setattr__(self, "base", replace(self.base, seed=0))


class Run(Protocol):
    """A run over prompts, such as BatchRun."""

    def execute(self) -> int: ...


MakeRun = Callable[[BatchRequest, Callable[[set[Role]], Pair]], Run]


def run_benchmark(
    request: BenchRequest, pair_for: Callable[[set[Role]], Pair], make_run: MakeRun | None = None
) -> tuple[list[Response], int]:
    """Answer what the output does not have yet; all responses, setting by setting, and the batch's exit code.

    pair_for: gives the pair for these roles
    make_run: what answers; None: BatchRun. Another one may make a folder of parts of the output

    The exit code is 0, 1 where some responses failed, or 130 after Ctrl-C: then some responses are missing.
    """
    from ..batch.run import BatchRun  # loads llama.cpp, which grading does without

    check_installed(request.problems)
    settings = settings_for(request.base, request.modes, request.grid)
    prompts = prompts_for(request.problems, settings, request.n_samples)
    with tempfile.TemporaryDirectory() as folder:
        output = request.output or str(Path(folder) / "responses.jsonl")
        exit_code = (make_run or BatchRun)(_batch_of(request, prompts, output), pair_for).execute()
        records = _records_of(prompts, Path(output))
    by_id = {problem.id: problem for problem in request.problems}
    place = {setting.name: i for i, setting in enumerate(settings)}
    responses = []
    for record in records:
        problem, setting, sample = parts_of(record["id"]) or (record["id"], "", 0)
        responses.append(_graded(by_id[problem], setting, sample, record))
    return sorted(responses, key=lambda response: place[response.setting]), exit_code


def _batch_of(request: BenchRequest, prompts: list[Prompt], output: str) -> BatchRequest:
    return BatchRequest(
        prompts=prompts,
        settings=request.base,
        prompting=request.prompting,
        runtime=request.runtime,
        parallel=request.parallel,
        output=output,
        trace=request.trace,
        resume=True,
        quiet=request.quiet,
        summary=False,
        name=request.name,
        fitting=request.fitting,
    )


def _records_of(prompts: list[Prompt], output: Path) -> list[Record]:
    """The records of these prompts; the output of a run that was resumed may have others, too."""
    if not output.exists():  # stopped before anything was written
        return []
    ids = {prompt.id for prompt in prompts}
    files = sorted(output.glob("part-*.jsonl")) if output.is_dir() else [output]
    return [record for file in files for _, record in objects(str(file)) if record.get("id") in ids]


def read_responses(
    path: str, problems: list[Problem], limit: int | None, note: Note = lambda text: None
) -> list[Response]:
    """The responses of a file of JSON lines, graded, whoever wrote them; those of a benchmark keep their settings.

    path: of the file; "-" is standard input, and `note` tells the user that it is waited for
    limit: how many problems of the set were loaded; where not all were, responses to others are left out
    """
    by_id = {problem.id: problem for problem in problems}
    responses = []
    for where, record in objects(path, note):
        id, text = str(record.get("id")), record.get("text")
        if not isinstance(text, str):
            raise UsageError(f"{where}: a response needs `id` (its problem's) and `text`")
        name, setting, sample = id, str(record.get("setting") or "responses"), 0
        if name not in by_id:
            name, setting, sample = parts_of(id) or (name, setting, sample)
        if name in by_id:
            responses.append(_graded(by_id[name], setting, sample, record))
        elif limit is None:
            raise UsageError(f"{where}: no problem has the id {name!r}: --problems names the set it is of")
    if not responses:
        raise UsageError(
            f"{name_of(path)} has no responses to these problems: one JSON object on each line is expected"
        )
    return responses


def _graded(problem: Problem, setting: str, sample: int, record: dict[str, Any]) -> Response:
    measured = record if can_be_measured(record) else {}
    known = measured.get("answer")  # in records of others it may be the problem's
    known = known if isinstance(known, str) else None
    result = Grade.FAILED if record.get("error") else grade(record["text"], problem, known).grade
    reason = record.get("finish_reason")
    return Response(problem.id, setting, sample, result, record["text"], measured, str(reason) if reason else None)
