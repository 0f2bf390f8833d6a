"""Several runs at the same time, each in a thread of its own; what they yield comes out as one stream.

Knows iterators and threads, nothing of models.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_POLL = 0.2  # seconds; on Windows a wait without end does not see Ctrl-C
_AT_ONCE = 0.02  # seconds in which a lane's items are handed over together: waking a thread for each costs more


class _End:
    """The last thing that a lane's thread hands over.

    error: the exception that ended its run, if any
    """

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def side_by_side(runs: list[Generator[Item, Any, Any]], stop: Callable[[], None]) -> Iterator[Item]:
    """The items of all runs as they come; the first exception of a run is raised here.

    However this ends, `stop` is called (it makes the runs' next item come soon), every run is closed in its
    own thread, and all threads have ended.
    """
    handed_over: queue.SimpleQueue[list[Item] | _End] = queue.SimpleQueue()
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_drive, args=(run, handed_over, stopping), name="lane", daemon=True) for run in runs
    ]
    n_running = len(threads)
    try:
        for thread in threads:
            thread.start()
        while n_running:
            items = _wait_for(handed_over)
            if not isinstance(items, _End):
                yield from items
                continue
            n_running -= 1
            if items.error is not None:
                raise items.error
    finally:
        stopping.set()
        if n_running:
            stop()
        join(threads)


def _drive(run: Generator[Any, Any, Any], handed_over: queue.SimpleQueue[Any], stopping: threading.Event) -> None:
    """What a lane's thread does: hand over the items of its run, then close it."""
    if stopping.is_set():  # its start was interrupted: nobody waits for this thread
        return
    error: BaseException | None = None
    items: list[Any] = []
    sent = 0.0
    try:
        for item in run:
            items.append(item)
            now = time.monotonic()
            if now - sent > _AT_ONCE:
                handed_over.put(items)
                items, sent = [], now
            if stopping.is_set():
                break
        run.close()
    except BaseException as caught:
        error = caught
    handed_over.put(items)
    handed_over.put(_End(error))


def _wait_for(handed_over: queue.SimpleQueue[Any]) -> Any:
    """The next items. In a function of its own: CPython 3.11 skips the `finally` of a caller when Ctrl-C comes at
    a `continue` in an `except`."""
    while True:
        try:
            return handed_over.get(timeout=_POLL)
        except queue.Empty:
            pass


def join(threads: list[threading.Thread]) -> None:
    """Wait for all of them even when Ctrl-C comes again: what they work on is freed after this."""
    again: KeyboardInterrupt | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join(_POLL)
            except KeyboardInterrupt as interrupt:
                again = interrupt
    if again is not None:
        raise again
