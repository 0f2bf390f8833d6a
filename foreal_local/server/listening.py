"""Sockets and connections: where the server listens, and for how long a silent client is waited for."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ForealError, UsageError

HEAD_SECONDS = 30.0
"""For which a connection may take to send the head of its first request, and of any that it has begun."""
READ_SECONDS = 60.0
"""For which a client may read nothing of what is sent to it."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets of all addresses of a host, bound but not listening yet. UsageError or ForealError where that fails.

    port: 0: a free one
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--host is {host!r}, which is no address of this machine: {why}") from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        bound = sockets[0].getsockname()[1] if sockets and not port else port
        try:
            sockets.append(_bound(family, kind, protocol, (address[0], bound, *address[2:])))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # such as ::1 where there is no IPv6
                failure = error
                continue
            for each in sockets:
                each.close()
            raise _told(host, port, error) from None
    if not sockets:
        assert failure is not None
        raise _told(host, port, failure)
    return sockets


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen()  # only now another server on this port is noticed
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _told(host: str, port: int, error: OSError) -> ForealError:
    if error.errno == errno.EADDRINUSE:
        return ForealError(f"port {port} of {host} is in use: end what listens there, or name another with --port")
    if error.errno == errno.EACCES:
        return UsageError(f"--port is {port}, which this user may not open: name one above 1023")
    why = error.strerror or error
    return UsageError(f"--host is {host!r}, which this machine cannot listen at: {why}")


def url_of(host: str, port: int) -> str:
    """Where a browser finds a server of this host."""
    name = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name and not name.startswith("[") else f"http://{name}:{port}"


class Protocol(H11Protocol):
    """HTTP/1.1, with an end to connections whose client neither asks nor reads."""

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """A timer runs as long as the head of a request is awaited, but for a connection that is idle after one."""
        begun = bool(self.conn.trailing_data[0])
        awaits = self.conn.their_state is h11.IDLE and (begun or self.cycle is None)
        if not awaits and self._head is not None:
            self._head.cancel()
            self._head = None
        elif awaits and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    # ---------------------------------------------------------------- readers
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
