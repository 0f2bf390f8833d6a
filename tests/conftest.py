"""Fixtures shared by all tests: tiny GGUF files, and the environment of command lines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import environment
from fakes import FakeModel
from real.models import Files, TinyModels
from real.tiny_gguf import CHATML


@pytest.fixture
def clock_of_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's time is what the fakes' calls have taken, so that a step's length is known."""
    monkeypatch.setattr("foreal_local.runtime.scheduler.time", SimpleNamespace(perf_counter=lambda: FakeModel.clock))


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
