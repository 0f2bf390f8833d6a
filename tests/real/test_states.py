"""Saved states of every kind of memory: stopped anywhere, written to disk, resumed in another process's engine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreal_local.engine import Engine
from foreal_local.errors import SequenceError, SessionError
from foreal_local.method.roles import Role
from foreal_local.method.sequence import Sequence
from foreal_local.runtime.llama import Context
from foreal_local.runtime.model import Model, Row
from foreal_local.runtime.scheduler import Scheduler
from foreal_local.storage.session import read_session, write_session

from .engines import LEADER, PAIRS, RAW, PairMaker, ask, open_engine, settings

PROMPT = " so we add two times ten in it"


def scheduler_of(engine: Engine) -> Scheduler:
    models: dict[Role, Model] = dict(engine.loaded.lanes[0])
    return Scheduler(models, engine.loaded.tokens, engine.loaded.shapes)


def new_sequence(engine: Engine, **options: Any) -> Sequence:
    return Sequence("one", 0, settings(**options), engine.encode(PROMPT, RAW).ids)


def run(scheduler: Scheduler) -> None:
    while not scheduler.idle:
        scheduler.step()


# ---------------------------------------------------------------- never back
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "llama"])
def test_plain_generation_takes_nothing_back_and_needs_no_mark(
    name: str, make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hybrid and recurrent models that are evaluated again, or saved again and again, while they write."""

    def never(*_: Any) -> int:
        raise AssertionError("a token is rewound")

    monkeypatch.setattr(Context, "truncate", never)
    monkeypatch.setattr(Context, "mark", never)
    pair = make(name)
    for options in ({"n": 4, "k": 2}, {"n": 0, "k": 0}, {"n": 2, "k": 3, "hits_from": "sentence", "temp": 0.8}):
        results = ask(pair, [PROMPT, " wait", " then"], settings(max_tokens=80, p=0.7, **options), n_slots=2)
        assert [result.error for result in results] == [None] * 3
        assert sum(result.sequence.n_handoffs for result in results) or "+" in name


@pytest.mark.parametrize("name", ["lfm2", "mamba", "gemma3"])
def test_where_a_prompt_was_read_to_can_be_come_back_to(name: str, make: PairMaker) -> None:
    """Guards an answer that is made again: without a restore point these caches would begin at the first token."""
    with open_engine(make(name)) as engine:
        models: dict[Role, Model] = dict(engine.loaded.lanes[0])
        scheduler = Scheduler(models, engine.loaded.tokens, engine.loaded.shapes)
        sequence = new_sequence(engine, max_tokens=200, boundaries="simple")
        view = sequence.views[LEADER]
        scheduler.add(sequence, reads={LEADER: view.n_prompt - 2})
        while sequence.n_sentences < 6:
            scheduler.step()
        left = models[LEADER].truncate(0, view.n_prompt)
        assert view.n_prompt - 2 <= left <= view.n_prompt
        scheduler.close()


# ---------------------------------------------------------------- stopped anywhere
@pytest.mark.parametrize("temp", [0.0, 0.7])
@pytest.mark.parametrize("name", PAIRS)
def test_going_on_from_disk_writes_what_never_stopping_writes(
    name: str, temp: float, make: PairMaker, tmp_path: Path
) -> None:
    """Guards states that miss a part of the memory, streams of another moment, tokens evaluated again for nothing."""
    pair, rng, points = make(name), random.Random(name), []
    options: dict[str, Any] = {"max_tokens": 120, "n": 3, "k": 1, "p": 0.7, "temp": temp}
    with open_engine(pair) as engine:
        whole = new_sequence(engine, **options)
        scheduler = scheduler_of(engine)
        scheduler.add(whole)
        while not scheduler.idle:
            scheduler.step()
            if not whole.finished and rng.random() < 0.35 and len(points) < 20:
                points.append(tmp_path / f"{len(points)}.session")
                write_session(points[-1], whole, scheduler.save(whole), engine.loaded.identity)
    assert len(points) == 20
    n_again = 0
    with open_engine(pair) as engine:
        for path in points:
            session = read_session(path, engine.loaded.identity)
            assert not session.notes
            scheduler = scheduler_of(engine)
            scheduler.add(session.sequence, session.states)
            run(scheduler)
            assert [t.id for t in session.sequence.tokens] == [t.id for t in whole.tokens]
            assert session.sequence.text == whole.text
            n_more = sum(session.sequence.cost[role].tokens - whole.cost[role].tokens for role in Role)
            assert n_more <= 1 or "llama" not in (name, *name.split("+"))
            n_again += n_more > 1
    assert n_again <= 2, "only where a draft had judged the stream's end and is then asked to write there"


