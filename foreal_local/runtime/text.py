"""Prompts as tokens: messages in each role's own chat template, whose control tokens are kept apart from texts.

Knows chat templates and vocabularies; nothing of sequences or caches.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config import Prompting
from ..errors import ContextFullError, UsageError
from ..method.reasoning import TAGS, ReasoningTags
from ..method.roles import Role
from ..method.vocabulary import PairVocabulary
from .messages import SYSTEM_ROLES, Messages, TokenIds, unused_character
from .tags import opened_by, tags_behind, tags_of_both, with_reasoning_opened
from .vocabulary import RoleVocabulary, Special, encode_after

if TYPE_CHECKING:
    from .chat_template import ChatTemplate

Templates = dict[Role, "ChatTemplate | None"]
_TAG_TEXTS = frozenset(text for tags in TAGS for text in (tags.opening, tags.closing))
_LONGEST_TOKEN = 32
"""Bytes of a token, at most: a text with more for each place of the context has no room there, and is not even read.
Longer ones are of blanks and rules; no text is made of these alone."""
_MOST_OF_A_TAG = 32  # tokens at a prompt's end in which a tag that opens the reasoning is looked for
_TAG = re.compile(r"\s*[<\[].*[>\]]\s*", re.DOTALL)
_NAMED_AS_CONTROL = re.compile(r"\s*<[|｜].*[|｜]>\s*", re.DOTALL)


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as tokens.

    ids: each role's
    tags: what stands around the response's reasoning
    """

    ids: dict[Role, list[int]]
    tags: ReasoningTags

    @property
    def starts_thinking(self) -> bool:
        """Whether the response starts inside the reasoning."""
        return self.tags.opened


def encode_prompt(
    content: Messages | str,
    prompting: Prompting,
    vocabularies: dict[Role, RoleVocabulary],
    templates: Templates,
    own: Mapping[Role, ReasoningTags | None],
    most: int | None = None,
) -> PromptTokens:
    """A prompt as each role's own chat template has it; a text is one message of the user.

    A role without a template reads the other's text. Where one template opens the reasoning and the other does not, the
    tag is added for the other, because both follow the same response. Control tokens that are spelled out in a message
    are text, unless `prompting` says otherwise.

    own: the tags of each role's model, see `own_tags`
    most: tokens that it may have; ContextFullError, before they are made, where its text is longer than so many can be
    """
    known = [template for template in templates.values() if template]
    if isinstance(content, str) and (prompting.raw or not known):
        if prompting.system:
            raise UsageError("a system message needs a chat template, and neither model has one: leave it out")
        _require_room(content, most)
        ids = {role: _with_bos(vocabulary, [content]) for role, vocabulary in vocabularies.items()}
        return PromptTokens(ids, opened_by(content) or replace(tags_of_both(own), may_open=False))
    messages = _messages(content, prompting, bool(known))
    pieces: dict[Role, list[str]] = {}
    for role, vocabulary in vocabularies.items():
        template = templates.get(role) or known[0]
        pieces[role] = _pieces(_in_own_tags(messages, own, role), template, vocabulary, prompting)
        _require_room("".join(pieces[role]), most)
    if messages[-1]["role"] == "assistant":
        tags = replace(tags_behind(messages[-1]["content"], own), may_open=False)
    else:
        ends, tags = with_reasoning_opened({role: texts[-1] for role, texts in pieces.items()}, own)
        pieces = {role: [*texts[:-1], ends[role]] for role, texts in pieces.items()}
    return PromptTokens({role: _with_bos(vocabulary, pieces[role]) for role, vocabulary in vocabularies.items()}, tags)


def least_tokens(text: str) -> int:
    """How many tokens a text has at least, without a look at its words."""
    return len(text.encode("utf-8", "replace")) // _LONGEST_TOKEN


def _require_room(text: str, most: int | None) -> None:
    """ContextFullError where a text has more than so many tokens, whatever these are: to make them takes long."""
    if most is not None and (least := least_tokens(text)) > most:
        raise ContextFullError(f"the prompt has {least} tokens or more, and {most} have room: shorten it", least)


def prompt_of_ids(
    ids: TokenIds,
    vocabularies: dict[Role, RoleVocabulary],
    tokens: PairVocabulary,
    own: Mapping[Role, ReasoningTags | None],
) -> PromptTokens:
    """A prompt that is tokens of the leader already (of the draft, where it is alone), as each role reads it."""
    author = next(role for role in Role if role in vocabularies)
    n_tokens = vocabularies[author].n_tokens
    unknown = next((token for token in ids if not 0 <= token < n_tokens), None)
    if unknown is not None:
        raise UsageError(f"the prompt has the token {unknown}, but the {author} has tokens from 0 to {n_tokens - 1}")
    views = {role: [each for token in ids for each in tokens.translate(author, token, role)] for role in vocabularies}
    text = b"".join(vocabularies[author].piece(token) for token in ids[-_MOST_OF_A_TAG:]).decode("utf-8", "replace")
    return PromptTokens(views, opened_by(text) or replace(tags_of_both(own), may_open=False))


