"""Real models in children: every kind of memory as in this process; and over real workers, where the build has RPC."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT

import foreal_local
from foreal_local.config import Prompting
from foreal_local.errors import WorkerError
from foreal_local.results import Result
from foreal_local.runtime import llama, loaded
from foreal_local.runtime.remote import weights
from foreal_local.runtime.remote.context import RemoteContext

from . import test_conversation, test_slots, test_states
from .engines import PAIRS, RAW, PairMaker, ask, open_engine, settings

needs_rpc = pytest.mark.skipif(not llama.has_rpc(), reason="this build of llama.cpp has no RPC")
PROMPTS = [" so we add two times ten in it", " wait", " then"]


@pytest.fixture
def in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on both roles of any pair are in children, with all of their layers."""
    monkeypatch.setattr(loaded, "workers_of", lambda runtime, roles: {role: [] for role in roles})
    monkeypatch.setattr(llama, "require_rpc", lambda: None)
    monkeypatch.setattr(weights, "HOST", "local_host:LocalHost")
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0.9, "proposals": 4}, {"mode": "speculative", "proposals": 3}, {"gate": "never", "review": "exact"}],
    ids=str,
)
@pytest.mark.parametrize("name", PAIRS)
def test_a_child_writes_what_this_process_writes(
    name: str, options: dict[str, Any], make: PairMaker, request: pytest.FixtureRequest
) -> None:
    """Guards rows, marks, truncations and copies that come to a child in another order, or not at all."""
    pair, generation = make(name), settings(temp=0.7, **options)
    here = ask(pair, PROMPTS, generation, n_slots=2)
    request.getfixturevalue("in_children")
    there = ask(pair, PROMPTS, generation, n_slots=2)
    assert [result.error for result in there] == [None] * 3
    assert [[t.id for t in r.tokens] for r in there] == [[t.id for t in r.tokens] for r in here]
    assert [work(result) for result in there] == [work(result) for result in here]


def work(result: Result) -> list[tuple[int, int]]:
    return [(cost.calls, cost.tokens) for cost in result.sequence.cost.values()]


@pytest.mark.usefixtures("in_children")
class TestInChildren:
    """Tests of states, slots and conversations, with both roles in children."""

    @pytest.mark.parametrize("name", ["llama", "gemma3", "lfm2+llama"])
    def test_saved_states(self, name: str, make: PairMaker, tmp_path: Path) -> None:
        test_states.test_going_on_from_disk_writes_what_never_stopping_writes(name, 0.7, make, tmp_path)

    @pytest.mark.parametrize("name", ["lfm2", "mamba", "gemma3"])
    def test_marks(self, name: str, make: PairMaker) -> None:
        test_states.test_where_a_prompt_was_read_to_can_be_come_back_to(name, make)

    def test_copies_between_slots(self, make: PairMaker, tmp_path: Path) -> None:
        test_slots.test_more_chats_than_slots_cost_time_only(make, tmp_path)

    @pytest.mark.parametrize("kind", ["llama", "lfm2", "gemma3"])
    def test_answers_again(self, kind: str, make: PairMaker, tmp_path: Path) -> None:
        test_conversation.test_writing_the_last_answer_again_reads_nothing_again(kind, make, tmp_path)

    def test_a_shared_prefix(self, make: PairMaker) -> None:
        pair, prompts = make("llama"), [f"{PROMPTS[0] * 8} {i}" for i in range(5)]
        with open_engine(pair, n_slots=2, shared_prefix=True) as engine:
            assert isinstance(engine.loaded.lanes[0][test_states.LEADER], RemoteContext)
            shared = engine.generate(prompts, settings(), RAW)
        alone = ask(pair, prompts, settings())
        assert [[t.id for t in r.tokens] for r in shared] == [[t.id for t in r.tokens] for r in alone]

    def test_a_child_that_dies_between_answers_is_replaced(self, make: PairMaker) -> None:
        with open_engine(make("lfm2+llama")) as engine:
            first = engine.generate(PROMPTS[0], settings(), RAW)
            child = engine.loaded._weights[test_states.LEADER]._child  # type: ignore[union-attr]
            assert child
            os.kill(child.pid, signal.SIGKILL)
            while not child.is_lost:
                time.sleep(0.01)
            again = engine.generate(PROMPTS[0], settings(), RAW)
        assert [t.id for t in again.tokens] == [t.id for t in first.tokens]


# ---------------------------------------------------------------- real workers
@contextmanager
def worker(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One on this machine: its address, and its process."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    words = ["-m", "foreal_local", "rpc-worker", "--listen", f"127.0.0.1:{port}", "--threads", "1"]
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.05)
        yield f"127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@needs_rpc
@pytest.mark.parametrize("name", ["llama", "moe", "gemma3", "lfm2", "mamba"])
def test_over_workers_the_text_is_the_same(name: str, make: PairMaker) -> None:
    """Guards layers, caches and states that are wrong on another machine, for every kind of memory."""
    pair, generation = make(name), settings(temp=0.0, max_tokens=40)
    options = {"flash_attention": "off", "kv_type_k": "f32", "kv_type_v": "f32"}
    here = ask(pair, PROMPTS, generation, n_slots=2, **options)
    with worker() as (one, _), worker() as (two, _), worker() as (three, _):
        there = ask(pair, PROMPTS, generation, 2, leader_rpc=f"{one},{two}", draft_rpc=three, **options)
    assert [result.error for result in there] == [None] * 3
    same = sum([t.id for t in a.tokens] == [t.id for t in b.tokens] for a, b in zip(here, there, strict=True))
    assert same >= 2, "one may differ at a near tie"


@needs_rpc
def test_a_worker_that_is_killed_fails_the_answer_and_comes_back(make: PairMaker) -> None:
    """Guards what llama.cpp does when it loses a worker: it ends the process."""
    pair = make("llama")
    with worker() as (address, process):
        port = int(address.rpartition(":")[2])
        with open_engine(pair, leader_rpc=address) as engine:
            run = engine.run([foreal_local.Prompt(PROMPTS[0])], settings(max_tokens=400), RAW)
            next(run)
            process.kill()
            started = time.monotonic()
            with pytest.raises(WorkerError, match=f"{address} does not answer: start it again"):
                list(run)
            assert time.monotonic() - started < 8
            with pytest.raises(WorkerError, match="cannot be reached"):
                engine.generate(PROMPTS[0], settings(), RAW)
            process.wait()
            with worker(port):
                assert engine.generate(PROMPTS[0], settings(), RAW).error is None


@needs_rpc
def test_a_worker_serves_the_next_one_after_the_last(make: PairMaker) -> None:
    """Guards a worker that keeps what a client had, or a second client that waits without end."""
    pair = make("llama")
    with worker() as (address, _):
        for _ in range(2):
            with open_engine(pair, leader_rpc=address) as engine:
                assert engine.generate(PROMPTS[0], settings(), Prompting(raw=True)).error is None
                with pytest.raises(WorkerError, match="serves somebody else"):
                    open_engine(pair, leader_rpc=address)
