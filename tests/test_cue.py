"""The cue over the fakes: led sentences begin with it, the draft writes all the rest, and it costs nothing to write."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from fakes import DRAFT, END, SHAPES, FakePair, ids_of
from runs import drawn_gates, new_sequence, outcome, run_all
from test_turns import flops_of

from foreal_local.flops import count_flops
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason, Token


def cued(index: int = 0, pair: FakePair | None = None, **settings: Any) -> Sequence:
    """A finished response; its tokens are shown as they are written."""
    sequence = new_sequence(index, **{"mode": "cue", "temp": 0.6, **settings})
    shown = run_all((pair or FakePair(n_slots=1, truncation="refuse")).scheduler(), [sequence])
    assert shown == {sequence.id: sequence.text}
    return sequence


def sentences(sequence: Sequence) -> list[list[Token]]:
    return [list(tokens) for _, tokens in groupby(sequence.tokens, key=lambda token: token.sentence)]


@pytest.mark.parametrize("cue", ["Wait,", "So two", "Wait."])
@pytest.mark.parametrize("boundaries", ["robust", "simple"])
def test_every_led_sentence_begins_with_the_cue_and_no_other_does(cue: str, boundaries: str) -> None:
    """Guards a cue that is left out, written twice or in the middle of a sentence, also after a peeked end."""
    n_led = n_others = 0
    for index in range(12):
        sequence = cued(index, cue=cue, boundaries=boundaries, max_tokens=90)
        for tokens in sentences(sequence):
            given = [token.id for token in tokens if token.inserted]
            assert given == [token.id for token in tokens[: len(given)]]
            whole = ids_of(cue) if tokens[0].led else []
            assert given == whole or (given == whole[: len(given)] and tokens[-1] is sequence.tokens[-1])
            n_led += tokens[0].led
            n_others += not tokens[0].led
    assert min(n_led, n_others) > 20


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_the_gate_says_which_sentences_are_led(p: float) -> None:
    """Guards a gate that is asked twice or not for every sentence, and counts that are not those of the sentences."""
    for index in range(12):
        sequence = cued(index, p=p, seed=index)
        led = [tokens[0].led for tokens in sentences(sequence)]
        gates = drawn_gates(new_sequence(index, mode="cue", p=p, seed=index), 99)
        assert led == gates[: len(led)]
        assert (sequence.n_sentences, sequence.n_led, sequence.n_handoffs) == (len(led), sum(led), 0)


@pytest.mark.parametrize("temp", [0.0, 0.7])
def test_leading_never_is_draft_mode(temp: float) -> None:
    """Guards a mode that changes what the draft writes where no cue is given."""
    for index in range(6):
        alone = new_sequence(index, mode="draft", temp=temp)
        run_all(FakePair().scheduler(), [alone])
        assert outcome(cued(index, p=0.0, temp=temp)) == outcome(alone)


def test_a_cue_is_nobodys_and_costs_what_reading_it_costs() -> None:
    """Guards given tokens that are charged as written, or that are evaluated one by one or twice."""
    for index in range(8):
        pair = FakePair(n_slots=1, n_batch=512)
        sequence = cued(index, pair, p=0.7)
        view, cost, counted = sequence.views[DRAFT], sequence.cost[DRAFT], count_flops(sequence, SHAPES)
        authors = [None if token.inserted else token.author for token in sequence.tokens]
        assert sequence.n_written(DRAFT) == authors.count(DRAFT)
        assert sequence.n_inserted == authors.count(None) > 0
        written = [i for i, author in enumerate(authors) if author]
        assert counted.generation == sum(flops_of(DRAFT, view.starts[i] - 1, 1) for i in written)
        assert counted.total == flops_of(DRAFT, 0, cost.tokens)
        assert cost.tokens <= len(view.ids)
        assert cost.decode_tokens == sum(len(row.tokens) == 1 for rows in pair.models[DRAFT].records for row in rows)
        assert cost.calls <= len(written) + sequence.n_led + 1, "more than a token dropped for each cue"


def test_a_space_stands_before_the_cue_where_none_is() -> None:
    """Guards a cue that is glued to the sentence before it, and two spaces or one at a line's beginning."""
    asked: list[tuple[str, str]] = []
    for index in range(8):
        pair = FakePair(n_slots=1)
        sequence = new_sequence(index, mode="cue", temp=0.6)
        spell = pair.vocabulary.encode

        def encode(role: Any, text: str, spell: Any = spell, sequence: Sequence = sequence) -> list[int]:
            asked.append((sequence.text[-1:], text))
            return spell(role, text)

        pair.vocabulary.encode = encode  # type: ignore[method-assign]
        run_all(pair.scheduler(), [sequence])
    assert {before.isspace() for before, _ in asked if before} == {True, False}
    for before, text in asked:
        assert text == ("Wait," if not before or before.isspace() else " Wait,")