def _messages(content: Messages | str, prompting: Prompting, has_template: bool) -> Messages:
    """The messages with the system message of `prompting`; UsageError where they need a template and there is none."""
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
    if prompting.raw:
        raise UsageError("messages need a chat template: leave out --raw, or give `prompt` texts")
    if not has_template:
        raise UsageError("messages need a chat template, and neither model has one: give `prompt` texts")
    if prompting.system and not any(message["role"] in SYSTEM_ROLES for message in messages):
        return [{"role": "system", "content": prompting.system}, *messages]
    return messages


def _in_own_tags(messages: Messages, own: Mapping[Role, ReasoningTags | None], role: Role) -> Messages:
    """The messages with the reasoning of earlier answers, which is in the tags of either role, in this one's."""
    read = own[role]
    others = {tags_of_both(own), *own.values()} - {read, None}
    if read is None or not others:
        return messages
    changed = []
    for message in messages:
        if message["role"] == "assistant":
            content = message["content"]
            for written in filter(None, others):
                content = content.replace(written.opening, read.opening).replace(written.closing, read.closing)
            message = {**message, "content": content}
        changed.append(message)
    return changed


def _with_bos(vocabulary: RoleVocabulary, pieces: list[str]) -> list[int]:
    """The ids of a prompt's pieces, with one BOS where the model expects it, and no end token behind them."""
    first, *others = pieces
    ids = vocabulary.encode(first)
    for piece in others:
        ids += encode_after(vocabulary, piece)
    if not vocabulary.adds_bos or vocabulary.bos_id < 0 or (vocabulary.bos and first.startswith(vocabulary.bos)):
        return ids
    return [vocabulary.bos_id, *ids]


# ---------------------------------------------------------------- control tokens in texts
def _pieces(messages: Messages, template: ChatTemplate, vocabulary: RoleVocabulary, prompting: Prompting) -> list[str]:
    """The rendered prompt, cut apart wherever a control token is spelled out in a message.

    So no piece has it whole. Where there is none, the prompt is one piece.
    """
    if prompting.parse_special:
        return [template.render(messages, prompting)]
    mark = unused_character(template.source + json.dumps(messages, ensure_ascii=False))
    cut = _Cutter(vocabulary.specials, template.source, mark).messages(messages)
    text = template.render(cut, prompting)
    if cut == messages:
        return [text]
    return re.split(f"{mark}|{re.escape(json.dumps(mark)[1:-1])}", text)


class _Cutter:
    """Puts a mark into each control token that is spelled out in messages.

    specials: of the vocabulary
    source: of the chat template; what it names is a control token, where the vocabulary leaves that open
    mark: a character that is nowhere in the messages
    """

    def __init__(self, specials: tuple[Special, ...], source: str, mark: str) -> None:
        self._mark = mark
        self._controls = _pattern(tuple(each.text for each in specials if _is_control(each, source)))
        # A model may have written what stands in its turn: reasoning tags, and words that are no control tokens, stay.
        self._of_an_answer = _pattern(
            tuple(each.text for each in specials if each.is_control and each.text not in _TAG_TEXTS)
        )

    def messages(self, messages: Messages) -> Messages:
        cut = [self._message(message) for message in messages]
        joined = "".join(message["content"] for message in cut)
        if not self._of_an_answer.search(joined):
            return cut
        # Two messages without anything between them make a token together.
        return [{**message, "content": message["content"] + self._mark} for message in cut]

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        cut = functools.partial(self._cut, self._of_an_answer if message["role"] == "assistant" else self._controls)
        return {key: value if key == "role" else _mapped(value, cut) for key, value in message.items()}

    def _cut(self, controls: re.Pattern[str], text: str) -> str:
        while controls.search(text):
            text = controls.sub(lambda found: found[0][0] + self._mark + found[0][1:], text)
        return text


def _is_control(special: Special, source: str) -> bool:
    text = special.text
    if special.is_control or text in _TAG_TEXTS or _NAMED_AS_CONTROL.fullmatch(text):
        return True
    return bool(_TAG.fullmatch(text)) and text.strip() in source


@functools.lru_cache(maxsize=16)
def _pattern(texts: tuple[str, ...]) -> re.Pattern[str]:
    """What finds any of these texts, the longest first; texts of one character, which cannot be cut, are left out."""
    longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    return value
