"""Where a response ends, what its seed decides, and what is left of an engine afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreal_local.config import MODES, Generation, ModelSettings, Pair, Prompting, Sampling
from foreal_local.engine import Engine
from foreal_local.errors import EvaluationError, ForealError
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Chunk, Prompt, Result
from foreal_local.runtime.llama import Context

from .engines import DRAFT, GPU, LEADER, RAW, PairMaker, ask, ids, open_engine, settings

N_CTX = 64
PROMPT = " the number is"


@pytest.fixture(scope="module")
def pair(make: PairMaker) -> Pair:
    """Its answers do not end by themselves."""
    return make("llama")


@pytest.fixture(scope="module")
def engine(pair: Pair) -> Iterator[Engine]:
    with open_engine(pair, ctx_size=N_CTX, n_slots=2) as engine:
        yield engine


def is_free(engine: Engine) -> bool:
    """Whether no slot of either model holds a token."""
    contexts = engine.loaded.lanes[0].values()
    return all(context.cached(slot) == 0 for context in contexts for slot in range(context.n_slots))


# ---------------------------------------------------------------- the context
@pytest.mark.parametrize("n_prompt", [1, 40, N_CTX - 1, N_CTX])
@pytest.mark.parametrize("mode", list(MODES))
def test_a_full_context_ends_the_response_at_its_last_place(engine: Engine, mode: str, n_prompt: int) -> None:
    """Guards off by one: N_CTX tokens are evaluated, and the one token that they give is the last."""
    prompts = [" two" * n_prompt, " two" * (n_prompt // 2 + 1)]
    for result in engine.generate(prompts, settings(mode, max_tokens=None), RAW):
        assert (result.finish_reason, result.error) == (FinishReason.CONTEXT, None)
        n = result.as_dict()["usage"]["prompt_tokens"]
        assert n == (n_prompt, n_prompt // 2 + 1)[result.index]
        # Where a cue comes last, all of it is there.
        n_over = len(result.tokens) - (N_CTX + 1 - n)
        assert 0 <= n_over <= result.sequence.n_inserted if mode == "cue" else n_over == 0
    assert is_free(engine)


def test_each_sequence_has_the_whole_context_size(make: PairMaker) -> None:
    """Guards a context size that is divided among the parallel sequences, and one neighbour that fills it."""
    with open_engine(make("gemma3"), ctx_size=N_CTX, n_slots=4) as engine:
        results = engine.generate([" two" * 3] * 6, settings(max_tokens=None), RAW)
    assert [(r.finish_reason, len(r.tokens)) for r in results] == [(FinishReason.CONTEXT, N_CTX + 1 - 3)] * 6


def test_a_prompt_longer_than_the_context_fails_alone(engine: Engine) -> None:
    """Guards a run that ends with one impossible prompt, and a slot that is lost with it."""
    _, wanted = engine.generate([" two", PROMPT], settings(), RAW)
    prompts = [" two" * (N_CTX + 1), PROMPT, " two" * 500, ""]
    long, fine, longer, empty = engine.generate(prompts, settings(), RAW)
    assert [r.finish_reason for r in (long, longer, empty)] == [FinishReason.ERROR] * 3
    assert str(N_CTX + 1) in (long.error or "")
    assert "--ctx-size" in (longer.error or "")
    assert "empty" in (empty.error or "")
    assert (long.text, long.tokens, long.cost[LEADER].tokens) == ("", [], 0)
    assert ids(fine) == ids(wanted)
    assert is_free(engine)


def test_an_empty_prompt_is_a_message_like_others_with_a_template(engine: Engine) -> None:
    """Guards a check for empty texts before the template has been asked."""
    (result,) = engine.generate([""], settings(max_tokens=5))
    assert (result.finish_reason, result.error, len(result.tokens)) == (FinishReason.LENGTH, None, 5)


def test_messages_need_a_template(engine: Engine) -> None:
    """Guards messages that --raw would silently join, and a role that is missing in an error."""
    messages = [{"role": "user", "content": "two"}]
    refused, fine = engine.generate([Prompt(messages), Prompt("two")], settings(max_tokens=3), RAW)
    assert refused.finish_reason is FinishReason.ERROR
    assert "--raw" in (refused.error or "")
    assert fine.finish_reason is FinishReason.LENGTH


def test_a_system_message_comes_first_and_only_where_there_is_none(engine: Engine) -> None:
    """Guards a system text that is dropped, or put before a conversation that has its own."""
    own = [{"role": "system", "content": "ten"}, {"role": "user", "content": "two"}]
    given = engine.encode("two", Prompting(system="ten"))
    assert given == engine.encode(own, Prompting()) == engine.encode(own, Prompting(system="one"))
    assert given != engine.encode("two", Prompting())


# ---------------------------------------------------------------- max_tokens and stop strings
@pytest.mark.parametrize("n", [1, 2, 7])
def test_max_tokens_is_exact_and_a_prefix_of_more(engine: Engine, n: int) -> None:
    """Guards off by one, and a response that depends on how long it may get."""
    (long,) = engine.generate([PROMPT], settings(max_tokens=20), RAW)
    (short,) = engine.generate([PROMPT], settings(max_tokens=n), RAW)
    assert short.finish_reason is FinishReason.LENGTH
    assert ids(short) == ids(long)[:n]


def test_a_stop_string_across_tokens_is_cut_off_and_never_shown(engine: Engine) -> None:
    """Guards a stop string that only a whole token can be, and text that is shown before it is taken back."""
    (free,) = engine.generate([PROMPT], settings(max_tokens=40), RAW)
    assert len(free.text) > 60
    for at in range(5, 45, 4):
        stop = free.text[at : at + 6]
        items = list(engine.stream(PROMPT, settings(max_tokens=40, stop=("never this", stop)), RAW))
        result = items[-1]
        assert isinstance(result, Result)
        assert result.finish_reason is FinishReason.STOP
        assert result.text == free.text[: free.text.index(stop)]
        shown = [token.text for item in items[:-1] if isinstance(item, Chunk) for token in item.tokens]
        assert "".join(shown) == result.text
    assert is_free(engine)


def test_what_is_streamed_is_what_is_returned(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards tokens that are shown twice, not at all, or only when all is over."""
    monkeypatch.setattr("foreal_local.offline._REPORT_EVERY", 0.0)  # the whole answer takes less than that
    *written, result = engine.stream(PROMPT, settings(temp=1.0, seed=3), RAW)
    assert len(written) > 20
    monkeypatch.undo()
    assert "".join(token.text for item in written for token in item.tokens) == result.text
    assert ids(result) == ids(engine.generate([PROMPT], settings(temp=1.0, seed=3), RAW)[0])


