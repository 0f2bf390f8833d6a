"""Ctrl-C while C code runs: Python only sees the signal when llama_decode returns, so a thread watches.

The signal's C-level handler writes to a socket (signal.set_wakeup_fd); a thread waiting on it sets the
flag that llama.cpp asks for. A KeyboardInterrupt then follows in the main thread: at once, or when the C code
has returned (in its callbacks an exception would be lost).
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

_ENDING = {int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class Interruptible(Protocol):
    """Work that can be asked to stop (llama.Abort); `busy`: it will raise the KeyboardInterrupt itself."""

    busy: bool

    def set(self) -> None: ...


@contextmanager
def watching_interrupts(work: Interruptible) -> Iterator[None]:
    """Call work.set() from a thread as soon as SIGINT arrives (or SIGTERM or SIGHUP, where the program handles them).

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    previous = -1

    def watch() -> None:
        while True:
            data = theirs.recv(64)
            if not data:
                return
            if _ENDING & set(data):  # those with a handler in Python: the others end the process by themselves
                work.set()
            if previous >= 0:  # somebody else was watching: pass it on
                with socket.socket(fileno=socket.dup(previous)) as other:
                    other.send(data)

    raised = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        work.set()
        if raised:  # a second one must not stop what is done after the first
            return
        raised = True
        if not work.busy:
            signal.default_int_handler(number, frame)

    thread = threading.Thread(target=watch, name="interrupts", daemon=True)
    handler = signal.getsignal(signal.SIGINT)
    own = handler is signal.default_int_handler  # a program's own handler stays
    try:
        previous = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
        thread.start()
        if own:
            signal.signal(signal.SIGINT, handle)
        yield
    finally:
        raised = True  # what follows must not be interrupted
        signal.set_wakeup_fd(previous)
        ours.close()
        if thread.ident is not None:
            thread.join(1.0)
        theirs.close()
        if own:
            signal.signal(signal.SIGINT, handler)
