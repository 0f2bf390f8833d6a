"""Which files a pair's models are, and how much of each is on a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError
from .method.roles import Role

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, init=False)
class ModelSettings:
    """One role's model.

    path: its GGUF file; given as a text or a path, with ~ for the home folder
    gpu_layers: layers on the GPU; -1: all there are
    """

    path: Path
    gpu_layers: int

    def __init__(self, path: FilePath, gpu_layers: int = -1) -> None:
        object.__setattr__(self, "path", Path(os.path.expanduser(path)))  # noqa: PTH111  (pathlib's raises for ~nobody)
        object.__setattr__(self, "gpu_layers", gpu_layers)
        if gpu_layers < -1:
            raise UsageError(f"gpu_layers is {gpu_layers!r}, but must be 0 or more, or -1 for all")


@dataclass(frozen=True, init=False)
class Pair:
    """Two models that answer together.

    leader, draft: given as a file's name or path, or as ModelSettings
    name: of a named pair
    """

    leader: ModelSettings
    draft: ModelSettings
    name: str | None

    def __init__(
        self, leader: ModelSettings | FilePath, draft: ModelSettings | FilePath, name: str | None = None
    ) -> None:
        for role, model in (("leader", leader), ("draft", draft)):
            object.__setattr__(self, role, model if isinstance(model, ModelSettings) else ModelSettings(model))
        object.__setattr__(self, "name", name)

    def of(self, role: Role) -> ModelSettings:
        """That role's model."""
        return self.leader if role is Role.LEADER else self.draft
