"""Models in children, with fakes in them: the laws, a child that dies, hangs or is stopped, and its parent's end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from child_hosts import FakeWeights, Flag
from fakes import DRAFT, DRAFT_PIECES, LEADER, SHAPES, FakePair, FakeVocabulary
from runs import AHEAD, SETTINGS, new_sequence, outcome, run_all

from foreal_local.errors import EvaluationError, WorkerError
from foreal_local.method.roles import Role
from foreal_local.runtime.model import CacheLostError, Model, Row
from foreal_local.runtime.remote.context import RemoteContext
from foreal_local.runtime.remote.process import Child
from foreal_local.runtime.remote.sockets import look_after_all
from foreal_local.runtime.scheduler import Scheduler

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def weights() -> Iterator[FakeWeights]:
    """A child that all tests may use that do not end it."""
    made = FakeWeights()
    yield made
    made.close()


@pytest.fixture
def own() -> Iterator[FakeWeights]:
    """A child of the test's own."""
    made = FakeWeights()
    yield made
    made.close()


class Held(RemoteContext):
    """One that tells what its fake really holds."""

    def held(self, slot: int) -> list[int]:
        found: list[int] = [] if self._is_gone else self._ask("held", slot)
        return found


def context(weights: FakeWeights, role: Role = LEADER, trouble: dict[int, str] | None = None, **options: Any) -> Held:
    return Held(weights, *weights.open_context(role, trouble, **options))


def scheduler_of(leader: Model, draft: Model, different: bool = False) -> Scheduler:
    return Scheduler({LEADER: leader, DRAFT: draft}, FakeVocabulary(different), SHAPES)


def remote_scheduler(weights: FakeWeights, different: bool, trouble: dict[int, str] | None = None) -> Scheduler:
    """As FakePair's, with both models in a child."""
    options: dict[str, Any] = {"truncation": "remove"}
    pieces = {"pieces": DRAFT_PIECES} if different else {}
    leader = context(weights, LEADER, trouble, **options)
    return scheduler_of(leader, context(weights, DRAFT, agreement=0.8, **pieces, **options), different)


def finish(scheduler: Scheduler) -> None:
    while not scheduler.idle:
        scheduler.step()


# ---------------------------------------------------------------- laws
@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize("settings", [*SETTINGS[::3], *AHEAD[::2]], ids=str)
def test_models_in_a_child_write_what_models_here_write(
    settings: dict[str, Any], different: bool, weights: FakeWeights
) -> None:
    """Guards outputs of another row, a cache that the parent counts wrongly, changes that come late."""
    here, there = ([new_sequence(i, seed=i % 4, **settings) for i in range(6)] for _ in range(2))
    run_all(FakePair(truncation="remove", different=different).scheduler(), here)
    scheduler = remote_scheduler(weights, different)
    run_all(scheduler, there)
    scheduler.check()
    assert [outcome(sequence) for sequence in there] == [outcome(sequence) for sequence in here]


@pytest.mark.parametrize("settings", [SETTINGS[0], AHEAD[1], AHEAD[4]], ids=str)
def test_stopped_anywhere_and_restored_equals_uninterrupted(settings: dict[str, Any], weights: FakeWeights) -> None:
    """Guards states that do not come through a pipe as they were."""
    whole, again = new_sequence(0, seed=3, **settings), new_sequence(0, seed=3, **settings)
    run_all(FakePair(truncation="remove").scheduler(), [whole])
    first = remote_scheduler(weights, False)
    first.add(again)
    while len(again.tokens) < 20 and not first.idle:
        first.step()
    states = first.save(again)
    assert {type(state.data) for state in states.values()} == {bytes}
    first.withdraw(again)
    second = remote_scheduler(weights, False)
    second.add(again, states)
    run_all(second, [])
    assert outcome(again)["tokens"] == outcome(whole)["tokens"]


def test_an_evaluation_goes_on_only_when_its_next_outputs_are_wanted(weights: FakeWeights) -> None:
    """Guards an evaluation that runs on in the child although its caller has left it."""
    model = context(weights, n_batch=4)
    outputs = model.evaluate([Row(0, [2, 3, 4, 5, 6, 7, 8, 9], 8)])
    next(outputs)
    assert model.cached(0) == 4
    outputs.close()
    assert model.cached(0) == 4
    assert [o.index for o in model.evaluate([Row(0, [6, 7], 1)])] == [1]
    assert model.cached(0) == 6
    assert model.row_calls == [1]


def test_what_a_library_prints_is_no_answer(weights: FakeWeights) -> None:
    """Guards pickles with a library's printf in between."""
    assert weights.child.ask("loud", stopping=Flag()) is None
    assert weights.child.ask("load", 0.01, 1, stopping=Flag()) == "loaded"


