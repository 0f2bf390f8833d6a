"""GET /openapi.json: a description of the interface, from the models that requests are read with."""

from __future__ import annotations

import functools
from typing import Any

from pydantic.json_schema import models_json_schema

from .. import __version__
from .requests import ChatRequest, CompletionRequest
from .tokens import DetokenizeRequest, TokenizeRequest

Json = dict[str, Any]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "max_model_len"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "max_model_len": {"type": ["integer", "null"]},
    },
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL, "minItems": 1}},
}
_ANSWER = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {
        "id": {"type": "string"},
        "object": {"enum": ["chat.completion", "text_completion"]},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "usage": {"type": "object"},
    },
}
_OBJECT = {"type": "object"}
_TOKENS = {
    "type": "object",
    "required": ["tokens", "count", "max_model_len"],
    "properties": {"tokens": {"type": "array", "items": {"type": "integer"}}, "count": {"type": "integer"}},
}
_TEXT = {"type": "object", "required": ["prompt", "content"], "properties": {"prompt": {"type": "string"}}}
_STREAMED = {"text/event-stream": {"schema": {"type": "string"}}}


@functools.cache
def description() -> Json:
    _, schemas = models_json_schema(
        [(each, "validation") for each in (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "foreal serve", "version": __version__},
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/chat/completions": _post("ChatRequest", _ANSWER, _STREAMED),
            "/v1/completions": _post("CompletionRequest", _ANSWER, _STREAMED),
            "/tokenize": _post("TokenizeRequest", _TOKENS),
            "/detokenize": _post("DetokenizeRequest", _TEXT),
            "/tokenizer_info": _get(_OBJECT),
            "/v1/models": _get(_MODELS),
            "/v1/models/{id}": _get(_MODEL, "id"),
            "/health": _get(_OBJECT),
            "/v1/health": _get(_OBJECT),
            "/props": _get(_OBJECT),
            "/metrics": _get({"type": "string"}, media="text/plain"),
            "/openapi.json": _get(_OBJECT),
        },
        "components": {
            "schemas": {"Error": _ERROR, **schemas.get("$defs", {})},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _errors(*statuses: int) -> Json:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": "An error.", "content": schema} for status in statuses}


def _get(schema: Json, parameter: str | None = None, media: str = "application/json") -> Json:
    found = {"200": {"description": "It.", "content": {media: {"schema": schema}}}}
    parameters = [{"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "get": {
            **({"parameters": parameters} if parameter else {}),
            "responses": found | _errors(400, 401, 403, 404, 405, 503),
        }
    }


def _post(model: str, schema: Json, others: Json | None = None) -> Json:
    answers = {"application/json": {"schema": schema}} | (others or {})
    return {
        "post": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}},
            },
            "responses": {
                "200": {"description": "The answer; of some whole or streamed.", "content": answers},
                **_errors(400, 401, 403, 404, 405, 408, 413, 503),
            },
        }
    }
