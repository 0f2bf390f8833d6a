"""What a server makes of clients that mean no good, or are broken.

    pip install schemathesis
    python scripts/attack_server.py                # 2,000 requests of each kind, 10,000 connections
    python scripts/attack_server.py --requests 200 --connections 1000

Over the bundled pair: requests that schemathesis makes from the server's own description (/openapi.json); bytes that
are no HTTP, or nearly; bodies that are too long, or never come; connections by the thousand, and clients that send a
byte a second, while a client with a secret in its prompt is answered. Nothing may end in a 500, end the server, hold up
that client, or show its secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import click
import httpx
from load_server import Server

SECRET = "maroon-otter-4711"
CHAT = {"messages": [{"role": "user", "content": f"{SECRET} " * 8}], "max_tokens": 24, "temperature": 0}
GOOD = json.dumps(CHAT).encode()


def head_of(length: int, more: str = "") -> bytes:
    words = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{more}Content-Type: application/json\r\n"
    return f"{words}Content-Length: {length}\r\n\r\n".encode()


BROKEN = [
    b"",
    b"\r\n\r\n",
    b"GET",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"b" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(5000)) + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes.fromhex("16030100f1010000ed0303") + bytes(220),
    b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    head_of(4, "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    head_of(len(GOOD) - 9) + GOOD,
    head_of(2) + b"{}",
    head_of(0),
    head_of(3) + b"\xff\xfe\x00",
    head_of(40_000) + b"[" * 40_000,
    head_of(40_005) + b'{"a":' + b"[" * 20_000 + b"]" * 20_000,
    head_of(14) + b'{"messages":1}',
    head_of(29) + b'{"messages":[{"role":"user"}]}'[:29],
    head_of(60) + b'{"messages":[{"role":"user","content":"\\ud800"}],"seed":1e400}'[:60].ljust(60),
]


class Seen(Counter[str]):
    """How often each kind of end came; `leaks` and `failures` must stay empty."""

    def __init__(self) -> None:
        super().__init__()
        self.leaks: list[bytes] = []
        self.failures: list[bytes] = []

    def note(self, sent: bytes, got: bytes, owns_secret: bool) -> None:
        found = re.match(rb"HTTP/1\.[01] (\d\d\d)", got)
        self[found[1].decode() if found else "closed without an answer"] += 1
        if found and found[1] in (b"500", b"502"):
            self.failures.append(sent[:400])
        if SECRET.encode() in got and not owns_secret:
            self.leaks.append(sent[:400])


async def send(address: tuple[str, int], data: bytes, seconds: float = 3.0) -> bytes:
    """Send bytes, and read what comes until the server closes, says nothing for a while, or has said enough."""
    reader, writer = await asyncio.open_connection(*address)
    got = b""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        until = time.monotonic() + seconds
        while len(got) < 2**20 and (part := await asyncio.wait_for(reader.read(65536), until - time.monotonic())):
            got += part
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return got


def mutated(rng: random.Random) -> bytes:
    """A good request with some bytes changed, left out, doubled, or cut."""
    own = json.dumps({**CHAT, "messages": [{"role": "user", "content": "wait now"}], "max_tokens": 3}).encode()
    data = bytearray(head_of(len(own)) + own)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 12)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 30)]
        elif kind == 3:
            data[at:at] = rng.choice((b"\x00", b"\r\n", b"1e999", b"NaN", b"\\ud800", b"-", b"null", b"[", b"{"))
        else:
            del data[at:]
        data = data or bytearray(b"G")
    return bytes(data)


# ---------------------------------------------------------------- attacks
async def broken_http(address: tuple[str, int], n: int) -> Seen:
    """Each of the list, then mutations by the thousand."""
    seen, rng, gate = Seen(), random.Random(1), asyncio.Semaphore(32)

    async def one(data: bytes) -> None:
        async with gate:
            seen.note(data, await send(address, data), SECRET.encode() in data)

    await asyncio.gather(*(one(data) for data in [*BROKEN, *(mutated(rng) for _ in range(n))]))
    return seen


async def connections(address: tuple[str, int], n: int, seconds: float) -> Seen:
    """As many connections in so many seconds: closed at once, after half a request, or reset."""
    seen, started = Seen(), time.monotonic()

    async def one(i: int) -> None:
        await asyncio.sleep(max(0.0, started + seconds * i / n - time.monotonic()))
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError as error:
            seen[f"refused: {error.strerror}"] += 1
            return
        if i % 3:
            writer.write(head_of(100) if i % 3 == 1 else b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen["opened"] += 1
        if i % 2:
            writer.transport.abort()
        else:
            writer.close()

    await asyncio.gather(*(one(i) for i in range(n)))
    return seen


@contextlib.asynccontextmanager
async def slow_clients(address: tuple[str, int], n: int) -> AsyncIterator[None]:
    """Clients that send a byte a second, and some that read nothing of a long answer."""

    async def drip() -> None:
        _, writer = await asyncio.open_connection(*address)
        for byte in head_of(len(GOOD)) + GOOD:
            writer.write(bytes([byte]))
            await asyncio.sleep(1)

    async def deaf() -> None:
        body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "so"}], "stream": True}).encode()
        reader, writer = await asyncio.open_connection(*address, limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head_of(len(body)) + body)
        await asyncio.sleep(600)

    tasks = [asyncio.ensure_future(drip() if i % 5 else deaf()) for i in range(n)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def too_long(address: tuple[str, int]) -> Seen:
    """Bodies beyond the limit: announced, and not announced."""
    seen = Seen()
    big = b"x" * 2**20
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for data in (head_of(2**40) + big, head + (b"100000\r\n" + big + b"\r\n") * 40, head_of(17 * 2**20) + big * 17):
        seen.note(data[:100], await send(address, data, 20), False)
    return seen


def by_schema(url: str, n: int) -> str:
    """Requests that schemathesis makes of the description; its own summary."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        return "not installed: nothing was tried"
    command = [str(program), "run", f"{url}/openapi.json", "--max-examples", str(n)]
    command += ["--checks", "not_a_server_error", "--seed", "1", "--workers", "4", "--request-timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(
            f"schemathesis: exit code {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
        )
    return " ".join(line.strip() for line in done.stdout.splitlines() if "test cases" in line or "generated" in line)


