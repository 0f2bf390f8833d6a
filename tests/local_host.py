"""A child with a real model and no worker: all of it is in the child, which ends itself where a test says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from foreal_local.runtime.remote.host import Facts, LlamaHost, State


class LocalHost(LlamaHost):
    """As on_workers.py says it."""

    def __init__(self) -> None:
        super().__init__()
        folder = os.environ.get("FAKE_WORKERS")
        self._folder = Path(folder) if folder else None
        self._n_evaluations = 0

    def load(self, path: str, gpu_layers: int, verbose: bool, endpoints: list[str]) -> Facts:
        return super().load(path, gpu_layers, verbose, [])

    def of_context(self, number: int, method: str, arguments: tuple[Any, ...]) -> tuple[Any, State]:
        found = super().of_context(number, method, arguments)
        order = self._folder and self._folder / "dies_at"
        if method == "evaluate" and order and order.exists():
            self._n_evaluations += 1
            if self._n_evaluations == int(order.read_text()):
                order.rename(order.parent / "gone")
                os.write(2, b"/ggml/src/ggml-rpc/ggml-rpc.cpp:566: Remote RPC server crashed\n")
                os.abort()
        return found
