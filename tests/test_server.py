"""foreal serve with the real `openai` client: chats, completions, streams, models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from commands import environment
from serving import Server, start

QUESTION = "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bundled pair, whose template opens the reasoning."""
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")
    with start("--parallel", "2", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def test_a_chat_is_answered_whole_and_streamed_alike(client: openai.OpenAI) -> None:
    """Guards a stream whose pieces do not join to the whole answer."""
    whole = client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1)
    message: Any = whole.choices[0].message
    assert message.content == "\\boxed{16}"
    content = reasoning = ""
    chunks = list(client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1, stream=True))
    for chunk in chunks:
        delta: Any = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
    assert (content, reasoning) == (message.content, message.reasoning_content)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"


def test_models(client: openai.OpenAI) -> None:
    """Guards a list without the names for clients that can only choose a model."""
    models = client.models.list().data
    assert [model.id for model in models] == ["tiny", "tiny:leader", "tiny:draft", "tiny:speculative"]
    assert client.models.retrieve("tiny:leader").id == "tiny:leader"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
