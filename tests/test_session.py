"""Sessions on disk: what was saved comes back, and a damaged file never gives anything else."""

from __future__ import annotations

import functools
import json
import os
import random
from pathlib import Path

import pytest
from fakes import DRAFT, LEADER, FakePair
from runs import new_sequence, outcome, run_all

from foreal_local.errors import SessionError
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.runtime.model import Identity, Snapshot
from foreal_local.storage import session
from foreal_local.storage.saved_sequence import as_dict, from_dict
from foreal_local.storage.session import read_session, write_session

IDENTITY = Identity({"leader": "a1", "draft": "b2"}, {"leader": "f16 512", "draft": "f16 512"})


@functools.cache
def run_to(n_tokens: int) -> tuple[str, dict[Role, Snapshot]]:
    scheduler, sequence = FakePair(n_slots=1).scheduler(), new_sequence(2, seed=4, temp=0.8)
    scheduler.add(sequence)
    while len(sequence.tokens) < n_tokens:
        scheduler.step()
    states = scheduler.save(sequence)
    return json.dumps(as_dict(sequence)), states


def stopped(n_tokens: int = 40) -> tuple[Sequence, dict[Role, Snapshot]]:
    """A sequence stopped after about so many tokens, and its states."""
    values, states = run_to(n_tokens)
    return from_dict(json.loads(values)), states


def finished(sequence: Sequence, states: dict[Role, Snapshot] | None = None) -> dict[str, object]:
    scheduler = FakePair(n_slots=2).scheduler()
    scheduler.add(sequence, states)
    while not scheduler.idle:
        scheduler.step()
        scheduler.check()
    return outcome(sequence)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "one.session"
    write_session(path, *stopped(), IDENTITY)
    return path


def test_a_session_is_resumed_from_its_file(saved: Path) -> None:
    """Guards anything that a file leaves out."""
    sequence, states = stopped()
    found = read_session(saved, IDENTITY)
    assert as_dict(found.sequence) == as_dict(sequence)
    assert {role: bytes(state.data) for role, state in found.states.items()} == {
        role: bytes(state.data) for role, state in states.items()
    }
    assert set(found.states) == {LEADER, DRAFT}
    assert found.notes == []
    uninterrupted = new_sequence(2, seed=4, temp=0.8)
    run_all(FakePair(n_slots=1).scheduler(), [uninterrupted])
    assert finished(found.sequence, found.states) == outcome(uninterrupted)


def same_or_refused(path: Path, expected: dict[str, object], states: dict[Role, Snapshot]) -> str:
    """Read a damaged file: either refused, or the very sequence, with none but true states."""
    try:
        found = read_session(path, IDENTITY)
    except SessionError:
        return "refused"
    for role, state in found.states.items():
        assert (state.n_tokens, bytes(state.data)) == (states[role].n_tokens, bytes(states[role].data))
    assert as_dict(found.sequence) == expected
    assert found.notes or len(found.states) == 2
    return "whole" if len(found.states) == 2 else "again"


def test_a_flipped_byte_anywhere_is_never_gone_on_with(saved: Path, tmp_path: Path) -> None:
    """Guards states and streams that are wrong by a byte: one flip always leaves the text."""
    data, rng = saved.read_bytes(), random.Random(1)
    sequence, states = stopped()
    expected, path = as_dict(sequence), tmp_path / "flipped.session"
    outcomes = []
    for at in [*range(40), *range(len(data) - 40, len(data)), *(rng.randrange(len(data)) for _ in range(200))]:
        damaged = bytearray(data)
        damaged[at] ^= rng.randint(1, 255)
        path.write_bytes(damaged)
        outcomes.append(same_or_refused(path, expected, states))
    assert set(outcomes) == {"whole", "again"}, "a copy of the header was lost with the other"


def test_a_truncated_file_is_never_resumed_wrongly(saved: Path, tmp_path: Path) -> None:
    """Guards a file whose end is missing: its text is there as long as the first header is."""
    data, rng = saved.read_bytes(), random.Random(2)
    sequence, states = stopped()
    expected, path = as_dict(sequence), tmp_path / "short.session"
    outcomes = []
    for size in [0, 1, 8, 31, len(data) - 1, *(rng.randrange(len(data)) for _ in range(60))]:
        path.write_bytes(data[:size])
        outcomes.append(same_or_refused(path, expected, states))
    assert set(outcomes) == {"whole", "again", "refused"}
    assert outcomes[:4] == ["refused"] * 4


def test_many_flips_at_once_are_never_resumed_wrongly(saved: Path, tmp_path: Path) -> None:
    """Guards both headers damaged: then there is nothing, and it says so."""
    data, rng = saved.read_bytes(), random.Random(3)
    sequence, states = stopped()
    expected, path = as_dict(sequence), tmp_path / "noise.session"
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.choice([2, 20, 2000])):
            damaged[rng.randrange(len(data))] ^= rng.randint(1, 255)
        path.write_bytes(damaged)
        same_or_refused(path, expected, states)


def test_other_models_are_refused_and_the_error_has_the_text(saved: Path) -> None:
    """Guards one model's ids and states given to another."""
    other = Identity({"leader": "a1", "draft": "zz"}, IDENTITY.contexts)
    with pytest.raises(SessionError, match="another draft model") as caught:
        read_session(saved, other)
    assert caught.value.text == stopped()[0].text != ""


def test_other_context_settings_cost_time_only(saved: Path) -> None:
    """Guards a state of another cache type; the sequence itself is as good as before."""
    found = read_session(saved, Identity(IDENTITY.models, {"leader": "f32", "draft": "f16 512"}))
    assert set(found.states) == {DRAFT}
    assert len(found.notes) == 1
    assert "leader" in found.notes[0]
    uninterrupted = new_sequence(2, seed=4, temp=0.8)
    run_all(FakePair(n_slots=1).scheduler(), [uninterrupted])
    assert finished(found.sequence, found.states) == outcome(uninterrupted)


def test_another_version_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards files of a later version read as if they were of this one."""
    monkeypatch.setattr(session, "VERSION", 7)
    write_session(tmp_path / "later", *stopped(), IDENTITY)
    monkeypatch.undo()
    with pytest.raises(SessionError, match=r"version 7, but this program reads 1"):
        read_session(tmp_path / "later", IDENTITY)


@pytest.mark.parametrize("content", [b"", b"hello", b"FOREALST", os.urandom(500)])
def test_what_is_no_session_is_refused(content: bytes, tmp_path: Path) -> None:
    """Guards a crash on any other file."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SessionError, match=r"file is (torn|not a session file)"):
        read_session(path, IDENTITY)
    with pytest.raises(SessionError, match="No such file"):
        read_session(tmp_path / "missing", IDENTITY)


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a full disk: the old session stays, and no scratch file."""
    before = saved.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_session(saved, *stopped(60), IDENTITY)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_stream_takes_little_room(tmp_path: Path) -> None:
    """Guards headers that outgrow the states: at most 40 bytes for a token, both copies together."""
    sequence, states = stopped(70)
    write_session(tmp_path / "one", sequence, {}, IDENTITY)
    n_fixed = 2 * 900
    assert (tmp_path / "one").stat().st_size < n_fixed + 40 * len(sequence.tokens)
    assert states
