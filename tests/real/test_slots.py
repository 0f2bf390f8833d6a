"""Prompts that come and go at any time, and several conversations at once: one owner of the slots for all of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from foreal_local.chat.conversation import Conversation
from foreal_local.config import Runtime
from foreal_local.engine import Engine
from foreal_local.errors import EvaluationError, UsageError
from foreal_local.lane import Ticket
from foreal_local.method.roles import Role
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Chunk, Prompt, Result
from foreal_local.runtime.llama import Context

from .engines import RAW, PairMaker, assert_same_up_to_near_ties, ids, open_engine, settings
from .test_conversation import KINDS, QUESTIONS, Judge, answer_begins, ask, converse, thinking_pair

PROMPTS = [" the number is", " wait now so", " let me check", " two", " add one to ten", " hmm"]


def finish(engine: Engine) -> list[Any]:
    events = []
    while not engine.idle:
        events += engine.step()
        for lane in engine.lanes:
            lane.scheduler.check()
    return events


# ---------------------------------------------------------------- submit, step, cancel
@pytest.mark.parametrize("lanes", [1, 2])
def test_prompts_join_and_leave_at_any_time(lanes: int, make: PairMaker, tmp_path: Path) -> None:
    """Guards a loop that waits for its prompts to end before it takes others: a server's queue is never complete."""
    pair, rng = make(), random.Random(1)
    with open_engine(pair, n_slots=4, lanes=lanes) as engine:
        wanted = engine.generate(PROMPTS, settings(), RAW)
        tickets: list[Ticket] = []
        cancelled: list[Ticket] = []
        events = []
        for i, text in enumerate(PROMPTS * 3):
            own = Prompt(text, id=str(i), index=i % len(PROMPTS))
            tickets.append(engine.submit(own, settings(), RAW))
            if rng.random() < 0.3:
                engine.cancel(tickets[-1])
                cancelled.append(tickets[-1])
            for _ in range(rng.randrange(12)):
                events += engine.step()
                for lane in engine.lanes:
                    lane.scheduler.check()
        events += finish(engine)
    results = {event.id: event for event in events if isinstance(event, Result)}
    assert sorted(results, key=int) == [str(i) for i in range(18)], "each prompt has one result"
    assert len(cancelled) > 2
    for i, ticket in enumerate(tickets):
        result = results[str(i)]
        shown = "".join(event.text for event in events if isinstance(event, Chunk) and event.id == str(i))
        assert shown == result.text
        if ticket in cancelled:
            assert result.finish_reason is FinishReason.CANCELLED
        else:
            assert_same_up_to_near_ties(ids(result), ids(wanted[result.index]), result, pair, tmp_path)


def test_a_prompt_that_cannot_be_answered_gives_its_result(make: PairMaker) -> None:
    """Guards an exception in the midst of others' answers, and a ticket that never ends."""
    with Engine(make(), runtime=Runtime(ctx_size=512, threads=1), roles=[Role.DRAFT]) as engine:
        bad = engine.submit("so", settings(), RAW)
        good = engine.submit("so", settings("draft"), RAW)
        results = [event for event in finish(engine) if isinstance(event, Result)]
    assert bad.finished
    assert good.finished
    assert [result.finish_reason for result in results] == [FinishReason.ERROR, FinishReason.LENGTH]
    assert "needs the leader" in str(results[0].error)


def test_a_run_and_a_loop_share_an_engine(make: PairMaker) -> None:
    """Guards events of one that the other swallows."""
    with open_engine(make(), n_slots=2) as engine:
        (wanted,) = engine.generate([PROMPTS[0]], settings(), RAW)
        ticket = engine.submit(Prompt(PROMPTS[0], index=0), settings(), RAW)
        results = engine.generate(PROMPTS, settings(), RAW)
        assert len(results) == len(PROMPTS)
        (result,) = [event for event in finish(engine) if isinstance(event, Result)]
        assert ticket.finished
        assert ids(result) == ids(wanted)


