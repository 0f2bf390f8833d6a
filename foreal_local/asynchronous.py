"""Answers for coroutines: threads evaluate, one for each lane, while event loops wait.

A thread is there as long as its lane has something to answer. None is left when the last caller has its answers or has
gone. Callers come from any event loop. Knows lanes and tickets; not who makes them.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from .caller import Caller
from .config import Generation, Prompting
from .errors import ForealError, UsageError
from .lane import BITE, Lane, Ticket
from .method.roles import Role
from .results import Event, Prompt, Result
from .runtime.lanes import join
from .runtime.loaded import LoadedPair
from .runtime.scheduler import States
from .saving import Saving
from .storage.checkpoints import Checkpoints

MakeTicket = Callable[[Prompt, Generation, Prompting, Callable[[Event], None]], Ticket]


class Driver:
    """Owner of the callers while they wait, and of the lanes' threads. Any thread may call its methods.

    loaded: the models
    lanes: what the threads drive; nothing else may while there are callers (`quiet`)
    make_ticket: encodes a prompt
    require_unused: raises UsageError where somebody else drives the lanes
    """

    def __init__(
        self, loaded: LoadedPair, lanes: list[Lane], make_ticket: MakeTicket, require_unused: Callable[[], None]
    ) -> None:
        self.loaded, self.lanes, self.make_ticket = loaded, lanes, make_ticket
        self._require_unused = require_unused
        self._changed = threading.Condition()  # guards what follows, and is notified when a thread ends
        self._open: set[Caller] = set()
        self._waiting: deque[Caller] = deque()  # those that have prompts left; they take turns
        self._threads: dict[int, threading.Thread] = {}  # by the lane's number
        self._sent: dict[int, deque[tuple[Ticket, Caller]]] = {number: deque() for number in range(len(lanes))}
        self._closed = False

    # ---------------------------------------------------------------- for coroutines
    async def events(
        self,
        prompts: list[Prompt],
        settings: Generation,
        prompting: Prompting,
        *kinds: type,
        offline: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of these kinds that happen to the prompts, until each has its Result.

        Prompts that have no index count from 0. Leaving early ends what is not finished.

        offline: they are evaluated as in a run over many prompts (offline.py): nothing that a slot holds of an earlier
            prompt is reused, so that a text does not hang on who was answered before
        checkpoints: of such a run; responses are saved there, and resumed from what is there
        """
        numbered = [replace(p, index=i) if p.index is None else p for i, p in enumerate(prompts)]
        saving = Saving(checkpoints, self.loaded) if checkpoints else None
        caller, n_left = Caller(numbered, settings, prompting, kinds, offline, saving), len(numbered)
        try:
            self._enter(caller)
            while n_left:
                event = await caller.next()
                if isinstance(event, Result):
                    n_left -= 1
                    if not n_left:  # now: whoever gets the last result need not come back
                        self.leave(caller)
                yield event
        finally:
            self.leave(caller)

    def _enter(self, caller: Caller) -> None:
        """Let lanes take its prompts."""
        with self._changed:
            if self._closed:
                raise UsageError("this engine is closed: use it inside its `with`")
            if not self._threads:
                self._require_unused()
            self.loaded.abort.clear()  # it was set for nobody, and now there is somebody
            if not caller.prompts:
                return
            self._open.add(caller)
            self._waiting.append(caller)
            idle = [number for number in range(len(self.lanes)) if number not in self._threads]
            for number in idle[: len(caller.prompts)]:
                self._start(number)

    def leave(self, caller: Caller) -> None:
        """Its prompts are taken out before the next evaluation; where nobody else waits, the present one is ended."""
        with self._changed:
            caller.gone = True
            caller.prompts.clear()
            self._open.discard(caller)
            if caller in self._waiting:
                self._waiting.remove(caller)
            if self._threads and not self._open:
                self.loaded.abort.set()

    def fail(self, callers: Iterable[Caller], error: BaseException) -> None:
        """These callers get the error instead of what they still wait for."""
        with self._changed:
            for caller in set(callers):
                caller.fail(error)
                self.leave(caller)

    # ---------------------------------------------------------------- for everybody else
    @contextmanager
    def quiet(self) -> Iterator[None]:
        """A time without callers and threads; UsageError where there are callers."""
        with self._changed:
            while self._open or self._threads:
                if self._open:
                    raise UsageError("this engine is answering agenerate or astream: use these, too, or wait for them")
                self._changed.wait()
            yield

    def require_idle(self) -> None:
        """UsageError where there are callers."""
        if self._open or self._threads:  # this is asked before each step: no lock where there is nobody
            with self.quiet():
                pass

    def close(self) -> None:
        """All callers get an error, and all threads end."""
        with self._changed:
            self._closed = True
            self.fail(self._open, UsageError("this engine was closed before it had answered"))
            threads = list(self._threads.values())
        join(threads)

    # ---------------------------------------------------------------- for threads
    def _start(self, number: int) -> None:
        if not self._threads:
            atexit.register(self.close)  # a thread in C code must not outlive the interpreter
        # A daemon: the interpreter waits for all others before it calls `close`.
        thread = threading.Thread(target=_Worker(self, number).run, name=f"lane {number}", daemon=True)
        self._threads[number] = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._forget(number)
            raise

    def _forget(self, number: int) -> None:
        """The lane's thread ends."""
        del self._threads[number]
        if not self._threads:
            atexit.unregister(self.close)
            self.loaded.abort.clear()
        self._changed.notify_all()

    @property
    def n_busy(self) -> int:
        """How many lanes evaluate."""
        return len(self._threads)

    def take(self, lane: Lane) -> tuple[Caller, Prompt] | None:
        """A prompt for the lane, and whose it is."""
        with self._changed:
            if not self._may_take(lane):
                return None
            caller = self._waiting.popleft()
            prompt = caller.prompts.popleft()
            if caller.prompts:
                self._waiting.append(caller)
            return caller, prompt

    def _may_take(self, lane: Lane) -> bool:
        """Whether a prompt waits and the lane is the one to take it: it has room, and none has less to do."""
        least = min(lane.n_open for lane in self.lanes)
        return bool(self._waiting) and lane.scheduler.has_room and lane.n_open == least

    def send(self, ticket: Ticket, caller: Caller, number: int) -> bool:
        """Whether a prompt goes to another lane than this one, which has taken it: one that has room and holds more of
        it, as of a conversation's last turn, or that has an empty slot where this one has none."""
        if len(self.lanes) == 1:
            return False
        with self._changed:
            fits = {
                i: lane.fit(ticket)[:2]
                for i, lane in enumerate(self.lanes)
                if i == number or lane.n_open + len(self._sent[i]) < lane.scheduler.slots.n
            }
            best = max(fits, key=fits.__getitem__)
            if fits[best] <= fits[number]:
                return False
            self._sent[best].append((ticket, caller))
            if best not in self._threads:
                self._start(best)
            return True

    def sent(self, number: int) -> tuple[Ticket, Caller] | None:
        """A prompt that another lane's thread has sent to this one."""
        with self._changed:
            return self._sent[number].popleft() if self._sent[number] else None

    def ends(self, number: int) -> bool:
        """Whether the lane's thread ends: there is nothing to take."""
        with self._changed:
            if self._may_take(self.lanes[number]) or self._sent[number]:
                return False
            self._forget(number)
            return True

    def interrupted(self) -> None:
        """An evaluation was ended because all callers had gone; new ones go on."""
        with self._changed:
            if self._open:
                self.loaded.abort.clear()

    def broken(self, number: int, error: BaseException, callers: Iterable[Caller]) -> None:
        """A thread ends that should not: nobody may wait for ever.

        callers: those whose prompts it had; where it had none, the error may be anybody's
        """
        with self._changed:
            self.fail(list(callers) or self._open, error)
            self._forget(number)
            if self._waiting or self._sent[number]:  # callers who came since
                self._start(number)


