"""What clients send that cannot be installed here, field by field as their sources have it: nothing of it is refused
that is only a habit of theirs, such as nulls, empty lists and fields of other servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from commands import environment
from real.models import Files
from serving import Server, start

CHAT: list[dict[str, Any]] = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "wait now"}]
NULLS = (
    "temperature top_p stop seed tools tool_choice response_format frequency_penalty presence_penalty n logit_bias "
    "logprobs top_logprobs stream_options functions user"
)
HISTORY = [
    {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]},
    {"role": "assistant", "content": [{"type": "text", "text": "b"}], "tool_calls": [], "refusal": None, "audio": None},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "", "reasoning_content": "so", "annotations": [], "function_call": None},
    {"role": "user", "content": " "},
]
SENT: dict[str, dict[str, Any]] = {
    "Open WebUI": {
        "messages": CHAT,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{"temperature": 0.8, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "stop": ["<end>"], "seed": 42},
        **{"num_ctx": 4096, "mirostat": 0, "tfs_z": 1, "reasoning_effort": "medium", "user": {"name": "a", "id": "1"}},
        **{"metadata": {"chat_id": "x"}, "features": {"web_search": False}, "logit_bias": {}},
    },
    "Open WebUI, a title": {"messages": CHAT, "stream": False, "max_completion_tokens": 9, "metadata": {"task": "t"}},
    "Continue": {
        "messages": HISTORY,
        "stream": True,
        **{"temperature": 0.5, "stop": ["\n\n"], "tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
    },
    "Continue, completing": {
        "prompt": "<fim_prefix>a<fim_suffix>b<fim_middle>",
        "stream": True,
        **{"temperature": 0.01, "stop": ["<fim_prefix>", "/src/"], "suffix": "", "raw": True, "presence_penalty": None},
    },
    "LibreChat": {
        "messages": HISTORY,
        "stream": True,
        "user": "66f",
        **{"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "n": 1, "logprobs": False},
        **{"stream_options": {"include_usage": True}, "modalities": ["text"], "service_tier": "auto", "store": False},
    },
    "aider": {"messages": CHAT, "stream": True, "temperature": 0},
    "nulls": {"messages": CHAT, **dict.fromkeys(NULLS.split())},
    "of llama.cpp": {
        "messages": CHAT,
        **{"cache_prompt": True, "id_slot": -1, "samplers": ["top_k"], "n_predict": 9, "timings_per_token": True},
    },
    "of vLLM": {
        "messages": CHAT,
        **{"repetition_penalty": 1.0, "skip_special_tokens": True, "add_generation_prompt": True, "best_of": None},
        **{"chat_template_kwargs": {"enable_thinking": False}, "ignore_eos": False, "min_tokens": 0},
    },
}


@pytest.fixture(scope="module")
def server(chat_pair: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(env=environment(chat_pair, tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.mark.parametrize("name", SENT)
def test_habits_of_clients_are_no_errors(server: Server, name: str) -> None:
    """Guards a field that is checked more strictly than clients fill it in."""
    asked = {"model": server.models[0], "max_tokens": 5, **SENT[name]}
    path = "/v1/completions" if "prompt" in asked else "/v1/chat/completions"
    answer = httpx.post(server.url + path, json=asked, headers={"Authorization": "Bearer undefined", "api-key": ""})
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n") == bool(asked.get("stream"))
