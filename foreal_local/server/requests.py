"""What requests say: their fields, and which values can be done.

A field that nobody knows is ignored. A field that is known and that asks for something that there is not here is an
error: nobody shall take an answer for another one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from ..config import find_setting
from ..settings import shown
from .errors import ApiError, invalid, not_done

_INT64 = 2**63
_MOST_TOKENS = 2**31 - 1
MOST_STOPS, MOST_STOP_CHARACTERS = 64, 4096
MOST_LOGPROBS = 20
MOST_MESSAGES = 16384
Json = dict[str, Any]


def _whole(value: Any) -> Any:
    """Whole numbers may be written with a point: 10.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_TEXTS_SCHEMA: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}


class Fields(BaseModel):
    """What is common to all: exact types, unknown fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    def require_done(self) -> None:
        """ApiError for what is asked and not done here."""


class StreamOptions(Fields):
    include_usage: bool | None = None


class JsonSchema(Fields):
    schema_: Json | None = Field(None, alias="schema")


class ResponseFormat(Fields):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class CommonRequest(Fields):
    """The fields that chats and completions share."""

    model: str | None = Field(None, description="One of GET /v1/models; without one, the server's pair.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Whole | None = Field(None, ge=-1, le=_MOST_TOKENS, description="-1: until the end.")
    temperature: float | None = Field(None, ge=0, le=1e6, allow_inf_nan=False)
    top_p: Share | None = None
    top_k: Whole | None = Field(None, ge=-1, le=_MOST_TOKENS)
    min_p: Share | None = None
    repeat_penalty: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False)
    seed: Whole | None = Field(None, ge=-_INT64, lt=_INT64)
    stop: Any = Field(None, json_schema_extra=_TEXTS_SCHEMA)
    response_format: ResponseFormat | None = None
    n: Whole | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Json | None = None
    foreal: Json | None = Field(
        None, description='Settings of an answer by their names in docs/options.md, and "preset".'
    )

    @field_validator("stop")
    @classmethod
    def _texts(cls, value: Any) -> list[str] | None:
        texts = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("must be a text or a list of texts")
        if len(texts) > MOST_STOPS or sum(map(len, texts)) > MOST_STOP_CHARACTERS:
            raise ValueError(f"must be at most {MOST_STOPS} texts, of {MOST_STOP_CHARACTERS} characters in all")
        return [text for text in texts if text] or None

    def require_done(self) -> None:
        if self.n is not None and self.n != 1:
            raise not_done("n", f"{shown(self.n)} answers are asked for, and one is given: ask again, or leave it out")
        for name in ("frequency_penalty", "presence_penalty"):
            if getattr(self, name):
                raise not_done(name, "there is none here, only `repeat_penalty`: leave it out, or 0")
        if self.logit_bias:
            raise not_done("logit_bias", "there is none here: leave it out")

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with a chunk of its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def schema_field(self) -> str:
        """The field that has the answer's JSON schema."""
        settings = {key: find_setting(key) for key in self.foreal or {}}
        key = next((key for key, each in settings.items() if each and each.name == "json_schema"), None)
        return f"foreal.{key}" if key else "response_format"

    def values(self) -> dict[str, tuple[str, Any]]:
        """The settings that the fields give: the field's name and the value, by the setting's name."""
        seed = None if self.seed is None else self.seed % (2 * _INT64)
        given = {
            "max_tokens": ("max_tokens", None if self.max_tokens == -1 else self.max_tokens),
            "temp": ("temperature", self.temperature),
            "top_p": ("top_p", None if self.top_p is None else max(self.top_p, 1e-9)),  # the best one always is in it
            "top_k": ("top_k", None if self.top_k is None else max(self.top_k, 0)),
            "min_p": ("min_p", self.min_p),
            "repeat_penalty": ("repeat_penalty", self.repeat_penalty),
            "seed": ("seed", seed),
            "stop": ("stop", self.stop),
            "json_schema": ("response_format", self._schema()),
        }
        return {name: each for name, each in given.items() if each[1] is not None}

    def _schema(self) -> Json | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return {"type": "object"}
        if wanted.json_schema is None or wanted.json_schema.schema_ is None:
            raise invalid("`response_format.json_schema` needs a `schema`", "response_format")
        return wanted.json_schema.schema_


