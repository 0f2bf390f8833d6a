"""foreal serve with the real `openai` client: what it reads of answers, and which of its exceptions errors become."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from commands import environment
from real.models import Files
from serving import Server, start

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

KEY = "secret"
QUESTION = "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
OTHERS = [QUESTION.replace("11", str(number)) for number in range(20, 28)]


class Pens(pydantic.BaseModel):
    number: int
    sure: bool
    who: Literal["Tom", "Iris"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bundled pair, whose template opens the reasoning."""
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="512")
    with start("--parallel", "4", "--api-key", KEY, "--mode", "leader", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def full(chat_pair: Files, tmp_path: Path) -> Iterator[Server]:
    """One slot, no queue, and answers that do not end by themselves."""
    env = environment(chat_pair, tmp_path, FOREAL_CTX_SIZE="65536")
    with start("--parallel", "1", "--queue", "0", "--grace", "0", env=env) as server:
        yield server


def joined(chunks: list[Any], name: str) -> str:
    return "".join(getattr(chunk.choices[0].delta, name, None) or "" for chunk in chunks if chunk.choices)


# ---------------------------------------------------------------- answers
def test_a_chat_has_reasoning_usage_and_figures(client: openai.OpenAI) -> None:
    """Guards fields that the client's models drop, or read as another type."""
    answer: Any = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0)
    message, usage = answer.choices[0].message, answer.usage
    assert (message.role, message.content, message.refusal) == ("assistant", "\\boxed{16}", None)
    assert message.reasoning_content.startswith("Okay")
    assert not hasattr(message, "reasoning")
    assert answer.choices[0].finish_reason == "stop"
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.foreal["leader_tokens"] == answer.timings["predicted_n"] == usage.completion_tokens
    assert answer.system_fingerprint.startswith("fp_")


def test_a_stream_ends_with_its_usage_where_that_is_asked_for(client: openai.OpenAI) -> None:
    """Guards empty `choices` where a client takes the first of them."""
    asked: Any = {"model": "tiny", "messages": MESSAGES, "temperature": 0, "stream": True}
    plain = list(client.chat.completions.create(**asked))
    assert all(chunk.choices and chunk.usage is None for chunk in plain)
    *chunks, last = client.chat.completions.create(**asked, stream_options={"include_usage": True})
    whole: Any = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0)
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    for name in ("content", "reasoning_content"):
        assert joined(chunks, name) == joined(plain, name) == getattr(whole.choices[0].message, name)
    assert plain[-1].foreal["spans"] == whole.foreal["spans"]


