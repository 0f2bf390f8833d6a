"""foreal serve with the `llm` command (simonw/llm), by its file of OpenAI-compatible models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from serving import Server, start

pytestmark = pytest.mark.skipif(find_spec("llm") is None, reason="llm is not installed")

KEY = "secret"
QUESTION = "Iris has 11 pens. Tom has 5 more pens than Iris. How many pens does Tom have?"
Llm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")
    with start("--api-key", KEY, "--mode", "leader", "--temp", "0", env=env) as server:
        yield server


@pytest.fixture
def llm(server: Server, tmp_path: Path) -> Llm:
    """Call the command, as a user who has written the models into its file, and the key into its keys."""
    entries: list[dict[str, Any]] = [
        {"model_id": "pair", "model_name": "tiny", "supports_schema": True},
        {"model_id": "plain", "model_name": "tiny", "completion": True},
        {"model_id": "unknown", "model_name": "other"},
    ]
    for entry in entries:
        entry |= {"api_base": f"{server.url}/v1", "api_key_name": "foreal"}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML
    (tmp_path / "keys.json").write_text(json.dumps({"foreal": KEY}))
    env = environment(None, tmp_path, LLM_USER_PATH=str(tmp_path))
    env.pop("OPENAI_API_KEY", None)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llm", *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    return call


def usage(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, as it tells them (`-u`)."""
    told = re.search(r"Token usage: ([\d,]+) input, ([\d,]+) output", done.stderr)
    assert told, done.stderr
    return int(told[1].replace(",", "")), int(told[2].replace(",", ""))


def test_a_prompt_streamed_and_whole(llm: Llm) -> None:
    """Guards an answer whose usage llm does not find: it asks streams for it."""
    for words in ([], ["--no-stream"]):
        done = llm("-m", "pair", "-u", *words, QUESTION)
        assert (done.returncode, done.stdout.strip()) == (0, "\\boxed{16}"), done.stderr
        n_prompt, n_written = usage(done)
        assert n_prompt > 20
        assert n_written > 100


def test_a_conversation(llm: Llm) -> None:
    """Guards the earlier answer that comes back as a message of the assistant's."""
    first = llm("-m", "pair", "-u", "-s", "Answer.", QUESTION)
    second = llm("-c", "-u", "-o", "max_tokens", "300", QUESTION.replace("11", "12"))
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert usage(second)[0] > usage(first)[0] + 25


def test_a_schema(llm: Llm) -> None:
    """Guards a schema that the answer does not keep to."""
    done = llm("-m", "pair", "--schema", "number int, sure bool", QUESTION)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"number", "sure"}
    assert isinstance(answer["number"], int)


def test_options(llm: Llm) -> None:
    """Guards options that llm hands on by the names of OpenAI."""
    options = {"temperature": "0.5", "seed": "3", "stop": "zzz", "top_p": "0.9", "max_tokens": "40", "json_object": "1"}
    words = [word for name, value in options.items() for word in ("-o", name, value)]
    done = llm("-m", "pair", *words, QUESTION)
    assert done.returncode == 0, done.stderr


def test_a_completion(llm: Llm) -> None:
    """Guards the models of the other interface."""
    done = llm("-m", "plain", "-o", "max_tokens", "5", "Iris has 11 pens. Tom has 5 more pens")
    assert (done.returncode, done.stdout[:6]) == (0, " than "), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-m", "pair", "--key", "other"), "key"),
        (("-m", "unknown"), "tiny:speculative"),
        (("-m", "pair", "-o", "presence_penalty", "1"), "presence_penalty"),
        (("-m", "pair", QUESTION * 100), "maximum context length is 1024 tokens"),
    ],
)
def test_errors_are_told(llm: Llm, words: tuple[str, ...], told: str) -> None:
    """Guards messages that say nothing to a user of llm."""
    done = llm(*words, *([] if len(words) == 3 else [QUESTION]))
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]
