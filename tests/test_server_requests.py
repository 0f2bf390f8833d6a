"""What foreal serve refuses, with which status and which words; and that nothing a client sends ends it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real.models import Files, TinyModels
from real.tiny_gguf import CHATML
from serving import Server, start

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Say hello"}]
NESTED: list[Any] = json.loads("[" * 600 + "]" * 600)


@pytest.fixture(scope="module")
def server(chat_pair: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = environment(chat_pair, tmp_path_factory.mktemp("home"))
    with start("--parallel", "2", "--max-body", "1", "--max-tokens", "4", "--quiet", env=env) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
        assert client.get("/health").json() == {"status": "ok"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which has the one shape."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert "\n" not in error["message"]
    return dict(error)


REFUSED = [  # of a chat: what is sent beside the messages, and the field that the error names
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [1]}, "messages.0"),
    ({"messages": [{"content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [*MESSAGES, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages.1.tool_calls"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"seed": 2**64}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"stop": 5}, "stop"),
    ({"stop": ["x"] * 65}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"n": 2}, "n"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -0.5}, "presence_penalty"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{}]}, "functions"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}}, "response_format"),
    ({"reasoning_format": "x"}, "reasoning_format"),
    ({"foreal": 5}, "foreal"),
    ({"foreal": {"tempo": 1}}, "foreal.tempo"),
    ({"foreal": {"n": -1}}, "foreal.n"),
    ({"foreal": {"mode": []}}, "foreal.mode"),
    ({"foreal": {"preset": []}}, "foreal.preset"),
    ({"foreal": {"grammar": "root ::= " + "(" * 100_000}}, "foreal.grammar"),
    ({"foreal": {"ctx_size": 9}}, "foreal.ctx_size"),
    ({"foreal": {"stop": ["x"] * 65}}, "foreal.stop"),
    ({"foreal": {"gate": "entropy", "mode": "foreal", "logprobs": 3}}, "foreal.logprobs"),
    ({"foreal": {"json_schema": "no JSON"}}, "foreal.json_schema"),
    ({"foreal": {"json_schema": "[]"}}, "foreal.json_schema"),
    ({"foreal": {"json_schema": {"type": "x"}}}, "foreal.json_schema"),
    ({"foreal": {"json-schema": '{"$ref": "#"}'}}, "foreal.json-schema"),
    ({"foreal": {"template_args": {"messages": []}}}, "foreal.template_args"),
    ({"foreal": {"template-arg": {"tools": 1, "messages": []}}}, "foreal.template-arg"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"x": NESTED}}, "chat_template_kwargs"),
    ({"foreal": {"template_args": {"x": NESTED}}}, "foreal.template_args"),
    ({"foreal": {"json_schema": {"type": NESTED}}}, "foreal.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": NESTED}}}}, "response_format"),
    ({"messages": [{"role": "user", "content": NESTED}]}, "messages.0.content"),
    ({"foreal": {"now": "tomorrow"}}, "foreal.now"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_a_field_that_cannot_be_done_is_named(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    """Guards a request that is answered otherwise than it was asked, and an error that leaves one searching."""
    answer = http.post(CHAT, json={"messages": MESSAGES} | fields)
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param.rpartition(".")[2] in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**30]}, "prompt"),
        ({"prompt": ["a"] * 1025}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ],
)
def test_the_same_of_completions(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    """Guards scores without the prompt's likelihoods, and texts that are not filled in."""
    answer = http.post(COMPLETIONS, json=fields)
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "stop": "", "tools": [], "tool_choice": "auto", "logit_bias": {}, "frequency_penalty": 0},
        {"unknown": {"x": [1]}, "user": "me", "store": True, "metadata": {}, "service_tier": "auto"},
        {"model": None, "temperature": None, "stream": None, "stop": None, "response_format": None, "foreal": None},
        {"max_tokens": -1, "top_k": -1, "seed": -5, "top_p": 0, "temperature": 2},
        {"max_tokens": 3.0, "seed": 7.0, "response_format": {"type": "text"}},
        {"messages": [{"role": "developer", "content": "Be brief"}, *MESSAGES]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "it"}]}]},
        {"messages": [*MESSAGES, {"role": "assistant", "content": "Hello", "reasoning_content": "Why"}, *MESSAGES]},
        {"messages": [*MESSAGES, {"role": "assistant", "content": "Hel"}]},
    ],
)
def test_what_is_harmless_or_unknown_is_taken(http: httpx.Client, fields: dict[str, Any]) -> None:
    """Guards clients that always send all their fields."""
    answer = http.post(CHAT, json={"messages": MESSAGES} | fields)
    assert answer.status_code == 200, answer.text


BODIES = [
    b"",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"messages": ' + b"[" * 100_000,
    b'{"temperature": 1e999, "messages": []}',
    b'{"temperature": NaN, "messages": []}',
    b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
]


