"""Tokens of a pair: which ids the models share, and what each reads for a token that only the other has.

Knows both vocabularies; nothing of prompts (text.py), sequences or caches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ..errors import VocabularyError
from ..method.reasoning import ReasoningTags
from ..method.roles import Role
from .vocabulary import RoleVocabulary, encode_inside

if TYPE_CHECKING:
    from ..method.grammar import GrammarState

_MAX_SIZE_DIFFERENCE = 128  # padding of one family's models; llama.cpp allows the same
_N_GRAMMARS = 32  # of each role that are kept; reading one takes milliseconds
_FIRST_COMPARED = 5  # llama.cpp's pair test leaves the first ids out as well


class PairTokens:
    """Both vocabularies, and which ids each role reads for a token of the other.

    Where ordinary words have the same ids, only a special token may have another text in the other model (Qwen2.5 and
    R1-Distill-Qwen share their words only): that model reads its text, encoded anew. Where they have not, each reads
    all that the other wrote as text (method/borders.py).

    tags: what stands around each model's reasoning. Where they differ, each reads and writes its own, and the text has
        the leader's: a tag that is a token is read by the other model as that model's own tag
    is_shared, why_not_shared: whether the models share their words, up to special ones
    notes: for the user, of the words and of the grammars that were asked for
    """

    def __init__(
        self, vocabularies: dict[Role, RoleVocabulary], tags: Mapping[Role, ReasoningTags | None] | None = None
    ) -> None:
        self._vocabularies = vocabularies
        self._pieces: dict[Role, dict[int, bytes | None]] = {role: {} for role in vocabularies}
        self._foreign: dict[Role, dict[int, tuple[int, ...]]] = {role: {} for role in vocabularies}
        leader, draft = vocabularies.get(Role.LEADER), vocabularies.get(Role.DRAFT)
        self.notes: dict[str, None] = {}
        self.is_shared, self.why_not_shared = True, ""
        self._bytes: dict[Role, dict[int, int]] = {}
        if leader is not None and draft is not None and leader is not draft:
            self._compare(leader, draft)
        self._grammars: dict[tuple[Role, str | None, str | None], GrammarState] = {}
        self._tags_of_draft: list[tuple[str, str]] = []
        self._tag_ids = {role: _single_ids(vocabularies[role], (tags or {}).get(role)) for role in vocabularies}
        ours, theirs = (tags or {}).get(Role.LEADER), (tags or {}).get(Role.DRAFT)
        if ours and theirs and ours != theirs:
            self._share_tags((ours.opening, theirs.opening), (ours.closing, theirs.closing))

    def _compare(self, leader: RoleVocabulary, draft: RoleVocabulary) -> None:
        try:
            different = different_tokens(leader, draft)
        except VocabularyError as error:
            self.is_shared, self.why_not_shared = False, str(error)
            self.notes[f"each model reads what the other wrote as text: {_reason(error)}"] = None
            return
        for author in Role:
            own, other = self._vocabularies[author], self._vocabularies[author.other]
            beyond = range(min(own.n_tokens, other.n_tokens), own.n_tokens)
            for token in [*different, *beyond]:
                text = own.piece(token).decode("utf-8", "replace")
                # A token without a text (padding) is read as any id that the reader has.
                self._foreign[author][token] = tuple(encode_inside(other, text)) or (0,)

    def _share_tags(self, *pairs: tuple[str, str]) -> None:
        """Each pair is a tag as the leader has it, and as the draft has it."""
        for pair in pairs:
            ids = {role: encode_inside(self._vocabularies[role], tag) for role, tag in zip(Role, pair, strict=True)}
            if not self.is_shared and any(len(own) != 1 for own in ids.values()):
                continue  # the text has it as it was written
            for author, own in ids.items():
                if len(own) == 1:
                    self._foreign[author][own[0]] = tuple(ids[author.other])
                    self._pieces[author][own[0]] = pair[0].encode()
            self._tags_of_draft.append(pair)

    def piece(self, role: Role, token: int) -> bytes | None:
        """The bytes of a token; None if it ends a response."""
        pieces = self._pieces[role]
        if token not in pieces:
            vocabulary = self._vocabularies[role]
            pieces[token] = None if vocabulary.is_end(token) else vocabulary.piece(token)
        return pieces[token]

    def byte(self, role: Role, byte: int) -> int | None:
        """The token that is this byte alone; None where the role has none."""
        if role not in self._bytes:
            vocabulary = self._vocabularies[role]
            single = ((vocabulary.piece(token), token) for token in range(vocabulary.n_tokens))
            self._bytes[role] = {piece[0]: token for piece, token in single if len(piece) == 1 and piece[0] >= 0x80}
        return self._bytes[role].get(byte)

    def encode(self, role: Role, text: str, parse_special: bool = False) -> list[int]:
        """The role's ids of a text in the midst of a response; the response's tags in it are the role's own.

        parse_special: control tokens that are spelled in the text are these tokens, else their letters: a model that
            writes "<|im_end|>" letter by letter ends nothing
        """
        for in_text, own in self._tags_of_draft if role is Role.DRAFT else ():
            text = text.replace(in_text, own)
        vocabulary, tags = self._vocabularies[role], self._tag_ids[role]
        parts = re.split("|".join(f"({re.escape(tag)})" for tag in tags), text) if tags else [text]
        ids: list[int] = []
        for part in filter(None, parts):
            ids += [tags[part]] if part in tags else encode_inside(vocabulary, part, parse_special)
        return ids

    def is_control(self, role: Role, token: int) -> bool:
        """Whether the token is none that text is made of, and no tag."""
        return token not in self._tag_ids[role].values() and self._vocabularies[role].is_control(token)

    def translate(self, author: Role, token: int, reader: Role) -> tuple[int, ...]:
        """The reader's ids for a token of the author."""
        if author is reader:
            return (token,)
        if not self.is_shared:
            text = (self.piece(author, token) or b"").decode("utf-8", "replace")
            return tuple(self.encode(reader, text, parse_special=self.is_control(author, token)))
        return self._foreign[author].get(token) or (token,)

    def grammar(self, role: Role, gbnf: str | None, json_schema: str | None) -> GrammarState:
        """The grammar before the role's first token; UsageError where it cannot be read."""
        key = role, gbnf, json_schema
        found = self._grammars.get(key)
        if found is None:
            found = self._vocabularies[role].grammar(gbnf, json_schema)
            if len(self._grammars) >= _N_GRAMMARS * len(Role):
                self._grammars = {}  # another one, since other threads may be looking into this
            self._grammars[key] = found
            if len(self.notes) < _N_GRAMMARS:
                self.notes |= dict.fromkeys(getattr(found, "notes", ()))
        return found

    @property
    def n_different(self) -> int:
        """How many of the leader's tokens the draft reads as text."""
        tags = {tag.encode() for tag, _ in self._tags_of_draft}
        foreign = self._foreign.get(Role.LEADER, ())
        return sum(self._pieces[Role.LEADER].get(token) not in tags for token in foreign)


