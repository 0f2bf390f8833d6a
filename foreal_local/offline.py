"""Many prompts answered offline: taken as slots become free, saved to checkpoints, in lanes side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING

from .config import Generation, Prompting
from .errors import ForealError, SessionError, WorkerError
from .lane import Lane, Ticket
from .method.roles import Role
from .method.tokens import FinishReason
from .method.view import n_common
from .results import Event, Prompt, Result
from .runtime.lanes import side_by_side
from .runtime.loaded import LoadedPair
from .runtime.scheduler import States
from .saving import Saving
from .storage.checkpoints import Checkpoints

if TYPE_CHECKING:
    from .engine import Engine

N_AHEAD = 16
"""Prompts that are looked at for a shared prefix."""
_SHORTEST_PREFIX = 32  # tokens; shorter ones cost less than their copies
_REPORT_EVERY = 0.04  # seconds; nobody sees tokens come more often


class OfflineRun:
    """One run of an engine over prompts that have an index.

    source: the prompts
    settings, prompting: of prompts that have none of their own
    checkpoints: where running sequences are saved and resumed from
    """

    def __init__(
        self,
        engine: Engine,
        source: Iterator[Prompt],
        settings: Generation,
        prompting: Prompting,
        checkpoints: Checkpoints | None,
    ) -> None:
        self._engine, self._source = engine, source
        self._saving = Saving(checkpoints, engine.loaded) if checkpoints else None
        self._settings, self._prompting = settings, prompting
        self._n_busy = len(engine.lanes)
        self.in_threads = len(engine.lanes) > 1

    def events(self) -> Generator[Event, None, None]:
        """See Engine.run."""
        engine = self._engine
        engine.begin_run(self)
        try:
            with engine.interruptible():
                if not self.in_threads:
                    yield from self._answer(0, self._source)
                    return
                # Which lane answers what does not depend on time: batches, and so results, are the same each run.
                shares = _dealt(self._source, engine.n_slots, len(engine.lanes))
                runs = [self._answer(number, iter(share)) for number, share in enumerate(shares)]
                yield from side_by_side(runs, engine.loaded.abort.set)
        finally:
            engine.end_run()

    def _answer(self, number: int, source: Iterator[Prompt]) -> Generator[Event, None, None]:
        """The events of the prompts that one lane answers."""
        lane = self._engine.lanes[number]
        running: dict[int, Ticket] = {}  # by the sequence's identity: prompts may share an index
        events: deque[tuple[Ticket, Event]] = deque()
        n_busy = 0
        # Checkpoints are due every so many tokens, so their run looks after each one.
        report_every = 0.0 if self._saving else _REPORT_EVERY
        try:
            source = self._share_prefix(lane, source)
            while True:
                yield from self._admit(lane, source, running, events)
                if not running and lane.scheduler.has_room:
                    return  # else prompts that others have submitted hold the slots
                if n_busy != self._n_busy:  # a lane that is done leaves its threads to the others
                    n_busy = self._n_busy
                    self._engine.loaded.use_threads(number, n_busy)
                lane.step(report_every)
                while events:
                    ticket, event = events.popleft()
                    if isinstance(event, Result):
                        self._save(lane, ticket)  # a result may never reach its reader
                        del running[id(ticket.sequence)]
                        yield event
                    else:
                        yield event
                        if self._saving and self._saving.due(ticket):
                            self._save(lane, ticket)
        except BaseException as error:
            whole = isinstance(error, (KeyboardInterrupt, GeneratorExit))  # else the caches may not be
            if not isinstance(error, SessionError):
                for ticket in running.values():
                    self._save(lane, ticket, whole)
            if isinstance(error, WorkerError) and not self._saving:
                for ticket in running.values():
                    ticket.sequence.finish(FinishReason.ERROR, str(error))
            if not whole:
                lane.close()
            if isinstance(error, WorkerError) and not self._saving:
                yield from (event for _, event in events if isinstance(event, Result))
            raise
        finally:
            for ticket in running.values():
                lane.cancel(ticket)
            lane.scheduler.share({})
            self._n_busy -= 1

    def _admit(
        self,
        lane: Lane,
        source: Iterator[Prompt],
        running: dict[int, Ticket],
        events: deque[tuple[Ticket, Event]],
    ) -> Iterator[Result]:
        """Prompts into free slots; the results of those that need none."""
        engine = self._engine
        while lane.scheduler.has_room:
            prompt = next(source, None)
            if prompt is None:
                return
            ticket = engine.ticket(prompt, self._settings, self._prompting, events.append)  # type: ignore[arg-type]
            ticket.deliver = lambda event, ticket=ticket: events.append((ticket, event))  # type: ignore[misc]
            states: States = {}
            if self._saving and not ticket.finished:
                states = self._saving.resume(ticket)
            if ticket.finished:
                yield Result.of(ticket.submission, ticket.sequence, engine.loaded.shapes)
                continue
            running[id(ticket.sequence)] = ticket
            lane.submit(ticket, states)

    def _save(self, lane: Lane, ticket: Ticket, states: bool = True) -> None:
        if self._saving:
            self._saving.save(lane, ticket, states)

    def _share_prefix(self, lane: Lane, source: Iterator[Prompt]) -> Iterator[Prompt]:
        """Share what the first prompts all begin with."""
        if not self._engine.shares_prefix:
            return source
        ahead = list(islice(source, N_AHEAD))
        lane.scheduler.share(shared_prefix(self._engine.loaded, ahead, self._prompting))
        return chain(ahead, source)


def shared_prefix(loaded: LoadedPair, prompts: Iterable[Prompt], prompting: Prompting) -> dict[Role, list[int]]:
    """What these prompts all begin with, in each role's ids, where it is worth a copy.

    prompting: of prompts that have none of their own
    """
    encoded = []
    for prompt in prompts:
        with suppress(ForealError):  # it fails alone, when its turn comes
            encoded.append(loaded.encode(prompt.content, prompt.prompting or prompting).ids)
    if len(encoded) < 2:
        return {}
    first, *others = encoded
    n_shared = {role: min(n_common(first[role], ids[role]) for ids in others) for role in first}
    return {role: first[role][:n] for role, n in n_shared.items() if n >= _SHORTEST_PREFIX}


def _dealt(source: Iterator[Prompt], n_slots: int, n_lanes: int) -> list[list[Prompt]]:
    """Each lane's prompts: every slot gets as many, slot i belongs to lane i % n_lanes."""
    shares: list[list[Prompt]] = [[] for _ in range(n_lanes)]
    for i, item in enumerate(source):
        shares[i % n_slots % n_lanes].append(item)
    return shares
