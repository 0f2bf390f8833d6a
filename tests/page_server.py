"""A server with the API of `foreal serve` whose answers a test writes, word by word: it waits for the page alone.

It serves the page's own files, with the policy for contents that the page is made for.
"""

from __future__ import annotations

import json
import mimetypes
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import foreal_local

PAGE = Path(foreal_local.__file__).parent / "server" / "page"
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
NAME = "tiny"
FIGURES = {
    "usage": {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120},
    "timings": {"prompt_n": 20, "prompt_ms": 10.0, "predicted_n": 100, "predicted_ms": 2000.0, "cache_n": 0},
    "foreal": {
        "mode": "foreal", "gate": "random", "review": "ratio", "leader_tokens": 57, "draft_tokens": 43,
        "sentences": 8, "led": 5, "handoffs": 4, "reviewed": 40, "rewritten": 3, "calls_back": 0,
        "spans": [], "seconds": 2.1, "leader_alone": {"seconds": 3.0, "how": "predicted"},
    },
}  # fmt: skip
DEFAULTS = {"params": {"temperature": 0.6, "max_tokens": None}, "foreal": {"mode": "foreal", "n": 15, "gate": "random"}}
CUT = object()


@dataclass
class Answer:
    """What one request is answered with; `request` is what the page asked, `gone` is set when it hung up."""

    chunks: queue.Queue[Any] = field(default_factory=queue.Queue)
    request: dict[str, Any] = field(default_factory=dict)
    asked: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    def write(self, author: str, text: str, part: str = "content") -> Answer:
        delta = {"role": "assistant", part: text}
        self.chunks.put({"choices": [{"index": 0, "delta": delta}], "foreal": {"author": author}})
        return self

    def reason(self, author: str, text: str) -> Answer:
        return self.write(author, text, "reasoning_content")

    def end(self, finish: str = "stop", figures: dict[str, Any] = FIGURES) -> Answer:
        self.chunks.put({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        self.chunks.put({"choices": [], **figures})
        self.chunks.put(None)
        return self

    def fail(self, message: str) -> Answer:
        self.chunks.put({"error": {"message": message, "type": "server_error", "code": None, "param": None}})
        return self

    def cut(self) -> Answer:
        """Hang up in the middle."""
        self.chunks.put(CUT)
        return self


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is none."""


class ScriptedServer:
    """Answers requests with the answers that `answer` made, in this order; `refuse` makes it refuse the next one."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.refusals: queue.Queue[tuple[int, str]] = queue.Queue()
        self.key: str | None = None
        self.is_loading = False
        self.policies: list[str] = []
        self._server: _Quiet | None = None
        self._open: list[Answer] = []
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self._server = _Quiet(("127.0.0.1", self.port), type("Handler", (_Handler,), {"script": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As if it was killed: nothing listens any more, and open answers break off."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for answer in self._open:
            answer.cut()

    def answer(self) -> Answer:
        """The answer to the next request that has none yet."""
        made = Answer()
        self._open.append(made)
        self.answers.put(made)
        return made

    def refuse(self, status: int, message: str) -> None:
        self.refusals.put((status, message))


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedServer

    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/health":
            self._json({"status": "loading"}, 503) if self.script.is_loading else self._json({"status": "ok"})
        elif path in ("/v1/models", "/props"):
            self._about(path)
        else:
            self._file(path.lstrip("/") or "index.html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._may_ask():
            with suppress(queue.Empty):
                status, message = self.script.refusals.get_nowait()
                self._json({"error": {"message": message, "type": "invalid_request_error", "code": None}}, status)
                return
            self._stream(self.script.answers.get(timeout=20), body)

    def _about(self, path: str) -> None:
        if self._may_ask() and path == "/props":
            self._json({"default_generation_settings": {"n_ctx": 2048, **DEFAULTS}})
        elif self._may_ask():
            names = [NAME, f"{NAME}:leader", f"{NAME}:draft", f"{NAME}:speculative"]
            self._json({"data": [{"id": name, "object": "model"} for name in names]})

    def _may_ask(self) -> bool:
        allowed = self.script.key in (None, self.headers.get("Authorization", "").removeprefix("Bearer "))
        if not allowed:
            self._json({"error": {"message": "the key is wrong", "type": "invalid_request_error", "code": "key"}}, 401)
        return allowed

    def _json(self, value: Any, status: int = 200) -> None:
        self._bytes(json.dumps(value).encode(), "application/json", status)

    def _file(self, name: str) -> None:
        path = (PAGE / name).resolve()
        if path.is_relative_to(PAGE) and path.is_file():
            self._bytes(path.read_bytes(), mimetypes.guess_type(name)[0] or "application/octet-stream")
        else:
            self._json({"error": {"message": "there is no such page"}}, 404)

    def _bytes(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, answer: Answer, request: dict[str, Any]) -> None:
        answer.request = request
        answer.asked.set()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for data in self._events(answer):
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            answer.gone.set()

    def _events(self, answer: Answer) -> Iterator[bytes]:
        while True:
            try:
                chunk = answer.chunks.get(timeout=0.05)
            except queue.Empty:
                yield b": ping\n\n"  # also finds out whether the reader has gone
                continue
            if chunk is CUT:
                return
            yield b"data: " + (b"[DONE]" if chunk is None else json.dumps(chunk).encode()) + b"\n\n"
            if chunk is None:
                return
