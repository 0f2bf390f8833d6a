"""Ctrl-C in the middle of a long evaluation: it ends soon, and nothing is broken by it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from foreal_local.config import Generation, Pair
from foreal_local.engine import Engine
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Result
from foreal_local.runtime import llama
from foreal_local.runtime.interrupt import watching_interrupts
from foreal_local.runtime.loaded import LoadedPair

from . import tiny_gguf
from .engines import GPU, LEADER, RAW, PairMaker, ids, open_engine, pair_of, settings

N_PROMPT = 2500
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model that needs seconds for a prompt of N_PROMPT tokens in one batch, in both roles."""
    shape = {"width": 512, "n_layers": 6, "n_heads": 8, "n_kv_heads": 4, "width_ff": 2048, "n_context": 4096}
    words = tiny_gguf.plain().with_emphasis("<|im_end|>", 0.1)
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    tiny_gguf.write_llama(path, seed=1, vocabulary=words, **shape)
    return pair_of(path, path)


def open_wide(pair: Pair) -> Engine:
    return open_engine(pair, ctx_size=N_PROMPT + 100, batch_size=N_PROMPT)


@pytest.mark.skipif(GPU, reason="the evaluation is over before it could be stopped")
def test_the_flag_ends_an_evaluation_at_once_and_the_engine_works_afterwards(wide: Pair) -> None:
    """Guards an evaluation that cannot be stopped, and a cache that holds half of it.

    It is CPU time that is measured: the machine may be shared.
    """
    short, long = [" the number is", " wait"], " two" * N_PROMPT
    leader = settings("leader", max_tokens=4)
    with open_wide(wide) as engine:
        wanted = [ids(result) for result in engine.generate(short, settings(max_tokens=8), RAW)]
        started = time.process_time()
        engine.generate([long], settings("leader", max_tokens=1), RAW)
        whole = time.process_time() - started
    with open_wide(wide) as engine:
        moments: list[float] = []

        def abort() -> None:
            begun = time.process_time()
            while time.process_time() - begun < whole / 5:
                time.sleep(0.01)
            moments.append(time.process_time())
            engine.loaded.abort.set()

        thread = threading.Thread(target=abort)
        stream = engine.stream(long, leader, RAW)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        stopped = time.process_time()
        thread.join()
        assert whole > 1.0, "the evaluation is too short to be stopped"
        assert stopped - moments[0] < 0.3 + whole / 20  # and one node of the graph
        assert engine.loaded.lanes[0][LEADER].cached(0) == 0
        assert [ids(result) for result in engine.generate(short, settings(max_tokens=8), RAW)] == wanted


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_ends_the_command_and_keeps_what_was_finished(wide: Pair, tmp_path: Path) -> None:
    """Guards Ctrl-C that waits for llama.cpp, loses finished records, or ends in a traceback."""
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    lines = [{"prompt": " wait", "max_tokens": 2}, {"prompt": " so", "max_tokens": 2}]
    lines += [{"prompt": " two" * N_PROMPT}] * 30
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "foreal_local", "gen", "-f", str(prompts), "-o", str(output), "--raw", "-t", "1"]
    command += ["-l", str(wide.leader.path), "-d", str(wide.draft.path), "--batch-size", str(N_PROMPT)]
    process = subprocess.Popen(
        [*command, "-c", str(N_PROMPT + 100)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until(lambda: output.exists() and output.read_bytes().count(b"\n") == 2, 60)
        time.sleep(0.3)  # into the evaluation of the third prompt
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "Exception" not in err
    assert "2 of 32" in err
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [record["usage"]["completion_tokens"] for record in records] == [2, 2]


class Work:
    """Notes that it was asked to stop."""

    busy = False

    def __init__(self) -> None:
        self.seen = threading.Event()

    def set(self) -> None:
        self.seen.set()


def until(holds: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_loading_can_be_interrupted(make: PairMaker) -> None:
    """Guards Ctrl-C that the loading bar's callback swallows: the load must end, as an interrupt and not an error."""
    abort = llama.Abort()
    with pytest.raises(KeyboardInterrupt):
        llama.Weights(make("llama").leader.path, on_progress=lambda _: abort.set(), abort=abort)
    assert not abort.busy
    abort.clear()
    llama.Weights(make("llama").leader.path, abort=abort).close()


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_models_are_freed_where_their_timing_is_interrupted(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards gigabytes that stay after Ctrl-C in a notebook."""
    freed: list[LoadedPair] = []

    def interrupted(self: LoadedPair, settings: Generation) -> None:
        raise KeyboardInterrupt

    def closed(self: LoadedPair) -> None:
        freed.append(self)
        close(self)

    close = LoadedPair.close
    monkeypatch.setattr(LoadedPair, "plan_for", interrupted)
    monkeypatch.setattr(LoadedPair, "close", closed)
    with pytest.raises(KeyboardInterrupt):
        open_engine(make("llama"))
    assert len(freed) == 1
    assert not freed[0].is_open


def test_what_was_submitted_is_ended_when_the_engine_is_closed(make: PairMaker) -> None:
    """Guards a process that ends with a fault of the memory, where a prompt is cancelled afterwards."""
    with open_engine(make("llama")) as engine:
        events: list[Any] = []
        ticket = engine.submit("wait", reuse=False, deliver=events.append)
        for _ in range(5):
            engine.step()
    assert isinstance(events[-1], Result)
    assert events[-1].finish_reason is FinishReason.CANCELLED
    engine.cancel(ticket)
    engine.close()


def test_watching_passes_signals_on_and_leaves_nothing_behind(make: PairMaker) -> None:
    """Guards a wakeup descriptor or a thread that outlives the run, and a program's own watching that is cut off."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        n_threads = threading.active_count()
        work = Work()
        with watching_interrupts(work):
            handler = signal.signal(signal.SIGINT, lambda *_: None)
            os.kill(os.getpid(), signal.SIGINT)
            signal.signal(signal.SIGINT, handler)
        assert work.seen.wait(5)
        assert theirs.recv(8) == bytes([signal.SIGINT])
        assert threading.active_count() == n_threads
        assert signal.set_wakeup_fd(-1) == ours.fileno()
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()
    with open_engine(make("llama")) as engine:
        list(engine.stream(" wait", settings(max_tokens=3), RAW))
    assert threading.active_count() == n_threads


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
@pytest.mark.parametrize("first_ends", [0, 1])
def test_runs_of_two_engines_may_overlap(first_ends: int, make: PairMaker) -> None:
    """Guards a watch that is restored in the wrong order: errors at a run's end, and Ctrl-C that the other does not
    see any more."""
    pair, n_threads = make("llama"), threading.active_count()
    before = signal.set_wakeup_fd(-1)
    with open_engine(pair) as one, open_engine(pair) as other:
        engines = [one, other]
        runs = [engine.stream(" wait", settings(max_tokens=200), RAW) for engine in engines]
        for run in runs:
            next(run)
        list(runs[first_ends])
        left, engine = runs[1 - first_ends], engines[1 - first_ends]

        def press() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            list(left)

        with pytest.raises(KeyboardInterrupt):
            press()
        left.close()  # type: ignore[attr-defined]
        assert len(engine.generate([" wait"], settings(max_tokens=3), RAW)[0].tokens) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(before) == -1
    assert threading.active_count() == n_threads


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_is_heard_again_once_the_run_it_stopped_is_closed(make: PairMaker) -> None:
    """Guards a program that cannot be stopped any more because another run is still open."""
    with open_engine(make("llama")) as one, open_engine(make("llama")) as other:
        runs = [engine.stream(" wait", settings(max_tokens=200), RAW) for engine in (one, other)]
        for run in runs:
            next(run)
        for run in runs:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            run.close()  # type: ignore[attr-defined]


def test_a_run_outside_the_main_thread_works(make: PairMaker) -> None:
    """Guards signal handling where Python allows none."""
    found: list[int] = []
    with open_engine(make("llama")) as engine:
        thread = threading.Thread(
            target=lambda: found.append(len(engine.generate([" wait"], settings(max_tokens=3), RAW)[0].tokens))
        )
        thread.start()
        thread.join()
    assert found == [3]
