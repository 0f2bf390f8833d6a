"""A loaded pair that answers: what the command lines and Python users call."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, overload
from weakref import WeakSet

from .asynchronous import Driver
from .by_name import with_changes
from .choice import Measured, choose
from .config import Generation, Pair, Prompting, Runtime
from .errors import UsageError
from .lane import Lane, Ticket, encoded_ticket
from .method.ledger import Cost
from .method.roles import Role
from .offline import OfflineRun
from .results import Chunk, Content, Contents, Event, Prompt, Result, as_prompt, as_prompts, in_order, with_seed
from .runtime.interrupt import watching_interrupts
from .runtime.loaded import LoadedPair, Progress
from .runtime.messages import PromptContent
from .runtime.model import Snapshot
from .runtime.scheduler import Scheduler, States
from .runtime.text import PromptTokens
from .storage.checkpoints import Checkpoints


class Engine:
    """A loaded pair that answers, at most `n_slots` sequences at a time. Use it as a context manager.

    pair: which files
    runtime: how the models run
    n_slots: sequences at a time
    roles: which of the models are loaded
    shared_prefix: what the first prompts of a run all begin with (a system message, examples) is evaluated once and
        copied into the slots; a run then reads up to 16 prompts ahead
    settings, prompting: what prompts are answered with unless they or their run say otherwise. Where they leave open
        how many tokens are proposed at a time, both models' speed is measured now
    on_progress: hears of the loading, as a fraction for each role

    `submit`, `step` and `cancel` are what everything else is made of: prompts may come and go at any time. The methods
    are for one thread at a time. Only `agenerate` and `astream` may be called from several event loops at once; while
    they answer, in threads of their own, the others raise UsageError.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        runtime: Runtime | None = None,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        shared_prefix: bool = False,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.settings, self.prompting = settings or Generation(), prompting or Prompting()
        self.loaded = loaded = LoadedPair(
            pair, runtime=runtime, n_slots=n_slots, roles=roles, prefix_slot=shared_prefix, on_progress=on_progress
        )
        self.plan, self.shares_prefix = loaded.prepare(self.settings, self.prompting), shared_prefix
        self.lanes = [
            Lane(Scheduler(dict(models), loaded.tokens, loaded.shapes, plan=self.plan), loaded.shapes, loaded.abort)
            for models in loaded.lanes
        ]
        self.driver = Driver(loaded, self.lanes, self.ticket, self._require_unused)
        self._events: deque[Event] = deque()
        self._n_submitted = self._n_watches = 0
        self._answering: OfflineRun | None = None
        self._runs: WeakSet[Generator[Event, None, None]] = WeakSet()

    # ---------------------------------------------------------------- what is loaded
    @property
    def n_slots(self) -> int:
        """Sequences at a time."""
        return self.loaded.n_slots

    @property
    def ctx_size(self) -> int:
        """Tokens of each sequence's context."""
        return self.loaded.ctx_size

    @property
    def warnings(self) -> list[str]:
        """Lines for the user about how the models are loaded."""
        return self.loaded.warnings

    @property
    def cost(self) -> dict[Role, Cost]:
        """The work of all prompts so far."""
        total = {role: Cost() for role in Role}
        for lane in self.lanes:
            for role, cost in lane.scheduler.cost.items():
                total[role].add(cost)
        return total

    def encode(self, content: PromptContent, prompting: Prompting | None = None) -> PromptTokens:
        """A prompt's ids for each role, as it would be answered."""
        return self.loaded.encode(as_prompt(content).content, prompting or self.prompting)

    def piece(self, role: Role, token: int) -> bytes:
        """The bytes of a token of the role's; none of one that ends a response."""
        return self.loaded.tokens.piece(role, token) or b""

    def describe(self, role: Role) -> str:
        """Model, size and where it runs, in a few words."""
        return self.loaded.describe(role)

    def choose_mode(self, settings: Generation, measured: Measured, loss: float) -> Generation:
        """The settings with the mode that writes fastest here: auto, or the measured one where it loses at most so
        many percentage points of accuracy. Results say why (`plan`). Both models must be loaded and idle."""
        self._require_free()
        self.plan = self.plan if self.plan.speeds else self.loaded.measured_plan()
        settings, why = choose(self.plan, settings, measured, loss)
        self.plan = replace(self.plan, choice=why)
        for lane in self.lanes:
            lane.scheduler.plan = self.plan
        return settings

    # ---------------------------------------------------------------- one prompt at a time
    def submit(
        self,
        prompt: Content,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        *,
        deliver: Callable[[Event], None] | None = None,
        lane: Lane | None = None,
        **options: Any,
    ) -> Ticket:
        """Queue a prompt, to be answered by the next steps.

        deliver: where its events go; None: `step` returns them
        lane: where it is answered; None: where most of it is evaluated already, else where fewest wait
        options: of scheduler.Waiting, such as `reads` and `bite`; whatever a slot holds of the prompt is reused

        A prompt that cannot be answered gives a Result with finish_reason "error".
        """
        self._require_free()
        prompt = as_prompt(prompt)
        if prompt.index is None:
            prompt = replace(prompt, index=self._n_submitted)
        self._n_submitted += 1
        ticket = self.ticket(prompt, settings, prompting, deliver or self._events.append)
        lane = lane or max(self.lanes, key=lambda lane: lane.fit(ticket))
        with self.driver.quiet():
            lane.submit(ticket, **{"reuse": True, **options})
        return ticket

    def ticket(
        self,
        prompt: Prompt,
        settings: Generation | None,
        prompting: Prompting | None,
        deliver: Callable[[Event], None],
    ) -> Ticket:
        """A prompt that has an index, encoded but not queued."""
        settings = settings or self.settings
        if prompt.settings is not None:
            own = prompt.settings
            settings = own if own.seed is not None else replace(own, seed=settings.seed)
        prompting = prompt.prompting or prompting or self.prompting
        return encoded_ticket(self.loaded, self.plan, prompt, with_seed(settings), prompting, deliver)

    def step(self) -> list[Event]:
        """Give each lane a turn: what happened to the prompts that were submitted without `deliver`.

        Ctrl-C ends an evaluation, and is raised when everything is whole.
        """
        self._require_free()
        # Watching ends with forgetting what came: within a longer watch that would lose a Ctrl-C between two steps.
        with nullcontext() if self._n_watches else self.interruptible():
            for lane in [lane for lane in self.lanes if not lane.idle]:
                lane.step()
        events = list(self._events)
        self._events.clear()  # the same deque: tickets deliver into it
        return events

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do: a step would change nothing."""
        return all(lane.idle for lane in self.lanes) and not self._events

    def cancel(self, ticket: Ticket) -> None:
        """End a response now; what it has written stays, in its Result."""
        for lane in self.lanes:
            lane.cancel(ticket)

    def insert(self, ticket: Ticket, text: str) -> None:
        """Put a text behind what a response has written, as the end of a sentence; it goes on from there."""
        for lane in self.lanes:
            if ticket in lane:
                lane.insert(ticket, self.loaded.tokens_of(text, ticket.sequence))

    # ---------------------------------------------------------------- what slots keep
    def save_prefix(self, ids: dict[Role, list[int]]) -> States:
        """States of what a free slot has evaluated of these ids: as much as any has."""
        self._require_free()
        return max(self.lanes, key=lambda lane: lane.scheduler.slots.n_held(ids)).scheduler.slots.save(ids)

    def restore_prefix(self, role: Role, ids: list[int], state: Snapshot) -> None:
        """Put a saved state of these ids into a free slot, for a prompt that begins with them; SequenceError where the
        model refuses it. Nothing happens where no slot is free."""
        self._require_free()
        lane = min(self.lanes, key=lambda lane: lane.n_open)
        lane.scheduler.slots.restore(role, ids, state)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around steps: Ctrl-C ends an evaluation at once, and the next step raises KeyboardInterrupt."""
        self._n_watches += 1
        try:
            with watching_interrupts(self.loaded.abort):
                yield
        finally:
            self._n_watches -= 1
            self.loaded.abort.clear()

    # ---------------------------------------------------------------- many prompts
    def run(
        self,
        prompts: Iterable[Prompt],
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Generator[Event, None, None]:
        """Answer all prompts, n_slots at a time; tokens as they are written, and each Result when finished.

        Prompts are taken when there is a slot for them; but in lanes (small models, several slots) all are taken first.

        `checkpoints`: running sequences are saved there, and resumed from what is there; however the run ends,
        nothing is lost. Remove a checkpoint once its result is safe. A prompt that fails gives a Result with
        finish_reason "error". Closing the iterator (or Ctrl-C, a KeyboardInterrupt, in it) cancels what runs and
        frees every slot; until then the engine takes no other run.
        """
        source = (replace(p, index=i) if p.index is None else p for i, p in enumerate(prompts))
        settings, prompting = with_seed(settings or self.settings), prompting or self.prompting
        events = OfflineRun(self, source, settings, prompting, checkpoints).events()
        self._runs.add(events)
        return events

    @overload
    def generate(
        self, prompts: Content, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> Result: ...

    @overload
    def generate(
        self, prompts: Contents, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> list[Result]: ...

    def generate(
        self,
        prompts: Content | Contents,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        **changes: Any,
    ) -> Result | list[Result]:
        """The result of one prompt, or the results of several, in their order.

        prompts: one prompt (a text, a list of messages, or a Prompt), or an iterable of these
        settings, prompting: what they are answered with; None: the engine's
        changes: single settings by their names in config.py, such as mode="leader", temp=0 or system="Be brief."
        """
        settings, prompting = with_changes(changes, settings or self.settings, prompting or self.prompting)
        items, several = as_prompts(prompts)
        with closing(self.run(items, settings, prompting)) as run:  # Ctrl-C may come here, outside of it
            results = in_order([item for item in run if isinstance(item, Result)], items)
        return results if several else results[0]

    def stream(
        self, prompt: Content, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> Generator[Chunk | Result, None, None]:
        """One prompt's tokens as they are written, then its Result. `changes` as for generate."""
        settings, prompting = with_changes(changes, settings or self.settings, prompting or self.prompting)
        return self.run([as_prompt(prompt)], settings, prompting)  # type: ignore[return-value]

    # ---------------------------------------------------------------- for coroutines
    @overload
    async def agenerate(
        self, prompts: Content, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> Result: ...

    @overload
    async def agenerate(
        self, prompts: Contents, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> list[Result]: ...

    async def agenerate(
        self,
        prompts: Content | Contents,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        **changes: Any,
    ) -> Result | list[Result]:
        """As generate, but the event loop goes on meanwhile, and there may be any number of callers."""
        settings, prompting = with_changes(changes, settings or self.settings, prompting or self.prompting)
        items, several = as_prompts(prompts)
        events = self.driver.events(items, with_seed(settings), prompting, Result)
        results = in_order([event async for event in events if isinstance(event, Result)], items)
        return results if several else results[0]

    def astream(
        self, prompt: Content, settings: Generation | None = None, prompting: Prompting | None = None, **changes: Any
    ) -> AsyncGenerator[Chunk | Result, None]:
        """As stream, for `async for`. Closing it (`aclose`), or cancelling its task, ends the response."""
        settings, prompting = with_changes(changes, settings or self.settings, prompting or self.prompting)
        prompts, settings = [as_prompt(prompt)], with_seed(settings)
        return self.driver.events(prompts, settings, prompting, Chunk, Result)  # type: ignore[return-value]

    # ---------------------------------------------------------------- closing
    def _require_free(self) -> None:
        self.loaded.require_open()
        self.driver.require_idle()
        if self._answering is not None and self._answering.in_threads:
            raise UsageError("this engine is answering in several threads: finish or close that iterator first")

    def _require_unused(self) -> None:
        self.loaded.require_open()
        if self._answering is not None or any(lane.n_open for lane in self.lanes):
            raise UsageError("this engine is answering run, stream or submit: finish or close that first")

    def begin_run(self, run: OfflineRun) -> None:
        self.loaded.require_open()
        with self.driver.quiet():
            if self._answering is not None:
                raise UsageError("this engine is answering already: finish or close that iterator first")
            self._answering = run

    def end_run(self) -> None:
        self._answering = None

    def close(self) -> None:
        """Ends what still runs, then frees everything."""
        self.driver.close()
        for run in list(self._runs):
            run.close()
        for lane in self.lanes if self.loaded.is_open else []:  # else a later cancel would ask models that are freed
            lane.close()
        self.loaded.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
