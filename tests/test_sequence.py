"""A response in the making, by hand: what append, judge, stop strings and save points leave behind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import extensions
import numpy as np
import pytest
from fakes import DRAFT, END, ID, LEADER, FakeVocabulary, ids_of
from runs import new_sequence

from foreal_local.config import Generation
from foreal_local.method.roles import Role
from foreal_local.method.sentences import Verdict
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import Choice, FinishReason


def write(sequence: Sequence, role: Role, *pieces: str | bytes, different: bool = False) -> None:
    """Append tokens as the scheduler would."""
    vocabulary = FakeVocabulary(different)
    for piece in pieces:
        token = ID[piece if isinstance(piece, bytes) else piece.encode()]
        choice = Choice(role, len(sequence.views[role].ids), token, token)
        ids = {reader: vocabulary.translate(role, token, reader) for reader in sequence.views}
        sequence.append(choice, vocabulary.piece(role, token), ids)


def started(led: bool = True, **settings: object) -> Sequence:
    sequence = new_sequence(0, prompt=[2, 3], draft_prompt=[2, 3, 4], **settings)  # type: ignore[arg-type]
    sequence.open_sentence(led)
    return sequence


# ---------------------------------------------------------------- tokens and views
def test_each_view_keeps_its_prompt_and_follows_the_response() -> None:
    """Guards a token's start taken for its index: prompts differ, and one id is two for the reader."""
    sequence = started()
    write(sequence, LEADER, "So", b"<a>", " we", different=True)
    leader, draft = sequence.views[LEADER], sequence.views[DRAFT]
    assert leader.ids == [2, 3, ID[b"So"], 1, ID[b" we"]]
    assert draft.ids == [2, 3, 4, ID[b"So"], ID[b"<"], ID[b"a>"], ID[b" we"]]
    assert (leader.n_prompt, draft.n_prompt) == (2, 3)
    assert (leader.starts, draft.starts) == ([2, 3, 4], [3, 4, 6])


def test_the_prompt_is_copied() -> None:
    """Guards a prompt list that grows in the caller's hands."""
    prompt = [2, 3]
    sequence = new_sequence(0, prompt=prompt)
    sequence.open_sentence(True)
    write(sequence, LEADER, "So")
    assert prompt == [2, 3]


def test_tokens_know_their_sentence_and_author() -> None:
    sequence = started()
    write(sequence, LEADER, "So", "?")
    write(sequence, DRAFT, "\n")
    assert sequence.verdict is Verdict.END
    sequence.open_sentence(False)
    write(sequence, DRAFT, " we")
    assert [(t.sentence, t.led, t.author) for t in sequence.tokens] == [
        (0, True, LEADER), (0, True, LEADER), (0, True, DRAFT), (1, False, DRAFT),
    ]  # fmt: skip
    assert (sequence.n_sentences, sequence.n_led, sequence.n_handoffs) == (2, 1, 1)
    assert (sequence.n_written(LEADER), sequence.n_written(DRAFT)) == (2, 2)
    assert sequence.text == "So?\n we"


def test_a_handoff_is_the_drafts_first_token_in_a_led_sentence() -> None:
    """Guards handoffs counted where the next sentence is simply the draft's, or counted per token."""
    sequence = started()
    write(sequence, LEADER, "So", "\n")
    sequence.open_sentence(False)
    write(sequence, DRAFT, " we", "\n")
    assert sequence.n_handoffs == 0
    sequence.open_sentence(True)
    write(sequence, LEADER, " we")
    write(sequence, DRAFT, " get", " x", "\n")
    sequence.open_sentence(True)
    write(sequence, LEADER, " we", "\n")
    assert sequence.n_handoffs == 1


# ---------------------------------------------------------------- hits
def test_the_hit_counter_runs_through_the_checks_of_a_sentence() -> None:
    """Guards a counter that starts again with each batch of checks, or goes on after a miss."""
    sequence = started()
    write(sequence, LEADER, "So", " we", " get")
    sequence.judge((False, True), 0)
    write(sequence, LEADER, " x", " is")
    sequence.judge((True, True), 1)
    write(sequence, DRAFT, " two")
    assert [t.hit for t in sequence.tokens] == [None, False, True, True, True, None]
    assert [t.hits for t in sequence.tokens] == [0, 0, 1, 2, 3, 3]


def test_the_hit_counter_starts_at_nothing_in_each_sentence() -> None:
    sequence = started()
    write(sequence, LEADER, "So")
    sequence.judge((True,), 0)
    write(sequence, DRAFT, "\n")
    sequence.open_sentence(True)
    write(sequence, LEADER, "So", " we")
    assert [t.hits for t in sequence.tokens] == [1, 1, 0, 0]
    sequence.judge((True,), 0)
    assert [t.hits for t in sequence.tokens] == [1, 1, 0, 1]


