"""Which slot a prompt gets, and what stays in the caches for it."""

from __future__ import annotations

import random

import pytest
from fakes import DRAFT, LEADER, FakePair
from runs import assert_slots_hold_what_they_say, new_sequence, outcome, run_all

from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.runtime.scheduler import Scheduler


def answered(scheduler: Scheduler, index: int, prompt: list[int], **settings: object) -> Sequence:
    """A response whose slot keeps what it holds."""
    sequence = new_sequence(index, prompt=prompt, max_tokens=12, **settings)  # type: ignore[arg-type]
    scheduler.add(sequence, reuse=True)
    while not scheduler.idle:
        scheduler.step()
        scheduler.check()
    assert_slots_hold_what_they_say(scheduler)
    return sequence


def first_rows(pair: FakePair, role: Role) -> tuple[int, int]:
    """The slot of the last response's first row, and how many tokens it had."""
    row = pair.models[role].records[0][0]
    return row.slot, row.before


def forget_rows(pair: FakePair) -> None:
    for model in pair.models.values():
        model.records.clear()


PROMPT = [2, 3, 4, 5, 6, 7, 8, 9]


def test_a_conversation_goes_on_in_its_slot() -> None:
    """Guards a second turn that is evaluated from its first token."""
    pair = FakePair(n_slots=3, truncation="remove")
    scheduler = pair.scheduler()
    first = answered(scheduler, 0, PROMPT, p=1.0, n=3, k=1)
    forget_rows(pair)
    prompt = [*first.views[LEADER].ids[: len(PROMPT) + 6], 4, 5]
    second = answered(scheduler, 1, prompt, p=1.0, n=3, k=1)
    assert first_rows(pair, LEADER) == (0, len(PROMPT) + 6)
    slot, n_before = first_rows(pair, DRAFT)
    assert slot == 0
    assert n_before >= len(PROMPT) + 5, "the draft had not evaluated the last token yet"
    alone = new_sequence(1, prompt=prompt, max_tokens=12, p=1.0, n=3, k=1)
    run_all(FakePair(truncation="remove").scheduler(), [alone])
    assert outcome(second) == outcome(alone)


def test_another_conversation_gets_another_slot() -> None:
    """Guards a chat that loses its cache to one with the same first tokens, as all chat templates have them."""
    pair = FakePair(n_slots=3, truncation="remove")
    scheduler = pair.scheduler()
    answered(scheduler, 0, PROMPT, mode="leader")
    forget_rows(pair)
    answered(scheduler, 1, [*PROMPT[:4], 9, 9, 9, 9], mode="leader")
    assert first_rows(pair, LEADER) == (1, 0)
    forget_rows(pair)
    answered(scheduler, 2, [*PROMPT, 5], mode="leader")
    assert first_rows(pair, LEADER) == (0, len(PROMPT))


def test_conversations_with_one_system_message_do_not_take_each_others_slots() -> None:
    """Guards a conversation that reads all again because another one begins with the same long system message; and one
    that leaves its slot for an empty one although it only goes on."""
    pair = FakePair(n_slots=3, truncation="remove")
    scheduler, system = pair.scheduler(), [2 + i % 11 for i in range(90)]
    first = answered(scheduler, 0, [*system, *[12] * 12], p=1.0, n=3, k=1)
    forget_rows(pair)
    answered(scheduler, 1, [*system, *[13] * 12], p=1.0, n=3, k=1)
    assert first_rows(pair, LEADER) == (1, len(system)), "a copy of what both have"
    forget_rows(pair)
    prompt = [*first.views[LEADER].ids, 4, 5]
    answered(scheduler, 2, prompt, p=1.0, n=3, k=1)
    slot, n_before = first_rows(pair, LEADER)
    assert slot == 0
    assert n_before >= len(system) + 12
    assert scheduler.slots.has_empty
    answered(scheduler, 3, [*system, *[14] * 12], p=1.0, n=3, k=1)
    forget_rows(pair)
    answered(scheduler, 4, [*system, *[15] * 12], p=1.0, n=3, k=1)
    assert first_rows(pair, LEADER)[1] == len(system), "there is no empty slot left"


def test_without_an_empty_slot_the_one_left_first_is_taken() -> None:
    """Guards the newest conversation's cache given to a stranger."""
    pair = FakePair(n_slots=2, truncation="remove")
    scheduler = pair.scheduler()
    for index, token in enumerate((2, 3)):
        answered(scheduler, index, [token] * 9, mode="leader")
    forget_rows(pair)
    answered(scheduler, 2, [4] * 9, mode="leader")
    assert first_rows(pair, LEADER) == (0, 0)
    forget_rows(pair)
    answered(scheduler, 3, [3] * 10, mode="leader")
    assert first_rows(pair, LEADER) == (1, 9)


