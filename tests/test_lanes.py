"""Runs side by side: everything comes out, and no thread is left whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator

import pytest

from foreal_local.runtime.lanes import side_by_side

Run = Generator[tuple[str, int], None, None]


class Lanes:
    """Counting runs that note how they ended; `stop` makes the endless ones end."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.closed: list[str] = []

    def run(self, name: str, n: int, fails_at: int = -1) -> Run:
        try:
            for i in range(n):
                if i == fails_at:
                    raise ValueError(name)
                yield name, i
        finally:
            self.closed.append(name)

    def endless(self, name: str) -> Run:
        """Counts on until it is stopped, as an evaluation that only an abort ends."""
        try:
            yield name, 0
            assert self.stopped.wait(30), "nobody stopped this run"
            raise KeyboardInterrupt
        finally:
            self.closed.append(name)


@pytest.fixture
def lanes() -> Generator[Lanes, None, None]:
    before = threading.active_count()
    yield Lanes()
    assert threading.active_count() == before, "a thread is left"


def test_every_item_comes_once_and_in_its_runs_order(lanes: Lanes) -> None:
    """Guards items that are lost at the end of a run, or mixed up within it."""
    runs = [lanes.run(name, n) for name, n in (("a", 500), ("b", 0), ("c", 300))]
    found = list(side_by_side(runs, lanes.stopped.set))
    for name, n in (("a", 500), ("c", 300)):
        assert [i for run, i in found if run == name] == list(range(n))
    assert sorted(lanes.closed) == ["a", "b", "c"]
    assert not lanes.stopped.is_set(), "nothing had to be stopped"


def test_an_error_of_one_run_ends_all(lanes: Lanes) -> None:
    """Guards a failure that is swallowed in its thread, or that leaves the others running."""
    with pytest.raises(ValueError, match="bad"):
        list(side_by_side([lanes.endless("long"), lanes.run("bad", 5, fails_at=3)], lanes.stopped.set))
    assert sorted(lanes.closed) == ["bad", "long"]


def test_leaving_early_closes_every_run(lanes: Lanes) -> None:
    """Guards slots that stay taken, and models freed under a thread that still evaluates."""
    items = side_by_side([lanes.endless("a"), lanes.endless("b")], lanes.stopped.set)
    assert next(items)[1] == 0
    items.close()  # type: ignore[attr-defined]
    assert sorted(lanes.closed) == ["a", "b"]


@pytest.mark.parametrize("n_signals", [1, 2])
def test_ctrl_c_is_raised_once_all_have_ended(n_signals: int, lanes: Lanes) -> None:
    """Guards a second Ctrl-C that leaves threads behind."""
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        signal.pthread_kill(main, signal.SIGINT)

    def stop() -> None:
        if n_signals == 2:
            threading.Timer(0.1, press).start()
        threading.Timer(0.3, lanes.stopped.set).start()

    items = side_by_side([lanes.endless("a"), lanes.endless("b")], stop)
    assert {next(items)[0], next(items)[0]} == {"a", "b"}
    threading.Timer(0.2, press).start()
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert lanes.stopped.is_set()
    time.sleep(0.05)  # the timers' threads
    assert sorted(lanes.closed) == ["a", "b"]


@pytest.mark.parametrize("started", [False, True])
def test_ctrl_c_while_threads_start_leaves_none(started: bool, lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards lanes that still run beside the next run because Ctrl-C came before all of them had started."""
    start, n_calls = threading.Thread.start, 0

    def interrupted(thread: threading.Thread) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2 and not started:
            raise KeyboardInterrupt
        start(thread)
        if n_calls == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side([lanes.endless("a"), lanes.endless("b")], lanes.stopped.set))
    assert sorted(lanes.closed) == (["a", "b"] if started else ["a"])
