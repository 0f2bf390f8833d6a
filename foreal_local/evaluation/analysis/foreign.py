"""A draft that has other words than the leader, along a response: held against the leader at the leader's tokens.

The draft reads the response's text as its own tokens. What it would write at one of the leader's tokens are the
characters of its most likely token at its last place that is not behind that token, and on from there as long as its
reading of the text goes along (docs/method.md, "Two vocabularies"). Knows ids, bytes and predictions; no models.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ...method.hits import begins_with
from .judging import Bools, Judgement, LeaderReading, PieceOf, Predictions, readable


@dataclass(frozen=True)
class Places:
    """Where the draft is asked about each of the leader's tokens.

    at: how many of the draft's ids of the response stand before that place
    missing: the text between the place and the leader's token
    """

    at: list[int]
    missing: list[bytes]

    @classmethod
    def of(cls, leader: Sequence[bytes], draft: Sequence[bytes]) -> Places:
        """leader, draft: the response as the pieces of each."""
        text, ends = b"".join(draft), list(accumulate(map(len, draft)))
        begins = [0, *accumulate(map(len, leader))][: len(leader)]
        at = [min(bisect_right(ends, begin), len(draft) - 1) for begin in begins]
        return cls(at, [text[ends[place] - len(draft[place]) : begin] for place, begin in zip(at, begins, strict=True)])


@dataclass(frozen=True)
class ForeignReading:
    """A draft along one response.

    ids: the response as the draft's ids
    own: what it predicts at each of them
    places: of the leader's tokens
    piece: the bytes of the draft's ids; None for an end
    """

    ids: list[int]
    own: Predictions
    places: Places
    piece: PieceOf

    def asked(self, encode: Callable[[str], list[int]], end: int) -> list[int]:
        """What the leader is asked about at each of its tokens: the first of its ids of what the draft would write
        there; any id where the draft has left the text before.

        encode: a text as the leader's ids
        end: the leader's end of generation
        """
        rests = [self._rest(index) for index in range(len(self.places.at))]
        return [encode(rest.decode("utf-8", "replace"))[0] if rest else end for rest in rests]

    def _rest(self, index: int) -> bytes | None:
        """What the draft would write in place of a leader's token: its top-1 behind what stands there already. Empty
        for an end; None where it would have written another text before."""
        missing = self.places.missing[index]
        piece = self.piece(int(self.own.top1[self.places.at[index]]))
        if piece is None:
            return None if missing else b""
        return piece[len(missing) :] or None if piece.startswith(missing) else None

    def writes(self, index: int, token: bytes | None) -> bool:
        """Whether its text in place of a leader's token begins with these characters (None: an end)."""
        missing, at = self.places.missing[index], self.places.at[index]
        if token is None:
            return self._rest(index) == b""

        def top1_at(place: int) -> int | None:
            return int(self.own.top1[place]) if place < len(self.ids) else None

        return begins_with(missing + token, at, top1_at, self.ids, self.piece)

    def judgement(self, reading: LeaderReading, piece: PieceOf, column: int) -> Judgement:
        """At each of the leader's tokens; entropy and probability are those of the draft's place. Nothing is refused
        where the draft has left the text before.

        piece: the bytes of the leader's ids
        column: of the leader's relative probabilities, those of what it was asked about this draft
        """

        def same(tokens: Sequence[int]) -> Bools:
            return np.array([self.writes(i, piece(token)) for i, token in enumerate(tokens)], np.bool_)

        at, own = np.array(self.places.at, np.int64), self.own
        rests = [self._rest(index) for index in range(len(at))]
        words = [own.words[place] if not rest else readable(rest) for place, rest in zip(at, rests, strict=True)]
        has_left = np.array([rest is None for rest in rests])
        relative = np.where(has_left, 1.0, reading.leader.relative[:, column])
        there = Predictions(own.top1[at], own.entropy[at], own.chance[at], words, own.relative[at])
        return Judgement(reading, there, same(reading.leader.top1.tolist()), same(reading.tokens), relative)
