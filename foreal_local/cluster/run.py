"""A run over a prompt set on a Ray cluster: what is checked before, what is written, how it ends.

It is BatchRun's counterpart: the same prompts, settings and records. It keeps no prompt and no record, so that any
number of them takes the same memory.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import click

from .. import __version__
from ..batch.clock import settled_time, with_run_time
from ..batch.printing import Styles, print_rows
from ..batch.request import BatchRequest
from ..batch.totals import Totals
from ..config import Generation, Pair, Runtime
from ..digest import settings_hash
from ..documents import name_of
from ..errors import UsageError
from ..method.ledger import Cost
from ..method.modes import roles_of
from ..method.plan import UNMEASURED_PLAN
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..offline import N_AHEAD
from ..palette import palette_of
from ..results import Prompt, with_seed
from ..runtime.gguf_file import fingerprint, model_file
from ..runtime.interrupt import deferred_interrupts, sigterm_as_ctrl_c
from ..runtime.llama import supports_gpu_offload
from ..runtime.loaded import ctx_size_of
from ..storage.checkpoints import Checkpoints
from ..storage.files import OutputError, locked, remove_scratch
from ..storage.run_file import RunFile
from .answering import Answerer
from .earlier import EarlierParts
from .layout import layout_of
from .parts import Parts
from .ray_data import RayCluster, RayError, require_ray
from .source import numbered
from .spool import Spool
from .work import Answer, Answered, Models, Work


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster, and how much of it.

    address: of a cluster to join; "": that of RAY_ADDRESS, else one is started on this machine
    actors: how many; None: as many as it has room for
    fit: each machine changes what does not fit its memory
    """

    address: str = ""
    actors: int | None = None
    fit: bool = True

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UsageError(f"--ray-actors is {self.actors}, but must be 1 or more")
        if self.address.startswith("ray://"):
            raise UsageError(
                f"--ray {self.address} is for clients outside of the cluster: give HOST:PORT on a machine that has "
                "joined it (ray start --address HOST:PORT), because the prompts are read there"
            )


