"""Fixtures shared by all tests: tiny GGUF files, and the environment of command lines."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import FakeCluster
from commands import environment
from page_server import ScriptedServer
from real.models import Files, TinyModels
from real.tiny_gguf import CHATML


def pytest_configure() -> None:
    """Give each of several test processes a core of its own, and let no thread spin while it waits: two spinning
    threads that share a core make each other wait for milliseconds. And hear Ctrl-C, also where the tests were started
    in the background of a script: the commands that they start inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when a process starts: the test processes' own
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def chat_pair(tiny: TinyModels) -> Files:
    """A pair whose answers do not end by themselves, with a chat template that opens no reasoning."""
    return tiny.pair("llama", "endless", chat=CHATML)


@pytest.fixture
def env(chat_pair: Files, tmp_path: Path) -> dict[str, str]:
    """The environment of a command line that uses chat_pair."""
    return environment(chat_pair, tmp_path)


@pytest.fixture
def fake_cluster(monkeypatch: pytest.MonkeyPatch) -> type[FakeCluster]:
    """--ray uses it instead of Ray, whether that is installed or not."""
    from foreal_local.cluster import run

    class Cluster(FakeCluster):
        pass

    monkeypatch.setattr(run, "RayCluster", Cluster)
    monkeypatch.setattr(run, "require_ray", lambda: None)
    return Cluster


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a file; while it is there, asyncio takes its loop for one that runs already."""
    from browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server whose answers the test writes."""
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def window(chromium: Any, scripted: ScriptedServer) -> Iterator[Any]:
    """A window of the browser; nothing may have gone wrong in its pages when the test ends."""
    from browser import Window

    window = Window(chromium, scripted)
    yield window
    window.close()
