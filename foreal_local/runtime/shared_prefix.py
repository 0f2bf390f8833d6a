"""A prefix that many prompts share: evaluated once in a slot of its own, and copied into the slots of sequences."""

from __future__ import annotations

from collections.abc import Callable

from ..method.roles import Role
from .model import Model, Row


class SharedPrefix:
    """The prefix slot is the one behind the sequences' own.

    ids: what many of each role's prompts begin with; roles without are left out
    """

    def __init__(self, models: dict[Role, Model], ids: dict[Role, list[int]]) -> None:
        self._models = models
        self.ids = {role: some for role, some in ids.items() if some and models[role].has_prefix_slot}

    def copy(self, role: Role, slot: int, ids: list[int], evaluate: Callable[[Row], bool]) -> int:
        """Give an empty slot the prefix, if its ids begin so; how many tokens need no evaluation therefore.

        `evaluate` fills the prefix slot, the first time; False where there is no room for it.
        """
        prefix = self.ids.get(role)
        model = self._models[role]
        if prefix is None or model.cached(slot) or len(ids) <= len(prefix) or ids[: len(prefix)] != prefix:
            return 0
        prefix_slot, n_reused = model.n_slots, len(prefix)
        if not model.cached(prefix_slot):
            n_reused = 0
            if not evaluate(Row(prefix_slot, prefix, 1)):
                model.release(prefix_slot)
                del self.ids[role]
                return 0
        model.copy(prefix_slot, slot)
        return n_reused

    def close(self) -> None:
        for role in self.ids:
            self._models[role].release(self._models[role].n_slots)
        self.ids.clear()
