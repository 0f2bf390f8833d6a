"""math-verify (the extra `bench`) in a process of its own.

Its time limits are signals, which threads cannot use, and no signal ends a power of ten thousand digits. A
process can be ended from any thread.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from functools import cache, lru_cache
from threading import Lock, Timer

from ...errors import UsageError
from .formulas import Formulas

SECONDS = 10.0  # for one comparison; sympy can take for ever
INSTALL = "install it with: pip install 'math-verify[antlr4_13_2]>=0.9,<1'"


@lru_cache(maxsize=4096)
def verified(ours: str, theirs: str) -> bool | None:
    """Are two normalised answers equal? None where one of them cannot be read, or not in time."""
    return _verifier().ask(ours, theirs)


@cache
def _verifier() -> Verifier:
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier


class Verifier:
    """math-verify in a process of its own, which it owns: started when first asked, ended when it takes too long.

    Threads may share one; they wait for each other.
    """

    def __init__(self, seconds: float = SECONDS, command: list[str] | None = None) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        self.seconds, self.command = seconds, command or [sys.executable, "-c", code]
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, ours: str, theirs: str) -> bool | None:
        """Are they equal? None where one of them cannot be read, or not in time."""
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            timer = Timer(self.seconds, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps([ours, theirs]) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
            finally:
                timer.cancel()
            if not line:
                self._end()
                return None
            equal: bool | None = json.loads(line)
            return equal

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")
        assert process.stdout is not None
        if not process.stdout.readline():
            reason = process.communicate()[1].strip().rpartition("\n")[2]
            raise UsageError(f"math-verify cannot be used ({reason}): {INSTALL}")
        self._process = process
        return process

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve() -> None:
    """The other process: a pair of answers on each line of stdin, true, false or null on each of stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command line; the end of stdin ends this
    replies, sys.stdout = sys.stdout, open(os.devnull, "w")
    formulas = Formulas()
    print(file=replies, flush=True)
    sys.stderr = sys.stdout  # nobody reads on: the parser's complaints would fill the pipe
    for line in sys.stdin:
        try:
            equal = formulas.equal(*json.loads(line))
        except (RecursionError, MemoryError):  # brackets in brackets, a power of ten thousand digits
            equal = None
        print(json.dumps(equal), file=replies, flush=True)
