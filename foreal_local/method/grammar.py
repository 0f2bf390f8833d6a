"""A grammar that the answer keeps to: which tokens may come next, whoever writes.

What a role thinks of a place is limited to the tokens that the grammar allows there (`LimitedOpinion`), so that
choices, proposals, hits, reviews and entropies all follow it without knowing of it. The reasoning is free, and may come
first where the model has reasoning at all. Knows ids and pieces; how a grammar is read is the vocabulary's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import SequenceError
from .opinion import Opinion
from .roles import Role
from .tokens import Likelihood
from .view import n_common
from .vocabulary import Logits

if TYPE_CHECKING:
    from .sequence import Sequence
    from .vocabulary import PairVocabulary

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_N_KEPT = 256
"""States of a grammar that are kept, the newest; earlier ones are made again where a response goes back so far."""
_N_FIRST = 64
"""So many of the most likely tokens are tried before all of them are."""
_DEPTHS, _REST = (-4.0, -8.0, -12.0, -16.0, -np.inf), 1e-3
"""How far below the likeliest allowed token the next ones are looked for, in nats; what is left where that ends."""


class GrammarState(Protocol):
    """A grammar after the tokens that it has read."""

    def allowed(self, ids: Ids) -> Mask:
        """Which of these tokens may come next; an end-of-generation token where the text is complete."""
        ...

    def after(self, token: int) -> GrammarState | None:
        """The state after one more token; None where it may not come."""
        ...


# ---------------------------------------------------------------- places around the grammar
@dataclass(frozen=True)
class _Reasoning:
    """Inside the reasoning, where all is allowed. `tail`: the last bytes, which may begin the closing tag."""

    frame: Frame
    tail: bytes = b""

    def after(self, token: int) -> Place | None:
        text = self.tail + self.frame.piece(token)
        _, found, rest = text.partition(self.frame.closing)
        if not found:
            return _Reasoning(self.frame, text[-len(self.frame.closing) :])
        return _Between(self.frame) if not rest.strip() else None


@dataclass(frozen=True)
class _Between:
    """Behind the reasoning: the answer comes now, or white space before it, once."""

    frame: Frame
    n_spaces: int = 0

    def allowed(self, ids: Ids) -> Mask:
        mask = self.frame.start.allowed(ids)
        if not self.n_spaces:
            mask |= np.fromiter((self._is_space(int(token)) for token in ids), np.bool_, ids.size)
        return mask

    def _is_space(self, token: int) -> bool:
        return self.frame.piece(token).isspace()

    def after(self, token: int) -> Place | None:
        inside = self.frame.start.after(token)
        if inside is None and self._is_space(token):
            return _Between(self.frame, self.n_spaces + 1)
        return inside


@dataclass(frozen=True)
class _Beginning:
    """A response that may begin with the tag that opens its reasoning."""

    frame: Frame
    opening: int

    def allowed(self, ids: Ids) -> Mask:
        mask: Mask = self.frame.start.allowed(ids) | (ids == self.opening)
        return mask

    def after(self, token: int) -> Place | None:
        return _Reasoning(self.frame) if token == self.opening else self.frame.start.after(token)


Place = _Reasoning | _Between | _Beginning | GrammarState


class Frame:
    """What stands around a grammar in one role's view of a response.

    start: the grammar before its first token
    closing: the tag that ends the reasoning
    """

    def __init__(self, role: Role, start: GrammarState, vocabulary: PairVocabulary, closing: str) -> None:
        self.start, self.closing = start, closing.encode()
        self._role, self._vocabulary = role, vocabulary

    def piece(self, token: int) -> bytes:
        """Its bytes; none for an end."""
        return self._vocabulary.piece(self._role, token) or b""


class Grammar:
    """The grammar along one role's view, and along what is proposed behind it."""

    def __init__(self, role: Role, sequence: Sequence, vocabulary: PairVocabulary) -> None:
        settings, tags = sequence.settings, sequence.tags
        start = vocabulary.grammar(role, settings.grammar, settings.json_schema)
        frame = Frame(role, start, vocabulary, tags.closing)
        first: Place = start
        if tags.opened:
            first = _Reasoning(frame)
        elif tags.may_open and len(opening := vocabulary.encode(role, tags.opening)) == 1:
            first = _Beginning(frame, opening[0])
        self._n_prompt = sequence.views[role].n_prompt
        self._ids: list[int] = []
        self._places: list[Place | None] = [first]

    def place(self, ids: list[int]) -> Place:
        """Where the grammar stands after these ids of the view. SequenceError where they do not keep to it."""
        response = ids[self._n_prompt :]
        n = n_common(self._ids, response)
        del self._ids[n:], self._places[n + 1 :]
        while self._places[-1] is None:  # not kept
            del self._places[-1]
        del self._ids[len(self._places) - 1 :]
        for token in response[len(self._ids) :]:
            place = self._places[-1]
            after = place.after(token) if place is not None else None
            if after is None:
                raise SequenceError(f"token {token} of the response does not keep to the grammar")
            self._ids.append(token)
            self._places.append(after)
        self._drop_old()
        place = self._places[-1]
        assert place is not None
        return place

    def _drop_old(self) -> None:
        at = len(self._places) - 1 - _N_KEPT
        while at > 0 and self._places[at] is not None:
            self._places[at] = None
            at -= 1

    def opinion(self, role: Role, at: int, logits: Logits, ids: list[int]) -> Opinion:
        """What a role thinks of the place after these ids, as far as the grammar lets it."""
        place = self.place(ids) if at >= self._n_prompt else None
        if place is None or isinstance(place, _Reasoning):
            return Opinion(role, at, logits)
        return LimitedOpinion(role, at, logits, place)