@pytest.mark.parametrize("name", ["llama", "lfm2", "mamba", "gemma3"])
def test_without_its_states_a_session_is_evaluated_again(name: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards text that is lost with a cache: other cache settings, the same greedy continuation."""
    pair, path = make(name), tmp_path / "one.session"
    with open_engine(pair) as engine:
        whole = new_sequence(engine, max_tokens=60)
        scheduler = scheduler_of(engine)
        scheduler.add(whole)
        while len(whole.tokens) < 30:
            scheduler.step()
        write_session(path, whole, scheduler.save(whole), engine.loaded.identity)
        run(scheduler)
    with open_engine(pair, kv_type_k="f32", kv_type_v="f32", flash_attention="on") as engine:
        session = read_session(path, engine.loaded.identity)
        assert 1 <= len(session.notes) <= 2
        assert not session.states
        scheduler = scheduler_of(engine)
        scheduler.add(session.sequence)
        run(scheduler)
        same = [a.id == b.id for a, b in zip(session.sequence.tokens, whole.tokens, strict=False)]
        assert all(same[:31])


# ---------------------------------------------------------------- damaged
@pytest.mark.parametrize("name", ["llama", "lfm2+llama"])
def test_no_damaged_byte_reaches_llama_cpp(name: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards crashes of the process and wrong states: 200 flips and 50 truncations of a real file."""
    rng, path = random.Random(5), tmp_path / "one.session"
    with open_engine(make(name)) as engine:
        whole = new_sequence(engine, max_tokens=80)
        scheduler = scheduler_of(engine)
        scheduler.add(whole)
        while len(whole.tokens) < 40:
            scheduler.step()
        states = scheduler.save(whole)
        write_session(path, whole, states, engine.loaded.identity)
        scheduler.close()
        data = path.read_bytes()
        expected = next_logits(engine, whole, states)
        n_refused = n_without = 0
        for i in range(250):
            damaged = bytearray(data)
            if i < 200:
                damaged[rng.randrange(len(data))] ^= rng.randint(1, 255)
            else:
                del damaged[rng.randrange(len(data)) :]
            path.write_bytes(damaged)
            try:
                session = read_session(path, engine.loaded.identity)
            except SessionError:
                n_refused += 1
                continue
            assert [t.id for t in session.sequence.tokens] == [t.id for t in whole.tokens]
            n_without += len(session.states) < 2
            for role, logits in next_logits(engine, session.sequence, session.states).items():
                np.testing.assert_array_equal(logits, expected[role])
        assert n_refused < 50, "a flip is never the end of a text"
        assert n_without > 100


def next_logits(engine: Engine, sequence: Sequence, states: dict[Role, Any]) -> dict[Role, np.ndarray]:
    """What each restored model says after the next token of its view."""
    found = {}
    for role, state in states.items():
        context = engine.loaded.lanes[0][role]
        context.restore(0, state)
        token = sequence.views[role].ids[min(state.n_tokens, len(sequence.views[role].ids) - 1)]
        (output,) = context.evaluate([Row(0, [token], 1)])
        assert output.logits is not None
        found[role] = output.logits.copy()
        context.release(0)
    return found


@pytest.mark.parametrize("kind", ["llama", "gemma3", "lfm2", "mamba"])
def test_a_state_longer_than_the_context_is_refused(kind: str, make: PairMaker) -> None:
    """Guards positions beyond the end of a smaller context: the state is refused, or not asked for."""
    with open_engine(make(kind)) as large, open_engine(make(kind), ctx_size=64) as small:
        context = large.loaded.lanes[0][LEADER]
        list(context.evaluate([Row(0, large.encode(PROMPT * 40, RAW).ids[LEADER], 1)]))
        state = context.save(0)
        assert state.n_tokens > 300
        tight = small.loaded.lanes[0][LEADER]
        try:
            tight.restore(0, state)
        except SequenceError:
            assert tight.cached(0) == 0
        tight.release(0)
        scheduler = scheduler_of(small)
        sequence = Sequence("x", 0, settings("leader", max_tokens=5), {LEADER: small.encode(" wait", RAW).ids[LEADER]})
        scheduler.add(sequence, {LEADER: state})
        run(scheduler)
        assert sequence.error is None
        assert len(sequence.tokens) == 5
