"""A cluster without Ray: actors of this process, which are given rows as Ray Data gives them, in any order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreal_local.cluster.answering import ANSWERED, NUMBER, PROMPTS
from foreal_local.cluster.layout import Layout, Node
from foreal_local.cluster.spool import Spans, read_span


class FakeCluster:
    """RayCluster's counterpart.

    n_nodes: with a CPU each; an actor on each
    stop_after: rows, after which Ctrl-C comes
    """

    n_nodes, stop_after = 2, 10**9

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def nodes(self) -> list[Node]:
        return [Node(1.0)] * self.n_nodes

    def n_lost(self) -> int:
        return 0

    def above_progress(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def answers(
        self, spool: Path, spans: Spans, layout: Layout, parallel: int, answerer: type, work: Any
    ) -> Iterator[bytes]:
        actors = [answerer(work) for _ in range(layout.n_actors)]
        rows = list(enumerate(zip(spans.begins, spans.ends, strict=True)))
        for n_given, (number, (begin, end)) in enumerate(reversed(rows)):
            if n_given == self.stop_after:
                raise KeyboardInterrupt
            data = {NUMBER: [number], PROMPTS: [read_span(spool, begin, end)]}
            yield from asyncio.run(actors[number % len(actors)](data))[ANSWERED]
