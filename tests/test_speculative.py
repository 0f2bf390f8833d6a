"""Speculative decoding over the fakes: the text is the leader's alone, whatever is proposed, and it costs less.

The leader alone is the measure here; what it should write is reference.py's question.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from fakes import DRAFT, END, LEADER, SHAPES, SPECIAL, FakePair, ids_of
from runs import new_sequence, outcome, run_all
from test_turns import flops_of

from foreal_local.config import Sampling
from foreal_local.errors import EvaluationError
from foreal_local.flops import count_flops
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason
from foreal_local.method.view import n_common
from foreal_local.runtime.scheduler import Scheduler
from foreal_local.storage.saved_sequence import as_dict, from_dict

SAMPLINGS = {
    "greedy": Sampling(0.0),
    "sampled": Sampling(0.8),
    "penalised": Sampling(0.0, repeat_penalty=1.3, repeat_last_n=8),
    "both": Sampling(0.8, top_p=0.9, repeat_penalty=1.2, repeat_last_n=64),
}
PAIRS: list[dict[str, Any]] = [
    {"n_slots": 1, "n_batch": 512, "truncation": "remove"},
    {"n_slots": 2, "n_batch": 3, "truncation": "clear", "different": True},
    {"n_slots": 4, "n_batch": 1, "truncation": "remove", "different": True},
    {"n_slots": 8, "n_batch": 7, "truncation": "clear"},
]
"""Every number of slots, rows cut into many calls and none, both kinds of memory, one vocabulary and two."""


def speculative(index: int = 0, **settings: Any) -> Sequence:
    return new_sequence(index, **{"mode": "speculative", "proposals": 3, **settings})


def alone(indices: Iterable[int], n_ctx: int = 512, **settings: Any) -> list[Sequence]:
    """The leader's own responses; what the draft reads does not matter to them."""
    settings = {key: value for key, value in settings.items() if key not in ("proposals", "draft_prompt")}
    sequences = [new_sequence(i, mode="leader", **settings) for i in indices]
    run_all(FakePair(n_slots=len(sequences), n_ctx=n_ctx).scheduler(), sequences)
    return sequences


def written(sequence: Sequence) -> dict[str, Any]:
    """All that must be the same as alone: also how far the random numbers have been used."""
    view = sequence.views[LEADER]
    return {
        "tokens": [
            (t.id, t.author, t.text, t.sentence, t.led, t.top1, t.hit, t.hits, t.inserted) for t in sequence.tokens
        ],
        "view": (view.ids, view.starts),
        "text": sequence.text,
        "finish": (sequence.finish_reason, sequence.error),
        "counts": (sequence.n_sentences, sequence.n_led, sequence.n_handoffs),
        "random": [rng.bit_generator.state for rng in (sequence.token_rng, sequence.gate_rng)],
    }


def assert_same(sequences: Iterable[Sequence], expected: Iterable[Sequence]) -> None:
    for sequence, other in zip(sequences, expected, strict=True):
        assert written(sequence) == written(other)


def run_on(scheduler: Scheduler) -> int:
    """Step until nothing is left, whatever is raised; how often it was."""
    n_raised = 0
    while not scheduler.idle:
        try:
            scheduler.step()
        except (EvaluationError, KeyboardInterrupt):
            n_raised += 1
        scheduler.check()
    return n_raised


# ---------------------------------------------------------------- the text
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("proposals", [1, 3, 8])
@pytest.mark.parametrize("agreement", [0.0, 0.4, 0.9, 1.0])
def test_the_text_is_the_leaders_alone(agreement: float, proposals: int, sampling: str) -> None:
    """Guards a proposal that is written without being the leader's choice, logits or random numbers of another place,
    a sentence end that is missed inside a step, and proposals that stay in a cache."""
    settings = {"sampling": SAMPLINGS[sampling], "max_tokens": 50, "seed": 4}
    expected = alone(range(4), **settings)
    assert sum(s.n_sentences for s in expected) > 8
    for options in PAIRS:
        pair = FakePair(agreement=agreement, **options)
        sequences = [speculative(i, proposals=proposals, **settings) for i in range(4)]
        scheduler = pair.scheduler()
        shown = run_all(scheduler, sequences)
        assert_same(sequences, expected)
        assert shown == {s.id: s.text for s in sequences}
        assert pair.n_held == 0


