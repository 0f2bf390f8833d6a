"""The one shape of all errors, `{"error": {"message", "type", "code", "param"}}`, and the true status of each."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from ..errors import UsageError

_INVALID, _FAILED = "invalid_request_error", "server_error"
_OF_THE_API = ("/chat/completions", "/completions", "/models")
CLOSE = {"Connection": "close"}
"""For answers to requests whose body is not read to its end."""


class ApiError(Exception):
    """An answer that is an error.

    status: of HTTP
    message: one line for the user
    code: for programs
    param: the field of the request that it is about
    headers: of the answer
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, " ".join(message.split()), code, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """As it is sent, in an answer of its own or in a stream."""
        kind = _FAILED if self.status >= 500 else _INVALID
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


class ClientGone(Exception):
    """Nobody is there any more to read the answer."""


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A request that cannot be answered as it is."""
    return ApiError(400, message, code, param)


def not_done(param: str, what: str) -> ApiError:
    """A known field that asks for something that there is not here."""
    return ApiError(400, f"`{param}`: {what}", "unsupported_value", param)


def of_usage(error: UsageError, params: dict[str, str]) -> ApiError:
    """An error about a setting.

    params: what the request calls the settings that it has
    """
    param = params.get(error.setting or "")
    message = str(error)
    named = param is None or message.startswith((f"{param} ", f"`{param}`"))
    return invalid(message if named else f"`{param}`: {message}", param)


def context_full(n_prompt: int | str, ctx_size: int, param: str) -> ApiError:
    """In the words that clients look for which do not look at the code."""
    message = (
        f"the prompt is too long: this model's maximum context length is {ctx_size} tokens, and it has {n_prompt}: "
        "shorten it, or start the server with a larger --ctx-size"
    )
    return invalid(message, param, "context_length_exceeded")


def unavailable(message: str, code: str, seconds: int = 1) -> ApiError:
    """Another try, after so many seconds, may be answered."""
    return ApiError(503, message, code, headers={"Retry-After": str(seconds)})


def failed(message: str = "the server failed to answer; its log says why") -> ApiError:
    return ApiError(500, message, "internal_error")


# ---------------------------------------------------------------- what Starlette calls
async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


async def on_error(_: Request, error: Exception) -> JSONResponse:
    """Of any other kind; the log has its traceback."""
    return failed().response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Of the routes: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        known = ApiError(405, f"{path} takes {allowed}, not {request.method}", "method_not_allowed")
    elif error.status_code == 404:
        way = ": the base URL that a client is given ends in /v1" if path.endswith(_OF_THE_API) else ""
        known = ApiError(404, f"there is nothing at {path}{way}", "not_found")
    else:
        known = ApiError(error.status_code, str(error.detail), "invalid_request")
    known.headers = dict(error.headers or {})
    return known.response()
