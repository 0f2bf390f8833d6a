"""Load a pair, generate, stream: what the command lines and Python users call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from . import llama
from .checkpoints import Checkpoints
from .config import Generation, ModelSettings, Pair, Prompting, Runtime
from .errors import ForealError, SessionError, UsageError
from .gguf_file import fingerprint, n_ctx_train, read_shape
from .hardware import plan_lanes, usable_cores
from .interrupt import watching_interrupts
from .lanes import side_by_side
from .ledger import Cost
from .model import Model
from .results import Asked, Prompt, Result, Written, roles_of, settings_hash, with_seed
from .scheduler import Scheduler
from .sequence import FinishReason, Role, Sequence, Spelled, n_common
from .serving import spelled
from .session import Identity
from .text import Messages, PairTokens, PromptTokens, RoleVocabulary, encode_prompt

Progress = Callable[[Role, float], None]
T = TypeVar("T")
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


class Engine:
    """A pair of loaded models with at most `n_slots` sequences at a time. Use it as a context manager.

    Owns the weights, the lanes (a context for each role, driven by one thread) and the abort flag; closes
    contexts before weights. `warnings` are lines for the user; `cost` is the work of all runs so far.
    `shared_prefix`: what the first prompts of a run all begin with (a system message, examples) is evaluated
    once and copied into the slots; a run then reads up to 16 prompts ahead.
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
        if n_slots < 1:
            raise UsageError(f"the number of parallel sequences is {n_slots}, but must be 1 or more")
        self.pair, self.runtime, self.n_slots = pair, runtime or Runtime(), n_slots
        self._shares_prefix = shared_prefix
        self.roles = [role for role in Role if role in set(roles)]
        self.warnings: list[str] = []
        self.cost = {role: Cost() for role in Role}
        self.abort = llama.Abort()
        self._weights: dict[Role, llama.Weights] = {}
        self._lanes: list[dict[Role, llama.Context]] = []
        self._counting = threading.Lock()
        self._answering = False
        self._runs: WeakSet[Generator[Written | Result, None, None]] = WeakSet()
        try:
            with watching_interrupts(self.abort):
                self._open(on_progress)
        except BaseException:
            self.close()
            raise

    @classmethod
    def load(cls, pair: Pair, **options: object) -> Engine:
        """Engine(pair, ...): the same as the constructor, named for what it does."""
        return cls(pair, **options)  # type: ignore[arg-type]

    @property
    def models(self) -> dict[Role, Model]:
        """The contexts of an engine with one lane."""
        (lane,) = self._lanes
        return dict(lane)

    def scheduler(self, **options: Any) -> Scheduler:
        """A scheduler of one's own over `models`; `uninterrupted` is for its steps."""
        return Scheduler(self.models, self.tokens, self.shapes, **options)

    def tokens_of(self, text: str, sequence: Sequence) -> list[Spelled]:
        """A text as tokens for Sequence.close_with, in the ids of who wrote last."""
        author = sequence.tokens[-1].author if sequence.tokens else next(iter(sequence.views))
        return spelled(text, author, sequence, self.tokens)

    def _settings(self, role: Role) -> ModelSettings:
        return self.pair.leader if role is Role.LEADER else self.pair.draft

    def _open(self, on_progress: Progress | None) -> None:
        self.shapes = {role: read_shape(self._settings(role).path) for role in Role}
        self.fingerprints = {role: fingerprint(self._settings(role).path) for role in Role}
        for role in self.roles:
            settings = self._settings(role)
            shared = self._weights.get(role.other)
            if shared and settings.path.samefile(shared.path) and settings.gpu_layers == self.pair.leader.gpu_layers:
                self._weights[role] = shared
                continue
            report = (lambda done, role=role: on_progress(role, done)) if on_progress else None
            self._weights[role] = llama.Weights(
                settings.path, settings.gpu_layers, self.runtime.verbose, report, self.abort
            )
        vocabularies: dict[Role, RoleVocabulary] = {role: w.vocabulary for role, w in self._weights.items()}
        self._vocabularies = vocabularies
        self.tokens = PairTokens(vocabularies)
        self._templates = {role: w.chat_template for role, w in self._weights.items()}
        self.ctx_size = ctx_size_of(self.pair, self.runtime)
        self.threads = self.runtime.threads or usable_cores()
        slots = self._plan_lanes()
        for n_slots in slots:
            lane: dict[Role, llama.Context] = {}
            self._lanes.append(lane)
            for role in self.roles:
                lane[role] = llama.Context(
                    self._weights[role],
                    n_slots,
                    self.ctx_size,
                    max(1, self.threads // len(slots)),
                    self.runtime,
                    self.abort,
                    self._shares_prefix,
                )
        formats = {str(role): context.cache_format for role, context in self._lanes[0].items()}
        self.identity = Identity({str(role): self.fingerprints[role] for role in self.roles}, formats)
        self._warn()

    def _plan_lanes(self) -> list[int]:
        """The slots of each lane; n_slots together."""
        n_bytes = sum(w.n_bytes for w in set(self._weights.values()))
        n_lanes = self.runtime.lanes or plan_lanes(n_bytes, self.threads, llama.supports_gpu_offload())
        n_lanes = min(self.n_slots, n_lanes)
        return [len(range(lane, self.n_slots, n_lanes)) for lane in range(n_lanes)]

    def _warn(self) -> None:
        trained = min(w.n_ctx_train for w in self._weights.values())
        if self.ctx_size > trained:
            self.warnings.append(f"--ctx-size {self.ctx_size} is more than the models were trained for ({trained})")
        n_processors = os.cpu_count() or 1
        if self.threads > n_processors:
            self.warnings.append(
                f"--threads {self.threads} is more than this machine's {n_processors} processors: "
                "threads that wait for each other make this very slow"
            )
        wanted = [role for role in self.roles if self._settings(role).gpu_layers > 0]
        if wanted and not llama.supports_gpu_offload():
            self.warnings.append(
                "layers are to be offloaded, but this build of llama-cpp-python has no GPU support: "
                "everything runs on the CPU (README, Install, says how to get a CUDA or Metal build)"
            )
        if self.tokens.n_different:
            self.warnings.append(
                f"{self.tokens.n_different} special tokens differ between leader and draft: "
                "each reads the other's as text"
            )

    # ---------------------------------------------------------------- generating
    def run(
        self,
        prompts: Iterable[Prompt],
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Generator[Written | Result, None, None]:
        """Answer all prompts, n_slots at a time; tokens as they are written, and each Result when finished.

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
        n_lanes = len(self._lanes)
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
        scheduler = Scheduler(models, self.tokens, self.shapes, prefixes=prefixes)
        running: dict[int, _Running] = {}
        checkpoints = job.checkpoints
        try:
            while True:
                yield from self._admit(scheduler, source, job, running)
                if scheduler.idle:
                    return
                n_finished = 0
                while not n_finished:
                    for sequence, tokens, finished in self.uninterrupted(scheduler.step):
                        one = running[sequence.index]
                        asked = one.asked
                        if tokens:
                            yield Written(sequence.index, sequence.id, tokens, asked.starts_thinking)
                        if checkpoints and (checkpoints.due(sequence) or finished):
                            self._save(scheduler, one, checkpoints)  # a result may never reach its reader
                        if finished:
                            n_finished += 1
                            del running[sequence.index]
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
            running[sequence.index] = _Running(asked, sequence)
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

    def encode(self, content: str | Messages, prompting: Prompting) -> PromptTokens:
        """A prompt's ids for each role, as `run` would use them."""
        self._require_open()
        return encode_prompt(content, prompting, self._vocabularies, self._templates, llama.render_chat)

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
    def _require_open(self) -> None:
        if not self._weights:  # a vocabulary whose model is freed ends the process
            raise UsageError("this engine is closed: use it inside its `with`")

    def close(self) -> None:
        """Ends what still runs, then frees everything."""
        for run in list(self._runs):
            run.close()
        for lane in self._lanes:
            for context in lane.values():
                context.close()
        self._lanes.clear()
        for weights in set(self._weights.values()):
            weights.close()
        self._weights.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def describe(self, role: Role) -> str:
        """Model, size and where it runs, in a few words."""
        weights = self._weights[role]
        where = "GPU" if llama.supports_gpu_offload() and self._settings(role).gpu_layers != 0 else "CPU"
        return f"{weights.path.name} ({weights.describe()}, {weights.n_bytes / 1e6:.1f} MB, {where})"


def ctx_size_of(pair: Pair, runtime: Runtime) -> int:
    """Tokens of one sequence's context: as asked for, or what both models were trained for, within reason."""
    if runtime.ctx_size is not None:
        return runtime.ctx_size
    trained = min(n_ctx_train(settings.path) for settings in (pair.leader, pair.draft))
    return max(2, min(trained, Runtime.MAX_DEFAULT_CTX_SIZE))


def _dealt(source: Iterator[Prompt], n_slots: int, n_lanes: int) -> list[list[Prompt]]:
    """Each lane's items: every slot gets as many, slot i belongs to lane i % n_lanes."""
    shares: list[list[Prompt]] = [[] for _ in range(n_lanes)]
    for i, item in enumerate(source):
        shares[i % n_slots % n_lanes].append(item)
    return shares