@pytest.mark.parametrize("boundaries", ["robust", "simple"])
@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_a_stop_string_cuts_where_it_cuts_the_leader(temp: float, boundaries: str) -> None:
    """Guards tokens that are written after a stop string because they were verified in the same row."""
    settings: dict[str, Any] = {"temp": temp, "boundaries": boundaries, "stop": ("sum of", "x?", "e e")}
    expected = alone(range(20), **settings)
    assert sum(s.finish_reason is FinishReason.STOP and s.tokens[-1].id != END for s in expected) >= 3
    for options in PAIRS:
        sequences = [speculative(i, proposals=6, **settings) for i in range(20)]
        run_all(FakePair(agreement=0.9, **options).scheduler(), sequences)
        assert_same(sequences, expected)


@pytest.mark.parametrize("agreement", [0.6, 1.0])
def test_max_tokens_ends_it_where_it_ends_the_leader(agreement: float) -> None:
    """Guards tokens beyond the last, and proposals for places that will not be written."""
    for n in range(1, 30):
        pair = FakePair(n_slots=1, agreement=agreement, truncation="remove")
        sequence = speculative(6, proposals=4, max_tokens=n, temp=0.8)
        run_all(pair.scheduler(), [sequence])
        assert_same([sequence], alone([6], max_tokens=n, temp=0.8))
        ends = [
            row.before + len(row.tokens) for model in pair.models.values() for rows in model.records for row in rows
        ]
        assert max(ends) <= sequence.views[LEADER].n_prompt + n


@pytest.mark.parametrize("longer", [LEADER, DRAFT, None])
@pytest.mark.parametrize("truncation", ["remove", "clear"])
def test_a_full_context_of_either_ends_the_text_where_it_ends_the_leaders(truncation: str, longer: Role | None) -> None:
    """Guards proposals that no longer fit, and a response that the draft's context ends instead of the leader's."""
    reasons = []
    for n_ctx in range(24, 42):
        prompts = {
            LEADER: {"prompt": [2, 3, 4] * (5 if longer is LEADER else 1)},
            DRAFT: {"draft_prompt": [5, 6, 7] * (5 if longer is DRAFT else 1)},
        }
        settings: dict[str, Any] = {**prompts[LEADER], "max_tokens": None, "temp": 0.8, "seed": n_ctx}
        sequences = [speculative(i, proposals=1 + n_ctx % 5, **settings, **prompts[DRAFT]) for i in range(3)]
        run_all(FakePair(n_slots=2, n_ctx=n_ctx, n_batch=8, truncation=truncation).scheduler(), sequences)
        expected = alone(range(3), n_ctx, **settings)
        assert_same(sequences, expected)
        reasons += [sequence.finish_reason for sequence in expected]
    assert reasons.count(FinishReason.CONTEXT) > 20


def test_a_proposal_that_is_two_tokens_for_the_leader_is_left_out_where_it_has_no_room() -> None:
    """Guards the context's last place where the vocabularies differ."""
    text = ids_of(" x we get" * 9)
    found = []
    for mode in ("leader", "speculative"):
        pair = FakePair(n_ctx=20, truncation="remove", different=True)
        pair.models[LEADER].script([2], text)
        for n in range(20):
            pair.models[DRAFT].script([2, *text[:n]], [SPECIAL])
        sequence = new_sequence(prompt=[2], mode=mode, max_tokens=None)
        run_all(pair.scheduler(), [sequence])
        found.append(written(sequence))
    assert found[0] == found[1]


def test_an_end_is_the_leaders_to_write() -> None:
    """Guards an end that the draft proposes, or that it does not foresee: nothing is written after the leader's."""
    text = ids_of("So we get. x two sum of")
    for n_draft, n_leader in itertools.product(range(len(text)), repeat=2):
        pair = FakePair(truncation="remove")
        pair.models[DRAFT].script([2], [*text[:n_draft], END])
        pair.models[DRAFT].script([2, *text[: n_draft + 1]], [*text[n_draft + 1 :], *text])
        pair.models[LEADER].script([2], [*text[:n_leader], END])
        sequence = speculative(prompt=[2], proposals=3)
        run_all(pair.scheduler(), [sequence])
        assert [token.id for token in sequence.tokens] == [*text[:n_leader], END]
        assert {token.author for token in sequence.tokens} == {LEADER}
        assert sequence.finish_reason is FinishReason.STOP
        assert sequence.views[DRAFT].ids == sequence.views[LEADER].ids == [2, *text[:n_leader]]