def test_the_clients_own_stream_joins_to_the_whole_answer(client: openai.OpenAI) -> None:
    """Guards chunks that `chat.completions.stream` cannot add up."""
    asked: Any = {"model": "tiny", "messages": MESSAGES, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final: Any = stream.get_final_completion().choices[0]
    whole: Any = client.chat.completions.create(**asked).choices[0]
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert (final.message.content, final.finish_reason) == (whole.message.content, whole.finish_reason)
    assert final.message.reasoning_content == whole.message.reasoning_content
    assert [each.token for each in final.logprobs.content] == [each.token for each in whole.logprobs.content]


def test_completions(client: openai.OpenAI) -> None:
    """Guards choices of several prompts that change places."""
    prompts = ["Iris has 11 pens. Tom has 5 more", "Tom has", "How many pens"]
    asked: Any = {"model": "tiny", "max_tokens": 8, "temperature": 0}
    several = client.completions.create(prompt=prompts, **asked)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    for prompt, choice in zip(prompts, several.choices, strict=True):
        alone = client.completions.create(prompt=prompt, **asked)
        streamed = "".join(
            each.choices[0].text for each in client.completions.create(prompt=prompt, stream=True, **asked)
        )
        assert choice.text == alone.choices[0].text == streamed
        assert choice.finish_reason == "length"
        assert alone.usage is not None
        assert alone.usage.completion_tokens == 8


# ---------------------------------------------------------------- log-probabilities
def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    """Guards figures of tokens that are not the content's: the reasoning's, or the one that ends the answer."""
    asked: Any = {"model": "tiny", "messages": MESSAGES, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    whole: Any = client.chat.completions.create(**asked).choices[0]
    tokens = whole.logprobs.content
    assert "".join(token.token for token in tokens).strip() == whole.message.content
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert (token.top_logprobs[0].token, token.top_logprobs[0].logprob) == (token.token, token.logprob)
        assert bytes(token.bytes).decode() == token.token
    streamed: list[Any] = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        streamed += chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else []
    assert streamed == tokens


def test_logprobs_of_a_completion(client: openai.OpenAI) -> None:
    """Guards lists of different lengths, and offsets that point elsewhere."""
    prompt = "Iris has 11 pens. Tom has"
    asked: Any = {"model": "tiny", "prompt": prompt, "max_tokens": 6, "temperature": 0, "logprobs": 2}
    choice: Any = client.completions.create(**asked).choices[0]
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert found.text_offset == [len("".join(found.tokens[:i])) for i in range(6)]
    assert [max(top.values()) for top in found.top_logprobs] == found.token_logprobs
    streamed: list[Any] = []
    for chunk in client.completions.create(**asked, stream=True):
        streamed += chunk.choices[0].logprobs.tokens if chunk.choices[0].logprobs else []
    assert streamed == found.tokens
    echoed: Any = client.completions.create(**asked, echo=True).choices[0]
    assert echoed.text == prompt + choice.text
    assert "".join(echoed.logprobs.tokens) == echoed.text
    assert echoed.logprobs.token_logprobs[0] is None
    assert echoed.logprobs.token_logprobs[-6:] == pytest.approx(found.token_logprobs, abs=2e-2)


# ---------------------------------------------------------------- settings
def test_seed_and_stop(client: openai.OpenAI) -> None:
    """Guards a seed that is not used, and a stop text that stands in the answer."""
    asked: Any = {"model": "tiny:leader", "prompt": "Tom has 5", "temperature": 3.0, "max_tokens": 12}
    texts = [client.completions.create(**asked, seed=seed).choices[0].text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    stopped = client.completions.create(model="tiny", prompt=QUESTION, temperature=0, stop=[" so", "zzz"])
    assert " so" not in stopped.choices[0].text
    assert stopped.choices[0].finish_reason == "stop"


def test_settings_of_foreal(client: openai.OpenAI) -> None:
    """Guards settings of ours that do not reach the answer, or that are dropped silently."""
    own: Any = {"foreal": {"mode": "foreal", "p": 1.0, "n": 3, "k": 2}}
    answer: Any = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0, extra_body=own)
    assert answer.foreal["mode"] == "foreal"
    assert answer.foreal["draft_tokens"] > 0
    for name, value in {"p": 2, "kk": 5, "leader": "/etc/passwd"}.items():
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model="tiny", messages=MESSAGES, extra_body={"foreal": {name: value}})
        assert raised.value.param == f"foreal.{name}"


def test_an_answer_parsed_into_a_model_of_pydantic(client: openai.OpenAI) -> None:
    """Guards schemas as the client makes them of classes."""
    parsed = client.chat.completions.parse(model="tiny", messages=MESSAGES, response_format=Pens, temperature=0)
    assert isinstance(parsed.choices[0].message.parsed, Pens)
    with client.chat.completions.stream(model="tiny", messages=MESSAGES, response_format=Pens, temperature=0) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed.choices[0].message.parsed
    free: Any = {"type": "json_object"}
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="tiny", messages=MESSAGES, response_format=Pens, max_tokens=5)
    cut = client.chat.completions.create(model="tiny", messages=MESSAGES, response_format=free, max_tokens=220)
    assert (cut.choices[0].message.content or "{").lstrip().startswith("{")