class _Worker:
    """What a lane's thread does: takes prompts as there is room, and gives the lane its turns.

    running: the tickets in the lane, and whose they are
    n_busy: the lanes that its share of the CPU's threads counts on
    """

    def __init__(self, driver: Driver, number: int) -> None:
        self._driver, self._number, self._lane = driver, number, driver.lanes[number]
        self._running: dict[Ticket, Caller] = {}
        self._n_busy = 0

    def run(self) -> None:
        try:
            while True:
                self._drop()
                while (sent := self._driver.sent(self._number)) is not None:
                    self._submit(*sent)
                while (taken := self._driver.take(self._lane)) is not None:
                    self._begin(*taken)
                if self._running:
                    self._step()
                elif self._driver.ends(self._number):
                    return
        except BaseException as error:
            self._driver.broken(self._number, error, self._running.values())

    def _drop(self) -> None:
        """Take out what is finished, or is wanted no more."""
        for ticket, caller in tuple(self._running.items()):
            if caller.gone or ticket not in self._lane:
                self._lane.cancel(ticket)
                del self._running[ticket]

    def _begin(self, caller: Caller, prompt: Prompt) -> None:
        driver, deliver = self._driver, partial(self._deliver, caller)
        states: States = {}
        try:
            ticket = driver.make_ticket(prompt, caller.settings, caller.prompting, deliver)
        except BaseException as error:  # of this prompt alone
            driver.fail([caller], error)
            return
        if caller.saving and not ticket.finished:
            states = caller.saving.resume(ticket)
            ticket.deliver = partial(self._deliver_saved, caller, ticket)
        if ticket.finished:
            deliver(Result.of(ticket.submission, ticket.sequence, driver.loaded.shapes))
        elif caller.offline:
            self._running[ticket] = caller
            self._lane.submit(ticket, states)
        elif not driver.send(ticket, caller, self._number):
            self._submit(ticket, caller)

    def _submit(self, ticket: Ticket, caller: Caller) -> None:
        self._running[ticket] = caller
        self._lane.submit(ticket, reuse=True, reads=self._reads(ticket, caller), bite=BITE)

    def _reads(self, ticket: Ticket, caller: Caller) -> dict[Role, int]:
        """Up to where each role reads the prompt first: a long one in bites; of a conversation, where a memory cannot
        go back by itself, what its next turn begins with, too."""
        prompt = ticket.submission.prompt
        lengths = {role: len(view.ids) for role, view in ticket.sequence.views.items()}
        reads = {role: n - 1 for role, n in lengths.items()} if max(lengths.values()) > BITE else {}
        marked = [role for role in lengths if self._lane.scheduler.needs_marks(role)]
        if marked and isinstance(prompt.content, list):
            with suppress(ForealError):  # a template that takes no such conversation
                n_kept = self._driver.loaded.n_kept(prompt.content, prompt.prompting or caller.prompting)
                reads |= {role: n_kept[role] for role in marked}
        return reads

    def _deliver(self, caller: Caller, event: Event) -> None:
        caller.deliver(event)
        if caller.gone:
            self._driver.leave(caller)

    def _deliver_saved(self, caller: Caller, ticket: Ticket, event: Event) -> None:
        """A response is saved before its end is told: whoever hears of it removes the checkpoint."""
        if caller.saving and isinstance(event, Result) and not caller.gone:
            self._save(caller.saving, ticket, caller)
        self._deliver(caller, event)

    def _step(self) -> None:
        n_busy = self._driver.n_busy
        if n_busy != self._n_busy:  # a lane that is idle leaves its threads to the others
            self._n_busy = n_busy
            self._driver.loaded.use_threads(self._number, n_busy)
        try:
            self._lane.step()
        except KeyboardInterrupt:
            self._driver.interrupted()
        except BaseException as error:  # the lane's caches may not be whole: all in it get the error
            self._driver.fail(self._running.values(), error)
            self._lane.scheduler.close()
            self._drop()
            return
        for ticket, caller in tuple(self._running.items()):
            if caller.saving and not caller.gone and caller.saving.due(ticket):
                self._save(caller.saving, ticket, caller)

    def _save(self, saving: Saving, ticket: Ticket, caller: Caller) -> None:
        try:
            saving.save(self._lane, ticket, states=not ticket.finished)
        except ForealError as error:  # no room on the disk: of this caller alone
            self._driver.fail([caller], error)
