"""Whether prompts have room in the context, said before the models are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..config import Pair, Runtime
from ..errors import UsageError
from ..method.roles import Role
from .gguf_file import n_ctx_train
from .llama import vocabulary_alone
from .loaded import ctx_size_of
from .messages import PromptContent

_FEW_BYTES = 2
"""Of a token: a text whose tokens are as short as this, and still fit, is not counted."""
_ANSWER = 1024
"""Tokens that an answer may have, where a context is proposed."""


def trained_for(pair: Pair) -> int:
    """Tokens of context that both models were trained for."""
    return min(n_ctx_train(pair.of(role).path) for role in Role)


def check_room(contents: Sequence[PromptContent], pair: Pair, roles: Iterable[Role], runtime: Runtime) -> None:
    """UsageError where none of these prompts has room, whatever its chat template puts around it.

    Only long ones are counted: that takes the model's vocabulary, and half a second where that is large.
    """
    ctx_size = ctx_size_of(pair, runtime)
    texts = [content for content in contents if isinstance(content, str)]
    least_bytes = min((len(text.encode("utf-8", "replace")) for text in texts), default=0)
    if len(texts) < len(contents) or least_bytes < _FEW_BYTES * ctx_size:
        return
    role = min(roles)
    path = pair.of(role).path
    with vocabulary_alone(path) as vocabulary:
        least = min(len(vocabulary.encode(text)) for text in texts)
    if least <= ctx_size:
        return
    trained = trained_for(pair)
    rest = f"the models were trained for {trained}"
    way = f"--ctx-size {min(least + _ANSWER, trained)} has room ({rest})" if least < trained else f"shorten it ({rest})"
    which = "the prompt has" if len(texts) == 1 else "the shortest prompt has"
    raise UsageError(f"{which} {least} tokens for the {role}, and the context is {ctx_size}: {way}")
