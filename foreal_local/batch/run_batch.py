"""Lines of the batch files of OpenAI's API and of vLLM's run-batch, as lines of this program's own."""

from __future__ import annotations

from typing import Any

from ..by_name import OTHER_NAMES
from ..errors import UsageError
from ..settings import shown

NAMES = {
    name: OTHER_NAMES[name]
    for name in ("max_completion_tokens", "temperature", "repetition_penalty", "chat_template_kwargs")
}
"""Options that have other names there."""
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
"""Options that would change the answer and that there are none of here, with the values that change nothing."""
_PATHS = ("/chat/completions", "/completions")


def as_own_line(where: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record with `custom_id` as its id and the options of its `body` under this program's names.

    A record without `body` keeps all else as it is. UsageError for what cannot be answered as it is asked.
    """
    id = record.get("id", record.get("custom_id"))
    own = {name: value for name, value in record.items() if name not in ("custom_id", "body")}
    own |= {} if id is None else {"id": id}
    if "body" not in record:
        return own
    body = record["body"]
    if not isinstance(body, dict):
        raise UsageError(f"{where}: `body` is {shown(body)}, but must be an object with `messages` or `prompt`")
    url = record.get("url", _PATHS[0])
    if not isinstance(url, str) or not url.endswith(_PATHS):
        raise UsageError(
            f"{where}: `url` is {shown(url)}, but only .../chat/completions and .../completions are answered"
        )
    twice = own.keys() & {"prompt", "messages"}
    if twice:
        raise UsageError(f"{where}: `{min(twice)}` stands beside `body`: leave one out")
    for name, harmless in _WITHOUT_EFFECT.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise UsageError(
                f"{where}: `{name}` of `body` is {shown(body[name])}, which cannot be done here: leave it out"
            )
    options = {name: value for name, value in body.items() if name not in _WITHOUT_EFFECT and name not in NAMES}
    options |= {own_name: body[name] for name, own_name in NAMES.items() if body.get(name) is not None}
    options.pop("id", None)
    options |= _logprobs(options.pop("logprobs", None), options.pop("top_logprobs", None))
    if not url.endswith(_PATHS[0]):
        options.setdefault("raw", True)  # a text to go on with, without a chat template
    return own | options


def _logprobs(wanted: Any, n_top: Any) -> dict[str, Any]:
    """Of chats, whether they are wanted, and how many; of completions, how many (0 are the written tokens' own)."""
    if wanted is None or wanted is False:
        return {}
    return {"logprobs": (n_top or 0) if wanted is True else wanted}
