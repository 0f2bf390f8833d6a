"""Whose turn it is, what is evaluated for it, and what that is said to cost."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import DRAFT, END, LEADER, SHAPES, FakePair, ids_of
from runs import AHEAD, SETTINGS, drawn_gates, new_sequence, run_all

from foreal_local.flops import count_flops
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason


# ---------------------------------------------------------------- fairness
def waits(scheduler: Any, sequences: list[Sequence]) -> int:
    """Runs to the end; the most steps in a row in which a sequence in a slot got no token and no check."""
    longest = 0
    since = {s.id: 0 for s in sequences}
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        before = {s.id: state_of(s) for s in sequences}
        scheduler.step()
        for s in sequences:
            moved = state_of(s) != before[s.id] or s.finished
            since[s.id] = 0 if moved else since[s.id] + 1
            longest = max(longest, since[s.id])
    return longest


def state_of(sequence: Sequence) -> tuple[int, int, object]:
    return len(sequence.tokens), sequence.n_sentences, [cost.tokens for cost in sequence.cost.values()]


@pytest.mark.parametrize("skip_limit", [0, 1, 3, 16])
@pytest.mark.parametrize(("n_leaders", "n_drafts"), [(7, 1), (1, 7), (6, 2)])
def test_nobody_is_passed_over_for_long(skip_limit: int, n_leaders: int, n_drafts: int) -> None:
    """Guards starvation: most sequences always wait for one role, few for the other."""
    pair = FakePair(n_slots=8, truncation="remove")
    modes = ["leader"] * n_leaders + ["draft"] * n_drafts
    sequences = [new_sequence(i, mode=mode, max_tokens=60) for i, mode in enumerate(modes)]
    assert waits(pair.scheduler(skip_limit=skip_limit), sequences) <= max(1, skip_limit)


@pytest.mark.parametrize("skip_limit", [1, 4])
def test_nor_in_a_mixed_load(skip_limit: int) -> None:
    pair = FakePair(n_slots=8, truncation="remove")
    modes = ["leader", "foreal", "foreal", "leader", "leader", "draft", "foreal", "leader"]
    sequences = [new_sequence(i, mode=mode, max_tokens=90, n=2, k=1) for i, mode in enumerate(modes)]
    assert waits(pair.scheduler(skip_limit=skip_limit), sequences) <= skip_limit


@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_how_often_turns_are_reported_changes_none_of_them(settings: dict[str, Any]) -> None:
    """Guards batches, and so roundings, that hang on the clock; and a slot that stays empty until the report."""
    batches = []
    for report_every in (0.0, 60.0):
        pair = FakePair(n_slots=3, truncation="remove")
        scheduler, sequences = pair.scheduler(), [new_sequence(i, **settings) for i in range(7)]
        for sequence in sequences:
            scheduler.add(sequence)
        shown, n_steps = dict.fromkeys((s.id for s in sequences), ""), 0
        while not scheduler.idle:
            n_steps += 1
            for update in scheduler.step(report_every):
                shown[update.sequence.id] += "".join(token.text for token in update.tokens)
            scheduler.check()
        assert shown == {s.id: s.text for s in sequences}
        assert n_steps <= len(sequences) + 1 or not report_every, "a step ends where a sequence ends"
        batches.append({role: model.records for role, model in pair.models.items()})
    assert batches[0] == batches[1]


def test_all_sequences_that_wait_for_a_role_share_its_turn() -> None:
    """Guards batches of one: eight sequences of one role take as many calls as one."""
    pair = FakePair(n_slots=8, n_batch=512, truncation="remove")
    sequences = [new_sequence(i, mode="draft", max_tokens=30, prompt=[2 + i]) for i in range(8)]
    run_all(pair.scheduler(), sequences)
    longest = max(len(s.tokens) for s in sequences)
    assert pair.models[DRAFT].n_calls <= longest + 1
    assert pair.models[LEADER].n_calls == 0


def test_most_waiting_decide() -> None:
    """Guards turns in strict alternation: two roles of 6 and 2 sequences, the larger group goes first."""
    pair = FakePair(n_slots=8, truncation="remove")
    scheduler = pair.scheduler()
    for i in range(8):
        scheduler.add(new_sequence(i, mode="draft" if i < 6 else "leader"))
    scheduler.step()
    assert (len(pair.models[DRAFT].records), len(pair.models[LEADER].records)) == (1, 0)


# ---------------------------------------------------------------- what is evaluated
@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_no_token_is_evaluated_twice(settings: dict[str, Any], different: bool) -> None:
    """Guards taking tokens back and evaluating them again, a whole prompt's worth on a recurrent model.

    Also guards evaluations for a response that has ended: each role evaluates at most the final stream.
    """
    for index in range(8):
        pair = FakePair(different=different, truncation="refuse")
        sequence = new_sequence(index, **settings)
        run_all(pair.scheduler(), [sequence])
        for role, view in sequence.views.items():
            rows = [row for rows in pair.models[role].records for row in rows]
            evaluated = [token for row in rows for token in row.tokens]
            assert evaluated == view.ids[: len(evaluated)]
            assert len(evaluated) <= len(view.ids)


@pytest.mark.parametrize("reason", ["end", "length", "stop"])
def test_nothing_is_evaluated_after_the_end(reason: str) -> None:
    """Guards a turn for a response that a peeked token has just finished, before the turn was given."""
    text = ids_of("So we get. x two")
    wanted = [*text[:4], END] if reason == "end" else text
    options: dict[str, Any] = {"length": {"max_tokens": 5}, "stop": {"stop": (" x",)}}.get(reason, {})
    pair = FakePair(truncation="refuse")
    pair.models[DRAFT].script([2], wanted)
    sequence = new_sequence(0, prompt=[2], p=0.0, **options)
    run_all(pair.scheduler(), [sequence])
    assert [t.id for t in sequence.tokens] == wanted[:5]
    assert sequence.cost[DRAFT].tokens == 1 + 4


def test_a_judge_that_is_then_asked_to_write_does_not_evaluate_again() -> None:
    """Guards the join after a miss: the draft has judged up to a stop, the leader's next token shows that the
    sentence ended there, and the gate gives the next sentence to the draft, which stands there already."""
    pair = FakePair(truncation="refuse")
    pair.models[LEADER].script([2], ids_of("So we get. the"))
    pair.models[DRAFT].script([2, *ids_of("So we get")], ids_of(" x"))
    pair.models[DRAFT].script([2, *ids_of("So we get.")], [*ids_of(" sum of"), END])
    seeds = (i for i in range(99) if drawn_gates(new_sequence(seed=i, p=0.5), 2) == [True, False])
    sequence = new_sequence(0, seed=next(seeds), prompt=[2], n=2, k=2, p=0.5)
    run_all(pair.scheduler(), [sequence])
    assert sequence.text == "So we get. sum of"
    assert sequence.tokens[3].hit is False
    assert sequence.cost[DRAFT].tokens == 1 + 6


def test_an_unused_role_evaluates_nothing() -> None:
    """Guards a draft that reads along where k = 0 and p = 1, and a leader that is never asked to lead."""
    pair = FakePair(truncation="remove")
    run_all(pair.scheduler(), [new_sequence(i, n=500, p=1.0, k=0) for i in range(4)])
    assert pair.models[DRAFT].records == []
    pair = FakePair(truncation="remove")
    run_all(pair.scheduler(), [new_sequence(i, p=0.0) for i in range(4)])
    assert pair.models[LEADER].records == []


# ---------------------------------------------------------------- what it costs
def flops_of(role: Role, before: int, n_tokens: int) -> float:
    """Token by token: 2 x weights + 4 x layers x width x context, the token itself included."""
    shape = SHAPES[role]
    return sum(2 * shape.n_weights + 4 * shape.n_layers * shape.width * (before + i + 1) for i in range(n_tokens))


@pytest.mark.parametrize("settings", [*SETTINGS, *AHEAD], ids=str)
def test_costs_are_what_the_models_were_asked_to_evaluate(settings: dict[str, Any]) -> None:
    """Guards work that is not counted, counted twice, or charged to the wrong role, sequence or kind."""
    pair = FakePair(n_slots=3, n_batch=16, truncation="remove")
    scheduler = pair.scheduler()
    sequences = [new_sequence(i, **settings) for i in range(7)]
    run_all(scheduler, sequences)
    for role, model in pair.models.items():
        rows = [row for rows in model.records for row in rows]
        total = scheduler.cost[role]
        assert total.decode_tokens == sum(len(row.tokens) for row in rows if row.decode)
        assert total.prefill_tokens == sum(len(row.tokens) for row in rows if not row.decode)
        assert total.calls == model.n_calls
        assert total.flops == sum(flops_of(role, row.before, len(row.tokens)) for row in rows)
        assert all(len(row.tokens) == 1 for row in rows if row.decode)
        for name in ("decode_tokens", "prefill_tokens", "flops"):
            assert getattr(total, name) == sum(getattr(s.cost[role], name) for s in sequences)
        assert total.seconds == pytest.approx(sum(s.cost[role].seconds for s in sequences))
        assert total.seconds > 0 or not rows


def test_a_sequence_alone_is_charged_its_own_rows() -> None:
    """Guards a decode that is called prefill: every token written next after one token is decoding."""
    pair = FakePair(n_slots=1, n_batch=512, truncation="remove")
    sequence = new_sequence(3, mode="leader")
    run_all(pair.scheduler(), [sequence])
    cost, view = sequence.cost[LEADER], sequence.views[LEADER]
    assert cost.prefill_tokens == view.n_prompt
    assert cost.decode_tokens in (len(sequence.tokens) - 1, len(view.ids) - view.n_prompt)
    assert cost.calls == 1 + cost.decode_tokens
    assert sequence.cost[DRAFT].tokens == 0


@pytest.mark.parametrize("different", [False, True])
def test_flops_of_generation_charge_each_token_to_its_author(different: bool) -> None:
    """Guards catch-up counted as generation, and checks that are left out."""
    for index in range(6):
        pair = FakePair(truncation="remove", different=different)
        sequence = new_sequence(index)
        run_all(pair.scheduler(), [sequence])
        counted = count_flops(sequence, SHAPES)
        generation = 0.0
        n_written = {role: view.n_prompt for role, view in sequence.views.items()}
        for token in sequence.tokens:
            generation += flops_of(token.author, n_written[token.author] - 1, 1)
            if token.hit is not None:
                generation += flops_of(DRAFT, n_written[DRAFT] - 1, 1)
            for role in n_written:
                n_written[role] += n_ids(pair, token.author, token.id, role)
        n_prompt, n_tokens = sequence.views[LEADER].n_prompt, len(sequence.tokens)
        assert counted.generation == generation
        assert counted.total == sum(cost.flops for cost in sequence.cost.values())
        assert counted.leader_only == flops_of(LEADER, 0, n_prompt + n_tokens - 1)
        assert counted.leader_only_generation == flops_of(LEADER, n_prompt - 1, n_tokens)


def n_ids(pair: FakePair, author: Role, token: int, reader: Role) -> int:
    if pair.vocabulary.is_end(author, token):
        return 0
    return len(pair.vocabulary.translate(author, token, reader))


def test_leading_alone_costs_what_leader_only_says() -> None:
    """Guards the baseline: what a leader-mode run really evaluates is `leader_only`."""
    sequence = new_sequence(4, mode="leader", max_tokens=25)
    run_all(FakePair(truncation="remove").scheduler(), [sequence])
    counted = count_flops(sequence, SHAPES)
    assert sequence.finish_reason is FinishReason.LENGTH
    assert counted.total == counted.leader_only


@pytest.mark.parametrize("call", [2, 3])
def test_what_was_evaluated_before_an_interrupt_is_charged(call: int) -> None:
    """Guards a resumed response that is too cheap: the tokens of the earlier calls stay in the cache."""
    pair = FakePair(n_slots=1, n_batch=4, truncation="remove")
    pair.models[LEADER].raise_at[call] = KeyboardInterrupt()
    scheduler, sequence = pair.scheduler(), new_sequence(0, mode="leader", prompt=[2] * 15)
    scheduler.add(sequence)
    with pytest.raises(KeyboardInterrupt):
        scheduler.step()
    assert pair.models[LEADER].cached(0) == 4 * (call - 1)
    assert sequence.cost[LEADER].tokens == scheduler.cost[LEADER].tokens == 4 * (call - 1)
    assert sequence.cost[LEADER].flops == SHAPES[LEADER].flops(4 * (call - 1), 0)
