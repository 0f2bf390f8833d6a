"""Ray: a cluster that is joined or started, and prompts answered there by Ray Data. Alone in importing ray.

Knows rows of bytes, and how they go to actors and back. Does not know what is in them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import ForealError, InstallationError
from ..runtime.hardware import usable_cores
from .answering import ANSWERED, NUMBER, PROMPTS
from .layout import Layout, Node
from .spool import Spans, read_span

_ROWS_IN_A_BLOCK = 1000
_LOOK_EVERY = 2.0  # seconds
_PATIENCE = 10.0  # seconds
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


class RayError(ForealError):
    """The cluster failed, or cannot be reached."""


def require_ray() -> None:
    """InstallationError where Ray Data is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise InstallationError("--ray needs Ray Data, which is not installed: pip install 'foreal-local[ray]'")


def require_reachable(address: str) -> None:
    """RayError where nobody answers at HOST:PORT, which Ray itself tries for minutes; other addresses are Ray's."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise RayError(f"cannot join the Ray cluster {address}: {error.strerror or error}") from None


class RayCluster:
    """A cluster while it is used; one that was started for this run is stopped at the end of the `with`.

    address: of a cluster to join; "": that of RAY_ADDRESS, else one is started on this machine
    quiet: no progress
    verbose: Ray says all it has to say
    """

    def __init__(self, address: str = "", quiet: bool = False, verbose: bool = False) -> None:
        require_ray()
        self._address, self._quiet, self._verbose = address, quiet, verbose
        self._stack = contextlib.ExitStack()
        self._n_nodes, self._looked = 0, 0.0

    def __enter__(self) -> RayCluster:
        require_reachable(self._address or os.environ.get("RAY_ADDRESS", ""))
        with contextlib.ExitStack() as stack:
            if not self._verbose:
                for name, value in _QUIET.items():
                    os.environ.setdefault(name, value)
                stack.enter_context(contextlib.redirect_stdout(_WithoutRaylet(sys.stderr)))
            with _silence(not self._verbose):
                import ray
                import ray.data

                if not ray.is_initialized():  # by the program that calls this
                    with _own_signals():
                        self._connect(ray)
                    stack.callback(self._disconnect)
            self._n_nodes = len(self.nodes())
            self._stack = stack.pop_all()
        return self

    def _connect(self, ray: Any) -> None:
        address = self._address or os.environ.get("RAY_ADDRESS") or None
        own = {} if address else {"num_cpus": usable_cores(), "include_dashboard": False}
        level = logging.INFO if self._verbose else logging.ERROR
        try:
            ray.init(address=address or "local", log_to_driver=self._verbose, logging_level=level, **own)
        except Exception as error:  # Ray raises bare ones, too
            what = f"join the Ray cluster {address}" if address else "start Ray on this machine"
            raise RayError(f"cannot {what}: {' '.join(str(error).split())[:300]}") from None

    def _disconnect(self) -> None:
        import ray

        with _silence(not self._verbose):
            ray.shutdown()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in alive]

    def n_lost(self) -> int:
        """How many machines have gone since this was asked last; Ray is asked every few seconds."""
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return 0
        before, self._n_nodes, self._looked = self._n_nodes, len(self.nodes()), time.monotonic()
        return max(0, before - self._n_nodes)

    @contextlib.contextmanager
    def above_progress(self) -> Iterator[None]:
        """Lines that are printed meanwhile stand above Ray's progress."""
        from ray.experimental import tqdm_ray

        bars = None if self._quiet else tqdm_ray.instance()
        if bars:
            bars.hide_bars()
        try:
            yield
        finally:
            if bars:
                bars.unhide_bars()

    def answers(
        self, spool: Path, spans: Spans, layout: Layout, parallel: int, answerer: type, work: Any
    ) -> Generator[bytes, None, None]:
        """What the actors answer to each span of a file on this machine, in the order in which they are done.

        parallel: prompts that an actor answers at a time
        answerer: a class that is made once in each actor, of `work`, and called with rows of prompts

        Each span is a task of its own, and each task gives one row: what Ray repeats after a machine has died is the
        same row of the same task, and comes here once.
        """
        n_tasks = len(spans.begins)
        dataset = self._dataset(spool, spans, layout, parallel, answerer, work)
        with _explained():
            done = bytearray(n_tasks)
            for batch in dataset.iter_batches(batch_size=None):
                for number, row in zip(batch[NUMBER], batch[ANSWERED], strict=True):
                    if not done[number]:  # should Ray ever bring one twice
                        done[number] = 1
                        yield bytes(row)

    def _dataset(self, spool: Path, spans: Spans, layout: Layout, parallel: int, answerer: type, work: Any) -> Any:
        """The answers as Ray Data will make them, once they are asked for."""
        import numpy as np
        import pyarrow
        import ray
        from ray.data import ActorPoolStrategy

        self._set_up(ray.data.DataContext.get_current())
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        n_calls = parallel + 1  # one more than slots, so that none waits for what is on its way
        n_tasks = len(spans.begins)
        columns = {NUMBER: np.arange(n_tasks), "begin": np.array(spans.begins), "end": np.array(spans.ends)}
        table = pyarrow.table(columns)
        pool = ActorPoolStrategy(
            size=min(layout.n_actors, n_tasks),
            max_tasks_in_flight_per_actor=n_calls + 1,
            max_concurrent_calls_per_actor=n_calls,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = [table.slice(at, _ROWS_IN_A_BLOCK) for at in range(0, n_tasks, _ROWS_IN_A_BLOCK)]
            dataset = ray.data.from_arrow(tables)
            dataset = dataset.map_batches(_reader(spool), batch_size=256, num_cpus=0, label_selector=here)
            return dataset.map_batches(
                answerer,
                batch_size=None,
                compute=pool,
                fn_constructor_args=(work,),
                num_cpus=layout.threads,
                num_gpus=layout.gpus or None,
            )

    def _set_up(self, context: Any) -> None:
        context.target_max_block_size = 1  # a row for each task
        context.enable_progress_bars = not self._quiet
        context.enable_operator_progress_bars = not self._quiet
        if not self._verbose:
            for name in ("ray", "ray.data"):
                logging.getLogger(name).setLevel(logging.ERROR if name == "ray" else logging.CRITICAL)


def _reader(path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What reads spans of a file, for Ray Data."""

    def read_prompts(rows: dict[str, Any]) -> dict[str, Any]:
        spans = zip(rows["begin"], rows["end"], strict=True)
        return {NUMBER: rows[NUMBER], PROMPTS: [read_span(path, int(begin), int(end)) for begin, end in spans]}

    return read_prompts


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Ray's errors in one line."""
    import ray

    try:
        yield
    except (ray.exceptions.RayError, ray.exceptions.RaySystemError) as error:
        cause = error.__cause__ or error
        lines = [line for line in str(cause).splitlines() if line.strip()]
        told = " ".join((lines[-1] if lines else type(cause).__name__).split())
        raise RayError(f"Ray gave up: {told[:400]} (--verbose shows all)") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM does afterwards what it did before, and not what Ray makes of it: to end at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _WithoutRaylet:
    """A stream, but for what Ray prints of tasks that it repeats: pages for each machine that goes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._dropped = stream, False

    def write(self, text: str) -> int:
        if "(raylet)" in text[:20] or (self._dropped and text == "\n"):
            self._dropped = text != "\n"
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _silence(wanted: bool) -> Iterator[None]:
    """What a library writes to standard error goes nowhere meanwhile, also what does not come from Python."""
    if not wanted:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
