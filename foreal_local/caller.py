"""A coroutine that waits for answers, as the threads see it that make them. Knows events; not who evaluates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from .config import Generation, Prompting
from .results import Chunk, Event, Prompt
from .saving import Saving


class Caller:
    """A coroutine that waits for answers. Threads call `deliver` and `fail`; `next` is for its own event loop.

    prompts: those that no lane has taken yet
    settings, prompting: what they are answered with
    kinds: the events that it wants; they are kept until it asks for them
    offline: its prompts are evaluated as in a run over many prompts
    saving: what keeps their unfinished responses; None: nothing does
    gone: it wants nothing any more
    """

    def __init__(
        self,
        prompts: Iterable[Prompt],
        settings: Generation,
        prompting: Prompting,
        kinds: tuple[type, ...],
        offline: bool = False,
        saving: Saving | None = None,
    ) -> None:
        import asyncio  # only here: whoever does not use it need not wait for its import

        self.prompts = deque(prompts)
        self.settings, self.prompting, self.kinds = settings, prompting, kinds
        self.offline, self.saving = offline, saving
        self.gone = False
        self._loop, self._ready = asyncio.get_running_loop(), asyncio.Event()
        self._events: deque[Event] = deque()
        self._error: BaseException | None = None

    def deliver(self, event: Event) -> None:
        if not self.gone and isinstance(event, self.kinds):
            self._events.append(event)
            if not self._ready.is_set():  # else it has not looked yet, and will find this one, too
                self._wake()

    def fail(self, error: BaseException) -> None:
        """It gets the error after the events that are there."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # its event loop is closed: it will never ask again
            self.gone = True

    async def next(self) -> Event:
        """The next event, as soon as there is one; chunks of one response that wait by then are one."""
        while not self._events:
            if self._error is not None:
                raise self._error
            await self._ready.wait()
            self._ready.clear()
        event = self._events.popleft()
        if isinstance(event, Chunk):
            more = []
            while self._events and isinstance(after := self._events[0], Chunk) and after.index == event.index:
                more += after.tokens
                self._events.popleft()
            event = replace(event, tokens=event.tokens + more) if more else event
        return event
