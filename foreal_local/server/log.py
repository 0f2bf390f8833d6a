"""One line a request on standard error, without the texts; and the traceback of an unexpected error.

Knows ASGI, and what is noted of an answer; not how answers are made.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ClientGone

_KEY = "foreal_local.entry"
GONE = 499
"""What the log says of a request whose client had gone before the answer was finished."""


@dataclass
class Entry:
    """What is told of one request.

    model: the name that it asked for
    status: of the answer; 0: it has none yet
    n_prompt, n_cached, n_completion: tokens, once they are known
    n_written: those of the completion, by author
    n_proposed, n_accepted: by speculation
    first_seconds: until the first event of a stream
    error: the code of an error in a stream
    """

    method: str
    path: str
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    status: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    n_completion: int = 0
    n_written: dict[str, int] = field(default_factory=dict)
    n_proposed: int = 0
    n_accepted: int = 0
    first_seconds: float | None = None
    error: str = ""

    def first(self) -> None:
        """The first event is there."""
        if self.first_seconds is None:
            self.first_seconds = self.seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def line(self) -> str:
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        words = [now, self.method, _shown(self.path), str(self.status)]
        if self.model:
            words.append(_shown(self.model))
        if self.n_prompt:
            words.append(f"{self.n_prompt} prompt ({self.n_cached} cached), {self.n_completion} written")
        words.append(f"{self.seconds:.3f} s")
        if self.first_seconds is not None:
            words.append(f"first {self.first_seconds:.3f} s")
        return "  ".join([*words, *([self.error] if self.error else [])])


def _shown(text: str) -> str:
    """On one line, whatever a client has put into it."""
    return text[:200].encode("unicode_escape").decode("ascii")


def entry_of(scope: Scope) -> Entry:
    entry = scope[_KEY]
    assert isinstance(entry, Entry)
    return entry


class Logged:
    """An application whose requests are noted when they end.

    note: takes each entry
    quiet: no lines
    """

    def __init__(self, app: ASGIApp, note: Callable[[Entry], None], quiet: bool) -> None:
        self._app, self._note, self._quiet = app, note, quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = scope[_KEY] = Entry(scope["method"], scope["path"])

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientGone:
            entry.status = GONE
        except Exception:
            traceback.print_exc(file=sys.stderr)  # it is answered already
        finally:
            self._note(entry)
            if not self._quiet:
                print(entry.line, file=sys.stderr, flush=True)
