"""Speculative decoding on real files: the leader's own text, on every kind of memory, at a price that is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import ROOT

from foreal_local.chat.conversation import Conversation
from foreal_local.config import Pair
from foreal_local.results import Result

from .engines import (
    DRAFT,
    LEADER,
    PAIRS,
    RAW,
    PairMaker,
    ask,
    assert_same_up_to_near_ties,
    ids,
    open_engine,
    pair_of,
    settings,
)
from .models import TinyModels
from .test_conversation import QUESTIONS, stop_after, thinking_pair
from .test_conversation import ask as ask_in_turn

BUNDLED = pair_of(ROOT / "models" / "tiny-leader.gguf", ROOT / "models" / "tiny-draft.gguf")
PROMPTS = (" the number is", " wait", " so half of ten, we check the total", " now add", " two" * 9)
N_PROPOSALS = 4


def speculative(**options: Any) -> Any:
    return settings("speculative", **{"proposals": N_PROPOSALS, **options})


def told(result: Result) -> tuple[Any, ...]:
    sequence = result.sequence
    places = [(token.text, token.sentence, token.led) for token in result.tokens]
    return result.text, result.finish_reason, result.error, places, sequence.n_sentences, sequence.n_written(DRAFT)


def assert_the_leaders(found: list[Result], leaders: list[Result], pair: Pair, folder: Path) -> None:
    """Greedy answers are the leader's up to near ties; the same tokens have the same sentences and end."""
    for result, leader in zip(found, leaders, strict=True):
        assert_same_up_to_near_ties(ids(result), ids(leader), leader, pair, folder)
        assert ids(result) != ids(leader) or told(result) == told(leader)


# ---------------------------------------------------------------- the text
@pytest.mark.parametrize("n_slots", [1, 4])
@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_the_bundled_pair_writes_what_its_leader_writes(temp: float, n_slots: int, tmp_path: Path) -> None:
    """Guards a random number too many, a peeked end that is lost, and logits of another place or another sequence.

    Sampled, another rounding may turn one of hundreds of draws; anything else turns most answers.
    """
    prompts = (ROOT / "models" / "demo.txt").read_text("utf-8").splitlines()[:12]
    with open_engine(BUNDLED, n_slots=n_slots) as engine:
        leaders = engine.generate(prompts, settings("leader", temp=temp, max_tokens=60))
        found = engine.generate(prompts, speculative(temp=temp, max_tokens=60))
    if temp == 0.0:
        assert_the_leaders(found, leaders, BUNDLED, tmp_path)
    assert sum(told(result) == told(leader) for result, leader in zip(found, leaders, strict=True)) >= 11
    n_tokens, n_calls = sum(len(r.tokens) for r in found), sum(r.cost[LEADER].calls for r in found)
    assert n_calls < n_tokens / 2, "the draft agrees often enough to spare the leader most calls"


@pytest.mark.parametrize("n_slots", [1, 4])
@pytest.mark.parametrize("name", [*PAIRS, "r1 leads", "qwen leads"])
def test_every_kind_of_memory_takes_proposals_back(
    name: str, n_slots: int, make: PairMaker, tiny: TinyModels, tmp_path: Path
) -> None:
    """Guards proposals that stay in a state or a window, and special tokens that are several for the other."""
    if name in PAIRS:
        pair = make(name)
    else:
        r1, qwen = tiny.model("llama", "r1_closing"), tiny.model("llama", "qwen_like", seed=5)
        pair = pair_of(r1, qwen) if name == "r1 leads" else pair_of(qwen, r1)
    leaders = ask(pair, PROMPTS, settings("leader"), n_slots)
    found = ask(pair, PROMPTS, speculative(), n_slots)
    assert_the_leaders(found, leaders, pair, tmp_path)
    proposed = sum(result.cost[LEADER].tokens for result in found) - sum(r.cost[LEADER].tokens for r in leaders)
    assert proposed > len(PROMPTS) * 10, "nothing was taken back: this test says nothing"


@pytest.mark.parametrize("n_slots", [1, 4])
@pytest.mark.parametrize("name", [*PAIRS])
def test_every_kind_of_memory_takes_refused_tokens_back(
    name: str, n_slots: int, make: PairMaker, tmp_path: Path
) -> None:
    """Guards refused tokens that stay in a state or a window, of either model."""
    pair, review = make(name), {"gate": "never", "review": "exact", "proposals": 3}
    leaders = ask(pair, PROMPTS, settings("leader"), n_slots)
    found = ask(pair, PROMPTS, settings("foreal", **review), n_slots)
    for result, leader in zip(found, leaders, strict=True):
        assert_same_up_to_near_ties(ids(result), ids(leader), leader, pair, tmp_path)
    assert sum(result.sequence.n_rewritten for result in found) > 5


