"""The application: which path is answered by what, and what every request passes on its way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..config import Generation, Method, flat, names_of
from .chat import chat_completions
from .completions import completions
from .errors import ApiError, on_api_error, on_error, on_http_error, unavailable
from .guard import LOCAL_ORIGIN, Guard, Keys, Origins
from .log import Logged
from .metrics import Metrics
from .openapi import description
from .serving import Serving
from .tokens import detokenize, tokenize, tokenizer_info

PAGE = Path(__file__).parent / "page"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_WITH_KEY = ("/v1", "/props", "/metrics", "/openapi.json", "/tokenize", "/detokenize", "/tokenizer_info")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    keys: of which each request needs one; none: all may ask
    origins: pages that may ask, and names of this server
    """

    keys: Collection[str]
    origins: Origins


def application(serving: Serving, access: Access, *, quiet: bool, started: Callable[[], None]) -> ASGIApp:
    """The whole server but its sockets.

    quiet: no line for each request
    started: called in the event loop's thread once requests are answered
    """
    metrics = Metrics(serving)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        started()
        yield

    cors: dict[str, Any] = {"allow_origins": list(access.origins.allowed)}
    if not access.origins.all_allowed:
        cors["allow_origin_regex"] = LOCAL_ORIGIN
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{id}", model),
            Route("/health", health),
            Route("/v1/health", health),
            Route("/props", props),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/tokenizer_info", tokenizer_info),
            Route("/metrics", metrics.endpoint),
            Route("/openapi.json", openapi),
        ],
        middleware=[
            Middleware(Guard, access.origins),
            Middleware(CORSMiddleware, allow_methods=["GET", "POST"], allow_headers=["*"], **cors),
            Middleware(Keys, access.keys, _WITH_KEY),
        ],
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_error, Exception: on_error},
        lifespan=lifespan,
    )
    app.state.serving = serving
    if PAGE.is_dir():
        app.router.default = Page(StaticFiles(directory=PAGE, html=True))
    return Logged(app, metrics.note, quiet)


# ---------------------------------------------------------------- what is no answer
async def health(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    if serving.is_ready:
        return JSONResponse({"status": "ok"})
    code = "stopping" if serving.stopping else "loading"
    return unavailable("the server is stopping" if serving.stopping else "the models are being loaded", code).response()


def _about(serving: Serving, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": serving.created,
        "owned_by": "foreal_local",
        "max_model_len": serving.ctx_size,
    }


async def models(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    return JSONResponse({"object": "list", "data": [_about(serving, name) for name in serving.names.all]})


async def model(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    name = request.path_params["id"]
    serving.names.mode_of(name)
    return JSONResponse(_about(serving, name))


def _defaults(settings: Generation) -> dict[str, Any]:
    """What requests that say nothing else are answered with, by the names that requests have for it."""
    values, sampling = flat(settings), settings.sampling
    return {
        "params": {"temperature": sampling.temp, "top_p": sampling.top_p, "max_tokens": settings.max_tokens},
        "foreal": {name: values[name] for name in ("mode", *names_of(Method))},
    }


async def props(request: Request) -> Response:
    """What llama.cpp's clients ask for before they talk."""
    serving: Serving = request.app.state.serving
    return JSONResponse(
        {
            "default_generation_settings": {"n_ctx": serving.ctx_size, **_defaults(serving.settings)},
            "total_slots": serving.limits.n_slots,
            "model_alias": serving.names.name,
            "build_info": f"foreal_local {__version__}",
        }
    )


async def openapi(request: Request) -> Response:
    return JSONResponse(description())


class Page:
    """The files of the page, which may load nothing from elsewhere."""

    def __init__(self, files: StaticFiles) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)  # a path that there is not, and no file that cannot be written

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _PAGE_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await self._files(scope, receive, with_headers)
