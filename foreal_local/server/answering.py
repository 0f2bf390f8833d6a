"""How an answer gets to its client: whole, or as server-sent events; ended as soon as the client has gone.

Knows ASGI and bytes; not what the answers say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from .errors import ApiError, ClientGone, failed
from .log import Entry
from .serving import Serving, stopped

T = TypeVar("T")
Json = dict[str, Any]
Events = AsyncGenerator[list[Json], None]

PING_SECONDS = 10.0
"""After so many seconds without an event a stream says that it is alive: proxies close what is silent."""
FIRST_SECONDS = 3.0
"""For which the headers wait for the first event, so that an error has its status."""
EVERY_SECONDS = 0.03
"""Between two events; nobody sees text come more often, and each event costs time that the models could use."""
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


async def attended(receive: Receive, cut: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. It is cancelled, and ClientGone raised, as soon as the client has gone; `stopped` at the
    end of the server."""
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(each) for each in (work, _until_gone(receive), cut.wait())]
    done = tasks[0]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()  # type: ignore[no-any-return]
        raise ClientGone if tasks[1].done() else stopped()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Answer:
    """An answer that is being made: an ASGI application, as routes return it.

    entry: the request's line in the log
    whole: makes the answer; None: it is streamed
    events: makes the lists of objects that are sent as events, as soon as each is there
    """

    def __init__(
        self,
        serving: Serving,
        entry: Entry,
        *,
        whole: Callable[[], Awaitable[Json]] | None = None,
        events: Callable[[], Events] | None = None,
    ) -> None:
        self._serving, self._entry, self._whole, self._events = serving, entry, whole, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._serving.place():
            if self._whole is not None:
                body = await attended(receive, self._serving.cut, _awaited(self._whole))
                await JSONResponse(body)(scope, receive, send)
                return
            assert self._events is not None
            stream = EventStream(send, self._entry)
            try:
                await attended(receive, self._serving.cut, stream.run(self._events()))
            except ClientGone:
                raise
            except Exception as error:
                if not stream.started:
                    raise
                told = error if isinstance(error, ApiError) else failed()
                self._entry.error = told.code
                await stream.send([told.body])
                await stream.end()
                if told is not error:  # the log says why
                    raise


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


class EventStream:
    """Sends events, and comments while there are none. `started`: the status is sent, and can no longer be another."""

    def __init__(self, send: Send, entry: Entry) -> None:
        self._send, self._entry = send, entry
        self.started = False

    async def run(self, events: Events) -> None:
        """Send all events, then the end."""
        task: asyncio.Task[list[Json]] | None = None
        try:
            while True:
                task = asyncio.ensure_future(anext(events))
                while not (await asyncio.wait((task,), timeout=PING_SECONDS if self.started else FIRST_SECONDS))[0]:
                    await self._write(b": waiting\n\n")
                try:
                    found = task.result()
                except StopAsyncIteration:
                    break
                if found:
                    self._entry.first()
                    await self.send(found)
                    await asyncio.sleep(EVERY_SECONDS)
            await self.end()
        finally:
            if task is not None:
                task.cancel()
                with suppress(BaseException):
                    await task
            await events.aclose()

    async def send(self, objects: list[Json]) -> None:
        # ASCII: some clients split lines at all characters that end lines in Unicode.
        await self._write(
            b"".join(b"data: " + json.dumps(each, separators=(",", ":")).encode() + b"\n\n" for each in objects)
        )

    async def end(self) -> None:
        await self._write(b"data: [DONE]\n\n", more=False)

    async def _write(self, data: bytes, more: bool = True) -> None:
        if not self.started:
            self.started = True
            headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
