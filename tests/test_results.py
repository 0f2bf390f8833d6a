"""The result line: its keys and their order as documented, and numbers that agree with the response."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import DRAFT, LEADER, SHAPES, FakePair
from runs import new_sequence, run_all

from foreal_local.config import MODES, Generation, Prompting, Sampling
from foreal_local.digest import settings_hash
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Prompt, Result, Submission

# design.md, "One result, one line"; further keys may stand between them.
KEYS = [
    "id", "index", "prompt", "text", "reasoning", "answer", "finish_reason", "error", "seed", "mode", "n", "p", "k",
    "usage", "sentences", "cost", "seconds", "tokens_per_second",
]  # fmt: skip
OWN = {"cue": ("Wait,", None), **dict.fromkeys(("foreal", "speculative", "auto"), (None, 0))}  # `cue` and `proposals`
COST_KEYS = ["leader", "draft", "flops_total", "flops_generation", "flops_leader_only"]


def record(mode: str = "foreal", **settings: Any) -> tuple[Sequence, dict[str, Any]]:
    sequence = new_sequence(3, mode=mode, **settings)
    run_all(FakePair(truncation="remove").scheduler(), [sequence])
    return sequence, Result.of(Submission(Prompt("Why?"), "a1b2", 512), sequence, SHAPES).as_dict()


@pytest.mark.parametrize("mode", list(MODES))
def test_the_record_is_as_documented(mode: str) -> None:
    """Guards a key that is renamed or lost, and values that JSON does not know."""
    sequence, values = record(mode)
    assert [key for key in values if key in KEYS] == KEYS
    assert [key for key in values["cost"] if key in COST_KEYS] == COST_KEYS
    given = ["given_tokens"] if any(token.inserted for token in sequence.tokens) else []
    assert list(values["usage"]) == ["prompt_tokens", "completion_tokens", "leader_tokens", "draft_tokens", *given]
    assert bool(given) == (mode == "cue")
    assert (values.get("cue"), values.get("proposals")) == OWN.get(mode, (None, None))
    assert list(values["sentences"]) == ["total", "led", "handoffs"]
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("mode", list(MODES))
def test_the_numbers_agree_with_the_response(mode: str) -> None:
    sequence, values = record(mode)
    usage = values["usage"]
    assert usage["prompt_tokens"] == next(iter(sequence.views.values())).n_prompt
    authors = [None if token.inserted else token.author for token in sequence.tokens]
    assert usage["completion_tokens"] == len(authors)
    assert (usage["leader_tokens"], usage["draft_tokens"]) == (authors.count(LEADER), authors.count(DRAFT))
    assert usage.get("given_tokens", 0) == authors.count(None)
    assert values["sentences"]["total"] == len({token.sentence for token in sequence.tokens})
    assert values["sentences"]["led"] == len({t.sentence for t in sequence.tokens if t.led})
    assert values["text"] == values["answer"] == sequence.text
    assert (values["mode"], values["finish_reason"]) == (str(mode), str(sequence.finish_reason))
    cost = values["cost"]
    assert cost["flops_total"] == cost["leader"]["flops"] + cost["draft"]["flops"]
    assert cost["leader"]["decode_tokens"] == sequence.cost[LEADER].decode_tokens
    assert (values["seed"], values["n"], values["p"], values["k"]) == (1, 4, 0.6, 2)


def test_a_prompt_that_never_ran_has_a_record_too() -> None:
    """Guards a failed prompt that takes the whole output down: no views, no tokens, no seconds."""
    sequence = Sequence("x", 7, Generation(seed=5), {})
    sequence.finish(FinishReason.ERROR, "the template refuses this")
    values = Result.of(Submission(Prompt([{"role": "user", "content": "Hi"}]), "a1b2", 512), sequence, SHAPES).as_dict()
    assert (values["finish_reason"], values["error"]) == ("error", "the template refuses this")
    assert values["messages"] == [{"role": "user", "content": "Hi"}]
    assert "prompt" not in values
    assert values["usage"]["completion_tokens"] == values["cost"]["flops_total"] == 0
    assert values["tokens_per_second"] == 0
    assert (values["settings_hash"], values["ctx_size"]) == ("a1b2", 512)
    json.dumps(values)


def test_a_sentence_without_a_token_is_none() -> None:
    """Guards a sentence that is counted though the context was full before its first token."""
    for n_ctx in range(20, 60):
        sequence = new_sequence(6, max_tokens=None)
        run_all(FakePair(n_ctx=n_ctx, truncation="remove").scheduler(), [sequence])
        assert sequence.n_sentences == len({token.sentence for token in sequence.tokens})


def test_a_settings_hash_hangs_on_its_settings_alone() -> None:
    """Guards hashes that another call of the same process changes: a resumed run would not find its records."""

    def hash_of(**values: Any) -> str:
        return settings_hash("p", Generation(seed=1, **values), Prompting(), {LEADER: "l", DRAFT: "d"})

    whole = hash_of(sampling=Sampling(temp=0))
    assert hash_of(sampling=Sampling(temp=0.0)) != whole, "as JSON writes them, whichever was asked for first"
    assert hash_of(stop=["a", "b"]) == hash_of(stop=("a", "b")) != whole
