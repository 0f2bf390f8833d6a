"""From a request to what the engine is asked: prompts, settings and prompting."""

from __future__ import annotations

from collections.abc import Sequence

from ..by_name import checked
from ..config import OF_A_RESPONSE, OF_RECORDS, Generation, Prompting, generation_of, prompting_of
from ..errors import UsageError
from ..method.reasoning import ReasoningTags
from ..presets import PRESETS, preset
from ..runtime.messages import Messages, as_messages
from ..settings import either, shown
from .errors import ApiError, invalid, not_done, of_usage
from .requests import MOST_STOP_CHARACTERS, MOST_STOPS, ChatMessage, CommonRequest, Json

_ROLES = ("system", "developer", "user", "assistant")
_NOT_TAKEN = {
    "grammar": "llama.cpp, which reads GBNF, ends the process at some: give `response_format`",
    **dict.fromkeys(OF_RECORDS, "give the request's own `logprobs`"),
}
"""Settings that requests cannot change, and what else they can do."""


def answered_with(
    request: CommonRequest, mode: str | None, settings: Generation, prompting: Prompting
) -> tuple[Generation, Prompting]:
    """What a request is answered with: its fields over the server's settings, and what stands in `foreal` over both.

    mode: that of the model's name; None: the server's
    """
    given = request.values()
    values = ({"mode": mode} if mode else {}) | {name: value for name, (_, value) in given.items()}
    params = {name: field for name, (field, _) in given.items()}
    own, chosen = _knobs(request.foreal or {})
    try:
        found = chosen | values | {name: value for name, (_, value) in own.items()}
        settings, prompting = generation_of(found, settings), prompting_of(found, prompting)
    except UsageError as error:
        raise of_usage(error, params | {name: key for name, (key, _) in own.items()}) from None
    if len(settings.stop) > MOST_STOPS or sum(map(len, settings.stop)) > MOST_STOP_CHARACTERS:
        raise invalid(f"there are {len(settings.stop)} stop texts, too many or too long", "foreal.stop")
    return settings, prompting


def _knobs(given: Json) -> tuple[dict[str, tuple[str, object]], Json]:
    """The settings in `foreal`, by name, each with what the request calls it and its value; and those of its preset."""
    own: dict[str, tuple[str, object]] = {}
    chosen: Json = {}
    for key, value in given.items():
        param = f"foreal.{key[:100]}"
        if key == "preset":
            if value not in list(PRESETS):
                raise invalid(f"`{param}` is {shown(value)}, but must be {either(PRESETS)}", param)
            chosen = preset(str(value))
            continue
        try:
            for name, read in checked({key: value}, OF_A_RESPONSE, "`foreal`", ["preset"]).items():
                if name in _NOT_TAKEN:
                    raise not_done(param, _NOT_TAKEN[name])
                own[name] = (param, read)
        except UsageError as error:
            raise of_usage(error, {error.setting or "": param}) from None
    return own, chosen


def messages_of(given: Sequence[ChatMessage], tags: ReasoningTags) -> Messages:
    """The messages; the reasoning of an earlier answer stands before it in its tags, as the models have written it.

    tags: those of the models
    """
    return [_message(each, f"messages.{i}", tags, i == len(given) - 1) for i, each in enumerate(given)]


def _message(given: ChatMessage, param: str, tags: ReasoningTags, is_last: bool) -> dict[str, str]:
    if given.role not in _ROLES:
        what = f"the role is {shown(given.role)}, but must be {either(_ROLES)}"
        raise not_done(f"{param}.role", what)
    if given.tool_calls or given.function_call:
        raise not_done(f"{param}.tool_calls", "tools are not called here: leave the message out")
    reasoning = given.reasoning_content if given.role == "assistant" else None
    content = "" if given.content is None and reasoning else given.content
    if content is None:
        raise invalid(f"`{param}.content` is missing: it must be a text or a list of text parts", f"{param}.content")
    try:
        message = as_messages([{"role": given.role, "content": content}])[0]
    except UsageError as error:
        raise ApiError(400, f"`{param}.content`: {error}", "unsupported_value", f"{param}.content") from None
    if reasoning:
        goes_on = is_last and not message["content"]
        closing = "" if goes_on else f"\n{tags.closing}\n\n"
        message["content"] = f"{tags.opening}\n{reasoning}{closing}{message['content']}"
    return message