def test_what_the_draft_wanted_after_the_end_is_dropped_for_the_cue() -> None:
    """Guards a token that was chosen after other text: it showed the sentence's end, then the cue came."""
    pair = FakePair()
    seeds = (i for i in range(99) if drawn_gates(new_sequence(seed=i, p=0.5), 2) == [False, True])
    pair.models[DRAFT].script([2], [*ids_of("So we get."), END])
    pair.models[DRAFT].script([2, *ids_of("So we get.Wait,")], [*ids_of(" x two"), END])
    sequence = cued(0, pair, prompt=[2], seed=next(seeds), p=0.5, temp=0.0)
    assert sequence.text == "So we get.Wait, x two"  # the fakes have no piece with the space
    assert [token.inserted for token in sequence.tokens] == [False] * 4 + [True] * 2 + [False] * 3
    assert sequence.finish_reason is FinishReason.STOP


# ---------------------------------------------------------------- where it ends
def test_max_tokens_counts_the_cues_tokens() -> None:
    """Guards a response that is longer than allowed by what is left of a cue."""
    full = [token.id for token in cued(3, p=1.0, max_tokens=60).tokens]
    ends = set()
    for n in range(1, 60):
        sequence = cued(3, p=1.0, max_tokens=n)
        assert [token.id for token in sequence.tokens] == full[:n]
        assert sequence.finish_reason is FinishReason.LENGTH
        ends.add(sequence.tokens[-1].inserted)
    assert ends == {True, False}


@pytest.mark.parametrize(("stop", "left"), [("it", "Wa"), ("ait,", "W"), (", x", "Wait"), ("Wait", "")])
def test_a_stop_string_may_begin_in_a_cue(stop: str, left: str) -> None:
    """Guards a cue that is shown, and stays, beyond a stop string that it has a part in."""
    pair = FakePair()
    pair.models[DRAFT].script([2, *ids_of("Wait,")], ids_of(" x two"))
    sequence = cued(0, pair, prompt=[2], p=1.0, stop=(stop,), temp=0.0)
    assert (sequence.text, sequence.finish_reason) == (left, FinishReason.STOP)


def test_a_cue_that_is_a_sentence_leaves_the_next_one_to_the_gate() -> None:
    """Guards a draft that goes on in a sentence that has ended, and a step that is never over."""
    n_whole = 0
    for index in range(6):
        sequence = cued(index, cue="Wait!\n", p=0.5, max_tokens=40)
        for tokens in sentences(sequence)[:-1]:
            assert tokens[0].led == all(token.inserted for token in tokens)
            n_whole += tokens[0].led
    assert n_whole > 10


def test_cues_alone_fill_the_context_too() -> None:
    """Guards a response without an end: each cue is a sentence, and the gate is always open."""
    scheduler = FakePair(n_ctx=20).scheduler()
    sequence = new_sequence(mode="cue", cue="Wait!\n", p=1.0, max_tokens=None)
    scheduler.add(sequence)
    for _ in range(200):
        if scheduler.idle:
            break
        scheduler.step()
    assert sequence.finish_reason is FinishReason.CONTEXT
    assert len(sequence.views[DRAFT].ids) < 20 + 2 * len(ids_of("Wait!\n"))


def test_no_cue_after_the_reasoning() -> None:
    """Guards an answer that begins to think again: it would never end."""
    pair = FakePair()
    sequence = new_sequence(mode="cue", p=1.0, max_tokens=60)
    scheduler = pair.scheduler()
    scheduler.add(sequence)
    while sequence.n_sentences < 3 and not sequence.finished:
        scheduler.step()
    assert sequence.n_inserted > 0
    sequence.tokens[-1].text += "</think>"
    before = sequence.n_inserted
    while not scheduler.idle:
        scheduler.step()
    assert sequence.n_inserted == before
