"""Models whose logits are no numbers (NaN), for one word or always: what fails, and what goes on."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from commands import environment, jsonl, run

from foreal_local.config import Pair
from foreal_local.errors import ModelFileError
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Prompt, Result

from .engines import RAW, PairMaker, assert_same_up_to_near_ties, ids, open_engine, pair_of, settings
from .models import TinyModels
from .tiny_gguf import plain

BAD = "%"
PROMPTS = [" the number is", " 50 % of ten", " wait now so", " let me check", f"{BAD} two", " add one to ten"]
FAILED = (1, 4)
MODES: list[dict[str, Any]] = [
    {"mode": "leader"},
    {"mode": "foreal"},
    {"mode": "foreal", "proposals": 3, "temp": 0.7},
    {"mode": "speculative", "proposals": 4},
    {"mode": "foreal", "gate": "never", "review": "ratio", "tau": 0.3, "proposals": 3, "temp": 0.7},
]

CHAT = [sys.executable, "-m", "foreal_local", "chat"]
Damage = Callable[[dict[str, Any]], None]


def damaged(pair: Pair, folder: Path, name: str, damage: Damage) -> Pair:
    """Copies of both files with other weights."""
    made = []
    for number, model in enumerate((pair.leader, pair.draft)):
        path = folder / f"{name}-{number}.gguf"
        shutil.copyfile(model.path, path)
        reader = gguf.GGUFReader(path, "r+")
        damage({tensor.name: tensor.data for tensor in reader.tensors})
        reader.data.flush()
        made.append(path)
    return pair_of(*made)


def one_word(tensors: dict[str, Any]) -> None:
    tensors["token_embd.weight"][plain().id_of(BAD), :] = np.nan


def everything(tensors: dict[str, Any]) -> None:
    tensors["blk.1.ffn_down.weight"][:] = np.inf


@pytest.mark.parametrize("kind", ["llama", "moe", "mamba"])
@pytest.mark.parametrize("generation", MODES, ids=str)
def test_neighbours_are_what_they_would_have_been(
    kind: str, generation: dict[str, Any], make: PairMaker, tmp_path: Path
) -> None:
    """Guards a NaN that stays in the cache's cells: whoever shares the cache, or comes after, wrote NUL after NUL."""
    pair = damaged(make(kind), tmp_path, kind, one_word)
    options = settings(**generation)
    alone = []
    for index, prompt in enumerate(PROMPTS):
        with open_engine(pair) as engine:
            alone.append(engine.generate(Prompt(prompt, index=index), options, RAW))
    for n_slots in (1, 4):
        with open_engine(pair, n_slots=n_slots) as engine:
            together = engine.generate(PROMPTS, options, RAW)
            after = engine.generate(PROMPTS[:1], options, RAW)
        for index, (one, other) in enumerate(zip(alone, together, strict=True)):
            assert_failed_or_same(index, one, other, pair, tmp_path)
        assert_failed_or_same(0, alone[0], after[0], pair, tmp_path)


def assert_failed_or_same(index: int, alone: Result, other: Result, pair: Pair, folder: Path) -> None:
    if index in FAILED:
        for result in (alone, other):
            assert result.finish_reason is FinishReason.ERROR
            assert "gives no numbers (NaN or infinity) after 0 tokens of the answer" in (result.error or "")
    elif alone.sequence.settings.sampling.greedy:
        assert_same_up_to_near_ties(ids(other), ids(alone), other, pair, folder)
    else:
        assert ids(other)[:3] == ids(alone)[:3]
        assert other.finish_reason is not FinishReason.ERROR


def test_a_model_that_gives_no_numbers_at_all_is_refused(make: PairMaker, tmp_path: Path) -> None:
    """Guards a damaged model whose run goes on, prompt after prompt."""
    with open_engine(damaged(make(), tmp_path, "broken", everything)) as engine:
        for mode in ("leader", "draft", "foreal"):
            with pytest.raises(ModelFileError, match=r"gives no numbers .*, whatever it reads: a damaged file"):
                engine.generate(PROMPTS, settings(mode), RAW)


def test_commands_go_on_after_a_response_without_numbers(tiny: TinyModels, make: PairMaker, tmp_path: Path) -> None:
    """Guards tracebacks of the sampling, files that can never be finished, and a chat that is broken from there on."""
    pair = damaged(make(), tmp_path, "word", one_word)
    env = environment((pair.leader.path, pair.draft.path), tmp_path)
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text(jsonl(*({"prompt": text} for text in PROMPTS)), encoding="utf-8")
    words: list[Any] = ["--file", prompts, "-o", output, "--max-tokens", "8", "--seed", "1"]
    done = run(*words, env=env)
    assert done.returncode == 1
    assert f"prompt 1 ({prompts}:2) failed: the leader gives no numbers" in done.stderr
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [record["finish_reason"] == "error" for record in written] == [i in FAILED for i in range(len(PROMPTS))]
    words = ["--temp", "0", "--max-tokens", "8", "--seed", "1"]
    done = run(*words, env=env, stdin="one\n50 % of ten\none\n", command=CHAT)
    assert done.returncode == 1, "a message failed"
    assert done.stderr.count("gives no numbers") == 1
    assert done.stderr.count("answer 1: ") == 1
    assert done.stderr.count("answer 2: ") == 1, "the failed one is no part of the conversation"
    assert done.stderr.count("the conversation is as it was before this question") == 1
