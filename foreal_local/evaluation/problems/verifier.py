"""math-verify (the extra `bench`) in a process of its own.

Its time limits are signals, which threads cannot use, and no signal ends a power of ten thousand digits. A
process can be ended from any thread.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache, lru_cache
from importlib import import_module
from threading import Lock, Timer
from typing import Any

from ...errors import UsageError

SECONDS = 10.0  # for one comparison; sympy can take for ever
INSTALL = "install it with: pip install 'foreal-local[bench]'"


@lru_cache(maxsize=4096)
def verified(ours: str, theirs: str) -> bool | None:
    """Are two normalised answers equal? None where `ours` cannot be read, or not in time."""
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
        """Are they equal? None where `ours` cannot be read, or not in time."""
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
    library: Any = import_module("math_verify")
    logging.disable()
    written = library.LatexExtractionConfig().normalization_config
    written = replace(written, units=False)  # its list of units has single letters
    config = (library.LatexExtractionConfig(boxed_match_priority=0, normalization_config=written),)

    @lru_cache(maxsize=4096)
    def read(answer: str) -> list[Any]:
        box = f"\\boxed{{{answer}}}"
        parsed: list[Any] = library.parse(box, config, "no_fallback", "first_match", parsing_timeout=None)
        return parsed

    def compare(ours: list[Any], theirs: list[Any]) -> bool | None:
        if not ours or not theirs:
            return False if ours else None
        equal = _equal_to_30_places(ours[0], theirs[0])
        if equal is None:
            equal = bool(library.verify(theirs, ours, allow_set_relation_comp=True, timeout_seconds=None))
        return equal

    print(file=replies, flush=True)
    sys.stderr = sys.stdout  # nobody reads on: the parser's complaints would fill the pipe
    for line in sys.stdin:
        ours, theirs = json.loads(line)
        print(json.dumps(compare(read(ours), read(theirs))), file=replies, flush=True)


def _equal_to_30_places(a: Any, b: Any) -> bool | None:
    """Exact numbers by their value: quicker than algebra, and right for tiny ones. None for all other kinds."""
    if not (getattr(a, "is_number", False) and getattr(b, "is_number", False)):
        return None
    if any(part.is_Float for value in (a, b) for part in value.atoms()):
        return None
    try:
        x, y = a.evalf(30), b.evalf(30)
        if not (x.is_finite and y.is_finite):
            return bool(x == y)
        return bool(abs(x - y) <= max(abs(x), abs(y)) * 1e-20)
    except Exception:
        return None
