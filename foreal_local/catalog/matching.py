"""Which models could draft for a leader, which of them is worth trying first, and why others are not.

Knows sizes, kinds and vocabularies: of files (inventory.py) and of the table of families (families.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..runtime.gguf_vocabulary import why_different
from .families import FamilyModel, load_families, model_on_hub
from .inventory import LocalModel

BEST, FROM, TO = 1 / 12, 1 / 30, 1 / 6
"""A draft's size as a part of its leader's that is worth trying first, and the range around it."""
MOST = 1 / 2.5
"""The largest part at which a draft can save anything."""


@dataclass(frozen=True)
class Candidate:
    """A model that may lead or draft.

    name: for --leader and --draft
    billions, active: parameters, and those that a token needs
    n_bytes: of its file
    local, table: where what is known of it comes from; one of the two
    """

    name: str
    kind: str
    billions: float
    active: float
    n_bytes: int
    local: LocalModel | None = None
    table: FamilyModel | None = None

    @property
    def family(self) -> str:
        """The title of its family in the table; "" where it is not in it."""
        known = self.table or (model_on_hub(self.local.name) if self.local else None)
        return known.family if known else ""

    @property
    def vocabulary(self) -> str:
        if self.local:
            return f"{self.local.vocabulary.name} ({self.local.vocabulary.n_tokens:,} tokens)"
        assert self.table
        return f"{self.table.vocabulary.name} ({self.table.vocabulary.n_tokens:,} tokens)"


@dataclass(frozen=True)
class Judged:
    """A draft for a leader.

    part: of the leader's size
    why: in words
    worth: whether its size and kind are worth trying
    rank: what the drafts are sorted by, the best first
    shares: whether its vocabulary is the leader's
    """

    draft: Candidate
    part: float
    why: str
    worth: bool = False
    rank: tuple[bool | float, ...] = ()
    shares: bool = True


def of_file(model: LocalModel) -> Candidate:
    return Candidate(model.name, model.kind, model.n_parameters / 1e9, model.n_active / 1e9, model.n_bytes, local=model)


def of_table(model: FamilyModel) -> Candidate:
    return Candidate(model.hub, model.kind, model.billions, model.active, round(model.gb * 1e9), table=model)


def why_not_shared(leader: Candidate, draft: Candidate) -> str:
    """What keeps the two vocabularies from being one; "" where they share it, as far as can be known without both."""
    if leader.local and draft.local:
        return why_different(leader.local.vocabulary, draft.local.vocabulary)
    if leader.table and draft.table:
        shared = leader.table.vocabulary.name == draft.table.vocabulary.name
    else:
        local, table = leader.local or draft.local, leader.table or draft.table
        assert local is not None
        assert table is not None
        model, pre = local.vocabulary.splits
        shared = table.vocabulary.is_of(pre if pre != "default" else model, local.vocabulary.n_tokens)
    return "" if shared else f"another vocabulary: {draft.vocabulary}, the leader's is {leader.vocabulary}"


def judged(leader: Candidate, draft: Candidate) -> Judged:
    """Whether a draft is worth trying, whatever its vocabulary, and why."""
    part = draft.active / leader.active
    if part >= 1:
        return Judged(draft, part, "it is no smaller than the leader")
    size = f"{fraction(part)} of the leader's size"
    if part > MOST:
        return Judged(draft, part, f"{size}: it costs too much to save anything")
    fits = "" if FROM <= part <= TO else ": saves less" if part > TO else ": it will seldom agree"
    if draft.billions > leader.billions * MOST:
        return Judged(draft, part, f"{size}, but with all its experts it needs {draft.n_bytes / 1e9:.1f} GB of memory")
    of_family = leader.family != "" and leader.family == draft.family
    rank = (leader.kind != draft.kind, fits != "", not of_family, abs(math.log(part / BEST)), draft.local is None)
    words = [_kinds(leader.kind, draft.kind), *(["of one family"] if of_family else []), f"{size}{fits}"]
    return Judged(draft, part, ", ".join(words), True, rank)


def fraction(part: float) -> str:
    """A part in words, such as 1/12."""
    return f"1/{1 / part:.1f}" if part > 0.15 else f"1/{1 / part:.0f}"


def _kinds(leader: str, draft: str) -> str:
    if leader == draft:
        return {"thinking": "both think", "instruct": "both answer at once", "base": "both are base models"}[leader]
    words = {"thinking": "thinks", "instruct": "answers at once", "base": "has no chat template"}
    return f"the leader {words[leader]} and the draft {words[draft]}"


class Drafts(NamedTuple):
    """What could draft for a leader, the best first.

    sharing: worth trying
    strangers: of a size to try, but with another vocabulary: what the models read of each other costs more
    others: not worth trying
    """

    sharing: list[Judged]
    strangers: list[Judged]
    others: list[Judged]


def drafts_for(leader: Candidate, candidates: Iterable[Candidate]) -> Drafts:
    found = Drafts([], [], [])
    for draft in candidates:
        verdict, stranger = judged(leader, draft), why_not_shared(leader, draft)
        if stranger:
            why = stranger if verdict.worth else f"{verdict.why}; {stranger}"
            verdict = replace(verdict, why=why, shares=False)
        place = found.others if not verdict.worth else found.sharing if verdict.shares else found.strangers
        place.append(verdict)
    return Drafts(*(sorted(each, key=lambda verdict: verdict.rank) for each in found))


def from_table(local: Iterable[LocalModel]) -> list[Candidate]:
    """The models of all families, but those of which a file is here."""
    here = {model.hub for each in local if (model := model_on_hub(each.name))}
    return [of_table(model) for family in load_families().values() for model in family.models if model.hub not in here]
