"""Connections of this process whose other end may vanish without a word: a cable that is pulled, a machine without
power. llama.cpp opens them, and waits on them for ever; the system is told to look whether the other end is there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time

_QUIET, _BETWEEN, _TIMES = 10, 5, 4
"""Seconds of silence after which the system asks, between two questions, and how many may stay without answer."""
_EVERY = 5.0
_FILES = "/dev/fd"  # the numbers of this process's open files


def watch_connections() -> None:
    """Let the system look after all TCP connections of this process, also those to come."""
    if os.path.isdir(_FILES):  # noqa: PTH112
        threading.Thread(target=_watch, name="connections", daemon=True).start()


def _watch() -> None:
    while True:
        look_after_all()
        time.sleep(_EVERY)


def look_after_all() -> None:
    """Those that there are now."""
    for name in os.listdir(_FILES):  # noqa: PTH208
        with contextlib.suppress(OSError):  # it is closed by now, or no connection
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                _look_after(int(name))


def _look_after(number: int) -> None:
    """OSError where it is no connection."""
    with socket.socket(fileno=os.dup(number)) as connection:
        if connection.family != socket.AF_INET or connection.type != socket.SOCK_STREAM:
            return
        connection.getpeername()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", _QUIET), ("TCP_KEEPINTVL", _BETWEEN), ("TCP_KEEPCNT", _TIMES)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # for what was sent and is not acknowledged
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_QUIET + _TIMES * _BETWEEN))
