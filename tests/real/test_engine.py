"""The engine against slow and simple decoders: the method, one model alone, one file in both roles."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from foreal_local.config import Pair
from foreal_local.runtime.llama import Context

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
    sentences,
    settings,
)
from .reference import reference_foreal
from .tiny_gguf import ENDS, plain

PROMPT = " the number is"
SIMPLE_ENDS = tuple(ENDS)
LONG = " let me check the total number, so we add two times ten in it;"


# ---------------------------------------------------------------- the method
def line_of(token: Any) -> tuple[Any, ...]:
    return token.id, token.text, str(token.author), token.sentence, token.led


@pytest.mark.parametrize(
    ("n", "p", "k", "hits_from"),
    [(0, 0.8, 0, "lead"), (2, 0.7, 1, "lead"), (4, 0.6, 3, "lead"), (3, 0.8, 2, "sentence"), (0, 0.0, 2, "lead")],
)
@pytest.mark.parametrize("name", PAIRS)
def test_greedy_foreal_is_what_the_slow_decoder_writes(
    name: str, n: int, p: float, k: int, hits_from: str, make: PairMaker, tmp_path: Path
) -> None:
    """Guards caches, catch-up, batches and handoffs: the slow decoder has no cache, given the same gates."""
    pair = make(name, "plain")
    (result,) = ask(pair, [PROMPT], settings(n=n, p=p, k=k, hits_from=hits_from, boundaries="simple", max_tokens=45))
    prompt = plain().ids_of(" the", " number", " is")
    assert result.sequence.views[LEADER].ids[:3] == prompt
    gates = {token.sentence: token.led for token in result.tokens}
    reference = reference_foreal(
        pair.leader.path,
        pair.draft.path,
        prompt,
        n,
        p,
        k,
        hits_from,
        lambda sentence: gates.get(sentence, False),
        45,
        ends_sentence=lambda piece: any(mark in piece for mark in SIMPLE_ENDS),
    )
    wanted = [tuple(line[key] for key in ("token", "piece", "author", "sentence", "led")) for line in reference[2:-1]]
    assert_same_up_to_near_ties([line_of(token) for token in result.tokens], wanted, result, pair, tmp_path)
    judged = [(i, token) for i, token in enumerate(result.tokens) if token.hit is not None]
    if ids(result) == [line["token"] for line in reference[2:-1]]:
        assert str(result.finish_reason) == reference[-1]["finish_reason"]
        flags = [(reference[2 + i]["hit"], reference[2 + i]["hits"]) for i, _ in judged]
        assert_same_up_to_near_ties([(t.hit, t.hits) for _, t in judged], flags, result, pair, tmp_path)
    if p >= 0.7:
        assert result.sequence.n_handoffs or "+" in name
        assert bool(judged) == (k > 0), "this test has hits to get wrong"


# ---------------------------------------------------------------- one file in both roles
@pytest.mark.parametrize(("n", "k"), [(3, 2), (2, 0), (0, 3)])
@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_a_leader_that_is_its_own_draft_hands_over_as_early_as_possible(
    kind: str, n: int, k: int, make: PairMaker, tmp_path: Path
) -> None:
    """Guards a hit judged at the wrong position, and a handoff that is one token off: here all are hits."""
    path = make(kind).leader.path
    pair = pair_of(path, path)
    with open_engine(pair) as engine:
        assert engine.loaded._weights[LEADER] is engine.loaded._weights[DRAFT], "the same file is loaded twice"
        (both,) = engine.generate([PROMPT], settings(n=n, p=1.0, k=k, boundaries="simple", max_tokens=150), RAW)
        (alone,) = engine.generate([PROMPT], settings("leader", boundaries="simple", max_tokens=150), RAW)
    assert_same_up_to_near_ties(ids(both), ids(alone), both, pair, tmp_path)
    hits = [token.hit for token in both.tokens if token.hit is not None]
    assert_same_up_to_near_ties(hits, [True] * len(hits), both, pair, tmp_path)
    n_led = n + k if k else n + 1
    long = [sentence for sentence in sentences(both) if len(sentence) > n_led]
    assert len(long) >= 3
    for sentence in long:
        if all(token.hit is not False for token in sentence):
            assert [token.author for token in sentence].index(DRAFT) == n_led


def test_one_file_in_both_roles_takes_the_same_decisions_as_two_copies(make: PairMaker, tmp_path: Path) -> None:
    """Guards weights that are shared together with something that must not be: a cache, a batch, an answer."""
    path = make("lfm2").leader.path
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    one, two = (ask(pair_of(path, draft), [PROMPT], settings(max_tokens=80))[0] for draft in (path, copy))
    assert [line_of(token) for token in one.tokens] == [line_of(token) for token in two.tokens]


# ---------------------------------------------------------------- one model alone
@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Of 1, 3, 34, 130 and 300 tokens or so."""
    return [" wait", PROMPT, LONG * 2, LONG * 8, LONG * 18]


