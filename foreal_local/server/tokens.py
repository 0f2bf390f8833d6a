"""Texts as tokens and back, for clients that count or choose tokens themselves: lm-evaluation-harness asks as it asks
vLLM, others as they ask llama.cpp. The tokens are those that POST /v1/completions takes as a prompt.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .answers import fields_in
from .errors import invalid, not_done
from .requests import Fields, Whole
from .serving import Serving

Json = dict[str, Any]
MOST = 2**18
"""Characters of a text, and tokens: llama.cpp takes a minute for a megabyte of special tokens."""


class TokenizeRequest(Fields):
    """POST /tokenize: `prompt` and `add_special_tokens` as vLLM has them, `content` and `add_special` as llama.cpp."""

    prompt: str | None = None
    content: str | None = None
    add_special_tokens: bool | None = Field(None, description="Put the beginning-of-text token first.")
    add_special: bool | None = None
    with_pieces: bool | None = None
    return_token_strs: bool | None = None

    def require_done(self) -> None:
        for name in ("with_pieces", "return_token_strs"):
            if getattr(self, name):
                raise not_done(name, "ids alone are told: leave it out, and ask /detokenize for their texts")
        if self.prompt is None and self.content is None:
            raise invalid("`prompt` is missing: it must be a text", "prompt", "missing_required_parameter")
        if len(self.text) > MOST:
            name = "content" if self.prompt is None else "prompt"
            raise invalid(f"`{name}` has {len(self.text)} characters, but must have at most {MOST}", name)

    @property
    def text(self) -> str:
        return (self.content if self.prompt is None else self.prompt) or ""

    @property
    def adds_special(self) -> bool:
        """By default as the program does whose field the text stands in."""
        asked = self.add_special if self.add_special_tokens is None else self.add_special_tokens
        return self.prompt is not None if asked is None else asked


class DetokenizeRequest(Fields):
    """POST /detokenize."""

    tokens: list[Whole]

    def require_done(self) -> None:
        if len(self.tokens) > MOST:  # not in the schema: programs that make requests of it would make such a list
            raise invalid(f"`tokens` has {len(self.tokens)} ids, but must have at most {MOST}", "tokens")


async def tokenize(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    fields = await fields_in(request, TokenizeRequest)
    text, vocabulary = fields.text, serving.engine.loaded.prompt_vocabulary
    with serving.place():
        ids = await serving.aside(lambda: vocabulary.encode(text))
    if fields.adds_special and vocabulary.adds_bos and ids[:1] != [vocabulary.bos_id]:
        ids = [vocabulary.bos_id, *ids]
    return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": serving.ctx_size})


async def detokenize(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    ids = (await fields_in(request, DetokenizeRequest)).tokens
    vocabulary = serving.engine.loaded.prompt_vocabulary
    unknown = next((token for token in ids if not 0 <= token < vocabulary.n_tokens), None)
    if unknown is not None:
        raise invalid(f"`tokens` has {unknown}, but there are tokens from 0 to {vocabulary.n_tokens - 1}", "tokens")
    with serving.place():
        data = await serving.aside(lambda: b"".join(map(vocabulary.piece, ids)))
    text = data.decode("utf-8", "replace")
    return JSONResponse({"prompt": text, "content": text})


async def tokenizer_info(request: Request) -> Response:
    """What vLLM tells of a tokenizer; null for what the model does not have."""
    serving: Serving = request.app.state.serving
    loaded = serving.engine.loaded
    vocabulary = loaded.prompt_vocabulary
    about: Json = {
        "tokenizer_class": "GGUF",
        "bos_token": vocabulary.bos or None,
        "eos_token": vocabulary.eos or None,
        "add_bos_token": vocabulary.adds_bos,
        "chat_template": loaded.prompt_template,
        "model_max_length": serving.ctx_size,
    }
    return JSONResponse(about)