# ---------------------------------------------------------------- stopped and going on
@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("with_states", [False, True])
def test_taken_out_and_put_back_at_any_step_it_writes_the_same(with_states: bool, truncation: str) -> None:
    """Guards proposals saved as if they were the stream's, and a flow that does not find its place again."""
    settings: dict[str, Any] = {"temp": 0.8, "max_tokens": 40}
    expected = alone(range(3), **settings)
    n_proposing = 0
    for at in range(1, 60, 2):
        pair = FakePair(n_slots=2, n_batch=5, truncation=truncation, different=bool(at % 3))
        scheduler = pair.scheduler()
        sequences = [speculative(i, **settings) for i in range(3)]
        for sequence in sequences:
            scheduler.add(sequence)
        for _ in range(at):
            if not scheduler.idle:
                scheduler.step()
        if sequences[0].finished:
            break
        n_proposing += any(job.ahead.ids[DRAFT] for job in scheduler._jobs if job.sequence is sequences[0])
        states = scheduler.save(sequences[0])
        scheduler.check()
        for role, state in states.items():
            assert state.n_tokens <= len(sequences[0].views[role].ids)
        scheduler.withdraw(sequences[0])
        scheduler.check()
        sequences[0] = from_dict(json.loads(json.dumps(as_dict(sequences[0]))))
        scheduler.add(sequences[0], states if with_states else None)
        run_on(scheduler)
        assert_same(sequences, expected)
    assert n_proposing > 3


def test_a_restored_state_is_not_evaluated_again() -> None:
    """Guards states that are saved and then ignored: each model goes on after what it had evaluated."""
    first, second = FakePair(n_slots=1, truncation="remove"), FakePair(n_slots=1, truncation="remove")
    sequence, scheduler = speculative(2, max_tokens=None), first.scheduler()
    scheduler.add(sequence)
    while len(sequence.tokens) < 30:
        scheduler.step()
    states, saved = scheduler.save(sequence), copy.deepcopy(sequence)
    for role, view in saved.views.items():
        assert len(view.ids) - 4 <= states[role].n_tokens <= len(view.ids)
    scheduler = second.scheduler()
    scheduler.add(saved, states)
    run_on(scheduler)
    assert {role: model.records[0][0].before for role, model in second.models.items()} == {
        role: state.n_tokens for role, state in states.items()
    }


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("role", [DRAFT, LEADER])
def test_an_interrupt_or_an_error_at_any_call_costs_time_only(role: Role, truncation: str) -> None:
    """Guards proposals that outlive the evaluation that was broken off: while proposing, and between two calls for
    one row, when a part of it has been verified."""
    settings: dict[str, Any] = {"temp": 0.8, "max_tokens": 40}
    expected = alone(range(3), **settings)
    n_raised = n_half = 0
    for call in range(1, 45):
        pair = FakePair(n_slots=2, n_batch=3, agreement=0.9, truncation=truncation)
        pair.models[role].raise_at[call] = KeyboardInterrupt() if call % 2 else EvaluationError("broken")
        scheduler = pair.scheduler()
        sequences = [speculative(i, proposals=4, **settings) for i in range(3)]
        for sequence in sequences:
            scheduler.add(sequence)
        while not scheduler.idle:
            n_before = [len(sequence.tokens) for sequence in sequences]
            try:
                scheduler.step()
            except (EvaluationError, KeyboardInterrupt):
                n_raised += 1
                n_half += n_before != [len(sequence.tokens) for sequence in sequences]
            scheduler.check()
        assert_same(sequences, expected)
        assert pair.n_held == 0
    assert n_raised > 30
    assert n_half > 10 or role is DRAFT


