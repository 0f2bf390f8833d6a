"""Who may ask: pages of which origin, under which name of this server, with which key.

A page of another origin is refused before anything is answered; so is a name of this server that somebody else has
made (DNS rebinding). Knows ASGI and headers.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import UsageError
from ..settings import shown
from .errors import ApiError

LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
_LOCAL_ORIGIN = re.compile(LOCAL_ORIGIN)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
OPEN_PATHS = ("/health", "/v1/health")
"""What is answered without a key; the page is, too."""


def origin_of(given: str) -> str:
    """An origin that a user has written, as browsers send it, or "*"; UsageError where it can be none."""
    origin = given.strip().lower().removesuffix("/")
    if origin == "*":
        return origin
    if not _ORIGIN.fullmatch(origin):
        scheme, found, rest = origin.partition("://")
        why = "is no scheme://host:port"
        if not found:
            why = "has no scheme such as https://"
        elif scheme and re.search("[/?#]", rest):
            why = "has more than a scheme, a host and a port"
        elif not origin.isascii():
            why = "is not in ASCII (browsers send xn--...)"
        raise UsageError(f"--cors-origin is {shown(given)}, which {why}: give * or one like https://chat.example.org")
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], ""))


@dataclass(frozen=True)
class Origins:
    """Which pages may ask, and what this server may be called.

    host: that it was started with
    allowed: origins beside those of this machine, as `origin_of` gives them; "*": all
    """

    host: str
    allowed: Collection[str] = ()

    @property
    def all_allowed(self) -> bool:
        return "*" in self.allowed

    def allows(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may ask a server that it calls so."""
        if self.all_allowed or origin in self.allowed or _LOCAL_ORIGIN.fullmatch(origin):
            return True
        return self.is_ours(host) and origin.partition("://")[2] == host  # the page is this server's own

    def is_ours(self, host: str) -> bool:
        """Whether nobody else can have made this name, with or without a port, a name of this server."""
        name = _name_of(host)
        named = {_name_of(urlsplit(origin).netloc) for origin in self.allowed}
        return name in {"localhost", _name_of(self.host), *named} or _is_address(name)

    @property
    def is_loopback(self) -> bool:
        name = _name_of(self.host)
        return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _name_of(host: str) -> str:
    """A host without its port, and without the brackets of an address."""
    host = host.strip().lower()
    if host.count(":") > 1 and not host.startswith("["):
        return host
    return re.sub(r":\d*$", "", host).strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses pages of other origins, and other names of a server that is bound to this machine."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refused(Headers(scope=scope))):
            await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refused(self, headers: Headers) -> ApiError | None:
        origins, host, origin = self._origins, headers.get("host", ""), headers.get("origin")
        if origins.is_loopback and host and not (origins.all_allowed or origins.is_ours(host)):
            what = f"this server is not called {host[:200]!r}: name its origin with --cors-origin"
            return ApiError(403, what, "host_not_allowed")
        if origin is not None and not origins.allows(origin, host):
            what = f"pages of {origin[:200]!r} may not ask this server: name the origin with --cors-origin"
            return ApiError(403, what, "origin_not_allowed")
        return None


class Keys:
    """Asks for one of the keys, where there are any, but for what everybody may see.

    paths: those that need one
    """

    def __init__(self, app: ASGIApp, keys: Collection[str], paths: Collection[str]) -> None:
        self._app, self._keys, self._paths = app, [key.encode() for key in keys], paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and self._keys and scope["method"] != "OPTIONS" and self._needs(scope["path"])
        if asks and not self._has_key(dict(scope["headers"]).get(b"authorization", b"")):
            error = ApiError(
                401,
                "the key is missing or wrong: send it as `Authorization: Bearer KEY`",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _needs(self, path: str) -> bool:
        return path not in OPEN_PATHS and any(path == each or path.startswith(f"{each}/") for each in self._paths)

    def _has_key(self, header: bytes) -> bool:
        scheme, _, given = header.partition(b" ")
        found = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        return scheme.lower() == b"bearer" and any(found)
