"""`logprobs` in the shapes of both interfaces. Knows tokens and their likelihoods; of vocabularies the pieces alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..method.roles import Role
from ..method.tokens import Likelihood, Token
from ..results import Result

Json = dict[str, Any]
PieceOf = Callable[[Role, int], bytes]
"""The bytes of a role's token; none of one that ends a response."""
_LEAST = -9999.0
"""What stands for a token that a model held impossible, or that no model chose."""


@dataclass(frozen=True)
class Scored:
    """A token with its likelihood.

    role: in whose ids it is
    likelihood: None where there is none: of a prompt's first token, and of one that no model chose
    """

    role: Role
    id: int
    likelihood: Likelihood | None

    @classmethod
    def of(cls, token: Token) -> Scored:
        return cls(token.author, token.id, token.likelihood)

    @property
    def logprob(self) -> float:
        return _least(self.likelihood.logprob) if self.likelihood else _LEAST


def _least(logprob: float) -> float:
    return max(_LEAST, logprob)


def prompt_of(result: Result) -> list[Scored]:
    """The prompt's tokens as the model has read them that told their likelihoods."""
    views = result.sequence.views
    role = next(role for role in Role if role in views)
    ids, found = views[role].ids[: views[role].n_prompt], result.sequence.prompt_likelihoods
    likelihoods: list[Likelihood | None] = [None, *found]
    likelihoods += [None] * (len(ids) - len(likelihoods))
    return [Scored(role, id, each) for id, each in zip(ids, likelihoods, strict=False)]


def for_chat(tokens: Iterable[Token], piece: PieceOf) -> list[Json]:
    """The tokens of a content, without the one that ends it."""
    found = []
    for scored in map(Scored.of, tokens):
        data = piece(scored.role, scored.id)
        if data:
            top = scored.likelihood.top if scored.likelihood else ()
            others = [_of_chat(piece(scored.role, id), _least(logprob)) for id, logprob in top]
            found.append(_of_chat(data, scored.logprob) | {"top_logprobs": others})
    return found


def _of_chat(data: bytes, logprob: float) -> Json:
    return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}


class Completion:
    """The lists of one choice's `logprobs`, token by token; whoever scores a text counts on each token's place, so that
    the one that ends the response is among them."""

    def __init__(self, piece: PieceOf, n_characters: int = 0) -> None:
        self._piece, self._n_characters = piece, n_characters
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._offsets: list[int] = []

    def add(self, scored: Scored, n_characters: int) -> None:
        """A token that completes so many characters of the text."""
        text = self._text(scored.role, scored.id)
        self._tokens.append(text)
        self._offsets.append(self._n_characters)
        self._n_characters += n_characters
        likelihood = scored.likelihood
        if likelihood is None:
            self._logprobs.append(None)
            self._top.append(None)
            return
        top: dict[str, float] = {}
        for id, logprob in (*likelihood.top, (scored.id, likelihood.logprob)):
            top.setdefault(self._text(scored.role, id), _least(logprob))
        self._logprobs.append(scored.logprob)
        self._top.append(top if likelihood.top else None)

    def add_written(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            self.add(Scored.of(token), len(token.text))

    def _text(self, role: Role, id: int) -> str:
        return self._piece(role, id).decode("utf-8", "replace")

    def take(self) -> Json:
        """What was added since the last time."""
        found = {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._offsets,
        }
        self._tokens, self._logprobs, self._top, self._offsets = [], [], [], []
        return found
