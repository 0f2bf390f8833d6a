"""A run over many prompts: where results go, what is shown while it runs, how it ends."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from ..config import Generation, Pair
from ..digest import settings_hash
from ..engine import Engine
from ..errors import UsageError
from ..method.ledger import Cost
from ..method.reasoning import ReasoningTags
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..palette import palette_of
from ..results import Chunk, Prompt, Result, with_seed
from ..runtime.gguf_file import fingerprint
from ..runtime.interrupt import deferred_interrupts, sigterm_as_ctrl_c
from ..runtime.loaded import ctx_size_of
from ..runtime.room import trained_for
from ..storage.checkpoints import Checkpoints
from ..storage.files import LineFile, OutputError, locked
from ..storage.ownership import check_writable, was_there
from .clock import with_one_time
from .json_lines import print_line, to_line
from .printing import AnswerPrinter, Headings, Styles, ending_of, print_rows
from .progress import Bars
from .request import BatchRequest
from .resume import ResumePlan, keep_whole_traces, plan_for, read_earlier
from .totals import Totals
from .trace import trace_header, trace_lines


class BatchRun:
    """One run of a BatchRequest.

    request: what is answered, and where results go
    pair_for: gives the pair for these roles; called when the output is known to be writable
    """

    def __init__(self, request: BatchRequest, pair_for: Callable[[set[Role]], Pair]) -> None:
        self._request, self._settings, self._prompts = request, request.settings, request.prompts
        self._prompting = request.prompting
        self._told: set[str] = set()  # warnings
        self._bars = Bars(not (request.quiet or request.runtime.verbose))
        for option, path in (("--output", request.output), ("--trace", request.trace)):
            if path:
                check_writable(path, option)
        self._pair = pair_for(request.roles)
        self._most_context = trained_for(self._pair)
        request.refuse_one_file_twice(self._pair)
        if request.resume and not (request.output and request.format == "jsonl"):
            raise UsageError("--resume needs --output FILE with JSON lines: it is there that finished records are")
        self._totals = Totals()
        self._n_printed = 0
        self._styles = Styles(request.color, palette_of(request.background))
        self._headings = Headings(self._styles, len(self._prompts), request.quiet, self._bars.tell)
        self._waiting: dict[int, Result] = {}  # finished, to be printed after prompts that are not
        self._output: LineFile | None = None
        self._trace: LineFile | None = None
        self._checkpoints: Checkpoints | None = None
        self._hashes: dict[str, str] = {}
        self._choice = ""  # why mode auto writes as it does, told by the output that is resumed

    def execute(self) -> int:
        """Answer all prompts that have no finished record; the exit code (0, 1 some failed, 130 after Ctrl-C)."""
        interrupted = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(sigterm_as_ctrl_c())
            self._lock(stack)
            engine = self._choose_mode(stack)
            plan = self._prepare()
            done = plan.done if plan else set()
            todo = [prompt for prompt in self._prompts if prompt.id not in done]
            if done:
                self._note(f"{len(done)} of {len(self._prompts)} prompts are done already, in {self._request.output}")
            if not todo:
                self._apply(plan)
                if plan and plan.moved:
                    self._continue_trace(plan)
                self._finish_checkpoints()
                return 0
            engine = engine or self._load(stack, len(todo))
            self._open_files(stack, plan)
            started = time.perf_counter()
            try:
                self._answer_all(engine, todo)
            except KeyboardInterrupt:
                interrupted = True
            seconds, cost = time.perf_counter() - started, engine.cost
            if self._totals.n_results == len(todo):
                self._finish_checkpoints()
        self._summarise(cost, seconds, engine)
        if interrupted:
            self._note(f"interrupted: {self._totals.n_results} of {len(todo)} prompts finished" + self._where_kept())
            return 130
        return 1 if self._totals.finished[FinishReason.ERROR] else 0

    # ---------------------------------------------------------------- before anything is answered
    def _lock(self, stack: contextlib.ExitStack) -> None:
        request = self._request
        for option, path in (("--output", request.output), ("--trace", request.trace)):
            if path:
                stack.enter_context(locked(Path(path), option))
        if request.checkpoint:
            folder = Path(request.checkpoint)
            self._checkpoints = Checkpoints(folder, request.checkpoint_every, self._note)
            stack.enter_context(locked(folder, "--checkpoint"))
            self._checkpoints.clean()

    def _choose_mode(self, stack: contextlib.ExitStack) -> Engine | None:
        """Settle who writes in mode auto, where a measured setting may be chosen; the engine, if that needed one.

        A run that is resumed goes on as it began.
        """
        request, engine = self._request, None
        if request.measured is None or request.loss is None:
            return None
        earlier = read_earlier(Path(request.output)) if request.resume and request.output else None
        ids = (str(i) if p.id is None else p.id for i, p in enumerate(self._prompts))
        settled = earlier.choice(ids, (self._settings.mode, request.measured.mode)) if earlier else None
        if settled:
            mode, self._choice = settled
        else:
            engine = self._load(stack, len(self._prompts))
            mode = engine.choose_mode(self._settings, request.measured, request.loss).mode
        self._settings = self._in_mode(self._settings, mode)
        self._prompts = [replace(p, settings=p.settings and self._in_mode(p.settings, mode)) for p in self._prompts]
        return engine

    def _in_mode(self, settings: Generation, mode: str) -> Generation:
        """In place of auto."""
        return replace(settings, mode=mode) if settings.mode == self._request.settings.mode else settings

    def _prepare(self) -> ResumePlan | None:
        """Give every prompt an id, an index and all settings, the seed too; with --resume, what the output keeps."""
        request = self._request
        earlier = read_earlier(Path(request.output)) if request.resume and request.output else None
        named = [
            replace(p, id=str(i) if p.id is None else p.id, index=i if p.index is None else p.index)
            for i, p in enumerate(self._prompts)
        ]
        places = {str(p.id): p.index or 0 for p, given in zip(named, self._prompts, strict=True) if given.id is None}
        if self._settings.seed is None and earlier:
            unseeded = (str(p.id) for p in named if p.settings is None or p.settings.seed is None)
            self._settings = replace(self._settings, seed=earlier.seed(unseeded))
        checkpoints = self._checkpoints
        self._settings = checkpoints.settle_seed(self._settings) if checkpoints else with_seed(self._settings)
        paths = [self._pair.of(role).path for role in request.roles]
        self._prompting, named = with_one_time(request.prompting, named, paths, earlier, checkpoints)
        self._prompts = [replace(p, settings=self._seeded(p.settings)) for p in named]
        self._hashes = {str(p.id): self._hash(p) for p in self._prompts}
        ctx_size = ctx_size_of(self._pair, request.runtime)
        return plan_for(earlier, self._hashes, ctx_size, places) if earlier else None

    def _seeded(self, settings: Generation | None) -> Generation:
        settings = settings or self._settings
        return settings if settings.seed is not None else replace(settings, seed=self._settings.seed)

    def _hash(self, prompt: Prompt) -> str:
        models = {role: fingerprint(self._pair.of(role).path) for role in Role}
        assert prompt.settings is not None
        prompting = prompt.prompting or self._prompting
        return settings_hash(prompt.content, prompt.settings, prompting, models)

    def _load(self, stack: contextlib.ExitStack, n_prompts: int) -> Engine:
        request, n_slots, shared_prefix = self._request, min(self._request.parallel, n_prompts), n_prompts > 1
        pair, runtime = request.fitting(
            self._pair, request.runtime, n_slots=n_slots, roles=request.roles, prefix_slot=shared_prefix
        )
        with self._bars.loading() as on_progress:
            engine = Engine(
                pair,
                runtime=runtime,
                n_slots=n_slots,
                roles=request.roles,
                shared_prefix=shared_prefix,
                settings=self._settings,
                prompting=request.prompting,
                on_progress=on_progress,
            )
            stack.enter_context(engine)
        if self._choice:
            engine.plan = replace(engine.plan, choice=self._choice)
        if not any((prompt.prompting or self._prompting).raw for prompt in self._prompts):
            engine.loaded.require_templates(self._prompting)
        self._tell_warnings(engine)
        return engine

    def _tell_warnings(self, engine: Engine) -> None:
        """Those that were not told yet: some come with the first prompt that they are about."""
        for warning in engine.warnings:
            if warning not in self._told:
                self._note(f"warning: {warning}")
                self._told.add(warning)

    def _open_files(self, stack: contextlib.ExitStack, plan: ResumePlan | None) -> None:
        """Open the output and the trace: last before answering, because older files are set aside here."""
        output, trace, done = self._request.output, self._request.trace, self._apply(plan)
        continued = plan is not None and self._continue_trace(plan)
        self._output, self._trace = self._open(output, plan is not None), self._open(trace, continued)
        for file in filter(None, (self._output, self._trace)):
            stack.callback(file.close)
        if self._trace and not continued:
            self._trace.write(self._trace_header())
            if done:
                self._note(f"{trace} gets only what is written now: it has nothing of the {len(done)} that are done")

    def _continue_trace(self, plan: ResumePlan) -> bool:
        """Reduce an earlier trace to the responses whose records stand; whether it can be continued."""
        trace, unfinished = self._request.trace, self._hashes.keys() - plan.done
        return trace is not None and keep_whole_traces(Path(trace), self._trace_header(), unfinished, plan.moved)

    def _trace_header(self) -> str:
        return trace_header(self._settings, str(self._pair.leader.path), str(self._pair.draft.path))

    def _apply(self, plan: ResumePlan | None) -> set[str]:
        """Reduce the output to what is kept, and remove checkpoints of finished prompts; the ids of these prompts."""
        if plan is None:
            return set()
        plan.apply(self._note)
        for id in plan.done if self._checkpoints else ():
            self._checkpoints.remove(id, self._hashes[id])  # type: ignore[union-attr]
        return plan.done

    def _finish_checkpoints(self) -> None:
        if self._checkpoints:
            self._checkpoints.close()

    def _open(self, path: str | None, append: bool) -> LineFile | None:
        if not path:
            return None
        file = LineFile(path, append)
        if file.set_aside:
            self._note(was_there(file.path, file.set_aside))
        return file

    # ---------------------------------------------------------------- answering
    def _answer_all(self, engine: Engine, prompts: list[Prompt]) -> None:
        to_screen = self._request.format == "text" and not self._output
        live = to_screen and engine.n_slots == 1
        printer: AnswerPrinter | None = None
        reasoning = to_screen and self._request.show_reasoning and sys.stderr.isatty()
        answers = self._output is None and sys.stdout.isatty()
        with self._bars.answering(len(prompts), shown=not (reasoning or answers)) as advance:
            try:
                with contextlib.closing(engine.run(prompts, self._settings, self._prompting, self._checkpoints)) as run:
                    for item in run:
                        if isinstance(item, Chunk):
                            advance(len(item.tokens), False)
                            if live:
                                printer = printer or self._printer(item.index, item.tags)
                                printer.feed(item.tokens)
                        if not isinstance(item, Result):
                            continue
                        advance(0, True)
                        self._tell_warnings(engine)
                        with deferred_interrupts(), self._traced(item):
                            self._totals.add(item)
                            if printer:
                                printer.end()
                                self._report(item)
                                printer, self._n_printed = None, item.index + 1
                            else:
                                self._write(item)
            finally:
                for index in sorted(self._waiting):  # of an interrupted run
                    self._print_whole(self._waiting.pop(index))

    @contextlib.contextmanager
    def _traced(self, result: Result) -> Iterator[None]:
        """Write a result's trace before its record: then every record has its trace, also after a crash.

        Where the trace cannot be written, the record still is, before the error is raised.
        """
        failed: OutputError | None = None
        try:
            if self._trace:
                self._trace.write(trace_lines(result))
        except OutputError as error:
            failed = error
        yield
        if failed:
            raise failed

    def _printer(self, index: int, tags: ReasoningTags) -> AnswerPrinter:
        self._headings.show(index, self._prompts[index].content)
        return AnswerPrinter(tags, self._styles, self._request.show_reasoning)

    def _print_whole(self, result: Result) -> None:
        try:
            if self._output:
                self._output.write(f"{result.answer}\n")
            else:
                printer = self._printer(result.index, result.sequence.tags)
                printer.feed(result.tokens)
                printer.end()
        except (OSError, OutputError):
            self._waiting.clear()  # no later one is to stand where this one is missing
            raise
        self._report(result)

    def _write(self, result: Result) -> None:
        """Records are written as they are finished; texts, which have no ids, in the order of the prompts."""
        if self._request.format == "text":
            self._waiting[result.index] = result
            while self._n_printed in self._waiting:
                self._print_whole(self._waiting.pop(self._n_printed))
                self._n_printed += 1
            return
        line = to_line(result.as_dict())
        if self._output:
            self._output.write(line)
        else:
            print_line(line)
        self._report(result)

    def _report(self, result: Result) -> None:
        """After a result is written: remove its checkpoint, and say so if the response did not end by itself."""
        if self._checkpoints:
            self._checkpoints.remove(result.id, result.submission.settings_hash)
        reason, request = result.finish_reason, self._request
        is_silent = request.format == "text" and result.ends_inside_reasoning  # a record says so itself
        is_told = request.summary and (reason is FinishReason.CONTEXT or is_silent or not request.quiet)
        if (is_told or reason is FinishReason.ERROR) and (ending := ending_of(result, self._most_context)):
            self._note(ending)

    # ---------------------------------------------------------------- stderr
    def _note(self, text: str) -> None:
        self._bars.tell(f"{self._request.name}: {text}")

    def _where_kept(self) -> str:
        return f", kept in {self._output.path}" if self._output else ""

    def _summarise(self, cost: dict[Role, Cost], seconds: float, engine: Engine) -> None:
        if self._request.quiet or not self._request.summary:
            return
        rows = [*self._totals.lines(self._settings, cost, seconds, engine.plan, engine.n_slots == 1)]
        rows += [("as the models read it", note) for note in engine.loaded.prompt_notes]
        rows += [("pair", self._request.limits)] if self._request.limits else []
        click.echo("", err=True)
        print_rows(rows, self._styles)