# ---------------------------------------------------------------- the one who only wants an answer
async def undisturbed(url: str, attack: Callable[[], Awaitable[Seen]], name: str) -> None:
    """An attack, while an honest client asks again and again; prints what came of both."""
    times, answers = [], set()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        task = asyncio.ensure_future(attack())
        while not task.done() or not times:
            started = time.perf_counter()
            response = await client.post("/v1/chat/completions", json=CHAT)
            response.raise_for_status()
            answers.add(response.json()["choices"][0]["message"]["content"])
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)
        seen = task.result()
    times.sort()
    print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in sorted(seen.items())))
    middle, longest = 1000 * times[len(times) // 2], 1000 * times[-1]
    print(f"  meanwhile {len(times)} answers, p50 {middle:.0f} ms, longest {longest:.0f} ms")
    problems = {"failures": seen.failures, "leaks": seen.leaks, "different answers": sorted(answers)[1:]}
    for what, found in problems.items():
        if found:
            raise click.ClickException(f"{name}: {what}: {found[:3]}")


async def attack_all(server: Server, n_requests: int, n_connections: int) -> None:
    host, port = re.findall(r"//([^:/]+):(\d+)", server.url)[0]
    address = (host, int(port))
    await undisturbed(server.url, lambda: broken_http(address, n_requests), "broken HTTP")
    await undisturbed(server.url, lambda: too_long(address), "bodies too long")
    seconds = n_connections * 60 / 10_000
    await undisturbed(
        server.url, lambda: connections(address, n_connections, seconds), f"connections in {seconds:.0f} s"
    )

    async def wait() -> Seen:
        async with slow_clients(address, 200):
            await asyncio.sleep(20)
        seen = Seen()
        seen["slow clients"] = 200
        return seen

    await undisturbed(server.url, wait, "slow clients")


@click.command()
@click.option("--requests", default=2000, help="Requests of each kind.")
@click.option("--connections", default=10_000, help="Connections, 10,000 a minute.")
def main(requests: int, connections: int) -> None:
    """Attack a server of the bundled pair; exit code 1 where it does not bear it."""
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name) / "log", checked=True)
        try:
            asyncio.run(attack_all(server, requests, connections))
            print("schemathesis: " + by_schema(server.url, requests // 8))
        finally:
            print("server: " + server.stop().strip().splitlines()[-1])


if __name__ == "__main__":
    main()