@pytest.mark.parametrize("body", BODIES, ids=[body[:12].decode("latin-1") for body in BODIES])
def test_a_body_that_is_no_object_is_told(http: httpx.Client, body: bytes) -> None:
    """Guards a traceback for bytes that no JSON library reads."""
    answer = http.post(CHAT, content=body, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_json")


def test_a_full_context_says_its_numbers(http: httpx.Client) -> None:
    """Guards clients that shorten a conversation when they are told so."""
    messages = [{"role": "user", "content": "hello " * 300}]
    for stream in (True, False):
        answer = http.post(CHAT, json={"messages": messages, "stream": stream})
        error = error_of(answer)
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
        assert "256" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "x" * 9000}]},
        {"foreal": {"system": "</think>" * 2000, "parse_special": True}},
        {"chat_template_kwargs": {"note": "</think>" * 2000}},
        {"foreal": {"template_args": {"note": "x" * 9000}}},
    ],
    ids=["message", "system", "chat_template_kwargs", "template_args"],
)
def test_what_can_have_no_room_is_not_even_read(fields: dict[str, Any], tiny: TinyModels, tmp_path: Path) -> None:
    """Guards everybody else, who would wait while one of the threads that read prompts makes tokens of megabytes."""
    pair = tiny.pair("llama", "endless", chat=CHATML + "{{ note }}")
    with start("--parallel", "1", "--quiet", env=environment(pair, tmp_path)) as server:
        answer = httpx.post(f"{server.url}{CHAT}", json={"messages": MESSAGES} | fields, timeout=60)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert " or more" in error["message"]


def test_a_body_that_is_too_large_is_not_kept(http: httpx.Client) -> None:
    """Guards memory; in one piece, and in chunks that do not say how many will come."""
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2**21}]}).encode()
    whole = http.post(CHAT, content=body)
    assert (whole.status_code, error_of(whole)["code"]) == (413, "request_too_large")
    chunked = http.post(CHAT, content=iter([body[: 2**20], body[2**20 :]]))
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "not_found"),
        ("POST", "/v1/embeddings", 404, "not_found"),
        ("GET", "/v1/models/x%0Ay", 404, "model_not_found"),
    ],
)
def test_wrong_paths_and_methods(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    """Guards answers that a client of the interface cannot read."""
    answer = http.request(method, path)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_an_unknown_model_is_told_with_those_that_there_are(http: httpx.Client, server: Server) -> None:
    """Guards an answer of another model than the one that was asked for."""
    answer = http.post(CHAT, json={"messages": MESSAGES, "model": "gpt-4"})
    assert answer.status_code == 404
    assert server.models[-1] in error_of(answer)["message"]


def test_a_file_that_a_request_names_is_not_opened(http: httpx.Client) -> None:
    """Guards the server's files: a schema's reference, and a setting that is a file's name on the command line."""
    schema = {"$ref": "file:///etc/passwd"}
    for fields in (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        {"foreal": {"json_schema": "/etc/passwd"}},
    ):
        answer = http.post(CHAT, json={"messages": MESSAGES} | fields)
        assert answer.status_code == 400
        assert "root:" not in answer.text


def test_one_broken_conversation_does_not_break_the_template(http: httpx.Client) -> None:
    """Guards a limit of the template's time that was remembered as the template's own fault, for all who came after."""
    many = {"messages": MESSAGES, "chat_template_kwargs": {"tools": ["x"] * 20_000}}
    http.post(CHAT, json=many)
    assert http.post(CHAT, json={"messages": MESSAGES}).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /nothing HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(range(256)) * 8,
    ],
    ids=range(9),
)
def test_broken_http_costs_its_own_connection_alone(http: httpx.Client, server: Server, data: bytes) -> None:
    """Guards the others."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except OSError:  # it is closed already
            pass
    assert not answer or answer.startswith(b"HTTP/1.1 4")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = [
    *("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "top_k", "min_p", "seed", "stop", "response_format", "n", "logprobs", "top_logprobs", "tools"),
    *("tool_choice", "reasoning_format", "chat_template_kwargs", "echo", "suffix", "foreal"),
]


@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=4), chat=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_or_refused(http: httpx.Client, fields: dict[str, Any], chat: bool) -> None:
    """Guards an unexpected error for any JSON at all."""
    body = {"messages": MESSAGES, "prompt": "Hello", "max_tokens": 2} | fields
    answer = http.post(CHAT if chat else COMPLETIONS, content=json.dumps(body))
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error_of(answer)


def test_the_description_names_all_paths(http: httpx.Client) -> None:
    """Guards a description for tools that has another form than the requests."""
    found = http.get("/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    assert {CHAT, COMPLETIONS, "/v1/models", "/health"} <= set(found["paths"])
    assert set(found["components"]["schemas"]["ChatRequest"]["properties"]) >= {"messages", "foreal", "stop"}
