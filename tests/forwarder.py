"""A port that passes on to another what comes, counts it, and can be a slow network, or one that is cut."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from dataclasses import dataclass


@dataclass
class Counts:
    """What has passed.

    to_worker, to_client: bytes
    turns: how often the client waited for an answer: each of these takes a round trip
    """

    to_worker: int = 0
    to_client: int = 0
    turns: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.to_worker - other.to_worker, self.to_client - other.to_client, self.turns - other.turns)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.to_worker + other.to_worker, self.to_client + other.to_client, self.turns + other.turns)


class Forwarder:
    """Listens at a free port of this machine, for as many connections as come.

    one_way: seconds that each byte is under way
    bytes_per_second: what passes in each direction; 0: any number
    counts: of all connections so far
    cut: nothing passes any more, and nobody is told
    """

    def __init__(self, port: int, one_way: float = 0.0, bytes_per_second: float = 0.0) -> None:
        self._target, self._one_way, self._rate = port, one_way, bytes_per_second
        self.counts, self.cut = Counts(), threading.Event()
        self._last = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                worker = socket.create_connection(("127.0.0.1", self._target))
                for end in (client, worker):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.append(end)
                self._pass(client, worker, "to_worker")
                self._pass(worker, client, "to_client")

    def _pass(self, source: socket.socket, target: socket.socket, way: str) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._take, args=(source, waiting, way), daemon=True).start()
        threading.Thread(target=self._give, args=(target, waiting), daemon=True).start()

    def _take(self, source: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]], way: str) -> None:
        data = b" "
        free_at = 0.0  # when the cable has taken what came before
        while data:
            try:
                data = source.recv(2**18)
            except OSError:
                data = b""
            setattr(self.counts, way, getattr(self.counts, way) + len(data))
            if way == "to_client" and self._last == "to_worker":
                self.counts.turns += 1
            self._last = way if data else self._last
            now = time.perf_counter()
            free_at = max(now, free_at) + (len(data) / self._rate if self._rate else 0.0)
            waiting.put((free_at + self._one_way, data))

    def _give(self, target: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b" "
        with contextlib.suppress(OSError):
            while data:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.perf_counter()))
                if self.cut.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End all connections."""
        for each in self._open:
            each.close()