# ---------------------------------------------------------------- seeds
def sampled(engine: Engine, seed: int | None, **options: float) -> Result:
    generation = Generation(sampling=Sampling(temp=1.0, **options), seed=seed, max_tokens=30)
    return engine.generate([PROMPT], generation, RAW)[0]


def test_a_seed_is_reproducible_and_0_is_a_seed(engine: Engine) -> None:
    """Guards seed 0 that is taken for "none", and draws that depend on what the engine did before."""
    zero, one = sampled(engine, 0), sampled(engine, 1)
    assert ids(zero) != ids(one)
    assert (zero.as_dict()["seed"], one.as_dict()["seed"]) == (0, 1)
    assert ids(zero) == ids(sampled(engine, 0))
    assert ids(one) == ids(sampled(engine, 1))


def test_a_drawn_seed_is_reported_and_gives_the_same_answer_again(engine: Engine) -> None:
    """Guards answers that nobody can have again."""
    first, second = sampled(engine, None), sampled(engine, None)
    assert first.as_dict()["seed"] != second.as_dict()["seed"]
    assert ids(sampled(engine, first.as_dict()["seed"])) == ids(first)


def test_filters_that_leave_one_token_are_greedy(engine: Engine) -> None:
    """Guards top-k, top-p and min-p that are not handed on to the sampling."""
    (greedy,) = engine.generate([PROMPT], settings(n=15, k=5, max_tokens=30, seed=4), RAW)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert ids(sampled(engine, 4, **options)) == ids(greedy), options