# ---------------------------------------------------------------- sentence ends
def test_asking_whether_a_piece_confirms_the_end_changes_nothing() -> None:
    """Guards a peek that leaves its half character in the decoder."""
    sequence = started()
    write(sequence, LEADER, "So", ".")
    assert sequence.verdict is Verdict.MAYBE
    assert sequence.confirms_end(b" the")
    assert not sequence.confirms_end(b"1")
    assert not sequence.confirms_end(b"\xc3")
    write(sequence, LEADER, "1")
    assert sequence.text == "So.1"


def test_an_end_within_a_piece_is_an_end_after_it() -> None:
    sequence = started()
    write(sequence, LEADER, "So", ". So")
    assert sequence.verdict is Verdict.END
    sequence.open_sentence(True)
    assert sequence.verdict is Verdict.NO


# ---------------------------------------------------------------- finishing
def test_the_first_reason_stays() -> None:
    """Guards a cancellation (or a second failure) that rewrites how a response ended."""
    sequence = started(max_tokens=2)
    write(sequence, LEADER, "So", " we")
    sequence.finish(FinishReason.CANCELLED)
    sequence.finish(FinishReason.ERROR, "late")
    assert (sequence.finish_reason, sequence.error) == (FinishReason.LENGTH, None)


@pytest.mark.parametrize("max_tokens", [2, 3, None])
def test_the_end_token_is_a_stop_even_as_the_last_one_allowed(max_tokens: int | None) -> None:
    """Guards "length" for a response that ended by itself with its very last token."""
    sequence = started(max_tokens=max_tokens)
    write(sequence, LEADER, "So")
    sequence.append_end(Choice(LEADER, 3, END, END))
    assert sequence.finish_reason is FinishReason.STOP
    assert [t.id for t in sequence.tokens] == [ID[b"So"], END]
    assert sequence.tokens[-1].text == ""
    assert [len(view.starts) for view in sequence.views.values()] == [2, 2]
    assert sequence.views[LEADER].ids == [2, 3, ID[b"So"]]


@pytest.mark.parametrize("by_end_token", [True, False])
def test_half_a_character_becomes_one_replacement(by_end_token: bool) -> None:
    """Guards bytes that vanish, or that are replaced twice."""
    sequence = started()
    write(sequence, LEADER, "So", b"\xf0\x9f")
    if by_end_token:
        sequence.append_end(Choice(LEADER, 4, END, END))
    else:
        sequence.finish(FinishReason.CONTEXT)
    sequence.finish(FinishReason.CANCELLED)
    assert sequence.text == "So\ufffd"


def test_a_stop_string_takes_the_half_character_behind_it_along() -> None:
    """Guards a replacement character that appears after the cut."""
    sequence = started(stop=("we",))
    write(sequence, LEADER, "So", b"\xc3", " we")
    assert sequence.finish_reason is FinishReason.STOP
    assert sequence.text == "So\ufffd "


def test_a_stop_string_cuts_the_text_of_several_tokens() -> None:
    sequence = started(stop=("3.1",))
    write(sequence, LEADER, " x", "3", ".", "2")
    assert not sequence.finished
    write(sequence, DRAFT, "3", ".", "1")
    assert sequence.finish_reason is FinishReason.STOP
    assert [t.text for t in sequence.tokens] == [" x", "3", ".", "2", "", "", ""]
    assert [t.id for t in sequence.tokens[4:]] == ids_of("3.1")


# ---------------------------------------------------------------- what may be shown
def test_tokens_are_given_once_and_held_while_a_stop_may_follow() -> None:
    """Guards text that is shown twice, or shown and then taken back."""
    sequence = started(stop=("3.1",))
    shown = []
    for piece in (" x", "3", ".", "2", "3", "."):
        write(sequence, LEADER, piece)
        shown.append("".join(token.text for token in sequence.take_ready()))
    assert shown == [" x", "", "", "3.2", "", ""]
    sequence.finish(FinishReason.LENGTH)
    assert "".join(token.text for token in sequence.take_ready()) == "3."
    assert sequence.take_ready() == []


def test_half_a_character_is_not_shown_before_its_rest() -> None:
    """Guards a token whose text grows after it was shown."""
    sequence = started()
    write(sequence, LEADER, "So", b"\xc3")
    assert "".join(token.text for token in sequence.take_ready()) == "So"
    sequence.finish(FinishReason.CONTEXT)
    assert "".join(token.text for token in sequence.take_ready()) == "\ufffd"


# ---------------------------------------------------------------- random streams and copies
def test_the_streams_hang_on_seed_and_index_alone() -> None:
    """Guards answers that change with neighbours, settings or earlier runs; and equal streams."""

    def draws(seed: int, index: int, **settings: object) -> tuple[float, ...]:
        sequence = new_sequence(index, seed=seed, **settings)  # type: ignore[arg-type]
        return (*sequence.gate_rng.random(3), *sequence.token_rng.random(3))

    assert draws(1, 0) == draws(1, 0, n=99, temp=1.0, prompt=[9])
    streams = [draws(seed, index)[part : part + 3] for seed in (0, 1, 2) for index in (0, 1) for part in (0, 3)]
    assert len(set(streams)) == 12


