"""Addresses of workers: which ones may be used, and whether one answers.

llama.cpp's RPC knows no password and no encryption, and IPv4 alone. A name is looked up once: the address that was
checked is the one that is used. Knows sockets and the protocol's first message, no model.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ...errors import UsageError, WorkerError
from ...running import Runtime

SECONDS = 3.0
"""In which a worker has to answer before anything is loaded."""
WARNING = (
    "llama.cpp's RPC is experimental and not secure: never expose it to an open network. Whoever reaches a worker can "
    "use it and may take over its machine; whoever listens in between reads everything. docs/scale.md has a way "
    "through SSH"
)
_HELLO, _N_CAPS = 14, 24  # the protocol's first command, and the bytes that come with it
_ANSWER = struct.Struct("<QBBBB24s")  # size, version, what the other end can


class Address(NamedTuple):
    """Where a worker listens.

    host: as the user wrote it
    ip, port: what is connected to
    """

    host: str
    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """As llama.cpp takes it."""
        return f"{self.ip}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.ip).is_loopback


def address_of(text: str, option: str, *, allow_public: bool, port_zero: bool = False) -> Address:
    """An address that a user gave. UsageError where it is none, or a public one that is not allowed.

    option: what it was given with
    port_zero: 0 is a port, too (any that is free)
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port.isdecimal() or not (not port_zero) <= int(port) <= 65535:
        raise UsageError(f"{option} is {text!r}, but must be HOST:PORT, such as 192.168.1.20:50052")
    if ":" in host:
        raise UsageError(f"{option} is {text!r}: llama.cpp's RPC knows IPv4 addresses alone; name one of these")
    try:
        found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} is {text!r}, and there is no IPv4 address of {host}: {why}") from None
    address = Address(host, str(found[0][4][0]), int(port))
    if not allow_public and not is_private(address.ip):
        what = "is all networks of this machine" if address.ip == "0.0.0.0" else "is a public address"
        of = "" if host == address.ip else f" ({address.ip})"
        raise UsageError(
            f"{option} is {text!r}, and {host}{of} {what}: llama.cpp's RPC has no protection; take a private address "
            "(10.x, 172.16.x, 192.168.x), go through an SSH tunnel (docs/scale.md), or say --allow-public"
        )
    return address


def addresses_of(text: str, option: str, *, allow_public: bool) -> list[Address]:
    """Addresses with commas between them, each once."""
    found = [address_of(each, option, allow_public=allow_public) for each in text.split(",") if each.strip()]
    if not found:
        raise UsageError(f"{option} is {text!r}, but must be HOST:PORT, or several of them with commas")
    _require_different(found, option)
    return found


def workers_of(runtime: Runtime, roles: Iterable[str]) -> dict[str, list[Address]]:
    """The workers of each of these roles that has any. UsageError where one would serve two."""
    given = {role: runtime.workers(role) for role in roles}
    public = runtime.allow_public
    found = {role: addresses_of(text, f"--{role}-rpc", allow_public=public) for role, text in given.items() if text}
    _require_different([each for some in found.values() for each in some], "--leader-rpc and --draft-rpc")
    return found


def _require_different(addresses: list[Address], option: str) -> None:
    endpoints = [each.endpoint for each in addresses]
    for address in addresses:
        if endpoints.count(address.endpoint) > 1:
            raise UsageError(
                f"{option}: {address} is there twice, and a worker serves one model at a time: "
                "start another foreal rpc-worker on another port"
            )


def is_private(ip: str) -> bool:
    """Whether the internet does not reach this address: loopback, private, or of one cable (link-local)."""
    address = ipaddress.ip_address(ip)
    if address.is_unspecified or address.is_multicast:
        return False
    return address.is_loopback or address.is_private or address.is_link_local


def require_answer(address: Address, role: str, seconds: float = SECONDS) -> None:
    """WorkerError where no worker answers at this address within so many seconds."""
    where = f"the {role}'s worker {address}"
    start = f"start it there with: foreal rpc-worker --listen {address}"
    try:
        with socket.create_connection((address.ip, address.port), seconds) as connection:
            connection.sendall(struct.pack("<BQ", _HELLO, _N_CAPS) + bytes(_N_CAPS))
            answer = _received(connection, _ANSWER.size)
    except TimeoutError:
        raise WorkerError(
            f"{where} does not answer within {seconds:.0f} s: it is not reachable, or serves somebody else (one at a "
            f"time); {start}"
        ) from None
    except OSError as error:
        raise WorkerError(f"{where} cannot be reached: {error.strerror or error}; {start}") from None
    if len(answer) < _ANSWER.size or _ANSWER.unpack(answer)[0] != _ANSWER.size - 8:
        raise WorkerError(
            f"{where} is no worker, or one of another version of llama.cpp: use the same llama-cpp-python on both sides"
        )


def _received(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n and (more := connection.recv(n - len(data))):
        data += more
    return data