def test_a_run_waits_for_the_slots_that_others_hold(make: PairMaker) -> None:
    """Guards prompts that are left out because a submitted one holds the only slot."""
    with open_engine(make(), n_slots=1) as engine:
        ticket = engine.submit(PROMPTS[0], settings(), RAW)
        results = engine.generate(PROMPTS[:3], settings(max_tokens=5), RAW)
        assert [result.index for result in results] == [0, 1, 2]
        assert ticket.finished
        assert [type(event) for event in finish(engine)][-1] is Result


def test_lanes_in_threads_take_nothing_from_elsewhere(make: PairMaker) -> None:
    """Guards two threads in one scheduler."""
    with open_engine(make(), n_slots=2, lanes=2) as engine:
        run = engine.run([Prompt(text) for text in PROMPTS], settings(), RAW)
        next(run)
        with pytest.raises(UsageError, match="several threads"):
            engine.submit("so")
        with pytest.raises(UsageError, match="several threads"):
            engine.step()
        run.close()
        engine.submit("so", settings(max_tokens=3), RAW)
        assert [type(event) for event in finish(engine)][-1] is Result


# ---------------------------------------------------------------- several conversations
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_two_chats_in_turn_each_find_their_own_past(kind: str, lanes: int, make: PairMaker, tmp_path: Path) -> None:
    """Guards a chat that takes another's slot because both begin with the template's first tokens, or another lane."""
    pair = thinking_pair(make, kind)
    with open_engine(pair, n_slots=4, lanes=lanes, ctx_size=1024) as engine, open_engine(pair, ctx_size=1024) as fresh:
        judge = Judge(pair, fresh, tmp_path)
        chats = [converse(engine), converse(engine)]
        for turn, question in enumerate(QUESTIONS[:5]):
            for number, chat in enumerate(chats):
                begins = answer_begins(chat) if turn else dict.fromkeys(Role, 0)
                result = ask(chat, f"{question} {number}")
                judge.agrees(chat)
                for role, cost in result.cost.items():
                    view = result.sequence.views[role]
                    n_new = len(view.ids) - begins[role]
                    assert cost.tokens <= n_new, f"turn {turn}, the {role}: more than what is new was evaluated"


def test_more_chats_than_slots_cost_time_only(make: PairMaker, tmp_path: Path) -> None:
    """Guards a cache of one conversation taken for another's."""
    pair = thinking_pair(make, "lfm2")
    with open_engine(pair, n_slots=2, ctx_size=1024) as engine, open_engine(pair, ctx_size=1024) as fresh:
        judge = Judge(pair, fresh, tmp_path)
        chats = [converse(engine) for _ in range(4)]
        rng = random.Random(3)
        for _ in range(14):
            chat = rng.choice(chats)
            ask(chat, rng.choice(QUESTIONS))
            judge.agrees(chat)
            for lane in engine.lanes:
                lane.scheduler.check()


def test_chats_may_answer_at_the_same_time(make: PairMaker, tmp_path: Path) -> None:
    """Guards an engine that one answer has for itself."""
    pair = thinking_pair(make, "llama")
    with open_engine(pair, n_slots=2, ctx_size=1024) as engine, open_engine(pair, ctx_size=1024) as fresh:
        judge = Judge(pair, fresh, tmp_path)
        chats = [converse(engine), converse(engine)]
        for question in QUESTIONS[:3]:
            answers = [chat.ask(f"{question} {number}") for number, chat in enumerate(chats)]
            while answers:
                for answer in list(answers):
                    if next(answer, None) is None:
                        answers.remove(answer)
            for chat in chats:
                judge.agrees(chat)


