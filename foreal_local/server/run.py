"""A server from its start to its end: the port opens, the models load, requests are answered, a signal ends it.

HTTP has a thread of its own, so that models load, and signals come, in the main thread, as everywhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from ..config import Generation
from ..engine import Engine
from ..errors import ForealError
from ..runtime.interrupt import sigterm_as_ctrl_c
from .app import Access, application
from .listening import Protocol, url_of
from .serving import Serving

_HEAD_BYTES = 64 * 1024
_IDLE_SECONDS = 30
"""For which a connection may stay open between two requests."""
_LAST_SECONDS = 3
"""For which connections may take to close when all answers have ended."""
Load = Callable[[], AbstractContextManager[tuple[Engine, Generation]]]


@dataclass(frozen=True)
class Options:
    """How a server runs.

    host: as it was named
    access: who may ask
    grace: seconds that running answers have when it is stopped
    quiet: no line for each request
    opens: open the page in a browser when it is ready
    """

    host: str
    access: Access
    grace: float = 10.0
    quiet: bool = False
    opens: bool = False


def serve(
    sockets: list[socket.socket], serving: Serving, options: Options, load: Load, tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    sockets: that listen
    load: gives the engine, and the settings of requests that say nothing else; its context is left last
    tell: takes lines for the user
    """
    url = url_of(options.host, sockets[0].getsockname()[1])
    http = _Http(sockets, serving, options)
    with contextlib.suppress(KeyboardInterrupt), sigterm_as_ctrl_c(), contextlib.ExitStack() as stack:
        stack.callback(http.stop, 0.0)
        http.start()
        with load() as (engine, settings), contextlib.ExitStack() as first:
            first.callback(http.stop, 0.0)  # before the models are freed
            serving.opened(engine, settings)
            tell(f"{url} is ready: {', '.join(serving.names.all)}")
            if options.opens:  # in a thread: it may be a browser that runs in this terminal
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            with _until_signal(http):
                http.stop(options.grace)
    if http.failure is not None:
        raise ForealError(f"the server failed: {http.failure}") from http.failure


@contextlib.contextmanager
def _until_signal(http: _Http) -> Iterator[None]:
    """Wait for SIGINT or SIGTERM, or the end of HTTP's thread; a second signal cuts off what still runs then."""

    def handle(number: int, frame: FrameType | None) -> None:
        if http.ends.is_set():
            http.cut()
        http.ends.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not http.ends.wait(1.0):  # for so long, since on Windows a wait without end hears no signal
            pass
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Http:
    """The event loop's thread.

    ends: set when the server shall end, or the thread has ended
    failure: what it has ended with, where that was not asked for
    """

    def __init__(self, sockets: list[socket.socket], serving: Serving, options: Options) -> None:
        self.ends = threading.Event()
        self.failure: BaseException | None = None
        self._serving, self._sockets = serving, sockets
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it would tell of every broken request
        app = application(serving, options.access, quiet=options.quiet, started=self._note_start)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_LAST_SECONDS,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def _note_start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()

    def _run(self) -> None:
        try:
            self._server.run(self._sockets)
        except BaseException as error:
            self.failure = error
        finally:
            self._started.set()
            self.ends.set()

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def cut(self) -> None:
        """End the answers that still run."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._serving.cut.set)

    def stop(self, grace: float) -> None:
        """End the thread, and those that read for it; running answers have so many seconds. Again: nothing."""
        if self._loop is not None and self._thread.is_alive() and not self._server.should_exit:
            asyncio.run_coroutine_threadsafe(self._serving.stop(grace), self._loop).result()
            self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._serving.close()
        for each in self._sockets:
            each.close()
