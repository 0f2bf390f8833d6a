"""Texts as tokens and back over HTTP, in the shapes of vLLM and llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from commands import environment
from real.models import TinyModels
from real.tiny_gguf import R1_TEMPLATE
from serving import Server, start

BEGIN, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
TEXT = f"wait{END} so é now"


@pytest.fixture(scope="module")
def server(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A leader whose texts begin with a token of their own, and its draft."""
    pair = tiny.pair("llama", "r1_like")
    env = environment(pair, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="512")
    with start("--api-key", "secret", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer secret"}) as client:
        yield client


def test_texts_become_tokens_and_texts_again(http: httpx.Client) -> None:
    """Guards ids that no prompt can be made of: of the letters that a special token is spelled with."""
    told = http.post("/tokenize", json={"prompt": TEXT, "add_special_tokens": False}).json()
    assert told["count"] == len(told["tokens"]) < len(TEXT)
    assert told["max_model_len"] == 512
    for name in ("prompt", "content"):
        assert http.post("/detokenize", json={"tokens": told["tokens"]}).json()[name] == TEXT
    asked = {"prompt": told["tokens"], "echo": True, "max_tokens": 1, "logprobs": 0}
    choice = http.post("/v1/completions", json=asked).json()["choices"][0]
    assert len(choice["logprobs"]["tokens"]) == told["count"] + 1


def test_the_first_token_is_added_as_each_program_adds_it(http: httpx.Client) -> None:
    """Guards a token too much before what a client puts together itself."""

    def ids(**asked: object) -> list[int]:
        found: list[int] = http.post("/tokenize", json=asked).json()["tokens"]
        return found

    [begin] = ids(content=BEGIN)
    plain = ids(content=TEXT)
    assert begin not in plain
    assert ids(prompt=TEXT) == ids(content=TEXT, add_special=True) == [begin, *plain]
    assert ids(prompt=BEGIN + TEXT) == [begin, *plain]
    assert ids(prompt=TEXT, add_special_tokens=False) == plain


def test_what_the_tokenizer_is_like(http: httpx.Client) -> None:
    """Guards names of special tokens that are no tokens."""
    told = http.get("/tokenizer_info").json()
    assert (told["bos_token"], told["eos_token"], told["add_bos_token"]) == (BEGIN, END, True)
    assert told["chat_template"] == R1_TEMPLATE


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"content": "a", "with_pieces": True}, "with_pieces"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [5, 10**6]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/tokenize", {"content": "a" * 300_000}, "content"),
        ("/detokenize", {"tokens": [5] * 300_000}, "tokens"),
    ],
    ids=range(8),
)
def test_what_is_no_text_and_no_token(http: httpx.Client, path: str, asked: dict[str, object], param: str) -> None:
    """Guards an id that is no token, which llama.cpp takes for the place of one."""
    answer = http.post(path, json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_key_is_needed(server: Server) -> None:
    """Guards paths beside /v1 that are forgotten."""
    assert httpx.get(f"{server.url}/tokenizer_info").status_code == 401
    for path in ("/tokenize", "/detokenize"):
        assert httpx.post(server.url + path, json={}).status_code == 401
