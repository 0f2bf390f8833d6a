"""Coroutines that wait for one engine: many at a time, some that leave, some that see it fail or close."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from foreal_local.engine import Engine
from foreal_local.errors import EvaluationError, UsageError
from foreal_local.lane import Lane
from foreal_local.results import Chunk, Prompt, Result
from foreal_local.runtime.llama import Context
from foreal_local.storage.checkpoints import Checkpoints

from .engines import GPU, LEADER, RAW, PairMaker, assert_same_up_to_near_ties, ids, open_engine, settings
from .tiny_gguf import CHATML

PROMPTS = [" wait", " the number is", " so half of ten", " now", " add two", " then", " three", " let me check"]
ENDLESS = settings(max_tokens=None)
ROOT = Path(__file__).parents[2]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Its result; a test that hangs fails."""
    return asyncio.run(asyncio.wait_for(main, 60))


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


def assert_free(engine: Engine) -> None:
    """Nobody waits, no thread is left, and every slot can be taken."""
    with engine.driver.quiet():
        for lane in engine.lanes:
            lane.scheduler.check()
            assert lane.n_open == 0
            assert len(lane.scheduler.slots.free) == lane.scheduler.slots.n
    assert not engine.loaded.abort.requested
    end = time.monotonic() + 5  # a thread that has left its lane may still have to end
    while threads := [thread.name for thread in threading.enumerate() if thread.name.startswith("lane")]:
        assert time.monotonic() < end, threads


# ---------------------------------------------------------------- answers
@pytest.mark.parametrize(("n_slots", "lanes"), [(1, 1), (3, 1), (2, 2), (5, 2)])
@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_many_callers_get_what_each_gets_alone(
    kind: str, n_slots: int, lanes: int, make: PairMaker, tmp_path: Path
) -> None:
    """Guards answers that reach another caller, and sequences that are mixed up while others come and go."""
    pair, generation = make(kind), settings(max_tokens=40)
    with open_engine(pair) as engine:
        alone = [engine.generate(prompt, generation, RAW) for prompt in PROMPTS]

    async def late(engine: Engine, i: int) -> Result:
        await asyncio.sleep(0.01 * (i % 3))
        return await engine.agenerate(PROMPTS[i % len(PROMPTS)], generation, RAW)

    async def main(engine: Engine) -> list[Result]:
        return await asyncio.gather(*(late(engine, i) for i in range(3 * len(PROMPTS))))

    with open_engine(pair, n_slots=n_slots, lanes=lanes, threads=lanes) as engine:
        found = run(main(engine))
        assert_free(engine)
    for i, result in enumerate(found):
        wanted = alone[i % len(PROMPTS)]
        assert (result.prompt, result.index, result.error) == (wanted.prompt, 0, None)
        assert_same_up_to_near_ties(ids(result), ids(wanted), result, pair, tmp_path)


def test_answers_have_the_random_numbers_of_generate(make: PairMaker) -> None:
    """Guards a seed that means something else for coroutines, and results in the order in which they were finished."""
    generation = settings(temp=0.7, max_tokens=30)
    prompts: list[Any] = [
        Prompt(text, settings=settings(temp=0.7, max_tokens=n))
        for text, n in zip(PROMPTS, (30, 2, 9, 3, 20, 4, 5, 6), strict=True)
    ]
    with open_engine(make("llama"), n_slots=2, lanes=2, threads=2) as engine:
        wanted = engine.generate(prompts, generation, RAW)
        found = run(engine.agenerate(prompts, generation, RAW))
        assert [ids(result) for result in found] == [ids(result) for result in wanted]
        assert [result.index for result in found] == list(range(len(PROMPTS)))
        assert run(engine.agenerate([])) == []
        assert ids(run(engine.agenerate(PROMPTS[0], generation, RAW))) == ids(wanted[0])
        seeds = {r.sequence.settings.seed for r in run(engine.agenerate([" wait"] * 3, settings(seed=None), RAW))}
        assert len(seeds) == 1


