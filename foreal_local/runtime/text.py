"""Texts and token ids of a pair: what both vocabularies share, and prompts as tokens.

Knows chat templates and vocabularies; nothing of sequences or caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..config import Prompting
from ..errors import UsageError, VocabularyError
from ..method.reasoning import THINK
from ..method.roles import Role

_MAX_SIZE_DIFFERENCE = 128  # padding of one family's models; llama.cpp allows the same
_FIRST_COMPARED = 5  # llama.cpp's pair test leaves the first ids out as well

Messages = list[dict[str, str]]


class RoleVocabulary(Protocol):
    """What a pair needs of one model's vocabulary (llama.Vocabulary)."""

    n_tokens: int
    kind: int

    def encode(self, text: str, add_special: bool = False, parse_special: bool = True) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def text(self, token: int) -> bytes: ...
    def is_ordinary(self, token: int) -> bool: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def bos(self) -> str: ...
    @property
    def eos(self) -> str: ...


class PairTokens:
    """Both vocabularies, and which ids each role reads for a token of the other.

    Ordinary words must have the same ids. A special token may have another text in the other model (Qwen2.5 and
    R1-Distill-Qwen share their words only): then the other model reads its text, encoded anew.
    """

    def __init__(self, vocabularies: dict[Role, RoleVocabulary]) -> None:
        self._vocabularies = vocabularies
        self._pieces: dict[Role, dict[int, bytes | None]] = {role: {} for role in vocabularies}
        self._foreign: dict[Role, dict[int, tuple[int, ...]]] = {role: {} for role in vocabularies}
        leader, draft = vocabularies.get(Role.LEADER), vocabularies.get(Role.DRAFT)
        if leader is not None and draft is not None and leader is not draft:
            different = different_tokens(leader, draft)
            for author in Role:
                own, other = vocabularies[author], vocabularies[author.other]
                beyond = range(min(own.n_tokens, other.n_tokens), own.n_tokens)
                for token in [*different, *beyond]:
                    text = own.piece(token).decode("utf-8", "replace")
                    # A token without a text (padding) is read as any id that the reader has.
                    self._foreign[author][token] = tuple(other.encode(text)) or (0,)

    def piece(self, role: Role, token: int) -> bytes | None:
        """The bytes of a token; None if it ends a response."""
        pieces = self._pieces[role]
        if token not in pieces:
            vocabulary = self._vocabularies[role]
            pieces[token] = None if vocabulary.is_end(token) else vocabulary.piece(token)
        return pieces[token]

    def encode(self, role: Role, text: str) -> list[int]:
        return self._vocabularies[role].encode(text)

    def translate(self, author: Role, token: int, reader: Role) -> tuple[int, ...]:
        """The reader's ids for a token of the author."""
        if author is reader:
            return (token,)
        return self._foreign[author].get(token) or (token,)

    @property
    def n_different(self) -> int:
        """How many of the leader's tokens read differently in the draft."""
        return len(self._foreign.get(Role.LEADER, ()))


def different_tokens(leader: RoleVocabulary, draft: RoleVocabulary) -> list[int]:
    """Ids whose texts differ between two vocabularies that share their words.

    VocabularyError where they do not: it names the first ordinary token that differs, the sizes or the kinds.
    """
    advice = "choose a draft of the leader's own family"
    if leader.kind != draft.kind:
        raise VocabularyError(
            f"leader and draft have different kinds of vocabulary ({leader.kind} and {draft.kind}): {advice}"
        )
    different = []
    for token in range(min(leader.n_tokens, draft.n_tokens)):
        ours, theirs = leader.text(token), draft.text(token)
        if ours == theirs:
            continue
        if token >= _FIRST_COMPARED and leader.is_ordinary(token) and draft.is_ordinary(token):
            raise VocabularyError(
                f"leader and draft do not share their words: token {token} is "
                f"{_shown(ours)} for the leader and {_shown(theirs)} for the draft; {advice}"
            )
        different.append(token)
    if abs(leader.n_tokens - draft.n_tokens) > _MAX_SIZE_DIFFERENCE:
        raise VocabularyError(
            f"leader and draft do not share their words: {leader.n_tokens} and {draft.n_tokens} tokens "
            f"(token {min(leader.n_tokens, draft.n_tokens)} is in one only); {advice}"
        )
    return different


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as tokens.

    ids: each role's
    starts_thinking: the response starts inside the reasoning
    """

    ids: dict[Role, list[int]]
    starts_thinking: bool


class Prompter(Protocol):
    """Renders a chat template (llama.render_chat)."""

    def __call__(self, template: str, bos: str, eos: str, messages: Messages, args: dict[str, Any]) -> str: ...


def encode_prompt(
    messages: Messages | str,
    prompting: Prompting,
    vocabularies: dict[Role, RoleVocabulary],
    templates: dict[Role, str | None],
    render: Prompter,
) -> PromptTokens:
    """A prompt as each role's own chat template has it; a text is one message of the user.

    A role without a template reads the other's text. Where one template opens the reasoning and the other does not, the
    tag is added for the other, because both follow the same response.
    """
    if isinstance(messages, str):
        text = messages
        if prompting.system and not any(templates.values()):
            raise UsageError("a system message needs a chat template, and neither model has one: leave it out")
        messages = [{"role": "user", "content": text}]
        if prompting.raw or not any(templates.values()):
            ids = {role: vocabulary.encode(text, add_special=True) for role, vocabulary in vocabularies.items()}
            return PromptTokens(ids, bool(_opening(text)))
    elif prompting.raw:
        raise UsageError("messages need a chat template: leave out --raw, or give `prompt` texts")
    elif not any(templates.values()):
        raise UsageError("messages need a chat template, and neither model has one: give `prompt` texts")
    if prompting.system and not any(message["role"] == "system" for message in messages):
        messages = [{"role": "system", "content": prompting.system}, *messages]
    rendered: dict[Role, str] = {}
    for role, vocabulary in vocabularies.items():
        template = templates.get(role)
        if template:
            rendered[role] = render(template, vocabulary.bos, vocabulary.eos, messages, prompting.template_args)
    shared = next(iter(rendered.values()))
    texts = {role: rendered.get(role, shared) for role in vocabularies}
    opening = next((_opening(text) for text in texts.values() if _opening(text)), "")
    ids = {}
    for role, vocabulary in vocabularies.items():
        text = texts[role] if _opening(texts[role]) else texts[role] + opening
        add_bos = vocabulary.adds_bos and not (vocabulary.bos and text.startswith(vocabulary.bos))
        ids[role] = vocabulary.encode(text, add_special=add_bos)
    return PromptTokens(ids, bool(opening))


def _opening(text: str) -> str:
    """The reasoning tag and white space that a rendered prompt ends with, or ""."""
    at = text.rfind(THINK)
    return text[at:] if at >= 0 and not text[at + len(THINK) :].strip() else ""
