"""A server as users start it: a process of its own on a free port, asked over real connections."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import ROOT

SERVE = [sys.executable, "-m", "foreal_local", "serve"]
SECONDS = 60.0
"""For which a server may take to be ready, or to end."""
_READY = re.compile(r"foreal serve: (http://\S+) is ready: (.*)")


class Server:
    """A process that serves.

    url: where; with the path /v1 it is a client's base_url
    models: the names that it tells
    """

    def __init__(self, words: list[str], env: dict[str, str], cwd: Path) -> None:
        flags = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)} if os.name == "nt" else {}
        self.process = subprocess.Popen(
            words, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **flags
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url, names = self.wait_for(_READY).groups()
        self.models = names.split(", ")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._lines.append("")
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """What it has told so far."""
        with self._changed:
            return [line for line in self._lines if line]

    def wait_for(self, pattern: re.Pattern[str], seconds: float = SECONDS) -> re.Match[str]:
        """The first line that it tells in which the pattern is found."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                found = next((match for line in self._lines if (match := pattern.search(line))), None)
                if found:
                    return found
                left = until - time.monotonic()
                assert left > 0, f"no {pattern.pattern} in {self._lines}"
                assert self._lines[-1:] != [""], f"it has ended: {self._lines}"
                self._changed.wait(left)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code. No traceback may have been told."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert not any("Traceback" in line for line in self.lines), self.lines
        return code


@contextmanager
def start(
    *arguments: str | Path, env: dict[str, str], cwd: Path = ROOT, words: list[str] | None = None
) -> Iterator[Server]:
    """A server that is ready; killed at the end, if it is still there.

    words: the command, where it is not `foreal serve` with these arguments on a free port
    """
    server = Server(words or [*SERVE, "--port", "0", *map(str, arguments)], env, cwd)
    try:
        yield server
        server.stop()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