@pytest.mark.parametrize("name", [*PAIRS])
def test_proposals_in_led_parts_change_nothing_that_is_written(name: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards logits of another place, and hits that the proposals show differently from a check."""
    pair, method = make(name), {"n": 3, "p": 0.8, "k": 1}
    plain = ask(pair, PROMPTS, settings("foreal", **method))
    found = ask(pair, PROMPTS, settings("foreal", **method, proposals=N_PROPOSALS))
    same = [ids(one) == ids(other) for one, other in zip(found, plain, strict=True)]
    assert sum(same) >= len(PROMPTS) - 1, "more than a near tie"
    for one, other, equal in zip(found, plain, same, strict=True):
        if equal:
            assert [(t.author, t.hit, t.hits) for t in one.tokens] == [(t.author, t.hit, t.hits) for t in other.tokens]


@pytest.mark.parametrize("kind", ["llama", "mamba", "gemma3", "lfm2+llama"])
def test_a_conversation_goes_on_from_what_was_verified(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards proposals that a later turn finds in a cache: after whole answers and after stopped ones."""
    pair = thinking_pair(make, kind)
    results: list[list[Result]] = []
    for generation in (settings("leader", max_tokens=25), speculative(max_tokens=25)):
        with open_engine(pair, ctx_size=1024) as engine:
            conversation, answers = Conversation(engine, generation), []
            for question in QUESTIONS[:4]:
                if generation.mode == "speculative":
                    stop_after(3, conversation.ask("hmm"))
                    conversation.undo()
                answers.append(ask_in_turn(conversation, question))
                if results and answers[-1].text != results[0][len(answers) - 1].text:
                    break  # a near tie: other messages follow
            results.append(answers)
    leaders, found = results
    assert_the_leaders(found, leaders[: len(found)], pair, tmp_path)
    assert len(found) > 1


# ---------------------------------------------------------------- what it costs
@pytest.mark.parametrize("name", ["llama", "moe"])
def test_nothing_but_what_was_proposed_in_vain_is_evaluated_again(name: str, make: PairMaker) -> None:
    """Guards a cache that is given up where its end could be removed: at most N_PROPOSALS more for each call."""
    for result in ask(make(name), PROMPTS, speculative()):
        leader, draft = result.cost[LEADER], result.cost[DRAFT]
        n_stream = result.sequence.views[LEADER].n_prompt + len(result.tokens)
        assert leader.tokens + draft.tokens > n_stream
        assert leader.tokens <= n_stream + leader.calls * N_PROPOSALS
        assert draft.tokens <= n_stream + leader.calls * N_PROPOSALS


@pytest.mark.parametrize(("name", "role"), [("lfm2+llama", LEADER), ("llama+mamba", DRAFT)], ids=str)
def test_a_state_goes_back_to_a_mark_that_is_near(name: str, role: Any, make: PairMaker) -> None:
    """Guards a recurrent model that evaluates its prompt, or the whole response, again after each wrong proposal."""
    for result in ask(make(name), PROMPTS, speculative()):
        n_stream = result.sequence.views[role].n_prompt + len(result.tokens)
        n_rounds = result.cost[LEADER].calls
        assert result.cost[role].tokens <= n_stream + 2 * n_rounds * (N_PROPOSALS + 1)


def test_a_later_turns_flops_are_its_own(make: PairMaker) -> None:
    """Guards FLOPs of generation below what the leader needs to write that alone, and below zero."""
    with open_engine(thinking_pair(make, "llama"), ctx_size=1024) as engine:
        conversation = Conversation(engine, speculative(max_tokens=25))
        for question in QUESTIONS[:5]:
            flops = ask_in_turn(conversation, question).flops
            assert flops.leader_only_generation <= flops.generation <= flops.total


def test_raw_prompts_of_one_token_are_proposed_after_too(make: PairMaker, tmp_path: Path) -> None:
    """Guards a mark or a row at the very first place, where nothing is cached."""
    for name in ("llama", "mamba"):
        pair = make(name)
        with open_engine(pair) as engine:
            leaders = engine.generate([" two", " wait"], settings("leader", max_tokens=20), RAW)
            found = engine.generate([" two", " wait"], speculative(max_tokens=20), RAW)
        assert_the_leaders(found, leaders, pair, tmp_path)


@pytest.mark.parametrize("rollback", [1, 4])
def test_a_recurrent_memory_that_is_rewound_has_the_right_state(rollback: int, make: PairMaker, tmp_path: Path) -> None:
    """Guards a rewind by more tokens than the last evaluation had: llama.cpp says it did it, with a stale state."""
    pair, review = make("lfm2"), {"gate": "never", "review": "exact", "proposals": 3}
    leaders = ask(pair, PROMPTS, settings("leader"))
    with open_engine(pair, rollback=rollback) as engine:
        found = engine.generate(PROMPTS, settings("foreal", **review), RAW)  # type: ignore[arg-type]
    for result, leader in zip(found, leaders, strict=True):
        assert_same_up_to_near_ties(ids(result), ids(leader), leader, pair, tmp_path)


def test_a_small_batch_leaves_room_for_a_rewind(make: PairMaker) -> None:
    """Guards a batch no larger than the rollback, which ends the process."""
    with open_engine(make("lfm2"), rollback=8, batch_size=8) as engine:
        (result,) = engine.generate(PROMPTS[:1], settings("speculative", proposals=3, max_tokens=12), RAW)
    assert len(result.tokens) == 12