def test_offline_answers_are_those_of_a_run_whoever_came_before(make: PairMaker, tmp_path: Path) -> None:
    """Guards a slot that reuses what it holds of an earlier prompt, and a checkpoint that comes too late."""
    generation, begin = settings(max_tokens=20), " let me check the number" * 12
    prompts = [Prompt(begin + text, str(i), index=i) for i, text in enumerate(PROMPTS[:4])]
    with open_engine(make("llama")) as engine:
        wanted = {item.id: ids(item) for item in engine.run(prompts, generation, RAW) if isinstance(item, Result)}

    async def main(engine: Engine, checkpoints: Checkpoints | None) -> dict[str, list[int]]:
        found = {}
        for prompt in reversed(prompts):
            events = engine.driver.events([prompt], generation, RAW, Result, offline=True, checkpoints=checkpoints)
            found |= {item.id: ids(item) async for item in events if isinstance(item, Result)}
            n_evaluated = engine.cost[LEADER].prefill_tokens + engine.cost[LEADER].decode_tokens
            read.append(n_evaluated)
        return found

    read: list[int] = []
    saved = Checkpoints(tmp_path, every=4)
    with open_engine(make("llama")) as engine:
        assert run(main(engine, saved)) == wanted
        assert all(later - earlier > 40 for earlier, later in pairwise(read))  # each was read whole
        assert len(list(tmp_path.glob("*.session"))) == len(prompts)  # whoever writes the records removes them
        before = engine.cost[LEADER].calls
        assert run(main(engine, saved)) == wanted
        assert engine.cost[LEADER].calls == before  # all was there
        assert_free(engine)


def test_a_stream_has_all_tokens_and_then_the_result(make: PairMaker) -> None:
    """Guards a last token that is lost or comes after the result."""

    async def main(engine: Engine) -> list[Chunk | Result]:
        return [event async for event in engine.astream(" wait", settings(max_tokens=30), RAW)]

    with open_engine(make("llama")) as engine:
        *chunks, result = run(main(engine))
        assert isinstance(result, Result)
        assert "".join(chunk.text for chunk in chunks) == result.text
        assert chunks  # how many hangs on how often it was looked: those that wait are one
        assert ids(result) == ids(engine.generate(" wait", settings(max_tokens=30), RAW))


def test_chunks_that_wait_are_one(make: PairMaker) -> None:
    """Guards a reader that comes late, and is woken for each token that was written meanwhile."""

    async def main(engine: Engine) -> list[Chunk | Result]:
        stream = engine.astream(" wait", settings(max_tokens=30), RAW)
        events = [await anext(stream)]
        await asyncio.sleep(3)
        return events + [event async for event in stream]

    with open_engine(make("llama")) as engine:
        *chunks, result = run(main(engine))
        assert isinstance(result, Result)
        assert len(chunks) <= 2
        assert "".join(chunk.text for chunk in chunks) == result.text


def test_a_slow_reader_holds_nobody_up(make: PairMaker) -> None:
    """Guards a thread that waits until somebody has read what it has written."""

    async def main(engine: Engine) -> None:
        stream = engine.astream(" wait", settings(max_tokens=60), RAW)
        first = await anext(stream)
        results = await engine.agenerate(PROMPTS, settings(max_tokens=60), RAW)
        assert [len(result.tokens) for result in results] == [60] * len(PROMPTS)
        *chunks, last = [event async for event in stream]
        assert isinstance(last, Result)
        assert "".join(chunk.text for chunk in [first, *chunks]) == last.text
        assert len(last.tokens) == 60

    with open_engine(make("llama"), n_slots=2) as engine:
        run(main(engine))
        assert_free(engine)


def test_a_long_prompt_lets_the_others_go_on(make: PairMaker) -> None:
    """Guards neighbours that wait until a long prompt is read in one evaluation."""

    async def main(engine: Engine) -> tuple[int, int]:
        n_before = n_meanwhile = 0
        long: asyncio.Task[Result] | None = None
        async with aclosing(engine.astream(" wait", ENDLESS, RAW)) as stream:
            async for event in stream:
                assert isinstance(event, Chunk)
                if long is None:
                    n_before += 1
                    if n_before == 3:
                        long = asyncio.create_task(engine.agenerate(" two" * 1500, settings(max_tokens=1), RAW))
                elif long.done():
                    assert long.result().error is None
                    break
                else:
                    n_meanwhile += 1
        return n_before, n_meanwhile

    with open_engine(make("llama"), n_slots=2, ctx_size=2048) as engine:
        assert run(main(engine))[1] >= 5
        assert_free(engine)


