"""Which tags stand around the reasoning of a pair: chosen from its chat templates, prompts and vocabularies.

Knows the table of tags (method/reasoning.py). Each model reads and writes its own tags where the two have different
ones; the response's text has the leader's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Prompting
from ..errors import UsageError
from ..method.reasoning import DEFAULT_TAGS, TAGS, ReasoningTags
from ..method.roles import Role
from .vocabulary import RoleVocabulary, encode_inside

if TYPE_CHECKING:
    from .chat_template import ChatTemplate


def own_tags(template: ChatTemplate | None, vocabulary: RoleVocabulary) -> ReasoningTags | None:
    """The tags of one model: those that its chat template names, else those that are tokens of it; None: no known ones.

    Of several, those of which both are named come first, then those that are tokens, then the last that are named.
    """
    source = template.source if template else ""

    def rank(tags: ReasoningTags) -> tuple[int, bool, int]:
        places = [source.rfind(tag) for tag in (tags.opening, tags.closing)]
        return sum(at >= 0 for at in places), _are_tokens(tags, vocabulary), max(places)

    best = max(TAGS, key=rank)
    n_named, are_tokens, _ = rank(best)
    return best if n_named or are_tokens else None


def _are_tokens(tags: ReasoningTags, vocabulary: RoleVocabulary) -> bool:
    return len(encode_inside(vocabulary, tags.opening)) == 1 == len(encode_inside(vocabulary, tags.closing))


def tags_of_both(own: Mapping[Role, ReasoningTags | None]) -> ReasoningTags:
    """The tags in a response's text: the leader's own, or else the draft's."""
    return own.get(Role.LEADER) or own.get(Role.DRAFT) or DEFAULT_TAGS


def opened_by(text: str) -> ReasoningTags | None:
    """The tags of the reasoning that a prompt ends inside of, with nothing but white space after the opening one."""
    text = text.rstrip()
    return next((replace(tags, opened=True) for tags in TAGS if text.endswith(tags.opening)), None)


def tags_behind(answer: str, own: Mapping[Role, ReasoningTags | None]) -> ReasoningTags:
    """The tags of a response that continues an answer, which may have begun the reasoning and not ended it.

    Tags of other models are text, unless the pair has none of its own.
    """
    meant = set(own.values()) - {None}
    begun = (tags for tags in TAGS if answer.lstrip().startswith(tags.opening) and tags.closing not in answer)
    opened = next((tags for tags in begun if tags in meant or not meant), None)
    if opened is None:
        return tags_of_both(own)
    return replace(tags_of_both(own) if meant else opened, opened=True)


def with_reasoning_opened(
    texts: Mapping[Role, str], own: Mapping[Role, ReasoningTags | None]
) -> tuple[dict[Role, str], ReasoningTags]:
    """Both roles' prompts with the reasoning opened where one of them opens it, and the response's tags.

    Both follow the same response. A role that does not open it by itself reads its own tag there, or else the other's.
    """
    opened = {role: opened_by(text) for role, text in texts.items()}
    first = next((role for role in texts if opened[role]), None)
    if first is None:
        return dict(texts), tags_of_both(own)
    tags = opened[first]
    assert tags is not None
    space = texts[first][len(texts[first].rstrip()) :]
    read = {role: replace(opened[role] or own.get(role) or tags, opened=True) for role in texts}
    found = {role: text if opened[role] else text + read[role].opening + space for role, text in texts.items()}
    return found, next(iter(read.values()))


# ---------------------------------------------------------------- tags that are not known
_AT_END = re.compile(r"(?:<[^<>/\s][^<>\s]*>|\[[^\[\]/\s]+\])$")
_CHANNEL = "<|channel|>"
_ANSWER = "An answer."


def unknown_tag(template: ChatTemplate, prompting: Prompting) -> str | None:
    """What a model marks its reasoning with, where that is not in the table: a tag that its prompts end with, though no
    earlier answer begins behind it and no turn ends with it; or the channels of its template."""
    if _CHANNEL in template.source:
        return _CHANNEL
    question = {"role": "user", "content": "."}
    try:
        prompt = template.render([question], prompting).rstrip()
        found = _AT_END.search(prompt)
        if found is None or opened_by(prompt):
            return None
        history = template.render([question, {"role": "assistant", "content": _ANSWER}, question], prompting)
    except UsageError:  # a template that refuses these messages tells nothing
        return None
    ends_a_turn = history.count(found[0]) > prompt.count(found[0])
    begins_answers = history.partition(_ANSWER)[0].rstrip().endswith(found[0])
    return None if ends_a_turn or begins_answers else found[0]
