"""Ctrl-C while C code runs: Python only sees the signal when llama_decode returns, so a thread watches.

The signal's C-level handler writes to a socket (signal.set_wakeup_fd). A thread that waits for it sets the flag that
llama.cpp reads in between. The main thread then gets a KeyboardInterrupt: at once, or when the C code has returned
(in its callbacks an exception would be lost).
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

_ENDING = {int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class Interruptible(Protocol):
    """Work that can be asked to stop (llama.Abort).

    busy: it raises the KeyboardInterrupt itself, when its C code has returned
    """

    busy: bool

    def set(self) -> None: ...


class _Watch:
    """The watch of this process: a thread, the wakeup descriptor and a handler for SIGINT. It is there while work runs.

    works: what is stopped by a signal. There may be several in the main thread (generators that are advanced in turn),
        and they may end in any order.
    """

    def __init__(self) -> None:
        self.works: list[Interruptible] = []
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._previous = -1
        self._raised = False  # a KeyboardInterrupt, for the work that runs now
        self._thread = threading.Thread(target=self._wait, name="interrupts", daemon=True)
        self._handler = signal.getsignal(signal.SIGINT)
        self._own = self._handler is signal.default_int_handler  # a program's own handler stays

    def start(self) -> None:
        self._previous = signal.set_wakeup_fd(self._ours.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        if self._own:
            signal.signal(signal.SIGINT, self.handle)

    def end(self, work: Interruptible) -> bool:
        """Stop watching for this work; whether it was the last, and the watch has ended."""
        if len(self.works) > 1:
            self.works.remove(work)
            self._raised = False  # that work has ended: the others can be stopped, too
            return False
        self._raised = True  # from here on no handler raises: what follows must not be interrupted
        try:
            signal.set_wakeup_fd(self._previous)
        except (OSError, ValueError):  # its owner has closed it meanwhile
            signal.set_wakeup_fd(-1)
        self._ours.close()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        self._theirs.close()
        if self._own:
            signal.signal(signal.SIGINT, self._handler)
        return True

    def _stop_all(self) -> None:
        for work in tuple(self.works):
            work.set()

    def _wait(self) -> None:
        while True:
            data = self._theirs.recv(64)
            if not data:
                return
            if _ENDING & set(data):  # signals with a handler in Python: the others end the process by themselves
                self._stop_all()
            if self._previous >= 0:  # the program has a watch of its own: pass the signal on
                with suppress(OSError), socket.socket(fileno=socket.dup(self._previous)) as other:
                    other.send(data)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop all works: they raise KeyboardInterrupt themselves where their C code runs, else this does."""
        self._stop_all()
        if self._raised:  # a second Ctrl-C must not interrupt what follows the first
            return
        self._raised = True
        if not any(work.busy for work in self.works):
            signal.default_int_handler(number, frame)


_watch: _Watch | None = None


@contextmanager
def watching_interrupts(work: Interruptible) -> Iterator[None]:
    """Call work.set() in a thread as soon as SIGINT arrives (or SIGTERM or SIGHUP, where the program handles them).

    Does nothing outside the main thread.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = _watch is None
    watch = _watch = _watch or _Watch()
    watch.works.append(work)
    try:
        if first:
            watch.start()
        yield
    finally:
        if watch.end(work):
            _watch = None


def act_as_ctrl_c(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Do what Ctrl-C does, also in a program that was started so that it does not hear it: with nohup, or in the
    background of a script."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    elif _watch is not None:
        _watch.handle(number, frame)
    else:
        signal.default_int_handler(number, frame)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM do what Ctrl-C does, where it would end the process at once: what was done so far can be saved.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    before = signal.signal(signal.SIGTERM, act_as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM come when this has ended, so that what was finished is also written. A second one comes at
    once: what this writes to may never take it.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {number: handler for number, handler in handlers.items() if callable(handler)}
    came: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            previous[number](number, frame)

    try:
        for number in previous:
            signal.signal(number, defer)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        previous[came[0]](came[0], None)
