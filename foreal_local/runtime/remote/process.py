"""The parent's end of a child: asks it, waits no longer than allowed, and notices its end.

Any thread may ask; one request runs at a time. Knows processes and pickles, no model.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, Protocol

from ...errors import WorkerError
from .child import FAILED, PROGRESS, STOP

_MODULE = "foreal_local.runtime.remote.child"
_POLL = 0.05  # seconds in which a stop, or the child's end, is noticed
_GRACE = 5.0
"""Seconds that a child has to end what it is asked to stop. What a worker computes cannot be stopped: then it goes."""
_PIPE_BYTES = 2**20


class Stopping(Protocol):
    """A flag that is set where what runs is to end (llama.Abort)."""

    requested: bool


class Child:
    """A child process and what may be asked of it.

    lost: why it cannot be asked any more; "": it can
    """

    def __init__(self, host: str, timeout: float, verbose: bool = False) -> None:
        """`host` as the child takes it; `timeout`: seconds without a sign of life after which it is given up."""
        self._timeout, self._verbose, self.lost = timeout, verbose, ""
        self._has_ended = False
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lines: deque[str] = deque(maxlen=8)
        variables = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONFAULTHANDLER": "", "PYTHONIOENCODING": "utf-8"}
        variables |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, host],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=variables,
            start_new_session=True,  # signals of the terminal are for the parent
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        _widen(self._process.stdout)
        self._requests: Any = self._process.stdin
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), name="answers", daemon=True),
            threading.Thread(target=self._listen, args=(self._process.stderr,), name="messages", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether it cannot be asked any more, also where nobody has asked since."""
        return self._has_ended or bool(self.lost)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self, pipe: Any) -> None:
        """Answers, until there can be no more: then None."""
        with contextlib.suppress(Exception):  # the end of the pipe, also in the middle of an answer
            while True:
                self._answers.put(pickle.load(pipe))
        self._has_ended = True
        self._answers.put(None)

    def _listen(self, pipe: Any) -> None:
        """Keep the last lines that it prints: where it ends itself, they say why."""
        with contextlib.suppress(OSError, ValueError):
            for line in pipe:
                text = line.decode("utf-8", "replace")
                if text.strip():
                    self._lines.append(text.strip())
                if self._verbose:
                    sys.stderr.write(text)

    def ask(
        self,
        method: str,
        *arguments: Any,
        stopping: Stopping | None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Any:
        """The result of a method of the host; what it raises is raised here.

        WorkerError where the child is lost before that. KeyboardInterrupt once `stopping` is set and it has stopped.
        None: it is waited for.
        """
        with self._lock:
            if self.lost:
                raise WorkerError(self.lost)
            number = next(self._numbers)
            self._send(number, method, arguments)
            kind, value = self._wait(number, stopping, on_progress)
        if kind == FAILED:
            raise value
        return value

    def _send(self, number: int, method: str, arguments: Any) -> None:
        try:
            pickle.dump((number, method, arguments), self._requests, protocol=5)
            self._requests.flush()
        except (OSError, ValueError):  # it has ended, or was closed
            self._give_up()

    def _wait(
        self, number: int, stopping: Stopping | None, on_progress: Callable[[float], None] | None
    ) -> tuple[str, Any]:
        until, stopped = time.monotonic() + self._timeout, False
        while True:
            if stopping is not None and stopping.requested and not stopped:
                self._send(number, STOP, None)
                until, stopped = min(until, time.monotonic() + _GRACE), True
            try:
                answer = self._answers.get(timeout=_POLL)
            except queue.Empty:
                if time.monotonic() < until:
                    continue
                if stopped:
                    self._end("it was stopped while a worker computed")
                    raise KeyboardInterrupt from None
                self._give_up(f"it was silent for {self._timeout:g} s (--rpc-timeout)")
            if answer is None:
                self._give_up()
            if answer[0] != number:  # of a request that was given up
                continue
            if answer[1] != PROGRESS:
                return answer[1], answer[2]
            until = min(until, time.monotonic() + _GRACE) if stopped else time.monotonic() + self._timeout
            if on_progress is not None:
                on_progress(answer[2])

    def _give_up(self, reason: str = "") -> NoReturn:
        """It is lost: WorkerError. No reason: it has ended by itself."""
        self._end(reason or self._last_words())
        raise WorkerError(self.lost)

    def _last_words(self) -> str:
        """Why it has ended: its last line, without the place in its sources, or how."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._threads[1].join(1.0)
        line = next(reversed(self._lines), "").rpartition("/")[2]
        code = self._process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"its process ended ({line or how})"

    def _end(self, reason: str) -> None:
        self.lost = self.lost or reason
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._process.wait()

    def close(self) -> None:
        """End the process; it need not be asked any more."""
        self._end("it is closed")
        for thread in self._threads:
            thread.join(1.0)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            pipe.close()


def _widen(pipe: BinaryIO | Any) -> None:
    """A pipe that holds the logits of a large vocabulary, where the system can."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
