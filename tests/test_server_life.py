"""A server from its start to its end: the port, clients that leave, too many of them, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import ROOT, environment, error_line, run
from real.models import Files
from serving import SERVE, Server, start

CHAT = "/v1/chat/completions"
ENDLESS: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello"}], "temperature": 0}
"""A request whose answer fills the context."""
JSON: dict[str, Any] = {"type": "json_object"}
SLOW = {"FOREAL_CTX_SIZE": "32768"}


@pytest.fixture
def slow(chat_pair: Files, tmp_path: Path) -> Iterator[Server]:
    """One slot, a queue of one, and answers that take long."""
    env = environment(chat_pair, tmp_path, **SLOW)
    with start("--parallel", "1", "--queue", "1", "--mode", "leader", "--grace", "0.5", env=env) as server:
        yield server


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))


def wait_until(server: Server, name: str, value: float, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while (found := metric(server, name)) != value:
        assert time.monotonic() < until, f"{name} is {found}"
        time.sleep(0.02)


def begun(server: Server, **more: Any) -> socket.socket:
    """A connection that has asked, and reads nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(ENDLESS | more).encode()
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def received(connection: socket.socket) -> bytes:
    """What has come; nothing where the connection is closed, however that was done."""
    try:
        return connection.recv(2**20)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_slot(slow: Server, stream: bool) -> None:
    """Guards an answer that is written to its end for nobody, in the slot and in the queue."""
    running = begun(slow, stream=stream)
    wait_until(slow, "foreal_requests_running", 1)
    waiting = begun(slow, stream=stream)
    wait_until(slow, "foreal_requests_open", 2)
    waiting.close()
    wait_until(slow, "foreal_requests_open", 1)
    running.close()
    wait_until(slow, "foreal_requests_running", 0, 2.0)
    answer = httpx.post(f"{slow.url}{CHAT}", json=ENDLESS | {"max_tokens": 3}).json()
    assert answer["usage"]["completion_tokens"] == 3


def test_too_many_requests_are_told_to_come_back(slow: Server) -> None:
    """Guards a queue without an end."""
    connections = [begun(slow), begun(slow)]
    wait_until(slow, "foreal_requests_open", 2)
    refused = httpx.post(f"{slow.url}{CHAT}", json=ENDLESS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_answers_are_cut_off_at_the_end(slow: Server, number: int) -> None:
    """Guards a stream that just breaks off, and an exit code that a service manager takes for a failure."""
    lines: list[str] = []
    with httpx.stream("POST", f"{slow.url}{CHAT}", json=ENDLESS | {"stream": True}, timeout=60) as answer:
        for line in answer.iter_lines():
            if line and not lines:
                slow.process.send_signal(number)
            lines += [line] if line else []
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "stopping"
    assert lines[-1] == "data: [DONE]"
    assert slow.stop() == 0


def test_running_answers_may_finish(chat_pair: Files, tmp_path: Path) -> None:
    """Guards an end that cuts off what would have been finished."""
    env = environment(chat_pair, tmp_path, **SLOW)
    with start("--parallel", "1", env=env) as server:
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{server.url}{CHAT}", json=ENDLESS | {"max_tokens": 600}, timeout=60)
            )
        )
        asking.start()
        wait_until(server, "foreal_requests_running", 1)
        assert server.stop() == 0
        asking.join()
    assert answers[0].json()["usage"]["completion_tokens"] == 600


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_clients_hear_that_a_server_was_killed_and_the_next_one_answers(chat_pair: Files, tmp_path: Path) -> None:
    """Guards clients that wait for ever, a port that stays taken, and an answer of the next server that hangs on what
    the last one had in hand."""
    env = environment(chat_pair, tmp_path, **SLOW)
    short = ENDLESS | {"max_tokens": 20, "seed": 1}
    ends: list[str] = []

    def ask(url: str, number: int) -> None:
        try:
            with httpx.stream("POST", f"{url}{CHAT}", json=ENDLESS | {"stream": number % 2 == 0}, timeout=60) as answer:
                ends.append(f"done {len(answer.read())}")
        except httpx.TransportError as error:
            ends.append(type(error).__name__)

    texts, port = [], "0"
    for _ in range(2):
        words = [*SERVE, "--parallel", "2", "--port", port]
        with start(env=env, words=words) as server:
            texts.append(httpx.post(f"{server.url}{CHAT}", json=short, timeout=60).json()["choices"][0]["message"])
            port = server.url.rpartition(":")[2]
            clients = [threading.Thread(target=ask, args=(server.url, number)) for number in range(6)]
            for client in clients:
                client.start()
            wait_until(server, "foreal_requests_open", 6)
            server.process.kill()
            for client in clients:
                client.join(30)
            server.process.wait()
    assert len(ends) == 12
    assert not [end for end in ends if end.startswith("done")], ends
    assert texts[0] == texts[1]