def test_a_prompt_that_reuses_nothing_leaves_nothing() -> None:
    """Guards a batch whose responses depend on what was answered before, and whose caches slow down the others."""
    pair = FakePair(n_slots=2, truncation="remove")
    scheduler = pair.scheduler()
    answered(scheduler, 0, PROMPT)
    held = pair.n_held
    assert held > 0
    forget_rows(pair)
    plain = new_sequence(1, prompt=[*PROMPT, 5], max_tokens=12)
    run_all(scheduler, [plain])
    assert first_rows(pair, DRAFT)[1] == 0
    assert pair.n_held == held, "its own slot is empty again"


def test_what_one_mode_leaves_another_finds() -> None:
    """Guards the leader's cache that is given up because the draft alone has answered meanwhile."""
    pair = FakePair(n_slots=1, truncation="remove")
    scheduler = pair.scheduler()
    answered(scheduler, 0, PROMPT, p=1.0, n=3, k=1)
    n_leader = pair.models[LEADER].cached(0)
    answered(scheduler, 1, [*PROMPT, 5], mode="draft")
    assert pair.models[LEADER].cached(0) == n_leader
    forget_rows(pair)
    answered(scheduler, 2, [*PROMPT, 5, 6], p=1.0, n=3, k=1)
    assert first_rows(pair, LEADER)[1] >= len(PROMPT)


@pytest.mark.parametrize("truncation", ["remove", "clear"])
def test_saved_prefixes_are_put_back_for_both_roles_in_one_slot(truncation: str) -> None:
    """Guards a leader's state in one slot and the draft's in another: neither would be of use."""
    pair = FakePair(n_slots=2, truncation=truncation)
    scheduler = pair.scheduler()
    first = answered(scheduler, 0, PROMPT, p=1.0, n=3, k=1)
    coming = {role: [*view.ids, 4, 5] for role, view in first.views.items()}
    states = scheduler.slots.save(coming)
    assert set(states) == {LEADER, DRAFT}
    other = FakePair(n_slots=2, truncation=truncation)
    scheduler = other.scheduler()
    answered(scheduler, 1, [9, 9, 9], mode="leader")
    for role, state in states.items():
        scheduler.slots.restore(role, coming[role], state)
    assert_slots_hold_what_they_say(scheduler)
    forget_rows(other)
    second = new_sequence(2, prompt=coming[LEADER], draft_prompt=coming[DRAFT], max_tokens=12, p=1.0, n=3, k=1)
    scheduler.add(second, reuse=True)
    while not scheduler.idle:
        scheduler.step()
    assert {role: first_rows(other, role)[1] for role in Role} == {role: s.n_tokens for role, s in states.items()}
    assert len({first_rows(other, role)[0] for role in Role}) == 1


@pytest.mark.parametrize("truncation", ["remove", "clear"])
def test_no_order_of_prompts_leaves_a_wrong_cache(truncation: str) -> None:
    """Guards everything at once: many conversations in few slots, in all modes; each answer is a fresh cache's."""
    rng = random.Random(truncation)
    pair = FakePair(n_slots=3, n_batch=5, truncation=truncation)
    scheduler = pair.scheduler()
    talks: list[list[int]] = [[2, 3] for _ in range(6)]
    n_reused = 0
    for index in range(120):
        talk = rng.choice(talks)
        talk += [rng.randrange(2, 16) for _ in range(rng.randrange(1, 5))]
        settings = {"mode": rng.choice(["foreal", "leader", "draft", "speculative"]), "n": 2, "k": 1, "temp": 0.7}
        forget_rows(pair)
        sequence = answered(scheduler, index, list(talk), **settings)
        alone = new_sequence(index, prompt=list(talk), max_tokens=12, **settings)  # type: ignore[arg-type]
        run_all(FakePair(truncation="remove").scheduler(), [alone])
        assert outcome(sequence) == outcome(alone)
        n_reused += sum(model.records[0][0].before > 0 for model in pair.models.values() if model.records)
        kept = rng.randrange(4)
        talk += [token.id for token in sequence.tokens[:kept] if token.id]
        if len(talk) > 200:
            del talk[2:]
    assert n_reused > (60 if truncation == "remove" else 0)
