"""The child: carries out what its parent asks, one thing at a time, and ends as soon as the parent does.

Run as `python -m foreal_local.runtime.remote.child MODULE:CLASS`; that class has the methods that can be asked for
(host.py's for llama.cpp; tests have a fake). Requests come through standard input, answers go through standard output:

    (number, method, arguments)        what to do
    (number, "stop", None)             the request of this number is to end soon
    (number, PROGRESS, fraction)       an answer that is a sign of life
    (number, DONE | FAILED, value)     the answer: a result, or the error that was raised

Knows pickles and pipes, no model.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from ...errors import EvaluationError, ForealError

DONE, FAILED, PROGRESS, STOP = "done", "failed", "progress", "stop"


class Host(Protocol):
    """What a child does.

    on_progress: takes signs of life, as fractions of what is done
    """

    on_progress: Callable[[float], None]

    def stop(self) -> None:
        """End what runs; called in another thread. The method that runs raises KeyboardInterrupt."""
        ...

    def begin(self) -> None:
        """Another request begins: an earlier stop was not for it."""
        ...


class _Requests:
    """What the parent asks, read in a thread of its own: a stop must not wait for what it is to end, and the parent's
    end is noticed even inside C code."""

    def __init__(self, pipe: BinaryIO, host: Host) -> None:
        self._pipe, self._host, self._lock = pipe, host, threading.Lock()
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running = -1  # the number of the request that is carried out
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                number, method, arguments = pickle.load(self._pipe)
            except BaseException:  # the parent has closed the pipe, or was ended: no other end is as sure as this one
                os._exit(0)
            if method != STOP:
                self._waiting.put((number, method, arguments))
                continue
            with self._lock:
                if number == self._running:
                    self._host.stop()

    def next(self) -> Any:
        """The next request; it is the one that a stop is for from now on."""
        request = self._waiting.get()
        with self._lock:
            self._running = request[0]
            self._host.begin()
        return request

    def done(self) -> None:
        """The request has its result: a stop comes too late."""
        with self._lock:
            self._running = -1


def serve(host: Host, requests: BinaryIO, answers: BinaryIO) -> None:
    """Carry out requests until there are no more."""
    waiting = _Requests(requests, host)
    while True:
        number, method, arguments = waiting.next()

        def send(kind: str, value: Any, number: int = number) -> None:
            pickle.dump((number, kind, value), answers, protocol=5)
            answers.flush()

        host.on_progress = lambda fraction, send=send: send(PROGRESS, fraction)  # type: ignore[misc]
        try:
            kind, value = DONE, getattr(host, method)(*arguments)
        except (ForealError, KeyboardInterrupt) as error:
            kind, value = FAILED, error
        except Exception as error:
            traceback.print_exc()
            kind, value = FAILED, EvaluationError(f"{type(error).__name__}: {error}")
        waiting.done()
        send(kind, value)


def _leave_no_core() -> None:
    """llama.cpp ends this process when it loses a worker: no file of gigabytes is to stay."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve the parent with the class that the first argument names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent says what it means
    _leave_no_core()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    module, _, name = sys.argv[1].partition(":")
    serve(getattr(importlib.import_module(module), name)(), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