def test_the_two_streams_do_not_touch() -> None:
    """Guards gates that take from the tokens' numbers: p must not change what is drawn for a token."""
    one, two = new_sequence(0), new_sequence(0)
    one.gate_rng.random(100)
    assert one.token_rng.random() == two.token_rng.random()


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_goes_on_by_itself(how: str) -> None:
    """Guards save points that share lists or random state with what goes on; half characters and holds too."""
    sequence = started(stop=("x two",))
    write(sequence, LEADER, "So", " x", b"\xc3")
    saved = copy.deepcopy(sequence) if how == "deepcopy" else pickle.loads(pickle.dumps(sequence))
    write(sequence, LEADER, " the")
    sequence.gate_rng.random()
    write(saved, DRAFT, b"\xa9")
    assert sequence.text == "So x\ufffd the"
    assert saved.text == "So xé"
    assert saved.gate_rng.random() == new_sequence(0).gate_rng.random()
    assert len(saved.views[DRAFT].ids) == 3 + 4


def test_a_seed_is_required() -> None:
    """Guards a run that cannot be repeated because nobody knows its seed."""
    with pytest.raises(AssertionError, match="seed"):
        Sequence("0", 0, Generation(), {})
    assert isinstance(new_sequence(0, seed=2**63).gate_rng, np.random.Generator)


def test_roles_name_each_other() -> None:
    assert (LEADER.other, DRAFT.other) == (DRAFT, LEADER)
    assert f"{LEADER} {FinishReason.STOP}" == "leader stop"


# ---------------------------------------------------------------- taking back
@pytest.fixture
def rewriting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        extensions.install(patch)
        yield


def state_of(sequence: Sequence) -> tuple[object, ...]:
    views = {role: (list(view.ids), list(view.starts)) for role, view in sequence.views.items()}
    return ([(t.id, t.text, t.sentence) for t in sequence.tokens], views, sequence.verdict, sequence.text)


@pytest.mark.usefixtures("rewriting")
@pytest.mark.parametrize("n", range(1, 5))
def test_what_is_taken_back_was_never_there(n: int) -> None:
    """Guards a view, a half character, a stop or the sentence detector that remembers what was dropped."""
    pieces = ["So", b"\xf0\x9f", b"\x98\x80", " e.g", ".", "3"]
    sequence = started(mode="proofread")
    for at, piece in enumerate(pieces):
        if at == len(pieces) - n:
            before = state_of(sequence)
            half = sequence._decoder.getstate()
        write(sequence, DRAFT, piece)
    sequence.rewind(len(pieces) - n, "a test")
    assert state_of(sequence) == before
    assert sequence._decoder.getstate()[0] == half[0]
    assert [len(back.tokens) for back in sequence.taken_back] == [n]
    for piece in pieces[len(pieces) - n :]:
        write(sequence, LEADER, piece)
    again = started(mode="proofread")
    write(again, DRAFT, *pieces)
    assert [token.text for token in sequence.tokens] == [token.text for token in again.tokens]
    assert sequence.verdict is again.verdict


@pytest.mark.usefixtures("rewriting")
def test_a_whole_open_sentence_may_be_taken_back_and_no_more() -> None:
    """Guards a sentence's number that is used up, and settled text that goes."""
    sequence = started(mode="proofread")
    write(sequence, DRAFT, "So", "?", "\n")
    sequence.open_sentence(False)
    write(sequence, DRAFT, " we", " get")
    sequence.rewind(3, "a test")
    assert sequence.opening
    write(sequence, LEADER, " x")
    assert [token.sentence for token in sequence.tokens] == [0, 0, 0, 1]
    with pytest.raises(AssertionError):
        sequence.rewind(2, "a test")


@pytest.mark.usefixtures("rewriting")
def test_text_is_shown_once_its_sentence_has_ended() -> None:
    """Guards a stream of what may still be taken back; another mode's is shown at once."""
    sequence, plain = started(mode="proofread"), started(mode="draft")
    for each in (sequence, plain):
        write(each, DRAFT, "So", " we")
    assert [len(each.take_ready()) for each in (sequence, plain)] == [0, 2]
    write(sequence, DRAFT, "\n")
    assert sequence.take_ready() == []
    sequence.open_sentence(False)
    assert len(sequence.take_ready()) == 3
    write(sequence, DRAFT, " x")
    assert sequence.take_ready() == []
    sequence.finish(FinishReason.CANCELLED)
    assert [token.text for token in sequence.take_ready()] == [" x"]


def test_half_a_character_becomes_whole_when_a_full_context_was_not_the_end() -> None:
    """Guards a U+FFFD that stays before the character whose half it stood for."""
    sequence = started()
    write(sequence, LEADER, "So", b"\xc3")
    sequence.finish(FinishReason.CONTEXT)
    assert sequence.text == "So\ufffd"
    sequence.reopen()
    write(sequence, LEADER, b"\xa9")
    assert sequence.text == "So\xe9"
