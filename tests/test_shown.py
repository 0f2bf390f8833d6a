"""What events show while a response is written: characters, stop strings, and that nothing is taken back."""

from __future__ import annotations

import random

import pytest
from fakes import DRAFT, END, ID, LEADER, FakePair, ids_of
from reference import first_stop
from runs import SETTINGS, new_sequence, run_all

from foreal_local.errors import EvaluationError
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import FinishReason

E_ACUTE, EMOJI = [ID[b"\xc3"], ID[b"\xa9"]], [ID[b"\xf0\x9f"], ID[b"\x98\x80"]]


def scripted(ids: list[int], stop: tuple[str, ...] = (), max_tokens: int | None = 80) -> tuple[Sequence, str]:
    """The draft writes these ids; returns the sequence and what was shown of it, piece by piece."""
    pair = FakePair(truncation="remove", n_ctx=64)
    pair.models[DRAFT].script([2], [*ids, END])
    sequence = new_sequence(0, prompt=[2], mode="draft", stop=stop, max_tokens=max_tokens)
    return sequence, run_all(pair.scheduler(), [sequence])["0"]


# ---------------------------------------------------------------- stop strings
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("e",), "So w"),  # inside a token
        ((" the",), "So we get"),  # one token
        (("et the s",), "So we g"),  # across tokens
        (("So we",), ""),  # from the start
        (("of",), "So we get the sum "),  # at the end
        (("sum of",), "So we get the "),
        (("nowhere", "the sum"), "So we get "),
        (("sum", "get"), "So we "),  # the one that comes first
        (("t the s", "the"), "So we get "),  # the one that is complete first
        (("nowhere",), "So we get the sum of"),
        ((" the theory", "sum  "), "So we get the sum of"),  # beginnings only
    ],
)
def test_a_stop_string_ends_the_response_and_is_not_part_of_it(stop: tuple[str, ...], text: str) -> None:
    """Guards a stop that is missed at a token's edge, or that leaves a part of itself."""
    sequence, shown = scripted(ids_of("So we get the sum of"), stop)
    assert sequence.text == shown == text
    assert sequence.finish_reason is FinishReason.STOP
    assert (sequence.tokens[-1].id == END) == (text == "So we get the sum of")


def test_a_stop_string_may_be_written_by_both() -> None:
    """Guards looking for stops in one role's text: " we" is the leader's, " get" the draft's."""
    pair = FakePair(truncation="remove")
    for model in pair.models.values():
        model.script([2], ids_of("So we get the sum"))
    sequence = new_sequence(0, prompt=[2], p=1.0, n=1, k=0, stop=("we g",))
    shown = run_all(pair.scheduler(), [sequence])["0"]
    assert [t.author for t in sequence.tokens] == [LEADER, LEADER, DRAFT] or sequence.text == shown == "So "
    assert sequence.text == shown == "So "


def test_a_stop_string_with_split_characters() -> None:
    """Guards counting bytes for characters: the stop begins in one token's half character."""
    sequence, shown = scripted([*ids_of("So x"), *E_ACUTE, *ids_of(" the"), *EMOJI], ("é the",))
    assert sequence.text == shown == "So x"
    sequence, shown = scripted([*ids_of("So x"), *E_ACUTE, *EMOJI, *ids_of(" the")], ("😀",))
    assert sequence.text == shown == "So xé"


def test_text_is_held_back_only_while_it_may_be_a_stop() -> None:
    """Guards streaming that lags behind: what can no longer become the stop string is shown at once."""
    pair = FakePair(truncation="remove")
    pair.models[DRAFT].script([2], [*ids_of("So we get the sum"), END])
    sequence = new_sequence(0, prompt=[2], mode="draft", stop=("we the",))
    scheduler = pair.scheduler()
    scheduler.add(sequence)
    shown = ["".join(t.text for event in scheduler.step() for t in event.tokens) for _ in range(6)]
    assert shown == ["So", "", " we get", " the", " sum", ""]


# ---------------------------------------------------------------- characters
def test_split_characters_are_shown_when_they_are_complete() -> None:
    """Guards U+FFFD for a character that two tokens, or two authors, write together."""
    ids = [*ids_of("So"), *E_ACUTE, *EMOJI, *E_ACUTE, *ids_of(" x")]
    sequence, shown = scripted(ids)
    assert sequence.text == shown == "Soé😀é x"
    pair = FakePair(truncation="remove")
    for model in pair.models.values():
        model.script([2], [*ids, END])
    for n in range(6):
        joint = new_sequence(0, prompt=[2], p=1.0, n=n, k=0)
        assert run_all(pair.scheduler(), [joint])["0"] == joint.text == "Soé😀é x"
        assert joint.n_written(LEADER) == n + 1


