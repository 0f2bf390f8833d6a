"""Ctrl-C while C code runs: Python only sees the signal when llama_decode returns, so a thread watches.

The signal's C-level handler writes to a socket (signal.set_wakeup_fd); a thread waiting on it sets the
flag that llama.cpp asks for. The usual KeyboardInterrupt then follows in the main thread.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching_interrupts(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call on_interrupt from a thread as soon as SIGINT arrives; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    previous = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while True:
            data = theirs.recv(64)
            if not data:
                return
            if signal.SIGINT in data:
                on_interrupt()
            if previous >= 0:  # somebody else was watching: pass it on
                with socket.socket(fileno=socket.dup(previous)) as other:
                    other.send(data)

    thread = threading.Thread(target=watch, name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        ours.close()
        thread.join(1.0)
        theirs.close()
