"""What the bundled pair knows, and what to do where an answer has no room: told by the programs, not a page alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import ROOT, environment, error_line, run
from terminal import Terminal, terminal_environment
from test_chat_terminal import APPLES, SHORT

GEN = [sys.executable, "-m", "foreal_local", "gen"]
MODELS = ("-l", ROOT / "models" / "tiny-leader.gguf", "-d", ROOT / "models" / "tiny-draft.gguf")
KNOWS = "knows only word problems"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")


def test_a_pair_that_was_not_chosen_says_what_it_knows(env: dict[str, str]) -> None:
    """Guards nonsense as the answer to a first question, and nothing that says why, or advice that cannot help."""
    greedy = [*GEN, "--mode", "leader", "--temp", "0"]
    done = run("What is the capital of France?", env=env, command=greedy)
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("pair ")]
    assert KNOWS in told
    assert told.endswith("foreal pairs lists others.")
    for words in (MODELS, ("-q",)):
        assert KNOWS not in run("What is the capital of France?", *words, env=env, command=greedy).stderr
    full = "the context is full after 1012 tokens inside the reasoning: the models were trained for 1024 tokens"
    assert run("hello", "-q", env=env, command=greedy).stderr == f"foreal-gen: prompt 0: {full}\n"


@pytest.mark.parametrize(("words", "is_told"), [((), True), (("-q",), False), (MODELS, False)])
def test_a_chat_begins_with_what_its_pair_knows(words: tuple[str | Path, ...], is_told: bool, tmp_path: Path) -> None:
    """Guards a first question that the bundled pair can only answer with nonsense."""
    with Terminal(*SHORT, *words, env=terminal_environment(None, tmp_path), columns=80) as chat:
        assert (KNOWS in " ".join(chat.text.split())) == is_told
        assert chat.leave() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max-tokens", "5"), "prompt 0: ended by --max-tokens after 5 tokens inside the reasoning"),
        (("--ctx-size", "64"), "prompt 0: the context is full after 35 tokens inside the reasoning: raise --ctx-size"),
    ],
)
def test_an_answer_that_is_not_there_is_told(words: tuple[str, ...], told: str, env: dict[str, str]) -> None:
    """Guards an empty line on standard output with no reason: --quiet leaves out figures, not that."""
    done = run("--prompt", APPLES, "-q", *words, env=env, command=GEN)
    assert (done.stdout, done.stderr) == ("\n", f"foreal-gen: {told}\n")


def test_a_context_that_is_proposed_is_one_that_the_models_have(env: dict[str, str]) -> None:
    """Guards advice that the next run warns about: more context than the models were trained for."""
    line = error_line(run("--prompt", APPLES, "--ctx-size", "16", env=env, command=GEN))
    assert "--ctx-size 1024 has room" in line
