"""What the method asks of a pair's vocabularies, and the type of logits. Knows no tokenizer and no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .roles import Role

if TYPE_CHECKING:
    from .grammar import GrammarState

Logits = npt.NDArray[np.float32]
"""One float for each token of a vocabulary, (n_vocab,)."""


class PairVocabulary(Protocol):
    """Both roles' token ids, as far as the scheduler asks.

    is_shared: an id is the same word in both, but for a few; else each reads the other's text (borders.py)
    """

    @property
    def is_shared(self) -> bool: ...

    def byte(self, role: Role, byte: int) -> int | None:
        """The token that is this byte alone; None where the role has none."""
        ...

    def piece(self, role: Role, token: int) -> bytes | None:
        """The token's bytes; None for an end-of-generation token."""
        ...

    def encode(self, role: Role, text: str, parse_special: bool = False) -> list[int]:
        """The role's ids of a text in a response.

        parse_special: control tokens that are spelled in the text are these tokens, else their letters
        """
        ...

    def is_control(self, role: Role, token: int) -> bool:
        """Whether the token is none that text is made of."""
        ...

    def translate(self, author: Role, token: int, reader: Role) -> tuple[int, ...]:
        """The reader's ids for a token of the author: the same id, unless its text differs."""
        ...

    def grammar(self, role: Role, gbnf: str | None, json_schema: str | None) -> GrammarState:
        """The grammar of a text in GBNF, or of a JSON schema, before any of the role's tokens; UsageError where it is
        none."""
        ...
