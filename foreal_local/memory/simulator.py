"""Asks llama.cpp how much memory models would take, in a process of its own: nothing is allocated, and whatever a
damaged file does to that process, this one goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

from ..config import Pair, Runtime
from ..method.roles import Role
from .need import Need, RoleNeed

_SECONDS = 120
"""Most that an answer may take; it takes one or two."""
_MODULE = "foreal_local.runtime.simulation"


class Simulator:
    """The other process, started with the first question; use it in a `with`. Models stay there between questions.

    reason: why the last question had no answer
    refuses: it is llama.cpp that says no, as it would say to a run
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.reason, self.refuses = "", False

    def need(
        self,
        pair: Pair,
        runtime: Runtime,
        *,
        ctx_size: int,
        n_slots: int = 1,
        roles: Iterable[Role] = tuple(Role),
        prefix_slot: bool = False,
    ) -> Need | None:
        """What a pair would take; None where llama.cpp does not tell."""
        models = {role: pair.of(role) for role in Role if role in set(roles)}
        found = self._ask(
            {
                "models": {
                    str(role): {"path": str(model.path.absolute()), "gpu_layers": model.gpu_layers}
                    for role, model in models.items()
                },
                "runtime": dataclasses.asdict(runtime) | {"verbose": False},
                "n_slots": n_slots,
                "ctx_size": ctx_size,
                "prefix_slot": prefix_slot,
            }
        )
        return found and Need({role: RoleNeed.of(found[str(role)]) for role in models})

    def _ask(self, question: dict[str, Any]) -> Any:
        process = self._process = self._process or self._start()
        if process is None:
            self.reason = "there is no Python interpreter to ask llama.cpp in"
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or "{}")
        except (OSError, ValueError):
            answer = {}
        finally:
            timer.cancel()
        self.refuses = "error" in answer
        self.reason = "" if "found" in answer else answer.get("error", "llama.cpp ended the process that asked it")
        if not answer:
            self.close()
        return answer.get("found")

    @staticmethod
    def _start() -> subprocess.Popen[str] | None:
        if not sys.executable or getattr(sys, "frozen", False):
            return None
        variables = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONFAULTHANDLER": "", "PYTHONIOENCODING": "utf-8"}
        variables |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=variables,
            encoding="utf-8",
        )

    def close(self) -> None:
        """End the other process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        process.wait()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
