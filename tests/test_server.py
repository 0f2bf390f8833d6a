"""foreal serve with the real `openai` client: chats, completions, streams, log-probabilities, models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from commands import ROOT, environment, records, run
from real.models import Files
from serving import Server, start

QUESTION = "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bundled pair, whose template opens the reasoning."""
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")
    with start("--parallel", "2", "--review", "ratio", env=env) as server:
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
    assert not hasattr(message, "reasoning")
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]


def test_the_answer_is_that_of_foreal_gen(client: openai.OpenAI, tmp_path: Path) -> None:
    """Guards a server that answers otherwise than the command line with the same settings."""
    whole: Any = client.chat.completions.create(model="tiny", messages=MESSAGES, seed=7)
    env = environment(None, tmp_path, FOREAL_CTX_SIZE="1024")
    done = run(QUESTION, "--seed", "7", "--review", "ratio", "--format", "jsonl", "-q", env=env)
    [record] = records(done.stdout)
    message = whole.choices[0].message
    assert (message.reasoning_content, message.content) == (record["reasoning"], record["answer"])
    figures = whole.foreal
    assert figures["leader_tokens"] == record["usage"]["leader_tokens"]
    assert figures["draft_tokens"] == record["usage"]["draft_tokens"]
    assert (figures["mode"], figures["gate"], figures["review"]) == ("foreal", "random", "ratio")
    assert (figures["sentences"], figures["led"]) == (record["sentences"]["total"], record["sentences"]["led"])
    assert figures["reviewed"] == record["reviews"]["reviewed"]
    assert whole.usage.completion_tokens == record["usage"]["completion_tokens"]


def test_the_spans_say_who_wrote_what(client: openai.OpenAI) -> None:
    """Guards figures and authors that do not belong to the text."""
    chunks: Any = list(client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1, stream=True))
    written: dict[str, list[str]] = {"content": [], "reasoning_content": []}
    for chunk in chunks:
        for name, authors in written.items():
            text = getattr(chunk.choices[0].delta, name, None) or ""
            authors += [chunk.foreal["author"]] * len(text)
    last = chunks[-1].foreal
    for name, key in (("content", "spans"), ("reasoning_content", "reasoning_spans")):
        told = [span["author"] for span in last[key] for _ in range(span["from"], span["to"])]
        assert told == written[name]
    assert set(written["reasoning_content"]) == {"leader", "draft"}


def test_usage_is_asked_for_in_a_stream(client: openai.OpenAI) -> None:
    """Guards clients that take a chunk without a choice for an error, and those that count by it."""
    plain = list(client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1, stream=True))
    assert all(chunk.choices for chunk in plain)
    options: Any = {"include_usage": True}
    told = list(
        client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1, stream=True, stream_options=options)
    )
    assert [bool(chunk.choices) for chunk in told] == [True] * (len(told) - 1) + [False]
    usage = told[-1].usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details is not None
    assert 0 < (usage.completion_tokens_details.reasoning_tokens or 0) < usage.completion_tokens
    assert all(chunk.usage is None for chunk in told[:-1])


def test_the_next_turn_finds_the_one_before_in_a_cache(client: openai.OpenAI) -> None:
    """Guards conversations that are read anew at each turn."""
    first: Any = client.chat.completions.create(model="tiny:leader", messages=MESSAGES, temperature=0)
    turn = {"role": "assistant", "content": first.choices[0].message.content}
    more: Any = [*MESSAGES, turn, {"role": "user", "content": "Tom has 3 pens. How many pens does Tom have?"}]
    second: Any = client.chat.completions.create(model="tiny:leader", messages=more, temperature=0)
    read, cached = second.timings["prompt_n"], second.usage.prompt_tokens_details.cached_tokens
    assert read + cached == second.usage.prompt_tokens
    assert cached >= first.usage.prompt_tokens - 4  # the template opens the reasoning behind the last question alone


def test_reasoning_may_stay_in_the_content(client: openai.OpenAI) -> None:
    """Guards clients that look for the tags themselves."""
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, seed=1, extra_body={"reasoning_format": "none"}
    )
    message: Any = answer.choices[0].message
    assert "</think>" in message.content
    assert not hasattr(message, "reasoning_content")


