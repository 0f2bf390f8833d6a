"""Small models in lanes: what each writes alone, at the same time."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from foreal_local.engine import Engine
from foreal_local.errors import UsageError
from foreal_local.results import Prompt, Result
from foreal_local.runtime.llama import Context

from .engines import GPU, LEADER, RAW, PairMaker, ids, open_engine, settings

PROMPTS = [" wait", " the number is", " so half of ten", " now", " add two", "", " then", " three"]


@pytest.mark.skipif(GPU, reason="one context feeds a GPU")
def test_lanes_write_what_one_sequence_alone_writes(make: PairMaker) -> None:
    """Guards lanes that share a cache, a random state or a seed, and costs that are not counted in all of them."""
    pair = make("llama")
    generation = settings(max_tokens=50, temp=0.7)
    with open_engine(pair) as engine:
        alone = engine.generate(PROMPTS, generation, RAW)
        cost = {role: (c.tokens, c.calls) for role, c in engine.cost.items()}
    with open_engine(pair, n_slots=3, threads=3, lanes=None) as engine:
        assert [lane[LEADER].n_slots for lane in engine.loaded.lanes] == [1, 1, 1]
        assert all(lane[LEADER] is not engine.loaded.lanes[0][LEADER] for lane in engine.loaded.lanes[1:])
        together = engine.generate(PROMPTS, generation, RAW)
        assert {role: (c.tokens, c.calls) for role, c in engine.cost.items()} == cost
    assert [ids(result) for result in together] == [ids(result) for result in alone]
    assert [result.error for result in together] == [result.error for result in alone]
    assert [result.index for result in together] == list(range(len(PROMPTS)))


@pytest.mark.parametrize(
    ("n_slots", "lanes", "shared", "most"),
    [(257, 1, False, 256), (256, 1, True, 255), (900, 3, False, 768), (900, 3, True, 765), (600, None, False, 512)],
)
@pytest.mark.skipif(GPU, reason="one context feeds a GPU")
def test_more_slots_than_contexts_take_are_refused_before_loading(
    n_slots: int, lanes: int | None, shared: bool, most: int, make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards minutes of loading that end in llama.cpp's words, and a limit that forgets that lanes divide the slots."""
    options = {"ctx_size": 8, "lanes": lanes, "threads": 2, "shared_prefix": shared}
    with monkeypatch.context() as patch:
        patch.setattr("foreal_local.runtime.llama.Weights", None)
        with pytest.raises(UsageError, match=f"^{n_slots} prompts .* --parallel may be {most} at most$"):
            open_engine(make("llama"), n_slots=n_slots, **options)
    open_engine(make("llama"), n_slots=most, **options).close()


