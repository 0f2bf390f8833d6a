"""Fixtures of the tests on real GGUF files: pairs, and a silent llama.cpp."""

from __future__ import annotations

import pytest

from foreal_local.runtime.llama.library import library

from .engines import PairMaker
from .models import TinyModels


@pytest.fixture(scope="session", autouse=True)
def silent() -> None:
    """llama.cpp's log goes to the product's own, which prints nothing and keeps errors for messages. No other may take
    its place, before a test or after it: those messages would have no reasons."""
    library()


@pytest.fixture(scope="session")
def make(tiny: TinyModels) -> PairMaker:
    """Pairs of tiny models by name: a kind ("llama"), or two ("lfm2+llama": the leader's and the draft's)."""
    return PairMaker(tiny)
