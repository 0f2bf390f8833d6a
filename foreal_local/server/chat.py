"""POST /v1/chat/completions: what is answered, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request

from ..method.reasoning import ReasoningTags
from ..results import Chunk, Prompt, Result
from .answering import Answer
from .answers import Asked, Head, asked_in, by, count, figures, finish_reason_of
from .asked import messages_of
from .likelihoods import for_chat
from .parts import Parts, Piece
from .requests import ChatRequest
from .usage import usage_of

Json = dict[str, Any]


async def chat_completions(request: Request) -> Answer:
    asked = await asked_in(request, ChatRequest)
    chat = Chat(asked, Prompt(messages_of(asked.fields.messages, asked.serving.tags)))
    if asked.fields.streams:
        return Answer(asked.serving, asked.entry, events=chat.events)
    return Answer(asked.serving, asked.entry, whole=chat.whole)


class Chat:
    """One answer to messages."""

    def __init__(self, asked: Asked[ChatRequest], prompt: Prompt) -> None:
        self._serving, self._entry, self._fields = asked.serving, asked.entry, asked.fields
        self._prompt, self._settings, self._prompting = prompt, asked.settings, asked.prompting
        self._head = Head("chatcmpl", asked.entry.model, asked.serving.fingerprint)

    def _parts(self, tags: ReasoningTags) -> Parts:
        return Parts(None if self._fields.reasoning_format == "none" else tags)

    async def _check(self) -> None:
        of_schema = self._fields.schema_field
        await self._serving.check([self._prompt], self._settings, self._prompting, "messages", of_schema)

    # ---------------------------------------------------------------- whole
    async def whole(self) -> Json:
        await self._check()
        [result] = await self._serving.whole([self._prompt], self._settings, self._prompting)
        count(self._entry, result)
        parts = self._parts(result.sequence.tags)
        pieces = parts.feed(result.tokens) + parts.end(result)
        message: Json = {"role": "assistant", "content": _text(pieces, False)}
        if reasoning := _text(pieces, True):
            message["reasoning_content"] = reasoning
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(parts),
            "finish_reason": finish_reason_of(result),
        }
        about = {"choices": [choice], "usage": usage_of([result], [parts]), **figures(result, parts)}
        return self._head.of("chat.completion") | about

    def _logprobs(self, parts: Parts) -> Json | None:
        """Of the content's tokens since the last time; None where they are not asked for, or there are none."""
        tokens = parts.take_content_tokens()
        if not self._fields.logprobs:
            return None
        return {"content": for_chat(tokens, self._serving.piece), "refusal": None}

    # ---------------------------------------------------------------- streamed
    async def events(self) -> AsyncGenerator[list[Json], None]:
        await self._check()
        parts: Parts | None = None
        events = self._serving.stream(self._prompt, self._settings, self._prompting)
        try:
            async for event in events:
                if parts is None:
                    tags = event.tags if isinstance(event, Chunk) else event.sequence.tags
                    parts = self._parts(tags)
                    author = event.tokens[0].author if event.tokens else None
                    first = [self._chunk({"role": "assistant", "content": ""}) | by(author)]
                else:
                    first = []
                if isinstance(event, Chunk):
                    yield first + self._written(parts.feed(event.tokens), parts)
                else:
                    yield first + self._end(event, parts)
        finally:
            await events.aclose()

    def _written(self, pieces: list[Piece], parts: Parts) -> list[Json]:
        """Chunks of these pieces; the first of the content has the likelihoods of all tokens that have come."""
        found = []
        for piece in pieces:
            chunk = self._chunk({"reasoning_content" if piece.is_reasoning else "content": piece.text})
            if not piece.is_reasoning:
                chunk["choices"][0]["logprobs"] = self._logprobs(parts)
            found.append(chunk | by(piece.author))
        return found

    def _end(self, result: Result, parts: Parts) -> list[Json]:
        count(self._entry, result)
        found = self._written(parts.end(result), parts)
        last = self._chunk({}, finish_reason_of(result))
        last["choices"][0]["logprobs"] = self._logprobs(parts)
        found.append(last | figures(result, parts, in_stream=True))
        if self._fields.wants_usage:
            found.append(self._head.of("chat.completion.chunk") | {"choices": [], "usage": usage_of([result], [parts])})
        return found

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._fields.wants_usage else {}
        return self._head.of("chat.completion.chunk") | {"choices": [choice]} | usage


def _text(pieces: list[Piece], is_reasoning: bool) -> str:
    return "".join(piece.text for piece in pieces if piece.is_reasoning == is_reasoning)