def test_any_trouble_costs_time_only() -> None:
    """Guards everything at once: saves, restarts with and without states, and interrupts, many in one response."""
    for seed in range(30):
        rng = random.Random(seed)
        settings: dict[str, Any] = {"temp": rng.choice([0.0, 0.8]), "max_tokens": 50, "seed": seed}
        settings["stop"] = rng.choice([(), ("sum of", "x?")])
        pair = FakePair(agreement=rng.choice([0.0, 0.7, 1.0]), n_ctx=64, **rng.choice(PAIRS))
        scheduler = pair.scheduler(skip_limit=rng.choice([0, 16]))
        sequences = [speculative(i, proposals=rng.choice([1, 3, 8]), **settings) for i in range(4)]
        for sequence in sequences:
            scheduler.add(sequence)
        while not scheduler.idle:
            if rng.random() < 0.1:
                model = pair.models[rng.choice(list(Role))]
                model.raise_at = {model.n_calls + rng.randrange(1, 4): KeyboardInterrupt()}
            try:
                scheduler.step()
            except KeyboardInterrupt:
                pass
            scheduler.check()
            at = rng.randrange(4)
            if rng.random() < 0.1 and not sequences[at].finished:
                states = scheduler.save(sequences[at])
                scheduler.check()
                if rng.random() < 0.7:
                    scheduler.withdraw(sequences[at])
                    sequences[at] = copy.deepcopy(sequences[at])
                    scheduler.add(sequences[at], states if rng.random() < 0.5 else None)
        assert_same(sequences, alone(range(4), 64, **settings))
        assert pair.n_held == 0