def test_callers_take_turns(make: PairMaker) -> None:
    """Guards one caller with many prompts who makes all others wait."""

    async def main(engine: Engine) -> None:
        many = asyncio.create_task(engine.agenerate([" wait"] * 200, settings(max_tokens=20), RAW))
        await asyncio.sleep(0)
        await engine.agenerate([" so"] * 2, settings(max_tokens=20), RAW)
        assert not many.done()
        many.cancel()

    with open_engine(make("llama")) as engine:
        run(main(engine))
        assert_free(engine)


@pytest.mark.parametrize("lanes", [1, 2])
def test_callers_come_from_several_event_loops(lanes: int, make: PairMaker) -> None:
    """Guards an event that is set in another loop than that of its caller."""
    generation, found = settings(max_tokens=20), {}

    def loop(engine: Engine, number: int) -> None:
        async def main() -> list[Result]:
            return await asyncio.gather(*(engine.agenerate(text, generation, RAW) for text in PROMPTS[number::3]))

        found[number] = [result.prompt for _ in range(5) for result in run(main())]

    with open_engine(make("llama"), n_slots=2, lanes=lanes, threads=lanes) as engine:
        threads = [threading.Thread(target=loop, args=(engine, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {number: PROMPTS[number::3] * 5 for number in range(3)}
        assert_free(engine)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "lfm2", "mamba", "lfm2+llama"])
@pytest.mark.parametrize(("lanes", "roles"), [(1, (1, 1)), (2, (2, 1)), (4, (3, 2))])
def test_a_conversation_finds_the_cache_of_its_last_turn(
    kind: str, lanes: int, roles: tuple[int, int], make: PairMaker
) -> None:
    """Guards turns that read all again: in another lane, after another client's turn, or where a memory cannot go back.

    roles: how many conversations there are, and how many of them wait for an answer at a time
    """
    generation = settings(max_tokens=25, temp=0.8, n=2, k=1, gate="always")  # both read the first prompt, too
    n_clients, at_once = roles

    async def turn(engine: Engine, messages: list[dict[str, str]]) -> int:
        """How many tokens were read that the last turn's prompt had, by the role that read most."""
        result = await engine.agenerate(messages, generation)
        assert result.error is None
        sequence, before = (
            result.sequence,
            engine.loaded.n_kept(messages[:-2], engine.prompting) if messages[2:] else {},
        )
        messages += [{"role": "assistant", "content": result.text}, {"role": "user", "content": "so the sum of"}]
        return max(
            sequence.cost[role].n_prompt_read - (view.n_prompt - before.get(role, view.n_prompt))
            for role, view in sequence.views.items()
        )

    async def main(engine: Engine) -> list[list[int]]:
        clients = [[{"role": "user", "content": "wait now " * 30 + f"{i} so then " * 6}] for i in range(n_clients)]
        surplus: list[list[int]] = []
        for _ in range(4):
            found: list[int] = []
            for first in range(0, n_clients, at_once):
                together = clients[first : first + at_once]
                found += await asyncio.gather(*(turn(engine, messages) for messages in together))
            surplus.append(found)
        return surplus

    with open_engine(make(kind, chat=CHATML), n_slots=4, lanes=lanes, threads=1, ctx_size=2048) as engine:
        first, *others = run(main(engine))
        assert_free(engine)
    assert min(first) > 50
    assert max(map(max, others)) <= 0


# ---------------------------------------------------------------- leaving
@pytest.mark.parametrize(("n_slots", "lanes"), [(1, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_leaving_at_any_moment_frees_the_slot_and_disturbs_nobody(
    kind: str, n_slots: int, lanes: int, make: PairMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a slot that stays taken, an abort that hits a neighbour, and answers that change by it."""
    pair, generation, rng = make(kind), settings(max_tokens=40), random.Random(5)
    step = Lane.step

    def checked(lane: Lane, report_every: float = 0.0) -> None:
        step(lane, report_every)

        lane.scheduler.check()

    monkeypatch.setattr(Lane, "step", checked)
    with open_engine(pair) as engine:
        wanted = [engine.generate(prompt, generation, RAW) for prompt in PROMPTS]

    async def leave(engine: Engine, n: int) -> None:
        if n % 2:
            task = asyncio.create_task(engine.agenerate([rng.choice(PROMPTS)] * 3, ENDLESS, RAW))
            await asyncio.sleep(rng.random() * 0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return
        async with aclosing(engine.astream(rng.choice(PROMPTS), ENDLESS, RAW)) as stream:
            for _ in range(rng.randrange(20)):
                await anext(stream)

    async def main(engine: Engine) -> list[Result]:
        leaving = [asyncio.create_task(leave(engine, n)) for n in range(30)]
        found = await asyncio.gather(*(engine.agenerate(prompt, generation, RAW) for prompt in PROMPTS))
        await asyncio.gather(*leaving)
        return found

    with open_engine(pair, n_slots=n_slots, lanes=lanes, threads=lanes, ctx_size=1024) as engine:
        for _ in range(2):
            for result, alone in zip(run(main(engine)), wanted, strict=True):
                assert result.error is None
                assert_same_up_to_near_ties(ids(result), ids(alone), result, pair, tmp_path)
            assert_free(engine)
        found = engine.generate(PROMPTS, generation, RAW)
        assert [result.error for result in found] == [None] * len(PROMPTS)


@pytest.mark.skipif(GPU, reason="the evaluation is over before it could be ended")
def test_the_last_caller_to_leave_ends_the_evaluation(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a thread that reads a long prompt to its end although nobody wants the answer."""
    begun, flagged = threading.Event(), threading.Event()
    decode = Context._decode

    def slow(context: Context, *rows: Any) -> bool:
        begun.set()
        end = time.monotonic() + 5
        while not engine.loaded.abort.requested and time.monotonic() < end and not flagged.is_set():
            time.sleep(0.001)
        flagged.set()
        return decode(context, *rows)

    async def main() -> None:
        task = asyncio.create_task(engine.agenerate(" two" * 200, ENDLESS, RAW))
        await until(begun.is_set)
        task.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.generate(" wait", settings(max_tokens=3), RAW).error is None
        assert time.monotonic() - started < 4

    with open_engine(make("llama")) as engine:
        monkeypatch.setattr(Context, "_decode", slow)
        run(main())
        assert_free(engine)


def test_a_stream_that_is_only_left_behind_is_ended(make: PairMaker) -> None:
    """Guards a `break` out of `async for` that leaves a response running."""

    async def main(engine: Engine) -> None:
        async for event in engine.astream(" wait", ENDLESS, RAW):
            assert isinstance(event, Chunk)
            break
        await until(lambda: not engine.driver._open)

    with open_engine(make("llama"), ctx_size=4096) as engine:
        run(main(engine))
        assert_free(engine)


def test_an_event_loop_that_is_closed_under_its_caller_frees_the_slot(make: PairMaker) -> None:
    """Guards an engine that answers, and can be used for nothing else, for somebody who will never come back."""

    async def first(engine: Engine) -> Any:
        stream = engine.astream(" wait", ENDLESS, RAW)
        await anext(stream)
        return stream

    with open_engine(make("llama"), ctx_size=16384) as engine:
        loop = asyncio.new_event_loop()
        stream = loop.run_until_complete(first(engine))
        loop.close()
        end = time.monotonic() + 20
        while engine.driver._open:
            assert time.monotonic() < end, "the thread has not noticed"
            time.sleep(0.01)
        assert_free(engine)
        del stream


# ---------------------------------------------------------------- what does not go together
def test_the_other_methods_are_refused_meanwhile_and_work_afterwards(make: PairMaker) -> None:
    """Guards two threads in one context, and an engine that is lost for everything else after its first coroutine."""
    brief = settings(max_tokens=5)

    async def main(engine: Engine) -> None:
        async with aclosing(engine.astream(" wait", ENDLESS, RAW)) as stream:
            await anext(stream)
            for refused in (
                lambda: engine.generate(" so", brief, RAW),
                lambda: next(engine.stream(" so", brief, RAW)),
                lambda: engine.submit(" so", brief, RAW),
                lambda: engine.step(),
                lambda: engine.save_prefix({LEADER: [1]}),
            ):
                with pytest.raises(UsageError, match="this engine is answering agenerate or astream"):
                    refused()
        assert len(engine.generate(" so", brief, RAW).tokens) == 5
        async for event in engine.astream(" so", brief, RAW):
            if isinstance(event, Result):  # nothing more will come: no need to wait for the end
                assert len(engine.generate(" so", brief, RAW).tokens) == 5
        await engine.agenerate(" so", brief, RAW)
        assert len(engine.generate(" so", brief, RAW).tokens) == 5

    with open_engine(make("llama"), ctx_size=4096) as engine:
        run(main(engine))
        assert_free(engine)


@pytest.mark.parametrize("lanes", [1, 2])
def test_coroutines_are_refused_while_others_are_answered(lanes: int, make: PairMaker) -> None:
    """Guards a thread that steps a lane which somebody else steps, too."""
    refused = pytest.raises(UsageError, match="this engine is answering run, stream or submit")
    with open_engine(make("llama"), n_slots=2, lanes=lanes, threads=lanes) as engine:
        stream = engine.stream(" wait", ENDLESS, RAW)
        next(stream)
        with refused:
            run(engine.agenerate(" so", settings(max_tokens=3), RAW))
        stream.close()
        ticket = engine.submit(" wait", ENDLESS, RAW)
        with refused:
            run(engine.agenerate(" so", settings(max_tokens=3), RAW))
        engine.cancel(ticket)
        assert len(run(engine.agenerate(" so", settings(max_tokens=3), RAW)).tokens) == 3
        with pytest.raises(UsageError, match="no setting 'tmep' of a response"):
            engine.astream(" so", tmep=0)
        with pytest.raises(UsageError, match="did you mean max_tokens"):
            run(engine.agenerate(" so", max_token=0))
        assert_free(engine)


# ---------------------------------------------------------------- failures
def test_a_prompt_that_cannot_be_answered_fails_alone(make: PairMaker) -> None:
    """Guards an engine that is lost with one bad prompt, and callers who wait for its answer for ever."""

    async def main(engine: Engine) -> list[Any]:
        asked: list[Awaitable[Any]] = [
            engine.agenerate(" wait", settings(max_tokens=5), RAW),
            engine.agenerate(" two" * 600, settings(max_tokens=5), RAW),
            engine.agenerate([" wait", ""], settings(max_tokens=5), RAW),
            engine.agenerate([{5}, " wait"], settings(max_tokens=5), RAW),  # type: ignore[list-item]
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    with open_engine(make("llama"), n_slots=2) as engine:
        good, long, (first, empty), wrong = run(main(engine))
        assert (good.error, first.error) == (None, None)
        assert "raise --ctx-size" in long.error
        assert "the prompt is empty" in empty.error
        assert isinstance(wrong, Exception)
        assert not isinstance(wrong, asyncio.CancelledError)
        assert_free(engine)


def test_an_evaluation_that_fails_reaches_all_in_its_lane_and_nobody_else(
    make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards callers who wait for ever after an error of llama.cpp, and a lane that is lost with it."""
    decode, broken = Context._decode, threading.Event()

    def fail(context: Context, *rows: Any) -> bool:
        if broken.is_set() and context in engine.loaded.lanes[0].values():
            broken.clear()
            raise EvaluationError("out of memory")
        return decode(context, *rows)

    async def answer(text: str) -> Result:
        return await engine.agenerate(text, settings(max_tokens=300), RAW)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(answer(text)) for text in PROMPTS[:6]]
        await until(lambda: sum(lane.n_open for lane in engine.lanes) == 4)
        broken.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    with open_engine(make("llama"), n_slots=4, lanes=2, threads=2, ctx_size=1024) as engine:
        monkeypatch.setattr(Context, "_decode", fail)
        found = run(main())
        errors = [each for each in found if isinstance(each, BaseException)]
        assert [str(error) for error in errors] == ["out of memory"] * 2
        assert [len(result.tokens) for result in found if isinstance(result, Result)] == [300] * 4
        assert_free(engine)
        assert run(answer(" wait")).error is None


def test_a_bug_in_a_thread_reaches_all_callers(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a thread that dies silently, and everybody who then waits for ever."""

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("foreal_local.lane.Lane.submit", fail)

    async def main(engine: Engine) -> None:
        asked = [engine.agenerate(text, settings(max_tokens=3), RAW) for text in PROMPTS]
        assert {type(each) for each in await asyncio.gather(*asked, return_exceptions=True)} == {ZeroDivisionError}

    with open_engine(make("llama"), n_slots=2, lanes=2, threads=2) as engine:
        run(main(engine))
        monkeypatch.undo()
        assert len(run(engine.agenerate(" wait", settings(max_tokens=3), RAW)).tokens) == 3
        assert_free(engine)


def test_a_late_bug_of_a_thread_does_not_reach_a_caller_who_came_since(
    make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards an answer that is lost by the error of another caller's prompt, and a wait for a thread that is gone."""
    submit, threads = Lane.submit, list[threading.Thread]()
    both_are_in, first_has_failed = threading.Event(), threading.Event()

    def fail(lane: Lane, *args: Any, **options: Any) -> None:
        if first_has_failed.is_set():
            threads[1].join(10)
            submit(lane, *args, **options)
            return
        threads.append(threading.current_thread())
        if len(threads) == 2:
            both_are_in.set()
        assert (both_are_in if threading.current_thread() is threads[0] else first_has_failed).wait(10)
        raise ZeroDivisionError

    monkeypatch.setattr("foreal_local.lane.Lane.submit", fail)

    async def main(engine: Engine) -> None:
        with pytest.raises(ZeroDivisionError):
            await engine.agenerate([" so", " the"], settings(max_tokens=3), RAW)
        second = asyncio.ensure_future(engine.agenerate(" wait", settings(max_tokens=3), RAW))
        await asyncio.sleep(0)  # it enters
        first_has_failed.set()
        assert len((await second).tokens) == 3

    with open_engine(make("llama"), n_slots=2, lanes=2, threads=2) as engine:
        run(main(engine))
        assert_free(engine)


# ---------------------------------------------------------------- the end
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_closing_ends_all_callers(lanes: int, elsewhere: bool, make: PairMaker) -> None:
    """Guards a context that is freed while a thread evaluates in it, a hang, and callers who never hear of it."""

    async def main(engine: Engine) -> None:
        tasks = [asyncio.create_task(engine.agenerate([text] * 3, ENDLESS, RAW)) for text in PROMPTS]
        stream = engine.astream(" so", ENDLESS, RAW)
        await anext(stream)
        await (asyncio.to_thread(engine.close) if elsewhere else asyncio.sleep(0, engine.close()))
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, UsageError)
            assert "closed before it had answered" in str(error)
        with pytest.raises(UsageError, match="closed before it had answered"):
            async for _ in stream:
                pass
        with pytest.raises(UsageError, match="this engine is closed"):
            await engine.agenerate(" so")

    engine = open_engine(make("llama"), n_slots=4, lanes=lanes, threads=lanes, ctx_size=4096)
    run(main(engine))
    assert_free(engine)
    engine.close()


SCRIPT = """
import asyncio, threading, time
import foreal_local

async def answer():
    await engine.agenerate([" two" * 1500, " wait"] * 100, raw=True)

def tell():
    while not engine.driver._open:
        time.sleep(0.01)
    print("begun", flush=True)

engine = foreal_local.load({leader!r}, {draft!r}, ctx_size=4096, parallel=2, threads=1, lanes={lanes})
threading.Thread(target=tell, daemon=True).start()
"""


def begun(make: PairMaker, lanes: int, end: str) -> subprocess.Popen[str]:
    """A program that waits for an answer that takes long."""
    pair = make("llama")
    code = SCRIPT.format(leader=str(pair.leader.path), draft=str(pair.draft.path), lanes=lanes) + end
    handler = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=handler,
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n", process.communicate()
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
@pytest.mark.parametrize("lanes", [1, 2])
def test_ctrl_c_ends_the_program_at_once(lanes: int, make: PairMaker) -> None:
    """Guards Ctrl-C that waits for the answers, and threads that keep the program from ending."""
    end = """
try:
    asyncio.run(answer())
except KeyboardInterrupt:
    with engine.driver.quiet():
        print("interrupted", engine.generate(" wait", max_tokens=2, raw=True).error)
"""
    process = begun(make, lanes, end)
    try:
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (out, err, process.returncode) == ("interrupted None\n", "", 0)


@pytest.mark.skipif(os.name == "nt", reason="signals are handled otherwise there")
def test_a_program_may_end_while_others_wait(make: PairMaker) -> None:
    """Guards a crash, or a wait without end, in a program that leaves its event loop and its engine as they are."""
    end = """
threading.Thread(target=asyncio.run, args=[answer()], daemon=True).start()
time.sleep(0.2)
"""
    process = begun(make, 2, end)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (out, process.returncode) == ("", 0), err
    assert "Fatal" not in err
