"""The package as Python users see it: what can be asked, settings by name, and what is said of mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from real.models import Files

from foreal_local.config import Generation, Method, Pair, Runtime
from foreal_local.engine import Engine
from foreal_local.errors import ModelFileError, UsageError
from foreal_local.results import Prompt, Result

BRIEF = Generation("leader", Method(), seed=1, max_tokens=3)


@pytest.fixture(scope="module")
def engine(chat_pair: Files) -> Iterator[Engine]:
    with Engine(Pair(*chat_pair), runtime=Runtime(ctx_size=256, threads=1), settings=BRIEF) as engine:
        yield engine


# ---------------------------------------------------------------- what can be asked
def test_one_prompt_gives_a_result_and_several_give_a_list(engine: Engine) -> None:
    """Guards a text that is taken for a list of letters, and messages that are taken for a list of prompts."""
    messages = [{"role": "user", "content": "so"}]
    for one in ("so", messages, Prompt("so"), Prompt(messages)):
        result = engine.generate(one)
        assert isinstance(result, Result)
        assert (result.prompt, len(result.tokens)) == (one.content if isinstance(one, Prompt) else one, 3)
    found = engine.generate(text for text in ("so", "wait"))
    assert [result.prompt for result in found] == ["so", "wait"]
    found = engine.generate([messages, Prompt("wait"), "so"])
    assert [result.prompt for result in found] == [messages, "wait", "so"]
    assert engine.generate(["so"])[0].text == engine.generate("so").text
    assert engine.generate([]) == []


@pytest.mark.parametrize("wrong", [5, [5], None, {"role": "user", "content": "so"}, ["so", b"so"]])
def test_what_is_no_prompt_is_refused(wrong: Any, engine: Engine) -> None:
    """Guards an error from the depths of a chat template, and keys of a dictionary that are answered one by one."""
    with pytest.raises(UsageError, match=r"a prompt is a text, a list of messages or a Prompt, not "):
        engine.generate(wrong)


# ---------------------------------------------------------------- settings by name
def test_single_settings_go_before_the_engines(engine: Engine) -> None:
    """Guards changes that are lost, or that are kept for later prompts."""
    result = engine.generate("so", max_tokens=2, temp=0, n=4, stop="zzz", system="Be brief.")
    used = result.sequence.settings
    assert (used.mode, used.max_tokens, used.sampling.temp, used.method.n, used.stop) == ("leader", 2, 0.0, 4, ("zzz",))
    assert engine.generate("so").sequence.settings == BRIEF
    assert len(list(engine.stream("so", max_tokens=2))) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temprature": 0}, "no setting 'temprature' of a response"),
        ({"max_token": 3}, "no setting 'max_token' of a response: did you mean max_tokens?"),
        ({"ctx_size": 512}, "no setting 'ctx_size' of a response"),
        ({"seed": "one"}, "seed is 'one', but must be a whole number"),
        ({"temp": -1}, "temp is -1.0, but must be 0 or more"),
        ({"mode": "both"}, "mode is 'both', but must be one of"),
    ],
)
def test_settings_that_are_not_there_are_told(wrong: dict[str, Any], message: str, engine: Engine) -> None:
    """Guards a misspelled setting that changes nothing, for one answer and for a stream."""
    for ask in (engine.generate, engine.stream):
        with pytest.raises(UsageError) as caught:
            ask("so", **wrong)  # type: ignore[operator]
        assert str(caught.value).startswith(message)


# ---------------------------------------------------------------- models
def test_a_file_that_is_not_there_is_told_by_its_name(chat_pair: Files) -> None:
    """Guards a message from llama.cpp instead of the file's name."""
    for pair in (Pair("missing.gguf", chat_pair.draft), Pair(chat_pair.leader, "missing.gguf")):
        with pytest.raises(ModelFileError, match=r"no such model file: missing\.gguf"):
            Engine(pair)
