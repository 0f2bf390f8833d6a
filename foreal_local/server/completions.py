"""POST /v1/completions: what is answered, whole and streamed."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from ..results import Chunk, Prompt, Result
from ..runtime.messages import TokenIds
from ..settings import shown
from .answering import Answer
from .answers import Asked, Head, asked_in, by, count, figures, finish_reason_of
from .errors import invalid
from .likelihoods import Completion, prompt_of
from .parts import Parts, Piece
from .requests import CompletionRequest
from .usage import usage_of

Json = dict[str, Any]
MOST_PROMPTS = 1024


async def completions(request: Request) -> Answer:
    asked = await asked_in(request, CompletionRequest)
    answers = Completions(asked, prompts_of(asked.fields.prompt))
    if asked.fields.streams:
        return Answer(asked.serving, asked.entry, events=answers.events)
    return Answer(asked.serving, asked.entry, whole=answers.whole)


def prompts_of(given: Any) -> list[Prompt]:
    """The prompts of a request. All have the same index: what is drawn for one does not depend on its place."""
    several = isinstance(given, list) and bool(given) and not _is_id(given[0])
    contents = given if several else [given]
    if len(contents) > MOST_PROMPTS:
        raise invalid(f"`prompt` has {len(contents)} prompts, but must have at most {MOST_PROMPTS}", "prompt")
    return [Prompt(_content(each), index=0) for each in contents]


def _content(given: Any) -> str | TokenIds:
    if isinstance(given, str):
        return given
    if isinstance(given, list) and given and all(map(_is_id, given)):
        return TokenIds(given)
    raise invalid(f"`prompt` is {shown(given)}, but must be a text, a list of texts, or ids of tokens", "prompt")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Completions:
    """The answers to prompts, each a choice with the prompt's index."""

    def __init__(self, asked: Asked[CompletionRequest], prompts: list[Prompt]) -> None:
        fields = asked.fields
        self._serving, self._entry, self._fields = asked.serving, asked.entry, fields
        self._prompts, self._settings = prompts, asked.settings
        if fields.echo and fields.logprobs is not None:
            self._settings = replace(self._settings, prompt_logprobs=fields.logprobs)
        self._prompting = replace(asked.prompting, raw=True, system=None)
        self._head = Head("cmpl", asked.entry.model, asked.serving.fingerprint)

    @property
    def _echoes_alone(self) -> bool:
        """Whether nothing shall be written: one token is, and is left out."""
        return self._fields.max_tokens == 0

    async def _check(self) -> None:
        of_schema = self._fields.schema_field
        await self._serving.check(self._prompts, self._settings, self._prompting, "prompt", of_schema)

    # ---------------------------------------------------------------- whole
    async def whole(self) -> Json:
        results, choices, all_parts = await self._answers()
        beside = {name: choices[0].pop(name) for name in ("timings", "foreal")} if len(choices) == 1 else {}
        usage = self._usage(results, all_parts)
        return self._head.of("text_completion") | {"choices": choices, "usage": usage} | beside

    async def _answers(self) -> tuple[list[Result], list[Json], list[Parts]]:
        """All results with their choices."""
        await self._check()
        results = await self._serving.whole(self._prompts, self._settings, self._prompting)
        choices, all_parts = [], []
        for i, result in enumerate(results):
            count(self._entry, result)
            parts, pieces = Parts(None), []
            all_parts.append(parts)
            if not self._echoes_alone:
                pieces = parts.feed(result.tokens) + parts.end(result)
            text = self._echoed(result) + "".join(piece.text for piece in pieces)
            reason = "length" if self._echoes_alone else finish_reason_of(result)
            choices.append(self._choice(i, text, reason, self._logprobs(result, parts)) | figures(result, parts))
        return results, choices, all_parts

    def _usage(self, results: list[Result], parts: list[Parts]) -> Json:
        usage = usage_of(results, parts)
        if self._echoes_alone:
            usage |= {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
        return usage

    def _echoed(self, result: Result) -> str:
        """The prompt, where it is to be there again."""
        if not self._fields.echo:
            return ""
        if isinstance(result.prompt, str):
            return result.prompt
        data = b"".join(self._serving.piece(each.role, each.id) for each in prompt_of(result))
        return data.decode("utf-8", "replace")

    def _logprobs(self, result: Result, parts: Parts) -> Json | None:
        if self._fields.logprobs is None:
            return None
        found, decoder = Completion(self._serving.piece), codecs.getincrementaldecoder("utf-8")("replace")
        for scored in prompt_of(result) if self._fields.echo else ():
            found.add(scored, len(decoder.decode(self._serving.piece(scored.role, scored.id))))
        found.add_written(parts.take_content_tokens())
        return found.take()

    # ---------------------------------------------------------------- streamed
    async def events(self) -> AsyncGenerator[list[Json], None]:
        """One prompt after the other. Where the prompt is to be there again, all comes at once: its likelihoods are
        known when it is answered."""
        results: list[Result] = []
        all_parts: list[Parts] = []
        if self._fields.echo:
            results, choices, all_parts = await self._answers()
            for choice in choices:
                beside = {name: choice.pop(name) for name in ("timings", "foreal")}
                yield [self._chunk(choice) | beside]
        else:
            await self._check()
            for i, prompt in enumerate(self._prompts):
                all_parts.append(Parts(None))
                async for found in self._answer(i, prompt, all_parts[-1], results):
                    yield found
        if self._fields.wants_usage:
            usage = self._usage(results, all_parts)
            yield [self._head.of("text_completion") | {"choices": [], "usage": usage}]

    async def _answer(
        self, index: int, prompt: Prompt, parts: Parts, results: list[Result]
    ) -> AsyncGenerator[list[Json], None]:
        """One prompt's events; its result is added to the others."""
        scores = Completion(self._serving.piece) if self._fields.logprobs is not None else None
        events = self._serving.stream(prompt, self._settings, self._prompting)
        try:
            async for event in events:
                if isinstance(event, Chunk):
                    yield self._written(index, parts.feed(event.tokens), parts, scores)
                else:
                    results.append(event)
                    count(self._entry, event)
                    rest = self._written(index, parts.end(event), parts, scores)
                    last = self._choice(index, "", finish_reason_of(event), _taken(parts, scores))
                    yield [*rest, self._chunk(last) | figures(event, parts, in_stream=True)]
        finally:
            await events.aclose()

    def _written(self, index: int, pieces: list[Piece], parts: Parts, scores: Completion | None) -> list[Json]:
        """Chunks of these pieces; the first has the likelihoods of all tokens that have come."""
        found = []
        for piece in pieces:
            choice = self._choice(index, piece.text, None, _taken(parts, scores))
            found.append(self._chunk(choice) | by(piece.author))
        return found

    def _chunk(self, choice: Json) -> Json:
        usage = {"usage": None} if self._fields.wants_usage else {}
        return self._head.of("text_completion") | {"choices": [choice]} | usage

    def _choice(self, index: int, text: str, finish_reason: str | None, logprobs: Json | None) -> Json:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _taken(parts: Parts, scores: Completion | None) -> Json | None:
    """The likelihoods of the tokens since the last time."""
    tokens = parts.take_content_tokens()
    if scores is None:
        return None
    scores.add_written(tokens)
    return scores.take()
