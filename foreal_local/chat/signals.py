"""Signals and keys while a chat answers: what stops an answer, and what is typed ahead. Knows no conversation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def hang_up() -> Iterator[list[int]]:
    """While an answer is written, a closed terminal (SIGHUP) or a SIGTERM stops it as Ctrl-C does; tells which came."""
    came: list[int] = []

    def stop(number: int, _: Any) -> None:
        came.append(number)
        sys.stdout = sys.stderr = open(os.devnull, "w")
        signal.raise_signal(signal.SIGINT)

    signals = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def nothing(_: int, __: Any) -> None:
    """A handler of Python's own, so that evaluations are told; it stops nothing."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Where Ctrl-C is a KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def without_echo() -> Iterator[None]:
    """What is typed while an answer is written is kept for the next prompt, and not shown in its midst."""
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
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(keys, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(keys, termios.TCSANOW, before)
