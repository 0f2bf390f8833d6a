"""One run of foreal analyze: what it is asked, the order of its steps, and the file it writes."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import __version__
from ..config import Generation, Mode, ModelSettings, Sampling
from ..errors import ForealError, UsageError
from ..evaluation.analysis.judging import Judgement, Reading
from ..evaluation.analysis.misalignment import N_DRAWS, Meter, Misalignment, plain
from ..evaluation.analysis.models import Models, Response
from ..evaluation.analysis.sources import Source, Trace, read_source
from ..evaluation.problems.datasets import DEFAULT_SET
from ..evaluation.reports.analysis_tables import About, tables_of
from ..evaluation.reports.report import check_folder
from ..hub import resolve_model
from ..results import Prompt
from ..runtime.gguf_file import fingerprint
from ..storage.files import LineFile, check_writable, locked
from .options import method_of, prompting_of, runtime_of
from .reports import report_analysis
from .tables import print_tables

ANALYSIS_VERSION = 1
T = TypeVar("T")


class Run:
    """One run: its source, its models, and how long its steps took."""

    def __init__(self, values: dict[str, Any], leader: str, drafts: Sequence[str]) -> None:
        self._values, self._method = values, method_of(values)
        for name in ("parallel", "bin"):
            if values[name] < 1:
                raise UsageError(f"--{name} is {values[name]}, but must be 1 or more")
        self._settings = Generation(
            Mode.LEADER, self._method, Sampling(temp=0), values["seed"], max_tokens=values["max_tokens"]
        )
        if values["output"]:
            check_writable(values["output"])
        if values["report"]:
            check_folder(Path(values["report"]))
        runtime, prompting = runtime_of(values), prompting_of(values)
        self._source: Source = read_source(values, self._settings)
        resolve = partial(resolve_model, offline=values["offline"], progress=not values["quiet"])
        paths = [resolve(draft) for draft in drafts]
        layers = values["leader_gpu_layers"], values["draft_gpu_layers"]
        self._models = Models(
            ModelSettings(resolve(leader), layers[0]),
            {_name(path, paths): ModelSettings(path, layers[1]) for path in paths},
            runtime,
            prompting,
            values["parallel"],
            values["quiet"],
            self._progress,
            self._note,
        )
        self._refuse_to_overwrite()
        self._n_failed = 0
        self._seconds: dict[str, float] = {}

    def _refuse_to_overwrite(self) -> None:
        """The output must be nothing that is read."""
        output, models = self._values["output"], self._models
        if not output or not Path(output).exists():
            return
        named = [self._values[name] for name in ("problems", "prompts", "responses", "trace")]
        read = [*filter(None, named), models.leader.path, *(draft.path for draft in models.drafts.values())]
        for path in read:
            if Path(path).exists() and Path(path).samefile(output):
                raise UsageError(f"--output is a file that is read here: {path}")

    def execute(self) -> int:
        models, values, source = self._models, self._values, self._source
        if isinstance(source, Trace) and source.n_without_leader:
            self._note(f"{source.n_without_leader} responses of the trace are the draft's alone: left out")
        with contextlib.ExitStack() as stack:
            if values["output"]:
                stack.enter_context(locked(Path(values["output"]), "--output"))
            drafts, responses = self._timed("vocabularies", partial(models.compare, source))
            prompts = [] if isinstance(source, Trace) else [item for item in source if isinstance(item, Prompt)]
            if prompts:
                responses, self._n_failed = self._timed("answers", partial(models.answers, prompts, self._settings))
            responses = self._not_empty(responses)
            rule = self._method.boundaries
            readings = self._timed("leader", partial(models.readings, responses, rule))
            judged = {
                draft.name: self._timed(draft.name, partial(models.judge, draft, responses, readings))
                for draft in drafts
            }
            meter = Meter(self._method, values["bin"], seed=values["seed"])
            found = {name: self._timed("figures", partial(meter.measure, each)) for name, each in judged.items()}
            if values["output"]:
                self._write(self._record(responses, readings, judged, found))
        about = About(models.leader.path.name, self._source_name, self._method)
        print_tables(tables_of(about, found))
        if values["report"]:
            paths = {"leader": models.leader.path} | {name: draft.path for name, draft in models.drafts.items()}
            click.echo(f"report: {report_analysis(values, paths, about, found)}")
        return 1 if self._n_failed else 0

    def _not_empty(self, responses: list[Response]) -> list[Response]:
        left = [one for one in responses if one.tokens]
        if not left:
            raise ForealError("no response has a token: there is nothing to analyse")
        if len(left) < len(responses):
            self._note(f"{len(responses) - len(left)} of {len(responses)} responses are empty: left out")
        reasons = Counter(one.finish_reason for one in left)
        for reason, option in (("context", "--ctx-size"), ("length", "--max-tokens")):
            if reasons[reason]:
                self._note(f"{reasons[reason]} of {len(left)} responses did not come to their end: raise {option}")
        return left

    @property
    def _source_name(self) -> str:
        named = ((name, self._values[name]) for name in ("problems", "prompts", "responses", "trace"))
        return next((f"the {name} of {value}" for name, value in named if value), f"the problems of {DEFAULT_SET}")

    # ---------------------------------------------------------------- the file
    def _record(
        self,
        responses: list[Response],
        readings: list[Reading],
        judged: dict[str, list[Judgement]],
        found: dict[str, Misalignment],
    ) -> dict[str, Any]:
        """Everything, for plots and for other programs; the flags are in the responses' order."""
        models = self._models
        values = {name: self._values[name] for name in ("limit", "seed", "max_tokens", "bin", "parallel", "ctx_size")}
        about = (
            asdict(self._method) | values | asdict(models.prompting) | {"source": self._source_name, "n_draws": N_DRAWS}
        )
        leader = {"name": models.leader.path.name, "fingerprint": fingerprint(models.leader.path)}
        drafts = [
            {"name": name, "fingerprint": fingerprint(models.drafts[name].path)}
            | one.as_dict()
            | {"flags": ["".join("01"[flag] for flag in each.aligned.tolist()) for each in judged[name]]}
            for name, one in found.items()
        ]
        told = [
            {"id": r.id, "n_tokens": len(r.tokens), "finish_reason": r.finish_reason, "sentences": sizes(reading)}
            for r, reading in zip(responses, readings, strict=True)
        ]
        record = {"type": "analysis", "version": ANALYSIS_VERSION, "foreal_local": __version__, "settings": about}
        record |= {"n_failed": self._n_failed, "seconds": plain(self._seconds), "leader": leader}
        return record | {"drafts": drafts, "responses": told}

    def _write(self, record: dict[str, Any]) -> None:
        file = LineFile(self._values["output"])
        with contextlib.closing(file):
            if file.kept:
                self._note(f"{file.path} was there already: kept as {file.kept}")
            file.write(json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n")

    # ---------------------------------------------------------------- stderr
    def _note(self, text: str) -> None:
        click.echo(f"foreal analyze: {text}", err=True)

    def _timed(self, name: str, step: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return step()
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def _progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar with the time left, on a terminal's stderr."""
        if self._values["quiet"] or not sys.stderr.isatty():
            yield lambda n: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.update(task, advance=n)


def sizes(reading: Reading) -> list[int]:
    """Tokens of each sentence."""
    return [n for _, n in sorted(Counter(reading.sentences).items())]


def _name(path: Path, paths: Sequence[Path]) -> str:
    """The file's name, or all of its path where two have the same."""
    return path.name if [other.name for other in paths].count(path.name) == 1 else str(path)
