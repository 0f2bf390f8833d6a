"""Load a pair, generate, stream: what the command lines and Python users call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from .config import Generation, Pair, Prompting, Runtime
from .errors import ForealError, SessionError, UsageError
from .method.ledger import Cost
from .method.sequence import FinishReason, Role, Sequence, n_common
from .results import Asked, Prompt, Result, Written, roles_of, settings_hash, with_seed
from .runtime import llama
from .runtime.interrupt import watching_interrupts
from .runtime.lanes import side_by_side
from .runtime.loaded import LoadedPair, Progress
from .runtime.model import Model
from .runtime.scheduler import Scheduler
from .storage.checkpoints import Checkpoints

T = TypeVar("T")
_STRETCH = 0.04  # seconds; nobody sees tokens come more often
_N_AHEAD = 16  # prompts that are looked at for a shared prefix
_SHORTEST_PREFIX = 32  # tokens; shorter ones cost less than their copies


@dataclass(frozen=True)
class _Job:
    """What a run has been asked for, but the prompts."""

    settings: Generation
    prompting: Prompting
    checkpoints: Checkpoints | None


class _Running(NamedTuple):
    asked: Asked
    sequence: Sequence


class Engine(LoadedPair):
    """A loaded pair that answers, at most `n_slots` sequences at a time. Use it as a context manager.

    `cost` is the work of all runs so far. `shared_prefix`: what the first prompts of a run all begin with (a system
    message, examples) is evaluated once and copied into the slots; a run then reads up to 16 prompts ahead.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        runtime: Runtime | None = None,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        shared_prefix: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        super().__init__(
            pair, runtime=runtime, n_slots=n_slots, roles=roles, spare=shared_prefix, on_progress=on_progress
        )
        self._shares_prefix = shared_prefix
        self.cost = {role: Cost() for role in Role}
        self._counting = threading.Lock()
        self._answering = False
        self._n_busy = 0  # lanes
        self._runs: WeakSet[Generator[Written | Result, None, None]] = WeakSet()

    @classmethod
    def load(cls, pair: Pair, **options: object) -> Engine:
        """Engine(pair, ...): the same as the constructor, named for what it does."""
        return cls(pair, **options)  # type: ignore[arg-type]

    def scheduler(self, **options: Any) -> Scheduler:
        """A scheduler of one's own over `models`; `uninterrupted` is for its steps."""
        return Scheduler(self.models, self.tokens, self.shapes, **options)

    # ---------------------------------------------------------------- generating
    def run(
        self,
        prompts: Iterable[Prompt],
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Generator[Written | Result, None, None]:
        """Answer all prompts, n_slots at a time; tokens as they are written, and each Result when finished.

        Prompts are taken when there is a slot for them; but in lanes (small models, several slots) all are taken first.

        `checkpoints`: running sequences are saved there, and go on from what is there; however the run ends,
        nothing is lost. Remove a checkpoint once its result is safe. A prompt that fails gives a Result with
        finish_reason "error". Closing the iterator (or Ctrl-C, a KeyboardInterrupt, in it) cancels what runs and
        frees every slot; until then the engine takes no other run.
        """
        job = _Job(with_seed(settings or Generation()), prompting or Prompting(), checkpoints)
        source = (replace(p, index=i if p.index is None else p.index) for i, p in enumerate(prompts))
        run = self._answers(source, job)
        self._runs.add(run)
        return run

    def _answers(self, source: Iterator[Prompt], job: _Job) -> Generator[Written | Result, None, None]:
        self._require_open()
        if self._answering:
            raise UsageError("this engine is answering already: finish or close that iterator first")
        self._answering = True
        n_lanes = self._n_busy = len(self._lanes)
        try:
            with watching_interrupts(self.abort):
                if n_lanes == 1:
                    yield from self._run_lane(self._lanes[0], source, job)
                    return
                # Which lane answers what does not depend on time: batches, and so results, are the same each run.
                runs = [
                    self._run_lane(lane, iter(items), job)
                    for lane, items in zip(self._lanes, _dealt(source, self.n_slots, n_lanes), strict=True)
                ]
                yield from side_by_side(runs, self.abort.set)
        finally:
            self.abort.clear()
            self._answering = False

    def _run_lane(
        self, lane: dict[Role, llama.Context], source: Iterator[Prompt], job: _Job
    ) -> Generator[Written | Result, None, None]:
        models: dict[Role, Model] = dict(lane)
        prefixes: dict[Role, list[int]] = {}
        if self._shares_prefix:
            ahead = list(islice(source, _N_AHEAD))
            prefixes, source = self._shared_prefixes(ahead, job.prompting), chain(ahead, source)
        stretch = 0.0 if job.checkpoints else _STRETCH  # they are due after a number of tokens
        scheduler = Scheduler(models, self.tokens, self.shapes, prefixes=prefixes, stretch=stretch)
        running: dict[int, _Running] = {}  # by the sequence's identity: prompts may share an index
        checkpoints, n_busy = job.checkpoints, 0
        try:
            while True:
                yield from self._admit(scheduler, source, job, running)
                if scheduler.idle:
                    return
                n_finished = 0
                while not n_finished:
                    if n_busy != self._n_busy:  # a lane that is done leaves its threads to the others
                        n_busy = self._n_busy
                        for context in lane.values():
                            context.use_threads(max(1, self.threads // n_busy))
                    for sequence, tokens, finished in self.uninterrupted(scheduler.step):
                        one = running[id(sequence)]
                        asked = one.asked
                        if tokens:
                            yield Written(sequence.index, sequence.id, tokens, asked.starts_thinking)
                        if checkpoints and (checkpoints.due(sequence) or finished):
                            self._save(scheduler, one, checkpoints)  # a result may never reach its reader
                        if finished:
                            n_finished += 1
                            del running[id(sequence)]
                            yield Result.of(asked, sequence, self.shapes)
        except BaseException as error:
            if checkpoints and not isinstance(error, SessionError):
                whole = isinstance(error, (KeyboardInterrupt, GeneratorExit))  # else the caches may not be
                for one in running.values():
                    self._save(scheduler, one, checkpoints, whole)
            raise
        finally:
            scheduler.close()
            with self._counting:
                self._n_busy -= 1
                for role, cost in scheduler.cost.items():
                    self.cost[role].add(cost)

    def uninterrupted(self, step: Callable[[], T]) -> T:
        """Call a step that evaluates: Ctrl-C ends the evaluation and is raised before the next one, so that between
        two steps everything is whole."""
        if self.abort.requested:
            raise KeyboardInterrupt
        self.abort.busy = True
        try:
            return step()
        finally:
            self.abort.busy = False

    def _admit(
        self, scheduler: Scheduler, source: Iterator[Prompt], job: _Job, running: dict[int, _Running]
    ) -> Iterator[Result]:
        """Prompts into free slots; the results of those that can never run."""
        while scheduler.has_room:
            prompt = next(source, None)
            if prompt is None:
                return
            asked, sequence = self._sequence(prompt, job)
            if sequence.finished:
                yield Result.of(asked, sequence, self.shapes)
                continue
            states = {}
            if job.checkpoints:
                session = job.checkpoints.load(sequence.id, asked.settings_hash, self.identity)
                if session:
                    sequence, states = session.sequence, session.states
                    sequence.index = prompt.index or 0
            if sequence.finished:
                yield Result.of(asked, sequence, self.shapes)
                continue
            running[id(sequence)] = _Running(asked, sequence)
            scheduler.add(sequence, states)

    def _shared_prefixes(self, prompts: list[Prompt], prompting: Prompting) -> dict[Role, list[int]]:
        """What all of these begin with, in each role's ids, where it is worth a copy."""
        encoded = []
        for prompt in prompts:
            with suppress(ForealError):  # it fails alone, when its turn comes
                encoded.append(self.encode(prompt.content, prompting).ids)
        if len(encoded) < 2:
            return {}
        first, *others = encoded
        shared = {role: min(n_common(first[role], ids[role]) for ids in others) for role in self.roles}
        return {role: first[role][:n] for role, n in shared.items() if n >= _SHORTEST_PREFIX}

    def _save(self, scheduler: Scheduler, one: _Running, checkpoints: Checkpoints, states: bool = True) -> None:
        if one.sequence.finish_reason is FinishReason.ERROR:
            return
        found = scheduler.save(one.sequence) if states else {}
        checkpoints.save(one.sequence, one.asked.settings_hash, found, self.identity)

    def generate(
        self,
        prompts: Iterable[Prompt | str],
        settings: Generation | None = None,
        prompting: Prompting | None = None,
    ) -> list[Result]:
        """All results, in the order of the prompts."""
        items = (prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in prompts)
        with closing(self.run(items, settings, prompting)) as run:  # Ctrl-C may come here, outside of it
            results = [item for item in run if isinstance(item, Result)]
        return sorted(results, key=lambda result: result.index)

    def stream(
        self, prompt: Prompt | str, settings: Generation | None = None, prompting: Prompting | None = None
    ) -> Generator[Written | Result, None, None]:
        """One prompt's tokens as they are written, then its Result."""
        return self.run([prompt if isinstance(prompt, Prompt) else Prompt(prompt)], settings, prompting)

    def _sequence(self, prompt: Prompt, job: _Job) -> tuple[Asked, Sequence]:
        settings = with_seed(prompt.settings or job.settings)
        assert prompt.index is not None
        name = str(prompt.index) if prompt.id is None else prompt.id
        asked = Asked(prompt, self.settings_hash(prompt, settings, job.prompting), self.ctx_size)
        try:
            encoded = self.encode(prompt.content, job.prompting)
            needed = roles_of(settings.mode)
            missing = [str(role) for role in needed if role not in self._weights]
            if missing:
                raise UsageError(f"mode {settings.mode} needs the {' and the '.join(missing)}, not loaded in this run")
            ids = {role: encoded.ids[role] for role in needed}
            asked = replace(asked, starts_thinking=encoded.starts_thinking)
            return asked, Sequence(name, prompt.index, settings, ids)
        except ForealError as error:
            sequence = Sequence(name, prompt.index, settings, {})
            sequence.finish(FinishReason.ERROR, str(error))
            return asked, sequence

    def settings_hash(self, prompt: Prompt, settings: Generation, prompting: Prompting) -> str:
        """As in the record of the prompt's result."""
        return settings_hash(prompt.content, settings, prompting, self.fingerprints)

    # ---------------------------------------------------------------- closing
    def close(self) -> None:
        """Ends what still runs, then frees everything."""
        for run in list(self._runs):
            run.close()
        self._free()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _dealt(source: Iterator[Prompt], n_slots: int, n_lanes: int) -> list[list[Prompt]]:
    """Each lane's items: every slot gets as many, slot i belongs to lane i % n_lanes."""
    shares: list[list[Prompt]] = [[] for _ in range(n_lanes)]
    for i, item in enumerate(source):
        shares[i % n_slots % n_lanes].append(item)
    return shares