def test_a_second_signal_ends_all_at_once(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a server that is waited for although nobody wants to wait."""
    env = environment(chat_pair, tmp_path, **SLOW)
    with start("--parallel", "1", "--mode", "leader", "--grace", "600", env=env) as server:
        connection = begun(server)
        wait_until(server, "foreal_requests_running", 1)
        server.process.send_signal(signal.SIGINT)
        with httpx.Client(base_url=server.url) as client:
            while client.get("/health").status_code == 200:
                time.sleep(0.05)
            assert client.post(CHAT, json=ENDLESS).json()["error"]["code"] == "stopping"
        assert server.stop(signal.SIGINT) == 0
        connection.close()


def test_who_waits_hears_that_the_server_is_there(slow: Server) -> None:
    """Guards proxies that close a stream which is silent while others are answered, or a long prompt is read."""
    running = begun(slow)
    wait_until(slow, "foreal_requests_running", 1)
    waiting = begun(slow, stream=True)
    waiting.settimeout(20)
    said = b""
    while b": waiting\n\n" not in said:
        said += waiting.recv(4096)
    assert said.startswith(b"HTTP/1.1 200")
    for connection in (running, waiting):
        connection.close()


def test_silent_clients_are_not_waited_for(chat_pair: Files, tmp_path: Path) -> None:
    """Guards connections that nobody uses: no head, half a head, a body that does not come, an answer nobody reads."""
    code = (
        "from foreal_local.server import body, listening\n"
        "body.SECONDS = listening.HEAD_SECONDS = listening.READ_SECONDS = 0.5\n"
        "from foreal_local.cli.main import main; main(['serve', '--port', '0'])"
    )
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    with start(env=environment(chat_pair, tmp_path), words=[SERVE[0], "-c", code]) as server:
        host, port = server.url.removeprefix("http://").split(":")
        for sent, told in ((b"", b""), (head, b""), (head + b"Content-Length: 9\r\n\r\n{", b"HTTP/1.1 408")):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(sent)
                assert connection.recv(65536)[:12] == told
        pipeline = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.setblocking(False)
            connection.send(pipeline)
            time.sleep(5)
            connection.setblocking(True)
            n_bytes = len(b"".join(iter(lambda: received(connection), b"")))
            assert n_bytes < len(httpx.get(f"{server.url}/openapi.json").content) * 2000


@pytest.mark.parametrize(
    ("reads", "more"),
    [
        ("Vocabulary.encode", {"foreal": {"system": "</think>" * 90}}),
        ("Vocabulary.is_ordinary", {"response_format": JSON}),
    ],
    ids=["prompt", "schema"],
)
def test_the_models_are_there_until_nobody_reads_their_words(
    reads: str, more: dict[str, Any], chat_pair: Files, tmp_path: Path
) -> None:
    """Guards a server that ends in a crash of llama.cpp where it is stopped while a prompt or a schema is read."""
    code = (
        "import sys, threading, time; from foreal_local.runtime.llama.vocabulary import Vocabulary\n"
        "from foreal_local.runtime.loaded import LoadedPair; tell = lambda text: print(text, file=sys.stderr)\n"
        f"read, close = {reads}, LoadedPair.close\n"
        "def slowly(*a):\n"
        "    if threading.current_thread().name.startswith(('prompts', 'schemas')) and not begun.is_set():\n"
        "        begun.set(); tell('reads'); time.sleep(3); tell('has read')\n"
        "    return read(*a)\n"
        f"{reads}, begun = slowly, threading.Event()\n"
        "LoadedPair.close = lambda self: (tell('closes'), close(self))\n"
        "from foreal_local.cli.main import main; main(['serve', '--port', '0', '--grace', '0'])"
    )
    with start(env=environment(chat_pair, tmp_path), words=[SERVE[0], "-c", code]) as server:
        connection = begun(server, **more)
        server.wait_for(re.compile("^reads"))
        assert server.stop(signal.SIGINT) == 0
        connection.close()
    assert [line for line in server.lines if line in ("reads", "has read", "closes")] == ["reads", "has read", "closes"]


# ---------------------------------------------------------------- the beginning
def test_a_port_in_use_is_told_in_one_line(slow: Server, env: dict[str, str]) -> None:
    """Guards models that are loaded for nothing, and a traceback."""
    port = slow.url.rpartition(":")[2]
    done = run("--port", port, env=env, command=SERVE)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in error_line(done)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "no.such.host.invalid"), "--host is 'no.such.host.invalid'"),
        (("--host", "192.0.2.1"), "--host is '192.0.2.1'"),
        (("--port", "70000"), "70000"),
        (("--api-key", "two words"), "--api-key"),
        (("--api-key", ""), "--api-key"),
        (("--api-key-file", "missing.txt"), "missing.txt"),
        (("--cors-origin", "chat.example.org"), "--cors-origin is 'chat.example.org', which has no scheme"),
        (("--cors-origin", "https://a.example/chat"), "has more than a scheme, a host and a port"),
        (("--cors-origin", "https://b\u00fccher.example"), "xn--"),
        (("--cors-origin", ""), "--cors-origin is ''"),
        (("--loss", "1"), "--loss"),
        (("--leader", "missing.gguf", "--draft", "missing.gguf"), "missing.gguf"),
        (("--temp", "-1"), "temp is -1"),
    ],
)
def test_what_cannot_be_started_is_told_in_one_line(
    arguments: tuple[str, ...], told: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a traceback, and a server that is there without what was asked for."""
    done = run("--port", "0", *arguments, env=env, command=SERVE)
    assert done.returncode == 2
    assert told in error_line(done)


def test_an_empty_key_is_no_open_door(env: dict[str, str]) -> None:
    """Guards a variable of a service whose secret was not found."""
    done = run("--port", "0", env=env | {"FOREAL_API_KEY": ""}, command=SERVE)
    assert done.returncode == 2
    assert "FOREAL_API_KEY is empty" in error_line(done)


def test_without_the_extra_one_line_says_what_to_install(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a traceback in an installation that has only what the other commands need."""
    for name in ("starlette", "uvicorn"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(name=__name__)")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = run(env=env | {"PYTHONPATH": path}, command=SERVE)
    assert done.returncode == 2
    assert "pip install 'foreal-local[server]'" in error_line(done)


def test_the_port_is_open_while_the_models_load(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a health check that finds nobody, and requests that are answered before there is a model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        "import time; from foreal_local import engine; opened = engine.Engine.__init__\n"
        "def slowly(self, *a, **k): time.sleep(3); opened(self, *a, **k)\n"
        "engine.Engine.__init__ = slowly\n"
        f"from foreal_local.cli.main import main; main(['serve', '--port', '{port}'])"
    )
    process = subprocess.Popen(
        [SERVE[0], "-c", code], env=environment(chat_pair, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        found = _health(port)
        assert (found.status_code, found.json()["error"]["code"]) == (503, "loading")
        assert len(httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"]) == 4
        assert httpx.post(f"http://127.0.0.1:{port}{CHAT}", json=ENDLESS).status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()


def _health(port: int) -> httpx.Response:
    until = time.monotonic() + 30
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health")
        except httpx.ConnectError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_request_is_one_line_in_the_log(slow: Server) -> None:
    """Guards a log that keeps what people wrote."""
    httpx.post(f"{slow.url}{CHAT}", json=ENDLESS | {"max_tokens": 3, "model": ""})
    line = slow.wait_for(re.compile(r"POST.*200.*")).string
    assert re.search(r"\d+ prompt \(0 cached\), 3 written  \d+\.\d+ s", line)
    assert "hello" not in "".join(slow.lines)