def test_what_a_chat_reads_is_the_prompts_work(make: PairMaker) -> None:
    """Guards a turn's prompt that is counted as generation: the speculative chat's FLOPs were too many."""
    with open_engine(thinking_pair(make, "llama"), ctx_size=1024) as engine:
        chat = Conversation(engine, settings("speculative", max_tokens=20))
        for question in QUESTIONS[:3]:
            result = ask(chat, question)
            for role, cost in result.cost.items():
                assert cost.flops_prompt > 0, role
            assert result.flops.generation < result.flops.total


# ---------------------------------------------------------------- what is delivered
def test_what_was_held_back_is_delivered_before_the_result(make: PairMaker) -> None:
    """Guards the beginning of a stop text that a cancelled response has, and its stream never showed."""
    with open_engine(make()) as engine:
        whole = engine.generate(PROMPTS[0], settings(), RAW).text
        for n_steps in range(2, 40, 3):
            stops = tuple({whole[at : at + 12] + "never" for at in range(0, len(whole) - 12, 3)})
            ticket = engine.submit(Prompt(PROMPTS[0], index=0), settings(stop=stops), RAW)
            events = []
            for _ in range(n_steps):
                events += engine.step()
            engine.cancel(ticket)
            events += finish(engine)
            assert "".join(event.text for event in events if isinstance(event, Chunk)) == events[-1].text
            assert len(events[-1].text) > 0


def test_a_broken_evaluation_ends_all_that_is_open(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a loop that waits for a ticket whose cache a run has lost."""
    with open_engine(make(), n_slots=3) as engine:
        ticket = engine.submit(PROMPTS[0], settings(), RAW)
        decode, calls = Context._decode, iter(range(100))

        def fail(*arguments: Any) -> bool:
            if next(calls) > 20:
                raise EvaluationError("made up")
            return bool(decode(*arguments))

        monkeypatch.setattr(Context, "_decode", fail)
        with pytest.raises(EvaluationError):
            engine.generate(PROMPTS, settings(), RAW)
        monkeypatch.undo()
        assert ticket.finished
        (result,) = [event for event in finish(engine) if isinstance(event, Result)]
        assert result.finish_reason is FinishReason.CANCELLED
        assert len(engine.generate(PROMPTS, settings(), RAW)) == len(PROMPTS)


def test_results_come_in_the_prompts_order_and_with_the_runs_seed(make: PairMaker) -> None:
    """Guards an order by index, and settings without a seed that draw a new one in each run."""
    own = settings(temp=1.0, seed=None)
    prompts = [Prompt(PROMPTS[0], index=5), Prompt(PROMPTS[1], index=2, settings=own), Prompt(PROMPTS[2])]
    with open_engine(make(), n_slots=2) as engine:
        first, again = (engine.generate(prompts, settings(), RAW, seed=7) for _ in range(2))
        assert [result.index for result in first] == [5, 2, 2]
        assert [result.prompt for result in first] == PROMPTS[:3]
        assert [result.as_dict()["seed"] for result in first] == [7, 7, 7]
        assert [ids(result) for result in first] == [ids(result) for result in again]


@pytest.mark.parametrize("kind", ["lfm2", "mamba"])
def test_a_long_prompt_is_marked_once(kind: str, make: PairMaker) -> None:
    """Guards a mark for each bite of a prompt, which pushes those of earlier turns out."""
    with open_engine(thinking_pair(make, kind), ctx_size=2048) as engine:
        chat = Conversation(engine, settings("leader", max_tokens=5))
        for question in ("so", " ".join(QUESTIONS * 40)):
            ask(chat, question)
        (models,) = engine.loaded.lanes
        assert len(models[Role.LEADER]._marks[0]) == 2


def test_writing_an_answer_again_draws_another_seed(make: PairMaker) -> None:
    """Guards the very same answer once more, where the settings have a seed."""
    with open_engine(thinking_pair(make, "llama"), ctx_size=1024) as engine:
        chat = Conversation(engine, settings(temp=1.0, seed=3, max_tokens=30))
        first = ask(chat, QUESTIONS[0])
        *_, again = chat.regenerate()
        assert again.sequence.settings.seed != 3
        assert again.text != first.text