def test_cancelling_at_any_step_keeps_what_was_written_and_frees_the_slot() -> None:
    """Guards proposals that are taken for text, and a slot that stays filled with them."""
    settings: dict[str, Any] = {"max_tokens": 30, "temp": 0.8}
    expected = alone(range(3), **settings)
    for at in range(40):
        pair = FakePair(n_slots=2, truncation="remove")
        scheduler = pair.scheduler()
        sequences = [speculative(i, **settings) for i in range(3)]
        for sequence in sequences:
            scheduler.add(sequence)
        for _ in range(at):
            if not scheduler.idle:
                scheduler.step()
        n_written = len(sequences[0].tokens)
        scheduler.cancel(sequences[0])
        scheduler.check()
        run_on(scheduler)
        assert [t.id for t in sequences[0].tokens] == [t.id for t in expected[0].tokens[:n_written]]
        assert_same(sequences[1:], expected[1:])
        assert pair.n_held == 0


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("n_batch", [2, 32])
def test_a_kept_slot_holds_the_stream_and_the_next_turn_goes_on_from_it(n_batch: int, truncation: str) -> None:
    """Guards proposals left in a cache that a conversation takes for its text: finished, cancelled, or broken off."""
    n_reused = 0
    for at in [*range(1, 40), 10_000]:
        pair = FakePair(n_slots=1, n_batch=n_batch, agreement=0.8, truncation=truncation, different=bool(at % 2))
        if at % 3 == 0:
            pair.models[LEADER if at % 2 else DRAFT].raise_at[at // 2] = KeyboardInterrupt()
        first, scheduler = speculative(2, max_tokens=40, temp=0.8, proposals=5), pair.scheduler()
        scheduler.add(first, reuse=True)
        for _ in range(at):
            if scheduler.idle:
                break
            try:
                scheduler.step()
            except KeyboardInterrupt:
                break
        scheduler.cancel(first)
        scheduler.check()
        prompts = {}
        for role, model in pair.models.items():
            prompts[role] = [*first.views[role].ids, 5, 6, 7]
            assert n_common(model.held(0), prompts[role]) == model.cached(0), "the slot holds something else"
        held = {role: model.cached(0) for role, model in pair.models.items()}
        if at == 10_000:
            assert first.finished
            assert held[LEADER] >= len(first.views[LEADER].ids) - 1 or truncation == "clear"
        turn = {"max_tokens": 20, "temp": 0.8, "prompt": prompts[LEADER]}
        second, expected = speculative(3, draft_prompt=prompts[DRAFT], **turn), alone([3], **turn)
        for model in pair.models.values():
            model.records.clear()
        scheduler.add(second, reuse=True)
        run_on(scheduler)
        assert_same([second], expected)
        assert {role: model.records[0][0].before for role, model in pair.models.items()} == held
        n_reused += sum(held.values())
    assert n_reused > 100


# ---------------------------------------------------------------- what it costs
@pytest.mark.parametrize("proposals", [1, 3, 8])
def test_a_perfect_draft_spares_the_leader_all_but_one_call_in_proposals_plus_one(proposals: int) -> None:
    """Guards proposals that are thrown away, and tokens that are evaluated twice or taken back for nothing."""
    n_tokens = 0
    for index in range(8):
        pair = FakePair(n_slots=1, n_batch=512, agreement=1.0, truncation="refuse")
        sequence = speculative(index, proposals=proposals, max_tokens=90)
        run_all(pair.scheduler(), [sequence])
        n_tokens += len(sequence.tokens)
        n_rounds = -(-len(sequence.tokens) // (proposals + 1))
        assert pair.models[LEADER].n_calls == n_rounds
        assert pair.models[DRAFT].n_calls <= n_rounds * proposals
        for role, view in sequence.views.items():
            evaluated = [token for rows in pair.models[role].records for row in rows for token in row.tokens]
            assert evaluated[: len(view.ids)] == view.ids[: len(evaluated)]
            assert len(evaluated) <= len(view.ids) + 1, "at most the proposal that the last token made useless"
    assert n_tokens > 200


def test_a_draft_that_is_never_right_costs_the_leader_no_more_calls() -> None:
    """Guards a leader that verifies and then writes in another call: one call for each token, as alone."""
    for index in range(4):
        pair = FakePair(n_slots=1, n_batch=512, agreement=0.0, truncation="remove")
        text = [token.id for token in alone([index])[0].tokens]
        prompt = new_sequence(index).views[LEADER].ids
        for n, wanted in enumerate(text):
            pair.models[DRAFT].script([*prompt, *text[:n]], [2 if wanted != 2 else 3])
        sequence = speculative(index)
        run_all(pair.scheduler(), [sequence])
        assert pair.models[LEADER].n_calls == len(text)
        assert pair.models[LEADER].n_truncated >= len(text) - 1 - (text[-1] == END)


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("agreement", [0.3, 0.9])
def test_flops_of_generation_are_all_that_was_evaluated_after_the_prompts(agreement: float, truncation: str) -> None:
    """Guards proposals that cost nothing, as the tokens of the draft's that were thrown away, and prompts counted."""
    for index in range(8):
        pair = FakePair(n_slots=1, n_batch=5, agreement=agreement, truncation=truncation)
        sequence = speculative(index, draft_prompt=[5, 6, 7], temp=0.5)
        run_all(pair.scheduler(), [sequence])
        counted, total, generation = count_flops(sequence, SHAPES), 0.0, 0.0
        for role, model in pair.models.items():
            rows = [row for rows in model.records for row in rows]
            work = [flops_of(role, row.before, len(row.tokens)) for row in rows]
            total += sum(work)
            generation += sum(work) - flops_of(role, 0, sequence.views[role].n_prompt - 1)
        assert counted.total == total
        assert counted.generation == generation > 0
        leaders = count_flops(alone([index], temp=0.5)[0], SHAPES)
        assert (counted.leader_only, counted.leader_only_generation) == (leaders.total, leaders.generation)


def test_a_shared_prefix_changes_nothing_of_the_flops_of_generation() -> None:
    """Guards a prompt that is taken off although a neighbour paid for it."""
    prefix = {LEADER: [3, 4, 5, 6, 7, 8], DRAFT: [3, 4, 5, 6]}

    def sequences() -> list[Sequence]:
        return [speculative(i, prompt=[3, 4, 5, 6, 7, 8, 2 + i, 9], max_tokens=20) for i in range(6)]

    plain, shared = sequences(), sequences()
    run_all(FakePair(n_slots=2, truncation="remove").scheduler(), plain)
    run_all(FakePair(n_slots=2, truncation="remove").scheduler(prefixes=prefix), shared)
    assert_same(shared, plain)
    assert sum(s.cost[role].reused_tokens for s in shared for role in Role) > 20
    assert [count_flops(s, SHAPES).generation for s in shared] == [count_flops(s, SHAPES).generation for s in plain]


@pytest.mark.parametrize("full", [LEADER, DRAFT])
def test_flops_of_generation_where_a_full_context_leaves_no_room_to_propose(full: Role) -> None:
    """Guards FLOPs below zero, or below the leader's own: the draft never evaluates its prompt."""
    pair = FakePair(n_slots=1, n_ctx=20, truncation="remove")
    prompts = {role: [2, 3, 4, 5] * (5 if role is full else 4) for role in Role}
    sequence = speculative(prompt=prompts[LEADER], draft_prompt=prompts[DRAFT], max_tokens=3)
    run_all(pair.scheduler(), [sequence])
    assert pair.models[DRAFT].n_calls == 0
    counted = count_flops(sequence, SHAPES)
    assert counted.generation == flops_of(LEADER, len(prompts[LEADER]) - 1, len(sequence.tokens))


# ---------------------------------------------------------------- in mode foreal
LED: list[dict[str, Any]] = [
    {"n": 15, "p": 0.6, "k": 5},
    {"n": 3, "p": 1.0, "k": 2},
    {"n": 4, "p": 0.9, "k": 3, "hits_from": "sentence"},
    {"n": 0, "p": 0.8, "k": 1, "boundaries": "simple", "compare": "sampled"},
    {"n": 1, "p": 0.5, "k": 0, "stop": ("sum of", "x?")},
    {"n": 2, "p": 0.4, "k": 1, "review": "ratio", "call_back": 1.8},
    {"gate": "entropy", "review": "fly", "fly_window": 1},
    {"gate": "never", "review": "ratio", "tau": 0.3, "rewrite_k": 0},
    {"n": 2, "p": 0.4, "k": 1, "review": "ratio", "tau": 0.5, "review_every": 4, "stop": ("sum of", "x?")},
    {"gate": "never", "review": "typical", "typical_eps": 0.3},
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("settings", LED, ids=str)
def test_in_led_parts_proposals_change_nothing_that_is_written(settings: dict[str, Any], sampling: str) -> None:
    """Guards tokens, authors, hits, gates, handoffs and random numbers against what is evaluated ahead of them."""
    n_saved = 0
    for agreement, options in zip((0.4, 0.95, 0.95), PAIRS[:3], strict=True):
        runs = []
        for proposals in (0, 1, 6):
            pair = FakePair(agreement=agreement, **options)
            common: dict[str, Any] = {"sampling": SAMPLINGS[sampling], "proposals": proposals, "max_tokens": 60}
            sequences = [new_sequence(i, seed=i // 2, **common, **settings) for i in range(3)]
            run_all(pair.scheduler(), sequences)
            runs.append(([{**outcome(s), **written(s)} for s in sequences], pair.models[LEADER].n_calls))
        plain, *ahead = runs
        for found, n_calls in ahead:
            assert found == plain[0]
            n_saved += n_calls < plain[1]
    assert n_saved > 1 or sampling != "greedy" or settings.get("k") == 0


def test_the_drafts_proposals_stand_as_its_own_after_a_handoff() -> None:
    """Guards proposals that are evaluated once more where the draft would write them anyway."""
    text = ids_of("So we get the sum of x and two is 4 then")
    pair = FakePair(n_slots=1, truncation="remove")
    for model in pair.models.values():
        model.script([2], [*text, END])
    sequence = new_sequence(prompt=[2], n=2, k=1, p=1.0, proposals=6)
    run_all(pair.scheduler(), [sequence])
    assert [t.author for t in sequence.tokens] == [LEADER] * 3 + [DRAFT] * (len(text) - 2)
    n_evaluated = sum(len(row.tokens) for rows in pair.models[DRAFT].records for row in rows)
    assert n_evaluated == len(sequence.views[DRAFT].ids)


def test_review_exact_is_the_leader_alone() -> None:
    """Guards a draft's token that stands although the leader would have drawn another; also sampled, and with stops."""
    for sampling, (proposals, every) in itertools.product(SAMPLINGS.values(), ((0, 64), (3, 5))):
        settings: dict[str, Any] = {"sampling": sampling, "max_tokens": 50, "seed": 3, "stop": ("sum of the", "x?")}
        expected = alone(range(6), **settings)
        for options in PAIRS:
            reviewed = [
                new_sequence(i, gate="never", review="exact", proposals=proposals, review_every=every, **settings)
                for i in range(6)
            ]
            run_all(FakePair(agreement=0.7, **options).scheduler(), reviewed)
            for one, other in zip(reviewed, expected, strict=True):
                assert [t.id for t in one.tokens] == [t.id for t in other.tokens]
                assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
                assert one.token_rng.bit_generator.state == other.token_rng.bit_generator.state


@pytest.mark.parametrize("temp", [0.0, 0.7])
def test_what_the_draft_is_about_to_write_is_read_at_once(temp: float) -> None:
    """Guards an evaluation of the leader for each sentence, however short it is."""
    n_calls = {}
    for proposals in (0, 16):
        pair = FakePair(n_slots=1, agreement=0.98, truncation="remove")
        settings: dict[str, Any] = {"gate": "never", "review": "ratio", "tau": 0.2, "temp": temp, "max_tokens": 120}
        sequences = [new_sequence(i, seed=i, proposals=proposals, **settings) for i in range(12)]
        run_all(pair.scheduler(), sequences)
        n_calls[proposals] = pair.models[LEADER].n_calls
    n_sentences = sum(sequence.n_sentences for sequence in sequences)
    assert n_calls[0] > n_sentences
    assert n_calls[16] < 0.8 * n_calls[0]


def test_a_draft_goes_no_further_than_what_is_known_to_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards evaluations of the draft behind a token that the leader has refused already."""

    def answered() -> tuple[list[dict[str, Any]], int, int]:
        pair = FakePair(n_slots=1, agreement=0.8, truncation="remove")
        settings: dict[str, Any] = {"gate": "never", "review": "ratio", "tau": 0.5, "rewrite_k": 0, "max_tokens": 80}
        sequences = [new_sequence(i, seed=i, proposals=12, **settings) for i in range(12)]
        run_all(pair.scheduler(), sequences)
        calls = [pair.models[role].n_calls for role in (LEADER, DRAFT)]
        return [{**outcome(s), **written(s)} for s in sequences], calls[0], calls[1]

    found, n_leader, n_draft = answered()
    with monkeypatch.context() as patched:
        patched.setattr("foreal_local.method.speculation.has_fallen", lambda job: False)
        expected, _, n_before = answered()
    assert found == expected
    assert n_draft < 0.9 * n_before
    assert n_leader < n_draft


def test_what_was_stopped_before_its_review_was_not_reviewed() -> None:
    """Guards a record that says the leader has read what it has not."""
    pair = FakePair(n_slots=1, agreement=0.9, truncation="remove")
    scheduler = pair.scheduler()
    sequence = new_sequence(0, gate="never", review="ratio", tau=0.2, proposals=0, max_tokens=60)
    scheduler.add(sequence)
    while len(sequence.tokens) < 3:
        scheduler.step()
    assert pair.models[LEADER].n_calls == sequence.n_reviewed == 0
    scheduler.cancel(sequence)
    assert sequence.n_reviewed == 0
    flops = count_flops(sequence, SHAPES)
    assert flops.generation <= flops.total


def test_review_that_accepts_all_is_none() -> None:
    """Guards a review that changes what it lets stand."""
    for temp in (0.0, 0.7):
        plain = [new_sequence(i, n=2, p=0.5, k=1, temp=temp) for i in range(6)]
        lenient = [new_sequence(i, n=2, p=0.5, k=1, temp=temp, review="ratio", tau=0.0) for i in range(6)]
        for sequences in (plain, lenient):
            run_all(FakePair(truncation="remove").scheduler(), sequences)
        for one, other in zip(lenient, plain, strict=True):
            if temp == 0.0:
                assert outcome(one) == outcome(other)
            assert not one.taken_back


def test_a_review_reads_no_token_again_that_the_leader_chose_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a call of the leader for tokens that it has read as proposals a moment before; the text is the same."""

    def answered(**settings: Any) -> tuple[list[dict[str, Any]], int]:
        pair = FakePair(n_slots=1, agreement=0.85, truncation="remove")
        own = {"gate": "never", "review": "ratio", "tau": 0.5, "rewrite_k": 1, "proposals": 12, "max_tokens": 80}
        sequences = [new_sequence(i, **{**own, **settings}) for i in range(12)]
        run_all(pair.scheduler(), sequences)
        assert sum(len(sequence.taken_back) for sequence in sequences) > 12
        return [{**outcome(s), **written(s)} for s in sequences], pair.models[LEADER].n_calls

    for settings in ({}, {"temp": 0.7}, {"review": "exact"}, {"review": "fly", "fly_window": 1}):
        found, n_calls = answered(**settings)
        with monkeypatch.context() as patched:
            patched.setattr("foreal_local.method.job.note_read", lambda *_: None)
            expected, n_before = answered(**settings)
        assert found == expected
        assert n_calls < n_before, settings
