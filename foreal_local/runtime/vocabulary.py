"""What a pair needs of one model's vocabulary, and texts that stand in the midst of others as its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ..method.grammar import GrammarState


class Special(NamedTuple):
    """A token that is no ordinary word.

    text: what it is spelled like
    is_control: a control token; else user-defined, which may be a word that is recognised in any text
    """

    text: str
    is_control: bool


class RoleVocabulary(Protocol):
    """One model's tokens (llama.Vocabulary)."""

    n_tokens: int
    kind: int

    def encode(self, text: str, parse_special: bool = True) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def text(self, token: int) -> bytes: ...
    def is_ordinary(self, token: int) -> bool: ...
    def is_control(self, token: int) -> bool: ...
    def grammar(self, gbnf: str | None, json_schema: str | None) -> GrammarState: ...
    @property
    def specials(self) -> tuple[Special, ...]: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def bos_id(self) -> int: ...
    @property
    def bos(self) -> str: ...
    @property
    def eos(self) -> str: ...


def encode_after(vocabulary: RoleVocabulary, text: str, parse_special: bool = True) -> list[int]:
    """The ids of a text that another text stands before.

    Some vocabularies (SentencePiece) put a blank before whatever they encode. It is kept off by a line end that is
    encoded with the text and then taken away.
    """
    if not _adds_blank(vocabulary):
        return vocabulary.encode(text, parse_special)
    before, ids = vocabulary.encode("\n"), vocabulary.encode("\n" + text, parse_special)
    return ids[len(before) :] if ids[: len(before)] == before else vocabulary.encode(text, parse_special)


def encode_inside(vocabulary: RoleVocabulary, text: str, parse_special: bool = True) -> list[int]:
    """The ids of a text in the midst of what a model writes: without any blank that the text does not have.

    parse_special: control tokens that are spelled in the text are these tokens, else their letters

    Such a vocabulary puts one behind special tokens, too, which is right in prompts only.
    """
    if not _adds_blank(vocabulary):
        return vocabulary.encode(text, parse_special)
    ids: list[int] = []
    for token in vocabulary.encode(text, parse_special):
        name = "" if vocabulary.is_ordinary(token) else vocabulary.piece(token).decode("utf-8", "replace")
        if name and name in text:
            before, _, text = text.partition(name)
            ids += [*encode_after(vocabulary, before, parse_special), token]
    return ids + encode_after(vocabulary, text, parse_special)


def _adds_blank(vocabulary: RoleVocabulary) -> bool:
    first = vocabulary.encode("\n")[:1]
    return bool(first) and vocabulary.piece(first[0]).startswith(b" ")