def _single_ids(vocabulary: RoleVocabulary, tags: ReasoningTags | None) -> dict[str, int]:
    """Those of the tags that are one token."""
    found = {tag: encode_inside(vocabulary, tag) for tag in (tags.opening, tags.closing)} if tags else {}
    return {tag: ids[0] for tag, ids in found.items() if len(ids) == 1}


_KINDS = {1: "SentencePiece", 2: "BPE", 3: "WordPiece", 4: "Unigram", 5: "RWKV", 6: "PLaMo-2"}
"""llama.cpp's numbers of the kinds of vocabularies, in words."""


ADVICE = "choose a draft of the leader's own family"
"""What errors of vocabularies end with."""


class Words(Protocol):
    """What can be compared of a vocabulary: a loaded model's, or one that was read from a file (gguf_vocabulary.py)."""

    n_tokens: int
    kind: int

    def text(self, token: int) -> bytes: ...
    def is_ordinary(self, token: int) -> bool: ...


def _reason(error: VocabularyError) -> str:
    return str(error).removesuffix(ADVICE).rstrip(" ;:")


def different_tokens(leader: Words, draft: Words) -> list[int]:
    """Ids whose texts differ between two vocabularies that share their words.

    VocabularyError where they do not: it names the first ordinary token that differs, the sizes or the kinds.
    """
    if leader.kind != draft.kind:
        kinds = " and ".join(_KINDS.get(each.kind, f"llama.cpp's number {each.kind}") for each in (leader, draft))
        raise VocabularyError(f"leader and draft have different kinds of vocabulary ({kinds}): {ADVICE}")
    different = []
    for token in range(min(leader.n_tokens, draft.n_tokens)):
        ours, theirs = leader.text(token), draft.text(token)
        if ours == theirs:
            continue
        if token >= _FIRST_COMPARED and leader.is_ordinary(token) and draft.is_ordinary(token):
            raise VocabularyError(
                f"leader and draft do not share their words: token {token} is "
                f"{_shown(ours)} for the leader and {_shown(theirs)} for the draft; {ADVICE}"
            )
        different.append(token)
    if abs(leader.n_tokens - draft.n_tokens) > _MAX_SIZE_DIFFERENCE:
        raise VocabularyError(
            f"leader and draft do not share their words: {leader.n_tokens} and {draft.n_tokens} tokens "
            f"(token {min(leader.n_tokens, draft.n_tokens)} is in one only); {ADVICE}"
        )
    return different


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))
