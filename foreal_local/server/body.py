"""The body of a request: read in pieces, at most so much, for at most so long; JSON as the standard has it."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import anyio
from starlette.requests import Request

from .errors import CLOSE, ApiError, ClientGone, invalid, unavailable

SECONDS = 60.0
"""For which a body may take to come."""
_AT_ONCE = 16
"""So many times the limit is kept of all bodies that are coming."""
_DRAINED = 4
"""Of a body that is too large, so many times the limit are read, so that its sender comes to read the answer."""


class Bodies:
    """Reads bodies; owner of what has come of those that are not whole yet.

    limit: bytes of one
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._coming: dict[Request, int] = {}

    async def read(self, request: Request) -> bytes:
        """All of a body; ApiError for one that is too large, that does not come, or for which there is no room now."""
        try:
            with anyio.fail_after(SECONDS):
                return await self._read(request)
        except TimeoutError:
            message = f"the body did not come within {SECONDS:g} seconds"
            raise ApiError(408, message, "request_timeout", headers=CLOSE) from None
        finally:
            self._coming.pop(request, None)

    async def _read(self, request: Request) -> bytes:
        pieces: list[bytes] = []
        n_bytes, more = 0, True
        while more and n_bytes <= _DRAINED * self._limit:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece, more = message.get("body", b""), message.get("more_body", False)
            n_bytes += len(piece)
            if n_bytes > self._limit:
                piece = b""
                pieces.clear()
            pieces.append(piece)
            self._coming[request] = min(n_bytes, self._limit)
            if len(self._coming) > _AT_ONCE and sum(self._coming.values()) > _AT_ONCE * self._limit:
                busy = unavailable("too many large requests are coming: try again", "overloaded", 2)
                busy.headers |= CLOSE
                raise busy
        if n_bytes > self._limit:
            what = f"the body has more than {self._limit} bytes: --max-body is the limit"
            raise ApiError(413, what, "request_too_large", headers=CLOSE)
        return b"".join(pieces)


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object, whatever the content type says; ApiError where it is none in UTF-8, where a number is not
    finite, or a text is not of characters."""
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in data:  # a surrogate without its other half can only be written so
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise invalid(
            "a text in the body has half of a surrogate pair: it is no character", code="invalid_json"
        ) from None
    except UnicodeDecodeError:
        raise invalid("the body is not UTF-8", code="invalid_json") from None
    except RecursionError:
        raise invalid("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value