class ClusterRun:
    """One run of a BatchRequest on a cluster.

    request: what is answered, in which way, and the folder that results go to; its prompts come before the others
    pair_for: gives the pair for these roles on this machine
    models: the pair's names, as all machines understand them
    options: of the cluster
    prompts: more prompts, taken one at a time
    answerer: what an actor is made of
    """

    def __init__(
        self,
        request: BatchRequest,
        pair_for: Callable[[set[Role]], Pair],
        models: Models,
        options: ClusterOptions,
        prompts: Iterable[Prompt] = (),
        answerer: type = Answerer,
    ) -> None:
        require_ray()
        if not request.output or request.output == "-":
            raise UsageError("--ray needs --output FOLDER: the results are written there in parts")
        if "://" in request.output:
            raise UsageError(f"--output {request.output} is an address: results go to a folder that is mounted here")
        self._request, self._options, self._models, self._answerer = request, options, models, answerer
        self._settings, self._prompting = request.settings, request.prompting
        self._source = chain(request.prompts, prompts)
        self._parts = Parts(Path(request.output), self._finished)
        if self._parts.files() and not request.resume:
            raise UsageError(
                f"{request.output} has results of an earlier run: --resume goes on with it, or name another folder"
            )
        self._roles = request.roles or set(roles_of(request.settings.mode))
        self._run_file = RunFile(self._parts.folder, OutputError, self._note)
        self._pair_for, self._pair = pair_for, pair_for(self._roles)
        self._checkpoints: Checkpoints | None = None
        self._now: str | None = None
        self._first: list[Prompt] = []
        self._told: set[str] = set()
        self._above: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._totals, self._plan, self._prompt_notes = Totals(), UNMEASURED_PLAN, dict[str, None]()
        self._costs: dict[str, dict[Role, Cost]] = {}

    def execute(self) -> int:
        """Answer all prompts that have no finished record; the exit code (0, 1 some failed, 130 after Ctrl-C)."""
        interrupted = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(sigterm_as_ctrl_c())
            self._open_output(stack)
            spool = stack.enter_context(Spool())
            earlier = self._settle()
            n_done = self._fill(spool, earlier)
            if not n_done + len(spool):
                raise UsageError("nothing to answer: there are no prompts")
            self._run_file.keep(self._settings.seed, self._now)  # now that nothing is wrong with the prompts
            if n_done:
                n_all = n_done + len(spool)
                self._note(f"{n_done} of {n_all} prompts are done already, in {self._request.output}")
            if earlier:
                earlier.apply(self._note)
            started = time.perf_counter()
            try:
                if len(spool):
                    started = self._answer_all(spool)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                with deferred_interrupts():
                    self._parts.flush()
            if self._checkpoints and not interrupted:
                self._checkpoints.close()
            seconds, n_left = time.perf_counter() - started, len(spool)
        if n_left:
            self._summarise(seconds)
        if interrupted:
            n = self._totals.n_results
            kept = f", kept in {self._request.output}" if n else ""
            self._note(f"interrupted: {n} of {n_left} prompts finished{kept}")
            return 130
        return 1 if self._totals.finished[FinishReason.ERROR] else 0

    # ---------------------------------------------------------------- before anything is answered
    def _open_output(self, stack: contextlib.ExitStack) -> None:
        request = self._request
        stack.enter_context(self._parts.created())
        stack.enter_context(locked(self._parts.folder, "--output"))
        remove_scratch(self._parts.folder)
        stack.callback(self._tidy)
        if request.checkpoint:
            folder = Path(request.checkpoint)
            self._checkpoints = Checkpoints(folder, request.checkpoint_every, self._note)
            stack.enter_context(locked(folder, "--checkpoint"))
            self._checkpoints.clean()

    def _tidy(self) -> None:
        """Keep nothing of a run that has written nothing; what its checkpoints need is in their folder."""
        if not self._parts.files():
            self._run_file.remove()

    def _settle(self) -> EarlierParts | None:
        """The seed and the time of the run, those of the earlier run where it is resumed; and that run."""
        request, run_file, earlier = self._request, self._run_file, None
        if request.resume and self._parts.files():
            earlier = EarlierParts(self._parts, ctx_size_of(self._pair, request.runtime))
        seeds = (self._settings.seed, run_file.seed, earlier.seed if earlier else None)
        seed = next((each for each in seeds if each is not None), None)
        now = self._prompting.now or run_file.now or (earlier.now if earlier else None)
        settings, checkpoints = replace(self._settings, seed=seed), self._checkpoints
        self._settings = checkpoints.settle_seed(settings) if checkpoints else with_seed(settings)
        self._now = settled_time(now, (self._pair.of(role).path for role in Role), checkpoints)
        self._prompting = with_run_time(self._prompting, self._now)
        return earlier

    def _fill(self, spool: Spool, earlier: EarlierParts | None) -> int:
        """Read all prompts, so that what is wrong with one is told before any is answered; keep those that need an
        answer. How many need none."""
        models = {role: fingerprint(self._pair.of(role).path) for role in Role}
        n_done = 0
        for prompt in self._prompts():
            if len(self._first) < N_AHEAD:
                self._first.append(prompt)
            settings = self._seeded(prompt)
            own = prompt.prompting or self._prompting
            if earlier and earlier.has(str(prompt.id), settings_hash(prompt.content, settings, own, models)):
                n_done += 1
                continue
            if not self._roles.issuperset(roles_of(settings.mode)):
                self._roles = self._roles.union(roles_of(settings.mode))
                self._pair_for(self._roles)  # an error where a model is missing
            spool.add(prompt)
        return n_done

    def _prompts(self) -> Iterator[Prompt]:
        """All of them, with ids and places, and with one time."""
        name = name_of(self._request.inputs.get("--file") or "--prompt")
        for prompt in numbered(self._source, name):
            yield replace(prompt, prompting=with_run_time(prompt.prompting, self._now)) if prompt.prompting else prompt

    def _seeded(self, prompt: Prompt) -> Generation:
        settings = prompt.settings or self._settings
        return settings if settings.seed is not None else replace(settings, seed=self._settings.seed)

    # ---------------------------------------------------------------- answering
    def _answer_all(self, spool: Spool) -> float:
        """When the cluster was ready."""
        request, options = self._request, self._options
        parallel = min(request.parallel, len(spool))
        n_bytes = sum(model_file(path).n_bytes for path in {self._pair.of(role).path for role in self._roles})
        on_gpu = supports_gpu_offload() and any(self._pair.of(role).gpu_layers for role in self._roles)
        with RayCluster(options.address, request.quiet, request.runtime.verbose) as cluster, self._telling(cluster):
            nodes, runtime = cluster.nodes(), request.runtime
            layout = layout_of(
                nodes,
                n_bytes=n_bytes,
                threads=runtime.threads,
                parallel=parallel,
                on_gpu=on_gpu,
                n_actors=options.actors,
            )
            spans = spool.spans(layout.together(len(spool), parallel))
            n_actors = min(layout.n_actors, len(spans.begins))
            if not request.quiet:
                self._note(layout.describe(n_actors))
            started = time.perf_counter()
            work = self._work(replace(runtime, threads=layout.threads), parallel)
            rows = cluster.answers(spool.path, spans, layout, parallel, self._answerer, work)
            with contextlib.closing(rows):
                for row in rows:
                    self._take(pickle.loads(row))
                    if n_lost := cluster.n_lost():
                        gone = "1 machine is gone: what it" if n_lost == 1 else f"{n_lost} machines are gone: what they"
                        self._note(f"{gone} had in hand is made again elsewhere")
        return started

    def _work(self, runtime: Runtime, parallel: int) -> Work:
        request = self._request
        return Work(
            version=__version__,
            models=self._models,
            fingerprints={role: fingerprint(self._pair.of(role).path) for role in Role},
            settings=self._settings,
            prompting=self._prompting,
            runtime=runtime,
            roles=self._roles,
            parallel=parallel,
            fit=self._options.fit,
            first=tuple(self._first),
            checkpoint=str(Path(request.checkpoint).absolute()) if request.checkpoint else None,
            checkpoint_every=request.checkpoint_every,
        )

    def _take(self, answered: Answered) -> None:
        """Write what has come, each record once, and tell what is to be told."""
        if answered.error:
            message, code = answered.error
            raise UsageError(message) if code == UsageError.exit_code else RayError(message)
        for note in answered.warnings:
            if note not in self._told:
                self._told.add(note)
                self._note(note)
        self._costs[answered.actor], self._plan = answered.cost, answered.plan
        self._prompt_notes |= dict.fromkeys(answered.prompt_notes)
        with deferred_interrupts():
            self._totals.merge(answered.totals)
            self._parts.add(answered.answers)
        for answer in answered.answers:
            self._report(answer)

    def _report(self, answer: Answer) -> None:
        """Say so if a response did not end by itself."""
        request = self._request
        is_told = request.summary and (answer.full or not request.quiet)
        if answer.ending and (is_told or answer.failed):
            self._note(answer.ending)

    def _finished(self, written: list[Answer]) -> None:
        """What is on the disk needs no checkpoint any more."""
        for answer in written if self._checkpoints else []:
            self._checkpoints.remove(answer.id, answer.settings_hash)  # type: ignore[union-attr]

    # ---------------------------------------------------------------- stderr
    def _note(self, text: str) -> None:
        with self._above():
            click.echo(f"{self._request.name}: {text}", err=True)

    @contextlib.contextmanager
    def _telling(self, cluster: RayCluster) -> Iterator[None]:
        """Notes stand above the cluster's progress meanwhile."""
        self._above = cluster.above_progress
        try:
            yield
        finally:
            self._above = contextlib.nullcontext

    def _summarise(self, seconds: float) -> None:
        request = self._request
        if request.quiet or not request.summary:
            return
        cost = {role: Cost() for role in Role}
        for costs in self._costs.values():
            for role, each in costs.items():
                cost[role].add(each)
        rows = [*self._totals.lines(self._settings, cost, seconds, self._plan)]
        rows += [("as the models read it", note) for note in self._prompt_notes]
        rows += [("pair", request.limits)] if request.limits else []
        click.echo("", err=True)
        print_rows(rows, Styles(request.color, palette_of(request.background)))
