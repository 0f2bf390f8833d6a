"""Tokens of a response: written, chosen but not yet written, put in by the program, taken back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .roles import Role


class FinishReason(str, Enum):
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    CANCELLED = "cancelled"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value


class Likelihood(NamedTuple):
    """How likely a model held a token, before any setting of sampling and any grammar.

    logprob: natural logarithm of its probability
    top: the model's most likely tokens, in its own ids, each with its logarithm; the most likely first
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Token:
    """One token of the stream.

    id: in its author's ids
    author: who wrote it
    text: the characters that it completed
    sentence: its sentence's number, from 0
    led: whether the leader leads that sentence
    top1: the author's most likely token there
    hit: the alignment check's flag; None where it was not checked
    hits: the hit counter after this token
    inserted: put in by the program (a cue, a closing tag); no model chose it
    half: bytes at the end of the stream, after this token, that do not make a character yet
    n_drawn: random numbers drawn for tokens before this one was chosen
    likelihood: how likely its author held it, where that is recorded; None for what no model chose
    """

    id: int
    author: Role
    text: str
    sentence: int
    led: bool
    top1: int
    hit: bool | None = None
    hits: int = 0
    inserted: bool = False
    half: bytes = b""
    n_drawn: int = 0
    likelihood: Likelihood | None = None


@dataclass(frozen=True)
class TakenBack:
    """Tokens that were written and then dropped.

    at: their place, counted as tokens of the response are
    tokens: as they were
    reason: why, in a few words
    """

    at: int
    tokens: list[Token]
    reason: str


class Choice(NamedTuple):
    """A role's next token, chosen at view length `at` and not (yet) part of the stream.

    n_drawn: random numbers drawn for tokens before it was chosen
    likelihood: how likely the role held it, where that is recorded
    """

    role: Role
    at: int
    token: int
    top1: int
    n_drawn: int = 0
    likelihood: Likelihood | None = None


class Spelled(NamedTuple):
    """A token of a text that no model chose, as `Sequence.append` takes it."""

    choice: Choice
    piece: bytes
    ids: dict[Role, tuple[int, ...]]
