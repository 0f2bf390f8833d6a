"""Log-probabilities in real GGUF files, against a whole evaluation by an independent reader of the same file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import jsonl, records, run

from foreal_local.config import Pair
from foreal_local.errors import UsageError
from foreal_local.results import Prompt, Result
from foreal_local.runtime.messages import TokenIds

from . import replay
from .engines import DRAFT, LEADER, PAIRS, RAW, PairMaker, open_engine, settings

N_TOP = 4
NEAR = 2e-2 if replay.TIE > 2e-3 else 2e-3


def log_softmax(path: Path, ids: list[int]) -> np.ndarray:
    """(n_ids, n_vocab): after each of these ids."""
    with closing(replay.Model(path, len(ids))) as model:
        return np.array([replay.log_chances(row) for row in model.rows(ids, 0)])


def assert_right(result: Result, pair: Pair) -> None:
    """Each token's figure is what its author says of it after all that stands before."""
    sequence = result.sequence
    expected = {role: log_softmax(pair.of(role).path, view.ids) for role, view in sequence.views.items()}
    for i, token in enumerate(sequence.tokens):
        found = token.likelihood
        assert found is not None
        row = expected[token.author][sequence.views[token.author].starts[i] - 1]
        assert found.logprob == pytest.approx(row[token.id], abs=NEAR)
        assert [logprob for _, logprob in found.top] == pytest.approx(np.sort(row)[::-1][:N_TOP], abs=NEAR)
    reader = LEADER if LEADER in sequence.views else DRAFT
    view = sequence.views[reader]
    for at, likelihood in enumerate(sequence.prompt_likelihoods, 1):
        assert likelihood.logprob == pytest.approx(expected[reader][at - 1][view.ids[at]], abs=NEAR)


@pytest.mark.parametrize("name", PAIRS)
def test_every_memory(make: PairMaker, name: str) -> None:
    """Guards a place that a cache that cannot go back has lost, and one that a batch takes from its neighbour."""
    pair, prompts = make(name), ["wait now so the sum of", "so it is now", "wait"]
    plain = settings(max_tokens=24)
    modes = [plain, settings("leader", max_tokens=24, temp=0.8), settings(gate="never", review="ratio", max_tokens=24)]
    with open_engine(pair, n_slots=2) as engine:
        for mode in modes:
            asked = replace(mode, logprobs=N_TOP, prompt_logprobs=0)
            for result in engine.generate(prompts, asked, RAW):
                assert (
                    len(result.sequence.prompt_likelihoods)
                    == len(engine.encode(str(result.prompt), RAW).ids[LEADER]) - 1
                )
                assert_right(result, pair)


def test_a_prompt_that_is_tokens_is_read_as_it_is(make: PairMaker) -> None:
    """Guards ids that are decoded and read anew, or get a chat template; and those that no model has."""
    pair = make()
    with open_engine(pair) as engine:
        ids = engine.encode("wait now", RAW).ids[LEADER]
        by_text = engine.generate("wait now", settings(max_tokens=9), RAW)
        by_ids = engine.generate(TokenIds(ids), settings(max_tokens=9))
        assert by_ids.text == by_text.text
        assert by_ids.as_dict()["prompt_ids"] == ids
        assert by_ids.submission.settings_hash != by_text.submission.settings_hash
        strange = engine.generate([Prompt(TokenIds([0, 10**6])), Prompt(TokenIds())], settings(max_tokens=9))
        assert [result.finish_reason for result in strange] == ["error", "error"]
        assert "1000000" in str(strange[0].error)
        with pytest.raises(UsageError):
            engine.generate([[1, 2]])  # type: ignore[list-item]


def test_records_have_them(env: dict[str, str], tmp_path: Path) -> None:
    """Guards figures that the command line asks for and no record has, and --resume that takes one without them."""
    out = tmp_path / "out.jsonl"
    words = ["--prompt", "wait", "--temp", "0", "--max-tokens", "3", "-o", str(out)]
    assert run(*words, env=env).returncode == 0
    done = run(*words, "--logprobs", "2", "--prompt-logprobs", "0", "--resume", env=env)
    assert done.returncode == 0, done.stderr
    [record] = records(out.read_text("utf-8"))
    assert "".join(each["text"] for each in record["logprobs"]) == record["text"]
    assert all(len(each["top"]) == 2 and each["logprob"] <= 0 for each in record["logprobs"])
    assert len(record["prompt_logprobs"]) == record["usage"]["prompt_tokens"] - 1
    lines = jsonl({"custom_id": "a", "body": {"messages": [{"role": "user", "content": "so"}], "logprobs": True}})
    (tmp_path / "in.jsonl").write_text(lines)
    done = run("-f", str(tmp_path / "in.jsonl"), "--max-tokens", "2", "--format", "jsonl", env=env)
    assert [each["top"] for each in records(done.stdout)[0]["logprobs"]] == [[], []], done.stderr
