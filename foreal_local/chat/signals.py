"""While a chat answers: which signals stop the answer, and what happens to keys. Knows no conversation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from ..runtime.interrupt import act_as_ctrl_c


@contextlib.contextmanager
def stopped_by_hang_up() -> Iterator[list[int]]:
    """Where a closed terminal (SIGHUP) or a SIGTERM stops the answer as Ctrl-C does; the list gets their numbers."""
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        received.append(number)
        sys.stdout = sys.stderr = open(os.devnull, "w")
        act_as_ctrl_c(number)

    signals = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore(_: int, __: Any) -> None:
    """A handler that does nothing. Unlike signal.SIG_IGN it lets runtime/interrupt.py see the signal."""


@contextlib.contextmanager
def stopping_on_ctrl_c() -> Iterator[None]:
    """Where Ctrl-C raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def without_echo() -> Iterator[None]:
    """Where typed keys are not shown amid the answer; they are there for the next prompt. Nor does Ctrl-C make the
    terminal throw away what it has not shown yet."""
    try:
        import termios

        keys = sys.stdin.fileno() if sys.stdin.isatty() else -1
    except (ImportError, OSError, ValueError, AttributeError):  # Windows, or no terminal
        keys = -1
    if keys < 0:
        yield
        return
    before = termios.tcgetattr(keys)
    silent = termios.tcgetattr(keys)
    silent[3] = silent[3] & ~termios.ECHO | termios.NOFLSH
    termios.tcsetattr(keys, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(keys, termios.TCSANOW, before)
