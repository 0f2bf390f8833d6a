"""Names of models, as clients choose them: NAME, and NAME:leader, NAME:draft, NAME:speculative for a mode."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..method.modes import roles_of
from ..method.roles import Role
from .errors import ApiError

MODES_BY_NAME = ("leader", "draft", "speculative")


@dataclass(frozen=True)
class ModelNames:
    """The names of one pair.

    name: of the pair, which is answered with in the mode that the server was started with
    roles: the models that are loaded
    """

    name: str
    roles: Collection[Role]

    @classmethod
    def of(cls, name: str, roles: Collection[Role]) -> ModelNames:
        """A name without what would not stand in a path."""
        return cls(re.sub(r"[^\w.@-]+", "-", name).strip("-") or "model", roles)

    @property
    def all(self) -> list[str]:
        """The plain name first."""
        modes = [mode for mode in MODES_BY_NAME if set(roles_of(mode)) <= set(self.roles)]
        return [self.name, *(f"{self.name}:{mode}" for mode in modes)]

    def mode_of(self, model: str | None) -> str | None:
        """The mode that a model's name means; None: the server's. ApiError for a name that there is not."""
        if model is None or model in ("", self.name):
            return None
        if model not in self.all:
            known = ", ".join(self.all)
            raise ApiError(404, f"there is no model {model[:200]!r} (there are: {known})", "model_not_found", "model")
        return model.removeprefix(f"{self.name}:")
