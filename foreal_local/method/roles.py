"""The two roles: a strong leader and a cheap draft."""

from __future__ import annotations

from enum import Enum


class Role(str, Enum):
    LEADER = "leader"
    DRAFT = "draft"

    __hash__ = str.__hash__  # Enum's is a Python function, called for every look-up by role

    def __str__(self) -> str:
        return self.value

    @property
    def other(self) -> Role:
        return Role.DRAFT if self is Role.LEADER else Role.LEADER