def test_a_torn_character_is_replaced_once() -> None:
    sequence, shown = scripted([*ids_of("So"), E_ACUTE[0], *ids_of(" x"), E_ACUTE[1], *ids_of(" x")])
    assert sequence.text == shown == "So\ufffd x\ufffd x"


@pytest.mark.parametrize("reason", ["end", "length", "context", "error", "cancelled"])
def test_half_a_character_at_the_end_is_shown_as_one(reason: str) -> None:
    """Guards text added to a token that has been shown: half a character must wait for its end as well."""
    ids = [*ids_of("So we"), EMOJI[0]]
    pair = FakePair(truncation="remove", n_ctx=3 if reason == "context" else 64)
    pair.models[DRAFT].script([2], [*ids, END])
    if reason == "error":
        pair.models[DRAFT].fails = lambda model, row: model.cached(row.slot) == 3
    sequence = new_sequence(0, prompt=[2], mode="draft", max_tokens=3 if reason == "length" else 80)
    scheduler = pair.scheduler()
    if reason == "cancelled":
        scheduler.add(sequence)
        shown = "".join(t.text for _ in range(3) for event in scheduler.step() for t in event.tokens)
        scheduler.cancel(sequence)
        shown += "".join(token.text for token in sequence.take_ready())
    else:
        shown = run_all(scheduler, [sequence])["0"]
    assert sequence.text == "So we\ufffd"
    assert shown == sequence.text


# ---------------------------------------------------------------- any text
def test_what_was_shown_is_the_text() -> None:
    """Guards every way to show too much, too little or in the wrong order: random stops and settings."""
    rng = random.Random(4)
    pair = FakePair(n_slots=8, truncation="remove")
    parts = ["the", " t", "he s", "é", ".", "\n", "x", "of t", "😀", ". So", "1", " two x", '"', "\ufffd", "s.\n"]
    sequences = []
    for i in range(150):
        stop = tuple(rng.choice(parts) + rng.choice(["", "", *parts]) for _ in range(rng.randrange(5)))
        settings = {key: value for key, value in SETTINGS[i % len(SETTINGS)].items() if key != "stop"}
        sequences.append(new_sequence(i, seed=i, max_tokens=rng.randrange(1, 80), stop=stop, **settings))
    shown = run_all(pair.scheduler(), sequences)
    assert shown == {s.id: s.text for s in sequences}
    for sequence in sequences:
        assert first_stop(sequence.text, sequence.settings, sequence.tags, ended=True) is None
    stopped = [s for s in sequences if s.finish_reason is FinishReason.STOP and s.tokens[-1].id != END]
    assert len(stopped) > 10


def test_the_text_without_the_stop_is_a_beginning_of_the_text_without_stops() -> None:
    """Guards a stop string that changes what is written before it."""
    for i in range(30):
        free, stopped = new_sequence(i), new_sequence(i, stop=("the", "x is"))
        for sequence in (free, stopped):
            run_all(FakePair(truncation="remove").scheduler(), [sequence])
        ends = [free.text.find(stop) for stop in ("the", "x is") if stop in free.text]
        assert stopped.text == (free.text[: min(ends)] if ends else free.text)


# ---------------------------------------------------------------- events
@pytest.mark.parametrize("error", [KeyboardInterrupt(), EvaluationError("broken")], ids=repr)
def test_no_event_is_lost_when_a_step_is_interrupted(error: BaseException) -> None:
    """Guards tokens and ends of sequences that came out before the interrupt: the next step tells them."""
    pair = FakePair(n_slots=4, n_batch=2, truncation="remove")
    sequences = [new_sequence(i, prompt=[2 + i], mode="draft", max_tokens=5) for i in range(4)]
    pair.models[DRAFT].raise_at[10] = error  # the fifth turn, its second call: two sequences have just ended
    scheduler = pair.scheduler()
    shown = {s.id: "" for s in sequences}
    finished = []
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        try:
            events = scheduler.step()
        except (KeyboardInterrupt, EvaluationError):
            events = []
        scheduler.check()
        for event in events:
            shown[event.sequence.id] += "".join(token.text for token in event.tokens)
            finished += [event.sequence.id] * event.finished
    assert not pair.models[DRAFT].raise_at
    assert sorted(finished) == sorted(shown)
    assert shown == {s.id: s.text for s in sequences}
