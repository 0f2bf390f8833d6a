"""Pairs whose models have different words: each reads the other's text, and all else is as with one vocabulary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import DRAFT, FOREIGN_ORDER, PIECES, FakePair
from runs import AHEAD, SETTINGS, new_sequence, prompt_of, run_all

from foreal_local.method.modes import roles_of
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.storage.saved_sequence import as_dict, from_dict

HALVES = frozenset({b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80"})
JOINED = frozenset({b".\n", b". So", b"\n\n", b"...", b"<a>", b"a>", b"b>", b"<"})
"""Words that others make together: where these are written, a text is read as other tokens than were written."""
OWN = [FOREIGN_ORDER.index(token) for token in range(len(PIECES))]
PLAIN = [each for each in [*SETTINGS, *AHEAD] if "grammar" not in each]


def sequences(settings: dict[str, Any], foreign: bool, n: int = 6) -> list[Sequence]:
    found = []
    for i in range(n):
        prompt = prompt_of(i)
        sequence = new_sequence(i, seed=i % 3, prompt=prompt, **settings)
        if foreign and DRAFT in roles_of(sequence.settings.mode):
            own = [OWN[token] for token in prompt]
            sequence = new_sequence(i, seed=i % 3, prompt=prompt, draft_prompt=own, **settings)
        found.append(sequence)
    return found


def told(sequence: Sequence) -> list[Any]:
    """All that does not hang on numbers of words."""
    fields = [(t.author, t.text, t.sentence, t.led, t.hit, t.hits, t.inserted) for t in sequence.tokens]
    taken = [(each.at, each.tokens[0].text) for each in sequence.taken_back]  # what follows hangs on what is read ahead
    return [fields, taken, sequence.finish_reason, sequence.stopped_by, sequence.n_handoffs]


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("settings", PLAIN, ids=str)
def test_other_numbers_for_the_same_words_change_nothing(settings: dict[str, Any], truncation: str) -> None:
    """Guards an id that is taken for the other model's, hits that compare ids, and reviews, rewrites and proposals that
    stand at another place of the text."""
    shared, foreign = sequences(settings, False), sequences(settings, True)
    banned = HALVES | JOINED
    run_all(FakePair(truncation="remove", banned=banned).scheduler(), shared)
    run_all(FakePair(truncation=truncation, foreign=True, banned=banned).scheduler(), foreign)
    for one, other in zip(shared, foreign, strict=True):
        assert told(other) == told(one)


def text_in(sequence: Sequence, role: Role, pair: FakePair) -> bytes:
    view = sequence.views[role]
    return b"".join(pair.vocabulary.piece(role, token) or b"" for token in view.ids[view.n_prompt :]) + view.pending


@pytest.mark.parametrize("settings", PLAIN, ids=str)
def test_each_reads_the_text_as_its_own_tokens(settings: dict[str, Any]) -> None:
    """Guards a view that doubles, drops or splits characters where the border falls inside a word or a character; a
    cache that holds what the view does not; and restarts that read on from another place."""
    pair = FakePair(truncation="remove", foreign=True, banned=HALVES)
    found, again = sequences(settings, True), sequences(settings, True)
    run_all(pair.scheduler(), found)
    for i, sequence in enumerate(again):
        while not sequence.finished:
            scheduler = FakePair(truncation="remove", foreign=True, banned=HALVES).scheduler()
            scheduler.add(sequence)
            for _ in range(7):
                scheduler.step()
                scheduler.check()
            if not sequence.finished:
                scheduler.withdraw(sequence)
            sequence = again[i] = from_dict(json.loads(json.dumps(as_dict(sequence))))
    for sequence, restarted in zip(found, again, strict=True):
        assert told(restarted) == told(sequence)
        pieces = [pair.vocabulary.piece(t.author, t.id) or b"" for t in sequence.tokens]
        for role, view in sequence.views.items():
            assert text_in(sequence, role, pair) == b"".join(pieces)
            assert view.starts == sorted(view.starts)
            assert len(view.starts) == len(sequence.tokens)