class ChatMessage(Fields):
    role: str
    content: Any = Field(
        None,
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                        "required": ["type", "text"],
                    },
                },
            ]
        },
    )
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class ChatRequest(CommonRequest):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Whole | None = Field(None, ge=-1, le=_MOST_TOKENS)
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(None, ge=0, le=MOST_LOGPROBS)
    reasoning_format: Literal["auto", "deepseek", "none"] | None = Field(
        None, description="none: the content has the reasoning, with its tags."
    )
    chat_template_kwargs: Json | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[Any] | None = None
    audio: Any = None

    def require_done(self) -> None:
        super().require_done()
        if 0 in (self.max_tokens, self.max_completion_tokens):
            name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
            raise invalid(f"`{name}` is 0, but must be 1 or more", name)
        for name in ("tools", "functions"):
            if getattr(self, name):
                raise not_done(name, "tools are not called here: leave them out")
        for name in ("tool_choice", "function_call"):
            if getattr(self, name) not in (None, "none", "auto"):
                raise not_done(name, "tools are not called here: leave it out")
        if self.audio or any(each != "text" for each in self.modalities or ()):
            raise not_done("audio" if self.audio else "modalities", "text alone is written here: leave it out")
        if self.top_logprobs and not self.logprobs:
            raise invalid("`top_logprobs` needs `logprobs`: true", "top_logprobs")

    def values(self) -> dict[str, tuple[str, Any]]:
        own: dict[str, tuple[str, Any]] = {
            "template_args": ("chat_template_kwargs", self.chat_template_kwargs or None),
            "logprobs": ("top_logprobs", (self.top_logprobs or 0) if self.logprobs else None),
        }
        newest = self.max_completion_tokens
        if newest is not None:
            own["max_tokens"] = ("max_completion_tokens", None if newest == -1 else newest)
        found = super().values() | own
        return {name: each for name, each in found.items() if each[1] is not None}


class CompletionRequest(CommonRequest):
    """POST /v1/completions."""

    prompt: Any = Field(
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "minItems": 1,
                },
            ]
        },
    )
    echo: bool | None = None
    logprobs: Whole | None = Field(None, ge=0, le=MOST_LOGPROBS)
    suffix: str | None = None
    best_of: Whole | None = None

    def require_done(self) -> None:
        super().require_done()
        if self.best_of is not None and self.best_of != 1:
            raise not_done("best_of", f"{shown(self.best_of)} answers are asked for, and one is given: leave it out")
        if self.suffix:
            raise not_done("suffix", "texts are not filled in here: leave it out")
        if self.max_tokens == 0 and not self.echo:
            raise invalid("`max_tokens` is 0, but must be 1 or more without `echo`", "max_tokens")

    def values(self) -> dict[str, tuple[str, Any]]:
        found = super().values()
        if self.max_tokens == 0:  # one is written, and left out
            found["max_tokens"] = ("max_tokens", 1)
        return found | ({} if self.logprobs is None else {"logprobs": ("logprobs", self.logprobs)})


Kind = TypeVar("Kind", bound=CommonRequest)
AnyFields = TypeVar("AnyFields", bound=Fields)


def read(kind: type[AnyFields], data: Json) -> AnyFields:
    """The request; ApiError that names the first field that is wrong."""
    try:
        request = kind.model_validate(data)
    except ValidationError as error:
        raise _about(error) from None
    request.require_done()
    return request


def _about(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(map(str, first["loc"]))
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return invalid(f"`{param}` is missing", param, "missing_required_parameter")
    return invalid(f"`{param}` is {shown(first['input'])}: {why[:1].lower()}{why[1:]}", param)