def test_neighbours_do_not_change_a_draw(pair: Pair) -> None:
    """Guards one random generator for all: the same index and seed draw the same, whatever runs beside it."""
    prompts = [PROMPT, " wait", " so", " half", " now"]
    cache = {"kv_type_k": "f16", "kv_type_v": "f16"}  # by itself a single sequence of small heads has f32
    alone = ask(pair, prompts, settings(temp=0.9), **cache)
    batched = ask(pair, prompts, settings(temp=0.9), n_slots=4, **cache)
    assert sum(ids(a) == ids(b) for a, b in zip(alone, batched, strict=True)) >= (1 if GPU else 4), (
        "more than rounding differs"
    )
    assert [t.led for t in alone[0].tokens] == [t.led for t in batched[0].tokens]


# ---------------------------------------------------------------- closing
def test_stopping_early_frees_the_slots_and_the_engine_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards slots that an abandoned iteration keeps."""
    monkeypatch.setattr("foreal_local.offline._REPORT_EVERY", 0.0)  # the whole answer takes less than that
    (wanted,) = engine.generate([PROMPT], settings(), RAW)
    stream = engine.run([Prompt(PROMPT)] * 5, settings(), RAW)
    for _ in range(4):
        next(stream)
    assert not is_free(engine)
    stream.close()
    assert is_free(engine)
    assert ids(engine.generate([PROMPT], settings(), RAW)[0]) == ids(wanted)


def test_an_exception_in_a_run_leaves_an_engine_that_works(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards state of a broken run that the next one meets."""
    (wanted,) = engine.generate([PROMPT], settings(), RAW)
    calls = 0

    def fail(*_: object) -> int:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise EvaluationError("made up")
        return decode(*_)

    decode = Context._decode
    monkeypatch.setattr(Context, "_decode", fail)
    with pytest.raises(EvaluationError, match="made up"):
        engine.generate([PROMPT] * 3, settings(), RAW)
    monkeypatch.undo()
    assert is_free(engine)
    assert ids(engine.generate([PROMPT], settings(), RAW)[0]) == ids(wanted)


def test_closing_twice_and_after_an_exception(pair: Pair, tmp_path: Path) -> None:
    """Guards a double free of what llama.cpp holds, also of weights that both roles share."""
    for draft in (pair.draft, pair.leader):
        engine = open_engine(Pair(pair.leader, draft))
        engine.close()
        engine.close()
    with contextlib.suppress(ZeroDivisionError), open_engine(pair) as engine:
        next(engine.stream(PROMPT, settings(), RAW))
        raise ZeroDivisionError
    engine.close()
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(pair.draft.path.read_bytes()[:-5000])
    with pytest.raises(ForealError, match=r"torn\.gguf"):
        open_engine(Pair(pair.leader, ModelSettings(torn)))


def test_roles_that_are_not_loaded_are_named(pair: Pair) -> None:
    """Guards a KeyError where one prompt's mode needs a model that this run did not load."""
    with Engine(pair, roles=[DRAFT]) as engine:
        refused, fine = engine.generate(
            [Prompt(PROMPT, settings=settings("leader")), Prompt(PROMPT)], settings("draft", max_tokens=3), RAW
        )
    assert "leader" in (refused.error or "")
    assert len(fine.tokens) == 3


def test_more_threads_than_processors_are_warned_of(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a run that is slow without a word: threads that wait for each other spin."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for threads, n_warnings in ((2, 0), (3, 1)):
        with open_engine(pair, threads=threads) as engine:
            found = [line for line in engine.warnings if "--threads" in line]
        assert len(found) == n_warnings
