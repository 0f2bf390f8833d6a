"""POST /v1/completions: what is answered, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from ..results import Chunk, Prompt, Result
from ..settings import shown
from .answering import Answer
from .answers import Asked, Head, asked_in, count, figures, finish_reason_of
from .asked import MOST_PROMPTS
from .errors import invalid
from .parts import Parts, Piece
from .requests import CompletionRequest
from .usage import usage_of

Json = dict[str, Any]


async def completions(request: Request) -> Answer:
    asked = await asked_in(request, CompletionRequest)
    answers = Completions(asked, prompts_of(asked.fields.prompt))
    if asked.fields.streams:
        return Answer(asked.serving, asked.entry, events=answers.events)
    return Answer(asked.serving, asked.entry, whole=answers.whole)


def prompts_of(given: Any) -> list[Prompt]:
    """The prompts of a request, each with its index."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
        raise invalid(f"`prompt` is {shown(given)}, but must be a text or a list of texts", "prompt")
    if len(texts) > MOST_PROMPTS:
        raise invalid(f"`prompt` has {len(texts)} prompts, but must have at most {MOST_PROMPTS}", "prompt")
    return [Prompt(text, index=i) for i, text in enumerate(texts)]


class Completions:
    """The answers to prompts, each a choice with the prompt's index."""

    def __init__(self, asked: Asked[CompletionRequest], prompts: list[Prompt]) -> None:
        self._serving, self._entry, self._fields = asked.serving, asked.entry, asked.fields
        self._prompts, self._settings = prompts, asked.settings
        self._prompting = replace(asked.prompting, raw=True, system=None)
        self._head = Head("cmpl", asked.entry.model, asked.serving.fingerprint)

    async def _check(self) -> None:
        await self._serving.check(self._prompts, self._settings, self._prompting, "prompt")

    # ---------------------------------------------------------------- whole
    async def whole(self) -> Json:
        await self._check()
        results = await self._serving.whole(self._prompts, self._settings, self._prompting)
        choices, all_parts = [], []
        for i, result in enumerate(results):
            count(self._entry, result)
            parts = Parts(None)
            text = "".join(piece.text for piece in parts.feed(result.tokens) + parts.end())
            all_parts.append(parts)
            choices.append(self._choice(i, text, finish_reason_of(result)) | figures(result, parts))
        about = {"choices": choices, "usage": usage_of(results, all_parts)}
        beside = {name: choices[0].pop(name) for name in ("timings", "foreal")} if len(choices) == 1 else {}
        return self._head.of("text_completion") | about | beside

    # ---------------------------------------------------------------- streamed
    async def events(self) -> AsyncGenerator[list[Json], None]:
        await self._check()
        results, all_parts = [], []
        for i, prompt in enumerate(self._prompts):
            parts = Parts(None)
            all_parts.append(parts)
            events = self._serving.stream(prompt, self._settings, self._prompting)
            try:
                async for event in events:
                    if isinstance(event, Chunk):
                        yield [self._written(i, piece) for piece in parts.feed(event.tokens)]
                    else:
                        results.append(event)
                        yield self._end(i, event, parts)
            finally:
                await events.aclose()
        if self._fields.wants_usage:
            yield [self._head.of("text_completion") | {"choices": [], "usage": usage_of(results, all_parts)}]

    def _written(self, index: int, piece: Piece) -> Json:
        return self._chunk(self._choice(index, piece.text, None)) | {"foreal": {"author": str(piece.author)}}

    def _end(self, index: int, result: Result, parts: Parts) -> list[Json]:
        count(self._entry, result)
        rest = [self._written(index, piece) for piece in parts.end()]
        last = self._chunk(self._choice(index, "", finish_reason_of(result)))
        return [*rest, last | figures(result, parts)]

    def _chunk(self, choice: Json) -> Json:
        usage = {"usage": None} if self._fields.wants_usage else {}
        return self._head.of("text_completion") | {"choices": [choice]} | usage

    def _choice(self, index: int, text: str, finish_reason: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}