# ---------------------------------------------------------------- trouble
@pytest.mark.parametrize(("what", "reason"), [("die", "signal 9"), ("abort", "Remote RPC server crashed")])
def test_a_child_that_dies_fails_what_runs_and_nothing_else(what: str, reason: str, own: FakeWeights) -> None:
    """Guards a hang, a crash of this process, and caches that are believed to be there."""
    scheduler = remote_scheduler(own, False, {5: what})
    sequences = [new_sequence(i) for i in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    started = time.monotonic()
    with pytest.raises(WorkerError, match=reason):
        finish(scheduler)
    assert time.monotonic() - started < 5
    scheduler.close()
    scheduler.check()
    again, whole = new_sequence(7), new_sequence(7)
    run_all(scheduler, [again])
    run_all(FakePair(truncation="remove").scheduler(), [whole])
    assert outcome(again) == outcome(whole), "another child goes on as if nothing had been"


def test_a_child_that_dies_between_two_evaluations_is_replaced_unnoticed(own: FakeWeights) -> None:
    """Guards tokens that are evaluated after a prefix which the new child does not have."""
    here, there = [new_sequence(i) for i in range(4)], [new_sequence(i) for i in range(4)]
    run_all(FakePair(truncation="remove").scheduler(), here)
    scheduler = remote_scheduler(own, False)
    for sequence in there:
        scheduler.add(sequence)
    while not scheduler.idle:
        scheduler.step()
        if len(there[0].tokens) == 12 and own.generation == 0:
            os.kill(own.child.pid, signal.SIGKILL)
            while not own.is_lost:
                time.sleep(0.01)
    assert own.generation == 1
    assert [outcome(sequence)["tokens"] for sequence in there] == [outcome(sequence)["tokens"] for sequence in here]


def test_rows_that_go_on_from_a_lost_cache_are_refused(own: FakeWeights) -> None:
    """Guards wrong logits without a word."""
    model = context(own)
    list(model.evaluate([Row(0, [2, 3, 4], 1)]))
    os.kill(own.child.pid, signal.SIGKILL)
    while not own.is_lost:
        time.sleep(0.01)
    model.truncate(0, 2)
    model.release(1)
    assert model.cached(0) == 2, "nothing that ends an answer raises"
    with pytest.raises(CacheLostError):
        list(model.evaluate([Row(0, [5], 1)]))
    assert model.cached(0) == 0
    assert len(list(model.evaluate([Row(0, [2, 3, 5], 1)]))) == 1


def test_a_silent_child_is_given_up_in_time() -> None:
    """Guards a worker whose machine is gone, on which llama.cpp waits for ever."""
    weights = FakeWeights(timeout=1.0)
    model = context(weights, trouble={1: "hang"})
    started = time.monotonic()
    with pytest.raises(WorkerError, match=r"silent for 1 s \(--rpc-timeout\)"):
        list(model.evaluate([Row(0, [2], 1)]))
    assert time.monotonic() - started < 4
    assert weights.is_lost
    weights.close()


def test_progress_is_a_sign_of_life() -> None:
    """Guards a large model on a slow network that is given up while it is sent."""
    child, told = Child("child_hosts:FakeHost", 1.0), list[float]()
    assert child.ask("load", 2.0, 10, stopping=Flag(), on_progress=told.append) == "loaded"
    assert len(told) == 10
    with pytest.raises(WorkerError):
        child.ask("load", 3.0, 1, stopping=Flag())
    child.close()


def test_an_error_of_the_child_is_raised_here(weights: FakeWeights) -> None:
    """Guards a failed evaluation that ends the child, or is lost with its reason."""
    model = context(weights, trouble={1: "raise"})
    with pytest.raises(EvaluationError, match="llama_decode failed with code -3"):
        list(model.evaluate([Row(0, [2], 1)]))
    assert not weights.is_lost
    assert model.n_calls == 1


@pytest.mark.parametrize(("what", "is_lost"), [("work", False), ("hang", True)])
def test_ctrl_c_ends_an_evaluation(what: str, is_lost: bool, own: FakeWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards Ctrl-C that waits for a worker, and a stop that ends the next evaluation, too."""
    monkeypatch.setattr("foreal_local.runtime.remote.process._GRACE", 0.5)
    model = context(own, trouble={1: what})
    threading.Timer(0.3, lambda: setattr(own.flag, "requested", True)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(model.evaluate([Row(0, [2, 3], 1)]))
    assert time.monotonic() - started < 3
    assert own.is_lost == is_lost
    own.flag.requested = False
    model.release(0)
    assert len(list(model.evaluate([Row(0, [2, 3], 1)]))) == 1


def test_ctrl_c_does_not_cut_a_state_off(own: FakeWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards checkpoints at Ctrl-C: a large state comes slowly from a worker."""
    monkeypatch.setattr("foreal_local.runtime.remote.process._GRACE", 0.2)
    model = context(own)
    list(model.evaluate([Row(0, [2, 3], 1)]))
    own.child.ask("slow_saves", 1.0, stopping=own.flag)
    own.flag.requested = True
    assert model.save(0).n_tokens == 2
    assert not own.is_lost


# ---------------------------------------------------------------- the end
_PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from child_hosts import FakeWeights
weights = FakeWeights()
weights.open_context("leader")
print(weights.child.pid, flush=True)
{then}
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "then", ["time.sleep(60)", "import threading; weights.child.ask('load', 60.0, 1, stopping=weights.flag)"]
)
def test_a_child_ends_with_its_parent(then: str) -> None:
    """Guards an orphan that holds gigabytes after kill -9, idle or in the midst of an evaluation."""
    code = _PARENT.format(tests=str(ROOT / "tests"), then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        time.sleep(0.3)
        parent.kill()
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, "the child is still there"
        time.sleep(0.05)


# ---------------------------------------------------------------- connections
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system does not list open files")
def test_connections_are_looked_after_and_no_file_is_left_open() -> None:
    """Guards a wait of hours for a machine that is gone, and files that pile up, one for each look."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(3):
            look_after_all()
        assert len(list(Path("/dev/fd").iterdir())) == before
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
