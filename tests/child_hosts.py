"""What children do in tests: fakes behind the model protocol, with trouble on order; real models without any worker.

A child imports this module by its name; what it is to do comes with the first requests.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from fakes import FakeModel

from foreal_local.errors import EvaluationError
from foreal_local.method.roles import Role
from foreal_local.runtime.model import Output, Row
from foreal_local.runtime.remote.host import ContextFacts, HostedModel, State
from foreal_local.runtime.remote.process import Child


class TroubledModel(FakeModel):
    """A fake whose calls end badly where `trouble` says so: by the call's number, one of "die", "hang", "raise"."""

    trouble: dict[int, str]
    host: FakeHost

    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        for output in super().evaluate(rows):
            what = self.trouble.pop(self.n_calls, "")
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "abort":
                os.write(2, b"/build/ggml-rpc.cpp:483: Remote RPC server crashed or returned malformed response\n")
                os.abort()
            if what == "raise":
                raise EvaluationError("llama_decode failed with code -3")
            while what == "hang":
                time.sleep(0.01)
            while what == "work":
                time.sleep(0.01)
                if self.host.stopped:
                    self._abort(rows[0].slot)
                    raise KeyboardInterrupt
            yield output


class FakeHost:
    """Fakes by number."""

    def __init__(self) -> None:
        self.on_progress: Callable[[float], None] = lambda fraction: None
        self.stopped = False
        self._hosted: list[HostedModel] = []
        self.save_seconds = 0.0

    def slow_saves(self, seconds: float) -> None:
        """Take so long for a state, as a large one over a network does."""
        self.save_seconds = seconds

    def stop(self) -> None:
        self.stopped = True

    def begin(self) -> None:
        self.stopped = False

    def load(self, seconds: float, n_steps: int) -> str:
        """Take so long, in so many steps."""
        for step in range(n_steps):
            time.sleep(seconds / n_steps)
            self.on_progress(step / n_steps)
        return "loaded"

    def open_context(self, role: str, options: dict[str, Any], trouble: dict[int, str]) -> ContextFacts:
        model = TroubledModel(Role(role), **options)
        model.trouble, model.host = dict(trouble), self
        n_sequences = model.n_slots + 1
        self._hosted.append(HostedModel(model, n_sequences))
        return ContextFacts(model.n_slots, model.n_ctx, n_sequences, True, False, "fake", 0)

    def of_context(self, number: int, method: str, arguments: tuple[Any, ...]) -> tuple[Any, State]:
        if method == "save":
            time.sleep(self.save_seconds)
        return self._hosted[number].ask(method, arguments)

    def loud(self) -> None:
        """Print as a library does, on what would be the answers' pipe."""
        os.write(1, b"Starting RPC server\n" * 100)


class Flag:
    """What llama.Abort is for a child."""

    requested = False


class FakeWeights:
    """A model in a child for contexts of fakes (remote.context.ChildModel); another child has no trouble."""

    def __init__(self, timeout: float = 20.0) -> None:
        self.generation, self.flag, self._timeout = 0, Flag(), timeout
        self._opened: list[tuple[Any, ...]] = []
        self.child = Child("child_hosts:FakeHost", timeout)

    @property
    def is_lost(self) -> bool:
        return self.child.is_lost

    def open_context(
        self, role: Role, trouble: dict[int, str] | None = None, **options: Any
    ) -> tuple[int, ContextFacts]:
        self._opened.append((str(role), options))
        facts = self.child.ask("open_context", str(role), options, trouble or {}, stopping=self.flag)
        return len(self._opened) - 1, facts

    def ask(self, number: int, method: str, arguments: tuple[Any, ...], stops: bool = True) -> Any:
        stopping = self.flag if stops else None
        return self.child.ask("of_context", number, method, arguments, stopping=stopping)

    def revive(self) -> None:
        if not self.is_lost:
            return
        self.child.close()
        self.child = Child("child_hosts:FakeHost", self._timeout)
        for role, options in self._opened:
            self.child.ask("open_context", role, options, {}, stopping=self.flag)
        self.generation += 1

    def close(self) -> None:
        self.child.close()
