"""What the doctor finds. Knows no screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..method.plan import Plan
from ..method.roles import Role

if TYPE_CHECKING:  # the findings can be without llama.cpp
    from ..memory.fit import Fitted
    from ..memory.machine import Machine


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or could be better.

    text: what, with which value
    step: what to do about it, where the text does not say it
    stops: nothing runs before that
    """

    text: str
    step: str = ""
    stops: bool = False


@dataclass(frozen=True)
class Cache:
    """Where models from the hub are kept.

    folder: the hub's cache
    n_models, n_bytes: of models in it
    free: bytes of its disk
    """

    folder: Path
    n_models: int
    n_bytes: int
    free: int


@dataclass(frozen=True)
class Expected:
    """What one way to write is expected to cost here.

    name: as the options have it
    seconds: of a token
    against: the leader alone; 2 is twice as fast
    basis: where the figures of its work come from
    """

    name: str
    seconds: float
    against: float
    basis: str = ""


@dataclass
class Findings:
    """All of it; what was not looked at is None.

    problems: those that stop everything come first
    machine: None where llama-cpp-python cannot be used
    version: llama-cpp-python's
    cache: None where the hub's library tells nothing
    models: names of the pair's files
    fitted: what of the pair fits
    plan: how long its models take
    threads: that evaluated
    expected: what ways to write would cost
    advice: which of them pays, in a sentence
    """

    problems: list[Problem] = field(default_factory=list)
    machine: Machine | None = None
    version: str = ""
    cache: Cache | None = None
    models: Mapping[Role, Path] = field(default_factory=dict)
    fitted: Fitted | None = None
    plan: Plan | None = None
    threads: int = 0
    expected: list[Expected] = field(default_factory=list)
    advice: str = ""

    @property
    def stops(self) -> bool:
        """Whether something is wrong without which nothing runs."""
        return any(problem.stops for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """For programs: bytes, seconds, names as llama.cpp has them."""
        found: dict[str, Any] = {"problems": [asdict(problem) for problem in self.problems]}
        found["llama_cpp_python"] = self.version or None
        found["machine"] = _plain(asdict(self.machine)) if self.machine else None
        found["cache"] = _plain(asdict(self.cache)) if self.cache else None
        found["pair"] = self._pair() if self.models else None
        return found

    def _pair(self) -> dict[str, Any]:
        found: dict[str, Any] = {str(role): {"path": str(path)} for role, path in self.models.items()}
        if self.fitted:
            request, need = self.fitted.request, self.fitted.need
            found |= {"ctx_size": request.ctx_size, "parallel": request.n_slots}
            found |= {"cache_type_k": request.runtime.kv_type_k, "cache_type_v": request.runtime.kv_type_v}
            found |= {"changed": self.fitted.changed or None, "warning": self.fitted.warning or None}
            for role in request.roles:
                found[str(role)]["gpu_layers"] = request.pair.of(role).gpu_layers
                found[str(role)]["bytes"] = need and {
                    name: dict(sizes) for name, sizes in need.roles[role].parts.items()
                }
        if self.plan:
            found["speed"] = {"threads": self.threads} | {
                f"{role}_ms": {str(size): round(1e3 * seconds, 3) for size, seconds in sorted(speed.seconds.items())}
                for role, speed in self.plan.speeds.items()
            }
        found["modes"] = [
            {"name": each.name, "ms_per_token": round(1e3 * each.seconds, 3), "against_leader": round(each.against, 3)}
            for each in self.expected
        ]
        return found | {"advice": self.advice or None}


def _plain(value: Any) -> Any:
    """Without paths, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
