"""Two models with different words: how each reads what the other wrote.

What one writes is text for the other, and is tokenised anew together with the end of its view, back to where the last
word begins. So a view is what its model would have made of the text itself, also where the border falls inside a word,
and its last few ids may be replaced. Half a character stands in a view as single bytes, where the vocabulary has these,
else it is left out until it is whole. Knows views and the bytes of tokens; no model and no cache.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from .roles import Role
from .tokens import Choice, Spelled, Token
from .view import Tail, View, n_common

if TYPE_CHECKING:
    from .sequence import Sequence
    from .vocabulary import PairVocabulary

_MOST_BACK = 8
"""Ids of a view's end that may be replaced."""


def reread(
    view: View, role: Role, tokens: list[Token], new: bytes, vocabulary: PairVocabulary, is_control: bool = False
) -> Tail:
    """The view's end when bytes of the other model follow.

    tokens: the response before them
    new: the bytes; a token that begins with them gets the last of the starts
    is_control: they are the name of a control token, and nothing of a word
    """
    first = len(view.ids) if is_control else _window(view, role, vocabulary)
    before = b"".join(_bytes(vocabulary, role, token) for token in view.ids[first:]) + view.pending
    ids, pending = _ids_of(before + new, role, vocabulary, is_control)
    ends = list(accumulate(len(_bytes(vocabulary, role, token)) for token in ids))
    starts = [
        first + bisect_right(ends, offset) for offset in [*_offsets(tokens, len(before), vocabulary), len(before)]
    ]
    n_same = n_common(view.ids[first:], ids)
    return Tail(first + n_same, ids[n_same:], starts, pending)


def before_token(view: View, role: Role, tokens: list[Token], index: int, vocabulary: PairVocabulary) -> bytes:
    """What the text has between the place where a token begins in the view and the token itself: the beginning of an id
    that ends behind it."""
    behind = b"".join(_bytes(vocabulary, role, token) for token in view.ids[view.starts[index] :]) + view.pending
    n_tokens = sum(len(_bytes(vocabulary, token.author, token.id)) for token in tokens[index:])
    return behind[: max(0, len(behind) - n_tokens)]


def token_of(view: View, at: int, role: Role, tokens: list[Token], first: int, vocabulary: PairVocabulary) -> int:
    """The response's token in which the view's id at this place begins; `first` or a later one."""
    n_before = sum(len(_bytes(vocabulary, role, token)) for token in view.ids[view.starts[first] : at])
    n_before -= len(before_token(view, role, tokens, first, vocabulary))
    index = first
    for token in tokens[first:-1]:
        n_before -= len(_bytes(vocabulary, token.author, token.id))
        if n_before < 0:
            break
        index += 1
    return index


def spelled(text: str, author: Role, sequence: Sequence, vocabulary: PairVocabulary) -> list[Spelled]:
    """A text as tokens for `Sequence.insert`, in the ids of `author`."""
    at, tokens = len(sequence.views[author].ids), []
    for token in vocabulary.encode(author, text):
        ids = {reader: vocabulary.translate(author, token, reader) for reader in sequence.views}
        choice = Choice(author, at, token, token, sequence.n_drawn)
        tokens.append(Spelled(choice, vocabulary.piece(author, token) or b"", ids))
        at += 1
    return tokens


def _window(view: View, role: Role, vocabulary: PairVocabulary) -> int:
    """The first id that is tokenised anew: where the last word begins."""
    first = len(view.ids)
    while first > view.n_prompt and len(view.ids) - first < _MOST_BACK:
        if vocabulary.is_control(role, view.ids[first - 1]):
            break
        first -= 1
        if _bytes(vocabulary, role, view.ids[first])[:1].isspace():
            break
    while first < len(view.ids) and _is_continuation(_bytes(vocabulary, role, view.ids[first])[:1]):
        first += 1  # not inside a character
    return first


def _is_continuation(byte: bytes) -> bool:
    return bool(byte) and 0x80 <= byte[0] < 0xC0


def _offsets(tokens: list[Token], n_bytes: int, vocabulary: PairVocabulary) -> list[int]:
    """Where each of the last tokens begins in the last n_bytes of the text; only those that begin in them."""
    found: list[int] = []
    for token in reversed(tokens):
        n_bytes -= len(_bytes(vocabulary, token.author, token.id))
        if n_bytes < 0:
            break
        found.append(n_bytes)
    return found[::-1]


def _ids_of(data: bytes, role: Role, vocabulary: PairVocabulary, is_control: bool) -> tuple[list[int], bytes]:
    """The ids of bytes, and the bytes at their end that no id stands for."""
    ids: list[int] = []
    for text, rest, may_go_on in _parts(data):
        ids += vocabulary.encode(role, text, is_control) if text else []
        by_byte = [token for byte in rest if (token := vocabulary.byte(role, byte)) is not None]
        if len(by_byte) == len(rest):
            ids += by_byte
        elif may_go_on:
            return ids, rest
        else:
            ids += vocabulary.encode(role, rest.decode("utf-8", "replace"))
    return ids, b""


def _parts(data: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Texts, each with the bytes behind it that are no character, and whether they may still become one."""
    while data:
        try:
            yield data.decode(), b"", False
            return
        except UnicodeDecodeError as error:
            is_end = error.reason == "unexpected end of data"
            end = len(data) if is_end else error.end
            yield data[: error.start].decode(), data[error.start : end], is_end
            data = data[end:]


def _bytes(vocabulary: PairVocabulary, role: Role, token: int) -> bytes:
    return vocabulary.piece(role, token) or b""
