"""GET /metrics: what Prometheus collects. Knows finished requests and how full the server is; no texts."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from .log import Entry
from .serving import Serving

_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/v1/health", "/props", "/metrics")
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, serving: Serving) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "foreal_requests", "Requests, by path and status.", ["method", "path", "status"], registry=registry
        )
        self._prompt = Counter("foreal_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._cached = Counter("foreal_cached_tokens", "Those that a cache held.", registry=registry)
        self._written = Counter("foreal_completion_tokens", "Tokens written.", ["author"], registry=registry)
        self._proposed = Counter("foreal_proposed_tokens", "Tokens proposed to the leader.", registry=registry)
        self._accepted = Counter("foreal_accepted_tokens", "Those that it accepted.", registry=registry)
        self._first = Histogram(
            "foreal_first_token_seconds", "Until a stream's first text.", buckets=_SECONDS, registry=registry
        )
        self._seconds = Histogram(
            "foreal_answer_seconds", "Until an answer's end.", buckets=_SECONDS, registry=registry
        )
        for name, about, value in (
            ("foreal_requests_open", "Requests that are being answered or wait.", lambda: serving.n_open),
            ("foreal_requests_running", "Answers that have a slot.", lambda: serving.n_running),
            ("foreal_slots", "Answers at a time.", lambda: serving.limits.n_slots),
        ):
            Gauge(name, about, registry=registry).set_function(value)

    def note(self, entry: Entry) -> None:
        """A request has ended."""
        path = entry.path if entry.path in _PATHS else "other"
        method = entry.method if entry.method in _METHODS else "other"
        self._requests.labels(method, path, str(entry.status)).inc()
        if not entry.n_completion:
            return
        self._prompt.inc(entry.n_prompt)
        self._cached.inc(entry.n_cached)
        for author, n in entry.n_written.items():
            self._written.labels(author).inc(n)
        self._proposed.inc(entry.n_proposed)
        self._accepted.inc(entry.n_accepted)
        self._seconds.observe(entry.seconds)
        if entry.first_seconds is not None:
            self._first.observe(entry.first_seconds)

    async def endpoint(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})
