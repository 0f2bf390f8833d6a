"""A stand-in for the hub on 127.0.0.1, with just the requests that listing and downloading a model makes.

Keeps a log of them, and can misbehave: ask for a token, cut a connection inside a file, send less than it
announced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote

COMMIT = "c0ffee" * 6 + "c0de"


def commit_of(revision: str) -> str:
    """The commit that a branch or a tag stands for: itself, where it is one."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()


class Request(NamedTuple):
    method: str
    path: str
    range: str | None


@dataclass
class HubServer:
    """Repositories as {name: {file: bytes}}; `with HubServer(repos) as hub` serves them at `hub.url`.

    revisions: other branches, tags and commits of a repository, as {(name, revision): {file: bytes}}
    """

    repos: dict[str, dict[str, bytes]]
    revisions: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)  # the token that opens a repository's files
    commit: str = COMMIT
    cut_at: int | None = None  # the next file breaks off after so many bytes; once
    drop: int = 0  # so many bytes are missing at the end of what is sent, as if that were all
    hold_at: int | None = None  # files stand still after so many bytes, until `go_on` is set
    go_on: threading.Event = field(default_factory=threading.Event)
    wrong_bytes: bool = False  # another content of the same length is sent
    status: tuple[str, int] | None = None  # answer so where this is in the path
    log: list[Request] = field(default_factory=list)

    def bodies(self) -> list[Request]:
        """The requests for the content of a file."""
        return [request for request in self.log if request.method == "GET" and "/resolve/" in request.path]

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        self.hub.log.append(Request(self.command, path, self.headers.get("Range")))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        api = path.startswith("/api/models/")
        owner, name, *rest = [*path.removeprefix("/api/models").strip("/").split("/"), "", ""]
        repo, file, revision = f"{owner}/{name}", "/".join(rest[2:]).rstrip("/"), unquote(rest[1])
        files, self.commit = self.hub.repos.get(repo), self.hub.commit
        other = owner != "datasets" and revision not in ("", "main", self.hub.commit)
        if files is not None and other:
            self.commit = commit_of(revision)
            others = self.hub.revisions.items()
            files = next((each for (name, of), each in others if name == repo and commit_of(of) == self.commit), None)
            if files is None:
                self._send(404, {"X-Error-Code": "RevisionNotFound"})
                return
        if self.hub.status and self.hub.status[0] in path:
            self._send(self.hub.status[1])
        elif files is None:
            self._send(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
        elif api:
            info = {"id": repo, "sha": self.commit, "siblings": [{"rfilename": file} for file in files]}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())
        elif token != self.hub.gated.get(repo, token):
            self._send(403 if token else 401, {"X-Error-Code": "GatedRepo"})
        elif file not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.commit})
        else:
            self._send_file(files[file])

    def _send_file(self, body: bytes) -> None:
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": self.commit,
            "Accept-Ranges": "bytes",
        }
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.command == "GET":
            body = body[: len(body) - self.hub.drop]
            if self.hub.wrong_bytes:
                body = bytes(len(body))
        self._send(206 if asked else 200, headers, body[start:])

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut_at is not None and "/resolve/" in self.path:
            body, self.hub.cut_at = body[: self.hub.cut_at], None
            self.close_connection = True
        if self.hub.hold_at is not None and len(body) > self.hub.hold_at and "/resolve/" in self.path:
            self.wfile.write(body[: self.hub.hold_at])
            self.hub.go_on.wait(60)
            body = body[self.hub.hold_at :]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may have been killed
            self.wfile.write(body)
