"""Addresses of workers: which may be used without asking, and how one that does not answer is told, in time."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import error_line, run

from foreal_local.config import Runtime
from foreal_local.errors import UsageError, WorkerError
from foreal_local.runtime import llama
from foreal_local.runtime.remote.addresses import address_of, is_private, require_answer, workers_of

needs_no_rpc = pytest.mark.skipif(llama.has_rpc(), reason="this build of llama.cpp has RPC")
needs_rpc = pytest.mark.skipif(not llama.has_rpc(), reason="this build of llama.cpp has no RPC")
FOREAL = [sys.executable, "-m", "foreal_local"]


@pytest.mark.parametrize(
    ("ip", "private"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("10.1.2.3", True), ("172.16.0.1", True), ("172.32.0.1", False),
        ("192.168.1.20", True), ("169.254.3.4", True), ("8.8.8.8", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("100.64.0.1", False),
    ],
)  # fmt: skip
def test_what_is_private(ip: str, private: bool) -> None:
    """Guards a port without protection that the internet reaches; 0.0.0.0 is every network, and private for Python."""
    assert is_private(ip) == private


@pytest.mark.parametrize("text", ["", "host", "host:", ":5", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "1:2:3"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Guards an address that llama.cpp would end the process over."""
    with pytest.raises(UsageError, match="--leader-rpc is"):
        address_of(text, "--leader-rpc", allow_public=True)


def test_a_name_is_looked_up_once() -> None:
    """Guards a name that is private when it is checked, and public when it is used."""
    address = address_of("localhost:50052", "--listen", allow_public=False)
    assert address.endpoint == "127.0.0.1:50052"
    assert str(address) == "localhost:50052"


def test_addresses_of_the_sixth_version_are_refused() -> None:
    """Guards llama.cpp's own reading of ::1, which ends the process."""
    with pytest.raises(UsageError, match="IPv4"):
        address_of("[::1]:50052", "--listen", allow_public=True)


def test_a_worker_serves_one_model() -> None:
    """Guards two processes that wait for each other's end at one worker."""
    for settings in (
        {"leader_rpc": "127.0.0.1:5,127.0.0.1:5"},
        {"leader_rpc": "127.0.0.1:5", "draft_rpc": "localhost:5"},
    ):
        with pytest.raises(UsageError, match="is there twice"):
            workers_of(Runtime(**settings), ["leader", "draft"])
    assert workers_of(Runtime(leader_rpc="127.0.0.1:5"), ["draft"]) == {}


# ---------------------------------------------------------------- who answers
@pytest.fixture
def listener() -> Iterator[Callable[[bytes | None], int]]:
    """Gives a port where somebody answers a client's first words with these bytes; None: with nothing at all."""
    sockets: list[socket.socket] = []

    def listen(answer: bytes | None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def serve() -> None:
            client, _ = server.accept()
            sockets.append(client)
            client.recv(100)
            if answer is not None:
                client.sendall(answer)
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield listen
    for each in sockets:
        each.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "does not answer within"),
        (b"", "is no worker, or one of another version"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nand more than forty bytes of it", "is no worker"),
    ],
)
def test_who_is_no_worker_is_told(answer: bytes | None, reason: str, listener: Callable[[bytes | None], int]) -> None:
    """Guards a model that is loaded for minutes before its worker is missed."""
    address = address_of(f"127.0.0.1:{listener(answer)}", "--leader-rpc", allow_public=False)
    started = time.monotonic()
    with pytest.raises(WorkerError, match=reason) as error:
        require_answer(address, "leader", 0.3)
    assert f"the leader's worker {address}" in str(error.value)
    assert time.monotonic() - started < 2


def test_a_worker_that_answers_is_one(listener: Callable[[bytes | None], int]) -> None:
    """Guards a protocol's first words that no worker understands."""
    hello = (28).to_bytes(8, "little") + bytes([7, 0, 0, 0]) + bytes(24)
    require_answer(address_of(f"127.0.0.1:{listener(hello)}", "--leader-rpc", allow_public=False), "leader", 2.0)


# ---------------------------------------------------------------- as users call it
def foreal(*words: str, env: dict[str, str]) -> str:
    done = run(*words, env=env, command=FOREAL)
    assert done.returncode in (1, 2)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [["rpc-worker", "--listen"], ["gen", "hello", "--leader-rpc"]])
def test_public_addresses_are_refused_with_the_way_out(words: list[str], env: dict[str, str]) -> None:
    """Guards a worker, or a model, that the internet reads."""
    error = foreal(*words, "8.8.8.8:50052", env=env)
    assert "is a public address" in error
    assert "SSH tunnel" in error
    assert "--allow-public" in error


@needs_no_rpc
@pytest.mark.parametrize("words", [["rpc-worker"], ["gen", "hello", "--leader-rpc", "127.0.0.1:50052"]])
def test_a_build_without_rpc_says_how_to_get_one(words: list[str], env: dict[str, str]) -> None:
    """Guards a symbol that is missing, told as a traceback."""
    error = foreal(*words, env=env)
    assert 'CMAKE_ARGS="-DGGML_RPC=on" pip install' in error


@needs_rpc
def test_a_missing_worker_is_one_line_in_time(env: dict[str, str]) -> None:
    """Guards a wait for a model that cannot be loaded."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = foreal("gen", "hello", "--leader-rpc", f"127.0.0.1:{port}", "--no-fit", env=env)
    assert f"the leader's worker 127.0.0.1:{port} cannot be reached: Connection refused" in error
    assert f"foreal rpc-worker --listen 127.0.0.1:{port}" in error


@needs_rpc
def test_a_port_in_use_is_told(env: dict[str, str]) -> None:
    """Guards llama.cpp's own words for it, which end the program without an exit code."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--listen", f"127.0.0.1:{port}", env=env, command=[*FOREAL, "rpc-worker"])
    assert f"127.0.0.1:{port} is in use" in error_line(done)


def test_a_variable_is_named_where_it_is_the_cause(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a refused address whose place nobody finds."""
    error = foreal("gen", "hello", env=env | {"FOREAL_LEADER_RPC": "8.8.8.8:1"})
    assert "FOREAL_LEADER_RPC" in error