# ---------------------------------------------------------------- errors
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [TOOL]}, "tools"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages.0.content"),
        ({"messages": []}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_a_bad_request(client: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    """Guards answers to another question than was asked."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": "tiny", "messages": MESSAGES} | more)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_a_full_context(client: openai.OpenAI) -> None:
    """Guards the code that clients shorten their conversations for."""
    long = QUESTION * 40
    for ask in (
        lambda: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": long}]),
        lambda: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": long}], stream=True),
        lambda: client.completions.create(model="tiny", prompt=long),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            ask()
        assert raised.value.code == "context_length_exceeded"
        assert "prompt is too long" in raised.value.message  # LangChain looks for this,
        assert "this model's maximum context length is 512 tokens" in raised.value.message  # and LiteLLM for that


def test_keys_and_names(server: Server, client: openai.OpenAI) -> None:
    """Guards statuses that the client makes other exceptions of."""
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="other").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert "tiny:speculative" in missing.value.message
    for url in (server.url, f"{server.url}/v1/v1"):
        with pytest.raises(openai.NotFoundError, match="ends in /v1"):
            client.with_options(base_url=url).chat.completions.create(model="tiny", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny", input="x")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="tiny", input="x")
    models = {model.id: model for model in client.models.list()}
    assert list(models) == server.models
    assert client.models.retrieve("tiny:draft") == models["tiny:draft"]
    about: Any = models["tiny"]
    assert about.max_model_len == 512


# ---------------------------------------------------------------- many at once
def test_eight_at_once_are_as_each_alone(server: Server, client: openai.OpenAI) -> None:
    """Guards answers that reach another request than their own."""

    async def all_at_once() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as asynchronous:
            return await asyncio.gather(*(asynchronous.chat.completions.create(**_about(each)) for each in OTHERS))

    together = [answer.choices[0].message for answer in asyncio.run(all_at_once())]
    assert together == [client.chat.completions.create(**_about(each)).choices[0].message for each in OTHERS]


def _about(question: str) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": question}], "temperature": 0}


def test_a_stream_that_is_left_frees_its_slot(full: Server) -> None:
    """Guards a slot that stays taken by an answer that nobody reads."""
    client = openai.OpenAI(base_url=f"{full.url}/v1", api_key="any", max_retries=0)
    name = full.models[0]
    asked: Any = {"model": name, "messages": MESSAGES}
    for leave in ("close", "break"):
        stream = client.chat.completions.create(**asked, stream=True)
        next(stream), next(stream)
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(**asked, max_tokens=2)
        assert (raised.value.status_code, raised.value.code) == (503, "overloaded")
        assert int(raised.value.response.headers["retry-after"]) > 0
        if leave == "close":
            stream.close()
        else:  # as a garbage collector or a failing program leaves it
            stream.response.close()
        _answered_soon(client, asked)


def _answered_soon(client: openai.OpenAI, asked: dict[str, Any]) -> None:
    until = time.monotonic() + 5
    while True:
        try:
            assert client.chat.completions.create(**asked, max_tokens=2).choices
            return
        except openai.InternalServerError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_the_client_comes_back_when_it_is_told_to(full: Server) -> None:
    """Guards a 503 that the client does not try again."""
    client = openai.OpenAI(base_url=f"{full.url}/v1", api_key="any", max_retries=3)
    asked: Any = {"model": full.models[0], "messages": MESSAGES}
    stream = client.chat.completions.create(**asked, stream=True)
    next(stream)
    threading.Timer(0.5, stream.close).start()
    assert client.chat.completions.create(**asked, max_tokens=2).choices


def test_an_answer_that_is_cut_off_is_an_error(full: Server) -> None:
    """Guards a stream that ends as if the answer were finished."""
    client = openai.OpenAI(base_url=f"{full.url}/v1", api_key="any", max_retries=0)
    stream = client.chat.completions.create(model=full.models[0], messages=MESSAGES, stream=True)
    next(stream)
    threading.Timer(0.3, full.stop).start()
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert raised.value.code == "stopping"
