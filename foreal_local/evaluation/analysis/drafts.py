"""A draft of an analysis: how it reads what is the leader's, and how it is held against the leader.

Knows both vocabularies; models are opened by models.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...config import ModelSettings
from ...method.roles import Role
from ...runtime.pair_tokens import PairTokens
from ...runtime.vocabulary import RoleVocabulary
from .foreign import ForeignReading, Places
from .judging import Judgement, LeaderReading, Predictions, WrittenView, view_of

LEADER, DRAFT = Role.LEADER, Role.DRAFT


@dataclass(frozen=True)
class LeaderResponse:
    """A response in the leader's ids.

    place: its number in the source, from 0
    tokens: without the token that ended the response
    finish_reason: None where the source does not say it
    """

    place: int
    id: str
    prompt: list[int]
    tokens: list[int]
    finish_reason: str | None = None


@dataclass(frozen=True)
class Draft:
    """A draft that shares the leader's words.

    name: stands in the tables
    prompts: its own ids of each prompt of the source
    tokens: translates ids
    """

    name: str
    settings: ModelSettings
    prompts: list[list[int]]
    tokens: PairTokens

    def view(self, response: LeaderResponse) -> WrittenView:
        """How it reads a response; predictions are made at each of the view's starts."""
        return view_of(self.prompts[response.place], response.tokens, self._translate)

    def wanted(self, response: LeaderResponse, predictions: Predictions) -> list[int]:
        """Its top-1 at each of the leader's tokens as the leader reads it in review: the first of the leader's ids."""
        return [self.tokens.translate(DRAFT, token, LEADER)[0] for token in predictions.top1.tolist()]

    def judgement(self, reading: LeaderReading, predictions: Predictions, column: int) -> Judgement:
        """It along a response, held against the leader, whose answers to `wanted` stand in this column."""
        return Judgement.of(reading, predictions, self._translate, column)

    def prompt_of(self, ids: list[int]) -> list[int]:
        """A prompt of the leader's as it reads it."""
        return [id for token in ids for id in self._translate(token)]

    def leaders_ids(self, written: Sequence[tuple[Role | None, int]]) -> list[int]:
        """What both have written, authors and ids (None: the program), in the leader's ids."""
        return [own for author, id in written for own in self.tokens.translate(author or DRAFT, id, LEADER)]

    def _translate(self, token: int) -> tuple[int, ...]:
        return self.tokens.translate(LEADER, token, DRAFT)


@dataclass(frozen=True)
class ForeignDraft(Draft):
    """A draft that has other words: it reads the response's text as its own tokens.

    vocabularies: of both, which must stay open as long as this is used
    """

    vocabularies: Mapping[Role, RoleVocabulary]

    def view(self, response: LeaderResponse) -> WrittenView:
        prompt, ids = self.prompts[response.place], self._ids(response.tokens)
        n = len(prompt)
        return WrittenView([*prompt, *ids], n, list(range(n, n + len(ids))), asked=[()] * len(ids))

    def wanted(self, response: LeaderResponse, predictions: Predictions) -> list[int]:
        leader = self.vocabularies[LEADER]
        end = next((id for id in leader.encode(leader.eos) if leader.is_end(id)), 0)
        return self._reading(response.tokens, predictions).asked(lambda text: self.tokens.encode(LEADER, text), end)

    def judgement(self, reading: LeaderReading, predictions: Predictions, column: int) -> Judgement:
        return self._reading(reading.tokens, predictions).judgement(reading, lambda id: self._piece(LEADER, id), column)

    def prompt_of(self, ids: list[int]) -> list[int]:
        return self.vocabularies[DRAFT].encode(self._text(ids))

    def leaders_ids(self, written: Sequence[tuple[Role | None, int]]) -> list[int]:
        text = b"".join(self._piece(author or DRAFT, id) or b"" for author, id in written)
        return self.tokens.encode(LEADER, text.decode("utf-8", "replace"))

    def _reading(self, tokens: list[int], predictions: Predictions) -> ForeignReading:
        ids = self._ids(tokens)
        leader, draft = ([self._piece(role, id) or b"" for id in own] for role, own in ((LEADER, tokens), (DRAFT, ids)))
        return ForeignReading(ids, predictions, Places.of(leader, draft), lambda id: self._piece(DRAFT, id))

    def _ids(self, tokens: list[int]) -> list[int]:
        return self.tokens.encode(DRAFT, self._text(tokens))

    def _text(self, tokens: list[int]) -> str:
        return b"".join(self.vocabularies[LEADER].piece(id) for id in tokens).decode("utf-8", "replace")

    def _piece(self, role: Role, id: int) -> bytes | None:
        return self.tokens.piece(role, id)