def test_a_slot_for_filling_up_takes_none_of_the_prompts(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards 256 prompts at a time that large models cannot have, because one more slot would only save time."""
    monkeypatch.setattr("foreal_local.runtime.llama.weights._FEWEST_BYTES_PADDED", 0)
    for n_slots, is_padded in ((255, True), (256, False)):
        with open_engine(make("llama"), ctx_size=8, n_slots=n_slots) as engine:
            assert engine.loaded.lanes[0][LEADER]._plan.has_padding_slot == is_padded


@pytest.mark.parametrize(
    ("n_slots", "lanes", "found"),
    [
        (8, 2, [4, 4]),
        (8, None, [3, 3, 2]),
        (16, None, [6, 5, 5]),
        (3, 2, [2, 1]),
        (1, 4, [1]),
        (2, None, [1, 1]),
        (4, 1, [4]),
    ],
)
def test_lanes_share_the_slots(n_slots: int, lanes: int | None, found: list[int], make: PairMaker) -> None:
    """Guards more or fewer sequences than were asked for, and lanes without a slot."""
    with open_engine(make("llama"), n_slots=n_slots, lanes=lanes, threads=3) as engine:
        assert [lane[LEADER].n_slots for lane in engine.loaded.lanes] == ([n_slots] if GPU and lanes is None else found)
        assert engine.n_slots == n_slots
        results = engine.generate(PROMPTS, settings("leader", max_tokens=5), RAW)
    assert len(results) == len(PROMPTS)


def test_leaving_early_frees_every_lane(make: PairMaker) -> None:
    """Guards a slot that stays taken in a lane whose results nobody waits for."""
    with open_engine(make("llama"), n_slots=2, threads=2, lanes=None) as engine:
        wanted = [ids(result) for result in engine.generate(PROMPTS, settings(), RAW)]
        stream = engine.run((Prompt(text) for text in PROMPTS), settings(), RAW)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert all(context.cached(0) == 0 for lane in engine.loaded.lanes for context in lane.values())
        assert [ids(result) for result in engine.generate(PROMPTS, settings(), RAW)] == wanted
    assert not [thread for thread in threading.enumerate() if thread.name == "lane"]


@pytest.mark.skipif(GPU, reason="one context feeds a GPU")
def test_a_lane_that_is_done_leaves_its_threads(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards cores that stand idle at the end of a run, and a next run that begins with too many threads."""
    used: dict[int, list[int]] = {}
    monkeypatch.setattr(Context, "use_threads", lambda self, n: used.setdefault(id(self), []).append(n))
    with open_engine(make("llama"), n_slots=2, threads=4, lanes=2, ctx_size=4096) as engine:
        for _ in range(2):
            used.clear()
            prompts = [Prompt(" wait", settings=settings(max_tokens=n)) for n in (2, 3000)]
            list(engine.run(prompts, settings(), RAW))
            short, long = (used[id(lane[LEADER])] for lane in engine.loaded.lanes)
            assert short == [2]
            assert long in ([2, 4], [4])  # the short one may be done before the long one begins


@pytest.mark.parametrize("n_slots", [5, 8])
def test_lanes_with_several_slots_are_reproducible(n_slots: int, make: PairMaker) -> None:
    """Guards batches that depend on which lane is faster, prompts that are lost, and slots that stay empty."""
    pair, found = make("llama"), []
    for _ in range(2):
        with open_engine(pair, n_slots=n_slots, threads=2, lanes=None) as engine:
            found.append(engine.generate(PROMPTS * 5, settings(max_tokens=40, temp=0.7), RAW))
            calls = {role: cost.calls for role, cost in engine.cost.items()}
    assert [ids(result) for result in found[0]] == [ids(result) for result in found[1]]
    assert [result.index for result in found[0]] == list(range(40))
    assert all(calls[role] < sum(result.cost[role].calls for result in found[0]) for role in calls), "no batches"


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_ends_all_lanes_and_the_engine_works_afterwards(make: PairMaker) -> None:
    """Guards Ctrl-C that ends one lane, or that is still set when the next run begins."""

    def press() -> None:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    with open_engine(make("llama"), n_slots=2, threads=2, lanes=None, ctx_size=4096) as engine:
        wanted = texts(engine)
        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            engine.generate([" wait"] * 5_000, settings(max_tokens=2000), RAW)
        presser.join()
        assert texts(engine) == wanted


def test_ctrl_c_in_the_code_that_takes_the_results_ends_all_lanes(
    make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards lanes that still run in the background, into the next run's slots, when Ctrl-C comes between two items."""

    class Interrupting(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise KeyboardInterrupt

    with open_engine(make("llama"), n_slots=2, threads=2, lanes=None) as engine:
        wanted = texts(engine)
        with monkeypatch.context() as patched:
            patched.setattr("foreal_local.engine.Result", Interrupting("Result", (), {"of": Result.of}))
            with pytest.raises(KeyboardInterrupt) as held:
                engine.generate([" wait"] * 100_000, settings(max_tokens=200), RAW)
        assert not [thread for thread in threading.enumerate() if thread.name == "lane"], held
        assert texts(engine) == wanted


@pytest.mark.parametrize("lanes", [1, 2])
def test_one_run_at_a_time_and_closing_the_engine_ends_it(lanes: int, make: PairMaker) -> None:
    """Guards two runs in the same slots, and models freed under a run that has not ended."""
    with open_engine(make("llama"), n_slots=2, threads=2, lanes=lanes) as engine:
        wanted = texts(engine)
        prompts = [Prompt(" wait")] * 1000
        first = engine.run(prompts, settings(max_tokens=200), RAW)
        next(first)
        with pytest.raises(UsageError, match="answering already"):
            next(engine.run(prompts, settings(), RAW))
        first.close()
        assert texts(engine) == wanted
        second = engine.run(prompts, settings(max_tokens=200), RAW)
        next(second)
    assert not [thread for thread in threading.enumerate() if thread.name == "lane"]
    assert list(second) == []


def test_a_closed_engine_says_so(make: PairMaker) -> None:
    """Guards a process that llama.cpp ends because a model's vocabulary is asked after the model was freed."""
    with open_engine(make("llama")) as engine:
        pass
    with pytest.raises(UsageError, match="closed"):
        engine.encode(" wait", RAW)
    with pytest.raises(UsageError, match="closed"):
        engine.generate([" wait"], settings(), RAW)


def texts(engine: Engine) -> list[str]:
    results: list[Result] = engine.generate(PROMPTS, settings(), RAW)
    return [result.text for result in results]