class LimitedOpinion(Opinion):
    """An opinion in which tokens that a grammar does not allow have no probability.

    A grammar may need longer for a whole vocabulary than a small model for its logits. So the most likely tokens are
    tried first; and where the distribution is wanted, the least likely ones, which have less than a thousandth of the
    probability of those that are allowed, count as not allowed.
    """

    __slots__ = ("_limited", "_place", "_raw")

    def __init__(self, role: Role, at: int, logits: Logits, place: _Between | _Beginning | GrammarState) -> None:
        self.role, self.at = role, at
        self._raw, self._place, self._sum = logits, place, None
        self._limited: Logits | None = None
        self.top1 = self._first_allowed()

    def _first_allowed(self) -> int:
        raw_top1 = int(self._raw.argmax())
        if not math.isfinite(self._raw[raw_top1]) or self._allows(raw_top1):
            return raw_top1
        for ids in self._likely_first():
            ids = ids[self._place.allowed(ids)]
            if ids.size:
                values = self._raw[ids]
                return int(ids[values == values.max()].min())
        raise SequenceError(
            "the grammar lets no token of the vocabulary come next: it can end nowhere from here; "
            f"{self.role} model, after {self.at} tokens of the prompt and the response"
        )

    def _likely_first(self) -> Iterator[Ids]:
        size = self._raw.size
        if size > _N_FIRST:
            yield np.argpartition(self._raw, size - _N_FIRST)[size - _N_FIRST :]
        yield np.flatnonzero(self._raw > -np.inf)

    def _allows(self, token: int) -> bool:
        return bool(self._place.allowed(np.array([token]))[0])

    @property
    def is_of_numbers(self) -> bool:
        return math.isfinite(self._raw[int(self._raw.argmax())])

    @property
    def logits(self) -> Logits:  # type: ignore[override]
        """(n_vocab,), minus infinity for what may not come."""
        if self._limited is None:
            self._limited = np.full_like(self._raw, -np.inf)
            for ids in self._likely():
                ids = ids[self._place.allowed(ids)]
                self._limited[ids] = self._raw[ids]
        return self._limited

    def _likely(self) -> Iterator[Ids]:
        """Tokens by likelihood, down to where the rest is of no account."""
        below = self._raw - self._raw[self.top1]
        if below.size <= _N_FIRST:
            yield np.flatnonzero(self._raw > -np.inf)
            return
        weights = np.exp(below)
        rest = float(weights.sum(dtype=np.float64))
        allowed, higher = 0.0, np.inf
        for lower in _DEPTHS:
            ids = np.flatnonzero((below >= lower) & (below < higher))
            yield ids
            rest -= float(weights[ids].sum(dtype=np.float64))
            assert self._limited is not None
            allowed += float(weights[ids[self._limited[ids] > -np.inf]].sum(dtype=np.float64))
            if rest < _REST * allowed:
                return
            higher = lower

    def relative(self, token: int) -> float:
        if not self._allows(token):
            return 0.0
        return math.exp(min(0.0, float(self._raw[token]) - float(self._raw[self.top1])))

    def likelihood(self, token: int, n_top: int) -> Likelihood:
        return Opinion(self.role, self.at, self._raw).likelihood(token, n_top)

    def kept(self) -> Opinion:
        return LimitedOpinion(self.role, self.at, self._raw.copy(), self._place)
