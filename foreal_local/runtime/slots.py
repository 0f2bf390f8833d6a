"""The slots of two models: which are free, and what the caches of the free ones still hold.

A slot keeps its prefix when its sequence ends. The next sequence takes the slot whose text it continues; else one that
holds nothing, or that nobody has used for longest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..method.roles import Role
from ..method.sequence import Sequence
from ..method.view import n_common
from .model import Model, Snapshot

Ids = dict[Role, list[int]]
_SAME_CONVERSATION = 0.75  # share of a slot's last prompt that another must begin with
_OPENING = 8  # tokens at a prompt's end that open the answer, and may be others when the conversation goes on


@dataclass
class Slot:
    """One place in both caches.

    id: the same in both models
    held: the ids that each role's cache holds; of a slot in use, those of roles that do not take part
    n_prompt: how many of them were the prompt of the sequence that left
    """

    id: int
    held: Ids = field(default_factory=dict)
    n_prompt: dict[Role, int] = field(default_factory=dict)

    def n_common(self, ids: Ids) -> int:
        """How many tokens of these ids its caches hold."""
        return sum(n_common(self.held.get(role, []), own) for role, own in ids.items())

    def is_continued_by(self, ids: Ids) -> bool:
        """Whether these ids are of the same conversation: they begin with most of its last prompt. A chat template's
        first tokens alone are in all conversations."""
        return 0 < _SAME_CONVERSATION * self._n_asked(ids) <= self.n_common(ids)

    def has_asked(self, ids: Ids) -> bool:
        """Whether these ids have all of its last prompt, but for what may open the answer: they are that conversation's
        next turn, or its last one again."""
        return self.n_common(ids) >= self._n_asked(ids) - _OPENING * len(ids)

    def _n_asked(self, ids: Ids) -> int:
        """Tokens of its last prompt that its caches hold: a role that had no part in the answer has none."""
        return sum(min(self.n_prompt.get(role, 0), len(self.held.get(role, []))) for role in ids)


class Slots:
    """Owner of the slots; `free` in the order in which they were given back, the newest last."""

    def __init__(self, models: dict[Role, Model]) -> None:
        self._models = models
        self.n = min(model.n_slots for model in models.values())
        self.free = [Slot(i) for i in range(self.n)][::-1]
        self._used: dict[int, Slot] = {}

    def take(self, ids: Ids, reuse: bool) -> int:
        """A free slot for these ids: to reuse what it holds, the one that they continue; else an empty one, else the
        one that was given back first. Each cache then holds nothing but a beginning of the ids.

        Where they only begin as another conversation does, an empty slot gets a copy, and that conversation loses
        nothing."""
        continued = [slot for slot in self.free if reuse and slot.is_continued_by(ids)]
        empty = [slot for slot in self.free if not any(slot.held.values())]
        best = max(continued, key=lambda slot: slot.n_common(ids), default=None)
        if best is not None and (best.has_asked(ids) or not empty):
            slot = best
        else:
            slot = empty[-1] if empty else self.free[0]
            if best is not None:
                self._copy(best, slot, ids)
        self.free.remove(slot)
        self._used[slot.id] = slot
        for role, model in self._models.items():
            if role in ids:
                held = slot.held.pop(role, [])
                self._cut(model, slot.id, min(n_common(held, ids[role]), len(ids[role]) - 1) if reuse else 0)
        return slot.id

    def _copy(self, source: Slot, target: Slot, ids: Ids) -> None:
        """Give an empty slot what another holds, but for memories that could not be cut to these ids."""
        for role in [role for role in ids if source.held.get(role) and not self._models[role].needs_marks]:
            self._models[role].copy(source.id, target.id)
            target.held[role], target.n_prompt[role] = list(source.held[role]), source.n_prompt[role]

    @property
    def has_empty(self) -> bool:
        """Whether a free slot holds nothing."""
        return any(not any(slot.held.values()) for slot in tuple(self.free))

    def n_reusable(self, ids: Ids) -> int:
        """How many tokens of these ids they would find here, nothing of another conversation being lost. Other threads
        may ask, too: they hear what was so a moment ago."""
        has_empty = self.has_empty
        continued = [slot for slot in tuple(self.free) if slot.is_continued_by(ids)]
        return max((slot.n_common(ids) for slot in continued if has_empty or slot.has_asked(ids)), default=0)

    @staticmethod
    def _cut(model: Model, slot: int, n_tokens: int) -> None:
        if n_tokens == 0 and model.cached(slot):
            model.release(slot)
        elif n_tokens < model.cached(slot):
            model.truncate(slot, n_tokens)

    def give_back(self, id: int, sequence: Sequence) -> None:
        """The sequence has left its slot; the caches keep what they hold of it."""
        slot = self._used.pop(id)
        for role, model in self._models.items():
            view = sequence.views.get(role)
            if view is not None:
                slot.held[role], slot.n_prompt[role] = view.ids[: model.cached(id)], view.n_prompt
            elif role in slot.held:
                del slot.held[role][model.cached(id) :]
        self.free.append(slot)

    def forget(self, role: Role) -> None:
        """A role's cache was emptied."""
        for slot in [*self.free, *self._used.values()]:
            slot.held.pop(role, None)

    def clear(self) -> None:
        """Empty the caches of all free slots."""
        for slot in self.free:
            slot.held.clear()
            for model in self._models.values():
                model.release(slot.id)

    # ---------------------------------------------------------------- prefixes that are kept elsewhere
    def n_held(self, ids: Ids) -> int:
        """How many tokens of these ids a free slot holds at most."""
        return max((slot.n_common(ids) for slot in self.free), default=0)

    def save(self, ids: Ids) -> dict[Role, Snapshot]:
        """States of the free slot that has most in common with these ids, cut to that."""
        if not self.free:
            return {}
        slot = max(self.free, key=lambda slot: slot.n_common(ids))
        states = {}
        for role in [role for role in slot.held if role in ids]:
            model, held = self._models[role], slot.held[role]
            self._cut(model, slot.id, n_common(held, ids[role]))
            del held[model.cached(slot.id) :]
            if held:
                states[role] = model.save(slot.id)
        return states

    def restore(self, role: Role, ids: list[int], state: Snapshot) -> None:
        """Put a saved state of these ids into a free slot: that which has most in common with them in the other role,
        else an empty one, else the one that was given back first. SequenceError where the model refuses it."""
        if not self.free or role not in self._models:
            return
        slot = max(self.free, key=lambda slot: (not slot.held.get(role), self._n_like(slot, ids)))
        slot.held.pop(role, None)
        self._models[role].restore(slot.id, state)
        slot.held[role], slot.n_prompt[role] = ids[: state.n_tokens], state.n_tokens

    @staticmethod
    def _n_like(slot: Slot, ids: list[int]) -> int:
        return max((n_common(held, ids) for held in slot.held.values()), default=0)

    def check(self) -> None:
        """Assert what must hold between steps."""
        ids = sorted([*self._used, *(slot.id for slot in self.free)])
        assert ids == list(range(self.n)), "a slot is lost or used twice"
        for slot in self.free:
            for role, model in self._models.items():
                assert model.cached(slot.id) == len(slot.held.get(role, [])), "a free slot holds unknown tokens"
