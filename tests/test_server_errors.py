"""What foreal serve answers where it fails by an error that nobody expects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from foreal_local.method.roles import Role
from foreal_local.server import app
from foreal_local.server.answering import Answer
from foreal_local.server.guard import Origins
from foreal_local.server.log import entry_of
from foreal_local.server.names import ModelNames
from foreal_local.server.serving import Limits, Serving


async def _events() -> AsyncGenerator[list[dict[str, Any]], None]:
    yield [{"text": "a"}]
    raise ZeroDivisionError


@pytest.mark.parametrize("stream", [False, True])
def test_an_unexpected_error_has_the_shape_of_all(
    stream: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a plain text, which clients of the interface cannot read, a stream that just breaks off, and a log that
    does not say why."""
    serving = Serving(ModelNames.of("tiny", list(Role)), Limits(1, 1, 100), print)

    async def broken(request: Request) -> Response | Answer:
        if stream:
            return Answer(serving, entry_of(request.scope), events=_events)
        raise ZeroDivisionError

    monkeypatch.setattr(app, "models", broken)
    served = app.application(serving, app.Access((), Origins("localhost")), quiet=False, started=lambda: None)

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://localhost") as client:
            return await client.get("/v1/models")

    answer = asyncio.run(asked())
    log = capsys.readouterr().err
    assert (log.count("Traceback"), log.count("\nZeroDivisionError")) == (1, 1)
    if stream:
        assert '"code":"internal_error"' in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert log.rstrip().endswith("internal_error")
    else:
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