def test_what_a_client_may_set(client: openai.OpenAI) -> None:
    """Guards settings that are read and not used."""

    def ask(**more: Any) -> Any:
        return client.chat.completions.create(**{"model": "tiny", "messages": MESSAGES, "seed": 1, **more})

    assert ask().choices[0].message.content == ask().choices[0].message.content
    assert ask(max_tokens=5).choices[0].finish_reason == "length"
    assert ask(max_tokens=50, max_completion_tokens=4).usage.completion_tokens == 4
    stopped = ask(stop=["{16", "never"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("\\boxed", "stop")
    knobs = ask(extra_body={"foreal": {"mode": "draft", "max_tokens": 3}}).foreal
    assert (knobs["mode"], knobs["leader_tokens"], knobs["draft_tokens"]) == ("draft", 0, 3)
    assert ask(extra_body={"foreal": {"preset": "fast"}}).foreal["gate"] == "never"
    assert ask(model="tiny:leader").foreal["draft_tokens"] == 0
    assert ask(model="tiny:speculative").timings["draft_n"] >= 0
    assert ask(seed=-1).foreal["seed"] == ask(seed=-1).foreal["seed"]
    fingerprints = {ask(max_tokens=1).system_fingerprint for _ in range(2)}
    assert len(fingerprints) == 1
    assert fingerprints != {""}


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    """Guards a format that is asked for and not kept to."""
    schema = {"type": "object", "properties": {"pens": {"type": "integer"}}, "required": ["pens"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "pens", "schema": schema}}
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, seed=1, response_format=wanted)
    content = answer.choices[0].message.content or ""
    assert list(httpx.Response(200, text=content).json()) == ["pens"]


def test_log_probabilities_of_a_chat(client: openai.OpenAI) -> None:
    """Guards lists that are not the tokens of the content, or another's."""
    options: Any = {"model": "tiny", "messages": MESSAGES, "seed": 1, "logprobs": True, "top_logprobs": 2}
    found: Any = client.chat.completions.create(**options).choices[0]
    tokens = found.logprobs.content
    assert "".join(token.token for token in tokens).strip() == found.message.content
    assert all(bytes(token.bytes).decode() == token.token for token in tokens)
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    streamed: list[Any] = []
    for chunk in client.chat.completions.create(stream=True, **options):
        likelihoods = chunk.choices[0].logprobs
        streamed += likelihoods.content or [] if likelihoods else []
    assert streamed == tokens


def test_completions(client: openai.OpenAI) -> None:
    """Guards prompts whose answers are mixed up, and streams that differ."""
    prompts = ["Tom has 5", "Iris has"]
    options: Any = {"model": "tiny", "seed": 1, "max_tokens": 6, "logprobs": 1}
    several = client.completions.create(prompt=prompts, **options)
    alone = [client.completions.create(prompt=prompt, **options) for prompt in prompts]
    assert [choice.index for choice in several.choices] == [0, 1]
    assert [choice.text for choice in several.choices] == [each.choices[0].text for each in alone]
    assert several.usage is not None
    assert several.usage.completion_tokens == 12
    texts, tokens, offsets = ["", ""], [[], []], [[], []]  # type: ignore[var-annotated]
    for chunk in client.completions.create(prompt=prompts, stream=True, **options):
        choice: Any = chunk.choices[0]
        texts[choice.index] += choice.text
        tokens[choice.index] += choice.logprobs.tokens
        offsets[choice.index] += choice.logprobs.text_offset
    for choice in several.choices:
        likelihoods: Any = choice.logprobs
        assert texts[choice.index] == choice.text == "".join(likelihoods.tokens)
        assert (tokens[choice.index], offsets[choice.index]) == (likelihoods.tokens, likelihoods.text_offset)


def test_prompts_are_scored(client: openai.OpenAI) -> None:
    """Guards scores that are of other tokens than those that were sent, or that have another place."""
    ids = [40, 50, 60, 70]
    options: Any = {"model": "tiny:leader", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    found: Any = client.completions.create(prompt=ids, **options).choices[0]
    scores = found.logprobs.token_logprobs
    assert len(scores) == len(ids) + 1
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    assert "".join(found.logprobs.tokens) == found.text
    ends = [
        offset + len(token) for offset, token in zip(found.logprobs.text_offset, found.logprobs.tokens, strict=True)
    ]
    assert ends[:-1] == found.logprobs.text_offset[1:]
    again: Any = client.completions.create(prompt=[ids, ids[:2]], **options).choices
    assert [choice.logprobs.token_logprobs[1] for choice in again] == [scores[1]] * 2
    nothing: Any = client.completions.create(prompt=ids, **options | {"max_tokens": 0})
    assert nothing.choices[0].logprobs.token_logprobs == scores[:-1]
    assert nothing.usage.completion_tokens == 0


def test_models(client: openai.OpenAI, server: Server) -> None:
    """Guards a list without the names for clients that can only choose a model."""
    models: Any = client.models.list().data
    assert [model.id for model in models] == server.models
    assert [model.id for model in models] == ["tiny", "tiny:leader", "tiny:draft", "tiny:speculative"]
    assert {model.max_model_len for model in models} == {1024}
    assert client.models.retrieve("tiny:leader").id == "tiny:leader"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    assert httpx.get(f"{server.url}/props").json()["default_generation_settings"]["n_ctx"] == 1024


def test_one_model_alone(chat_pair: Files, tmp_path: Path) -> None:
    """Guards names of modes that need a model that is not there."""
    with start("--leader", chat_pair.leader, "--mode", "leader", env=environment(None, tmp_path)) as server:
        name = chat_pair.leader.name.removesuffix(".gguf")
        assert server.models == [name, f"{name}:leader"]
        asked = {"messages": MESSAGES, "max_tokens": 3}
        assert httpx.post(f"{server.url}{CHAT}", json=asked).json()["foreal"]["leader_tokens"] == 3
        refused = httpx.post(f"{server.url}{CHAT}", json=asked | {"foreal": {"mode": "foreal"}})
        assert refused.status_code == 400
        assert "draft" in refused.json()["error"]["message"]


def test_the_page_of_the_documentation_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards an example that nobody has tried."""
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    exec(example.replace("http://127.0.0.1:8080", server.url), {})
    assert "tokens of the leader," in capsys.readouterr().out
