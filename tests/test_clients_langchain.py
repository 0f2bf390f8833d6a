"""foreal serve with LangChain's ChatOpenAI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from commands import environment
from serving import Server, start

chat_models = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
messages = pytest.importorskip("langchain_core.messages", reason="langchain-core is not installed")
pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

KEY = "secret"
QUESTION = "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?"


class Pens(pydantic.BaseModel):
    """How many pens somebody has."""

    number: int
    sure: bool
    who: Literal["Tom", "Iris"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")
    with start("--parallel", "4", "--api-key", KEY, "--mode", "leader", env=env) as server:
        yield server


def model_of(server: Server, **more: Any) -> Any:
    about = {"model": "tiny", "temperature": 0, "max_retries": 0, "max_tokens": 400} | more
    return chat_models.ChatOpenAI(base_url=f"{server.url}/v1", api_key=KEY, **about)


def test_invoke(server: Server) -> None:
    """Guards usage and finish reasons that are not found where LangChain looks for them."""
    answer = model_of(server).invoke(QUESTION)
    assert answer.content == "\\boxed{16}"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == "tiny"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_token_details"]["reasoning"] < usage["output_tokens"]


def test_a_conversation(server: Server) -> None:
    """Guards roles that LangChain names otherwise, and contents that are lists of parts."""
    answer = model_of(server).invoke(
        [
            messages.SystemMessage("Answer."),
            messages.HumanMessage([{"type": "text", "text": QUESTION}]),
            messages.AIMessage("\\boxed{16}"),
            messages.HumanMessage(QUESTION.replace("11", "12")),
        ]
    )
    assert answer.content


def test_a_stream(server: Server) -> None:
    """Guards a last chunk of usage without choices."""
    model = model_of(server, stream_usage=True)
    whole = None
    n_chunks = 0
    for chunk in model.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
        n_chunks += 1
    assert whole is not None
    assert n_chunks > 2
    assert whole.content == "\\boxed{16}"
    assert whole.usage_metadata["output_tokens"] == model.invoke(QUESTION).usage_metadata["output_tokens"]
    assert "".join(chunk.content for chunk in model_of(server).stream(QUESTION)) == whole.content


def test_a_batch(server: Server) -> None:
    """Guards answers in another order than the questions'."""
    questions = [QUESTION.replace("11", str(number)) for number in range(10, 16)]
    model = model_of(server)
    together = [answer.content for answer in model.batch(questions)]
    assert together == [model.invoke(question).content for question in questions]
    assert len(set(together)) == 6


def test_structured_output(server: Server) -> None:
    """Guards schemas as LangChain writes them: of classes, and plain ones."""
    model = model_of(server)
    found = model.with_structured_output(Pens, method="json_schema").invoke(QUESTION)
    assert isinstance(found, Pens)
    assert model.with_structured_output(Pens).invoke(QUESTION) == found
    plain = {"title": "Pens", "description": "Pens.", **Pens.model_json_schema()}
    assert model.with_structured_output(plain, method="json_schema").invoke(QUESTION) == found.model_dump()
    raw = model.with_structured_output(Pens, method="json_schema", include_raw=True, strict=True).invoke(QUESTION)
    assert (raw["parsed"], raw["parsing_error"]) == (found, None)


def test_logprobs_and_settings_of_foreal(server: Server) -> None:
    """Guards log-probabilities and settings that do not get through LangChain."""
    own = {"foreal": {"mode": "foreal", "p": 1.0}}
    answer = model_of(server, logprobs=True, top_logprobs=2, extra_body=own, stop_sequences=["zzz"]).invoke(QUESTION)
    tokens = answer.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens).strip() == answer.content
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)


def test_a_full_context_is_its_own_exception(server: Server) -> None:
    """Guards the words in which clients look for a full context, and shorten the conversation then. LangChain found
    only another bad request in them."""
    exceptions = pytest.importorskip("langchain_core.exceptions")
    for ask in (model_of(server).invoke, lambda text: list(model_of(server).stream(text))):
        with pytest.raises(exceptions.ContextOverflowError, match="maximum context length is 1024 tokens"):
            ask(QUESTION * 60)
