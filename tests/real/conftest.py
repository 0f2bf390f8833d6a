"""Fixtures of the tests on real GGUF files: pairs, and a silent llama.cpp."""

from __future__ import annotations

import pytest

from .engines import PairMaker
from .models import TinyModels
from .replay import silence_llama_cpp


@pytest.fixture(scope="session", autouse=True)
def silent() -> None:
    """llama.cpp's log goes nowhere; the product's own log, which keeps errors for messages, comes later."""
    silence_llama_cpp()


@pytest.fixture(scope="session")
def make(tiny: TinyModels) -> PairMaker:
    """Pairs of tiny models by name: a kind ("llama"), or two ("lfm2+llama": the leader's and the draft's)."""
    return PairMaker(tiny)