@pytest.mark.parametrize(("kind", "vocabulary"), [("llama", "plain"), ("lfm2", "plain"), ("llama", "r1_like")])
def test_greedy_leader_alone_writes_what_the_library_writes(
    kind: str, vocabulary: str, prompts: list[str], make: PairMaker, tmp_path: Path
) -> None:
    """Guards prompts (the BOS token too), positions and chunks, against llama-cpp-python's own decoding."""
    pair = make(kind, vocabulary)
    with closing(llama_cpp.Llama(str(pair.leader.path), n_ctx=1024, n_threads=1, verbose=False)) as llama:
        wanted = []
        for prompt in prompts:
            tokens = llama.tokenize(prompt.encode(), add_bos=True, special=True)
            wanted.append((tokens, written_by(llama, tokens, 200)))
    results = ask(pair, prompts, settings("leader", max_tokens=200), ctx_size=1024, flash_attention="off")
    assert {result.finish_reason.value for result in results} <= {"stop", "length"}
    for result, (tokens, response) in zip(results, wanted, strict=True):
        assert result.sequence.views[LEADER].ids[: len(tokens)] == tokens
        assert_same_up_to_near_ties(
            ids(result), response, result, pair_of(pair.leader.path, pair.leader.path), tmp_path
        )


def written_by(llama: llama_cpp.Llama, prompt: list[int], max_tokens: int) -> list[int]:
    """llama-cpp-python's greedy response, its end-of-generation token included."""
    response: list[int] = []
    llama.reset()
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0, top_k=0, top_p=1.0, min_p=0.0):
        response.append(token)
        if llama_cpp.llama_vocab_is_eog(llama._model.vocab, token) or len(response) == max_tokens:
            break
    return response


def test_draft_alone_is_the_draft_and_evaluates_nothing_else(make: PairMaker) -> None:
    """Guards mode draft that runs the leader's file, or charges the leader."""
    pair = make("llama")
    swapped = Pair(pair.draft, pair.leader)
    (draft,) = ask(pair, [PROMPT], settings("draft"))
    (leader,) = ask(swapped, [PROMPT], settings("leader"))
    assert ids(draft) == ids(leader)
    assert ids(draft) != ids(ask(pair, [PROMPT], settings("leader"))[0])
    assert (draft.cost[LEADER].tokens, draft.cost[DRAFT].tokens) == (0, 3 + 60 - 1)


# ---------------------------------------------------------------- memories that only go forward
@pytest.mark.parametrize("method", [{"k": 0}, {}, {"hits_from": "sentence", "n": 2}, {"compare": "sampled", "k": 1}])
@pytest.mark.parametrize("kind", ["lfm2", "mamba"])
def test_plain_generation_takes_no_token_back(
    kind: str, method: dict[str, Any], make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards recurrent models, where every token taken back costs the whole prefix again."""

    def refuse(context: Context, slot: int, n_tokens: int) -> int:
        raise AssertionError(f"slot {slot} taken back from {context.cached(slot)} to {n_tokens} tokens")

    monkeypatch.setattr(Context, "truncate", refuse)
    pair = make(kind)
    for temp in (0.0, 1.0):
        results = ask(pair, [PROMPT, " wait", " so"], settings(max_tokens=80, temp=temp, **method), n_slots=2)
        assert [result.error for result in results] == [None] * 3
        for result in results:
            for role in (LEADER, DRAFT):
                assert result.cost[role].tokens <= len(result.sequence.views[role].ids)


# ---------------------------------------------------------------- many at a time
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("name", ["llama", "moe", "gemma3", "lfm2", "mamba", "lfm2+llama"])
def test_eight_at_a_time_are_what_one_at_a_time_are(name: str, lanes: int, make: PairMaker, tmp_path: Path) -> None:
    """Guards rows, slots and logits that are mixed up between sequences of a batch."""
    pair = make(name, "plain")
    prompts = [
        word + LONG[: 7 * i]
        for i, word in enumerate([" the", " wait", " so", " half", " now", " add", " total", " ten", " in"])
    ]
    alone = ask(pair, prompts, settings(max_tokens=50))
    batched = ask(pair, prompts, settings(max_tokens=50), n_slots=8, lanes=lanes)
    assert len({tuple(ids(result)) for result in alone}) > 5
    for one, other in zip(alone, batched, strict=True):
        wanted = [(*line_of(token), token.hit) for token in one.tokens]
        got = [(*line_of(token), token.hit) for token in other.tokens]
        assert_same_up_to_near_ties(got, wanted, other, pair, tmp_path)
