"""What a server bears: clients that come and go over the bundled pair, and its speed against foreal-gen's.

    python scripts/load_server.py                       # 32 clients for 3 minutes, then the comparison
    python scripts/load_server.py --seconds 20 --rounds 1

Half of the clients leave at a random moment: while they wait, while their prompt is read, or in the answer. Meanwhile
the scheduler is checked after each step, in the server itself, and every answer that is waited for must be the one that
the same prompt gets when nobody else asks (greedy). Then as many prompts are answered by the server and by foreal-gen
in turn, both 8 at a time.

Needs httpx and the extra `server`. Memory is read from /proc, and left out where there is none.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

ROOT = Path(__file__).parents[1]
N_CLIENTS, N_SLOTS, MAX_TOKENS = 32, 8, 160
SHARES = (0.5, 0.95, 0.99)
Json = dict[str, Any]


# ---------------------------------------------------------------- the server
def serve_checked(arguments: list[str]) -> None:
    """`foreal serve` with the scheduler's check after each step; says at its end whether all slots are free."""
    from foreal_local.cli.serve import main
    from foreal_local.engine import Engine
    from foreal_local.lane import Lane

    step, close, n_steps = Lane.step, Engine.close, [0]

    def checked(lane: Lane, report_every: float = 0.0) -> None:
        step(lane, report_every)
        lane.scheduler.check()
        n_steps[0] += 1

    def told(engine: Engine) -> None:
        for lane in engine.lanes:
            lane.scheduler.check()
            assert lane.n_open == 0, "an answer is left"
            assert len(lane.scheduler.slots.free) == lane.scheduler.slots.n, "a slot is lost"
        print(f"all slots free; {n_steps[0]} steps were checked", flush=True)
        close(engine)

    Lane.step, Engine.close = checked, told  # type: ignore[method-assign]
    main(arguments)


class Server:
    """A server of the bundled pair in a process of its own.

    url: where it answers
    """

    def __init__(self, log: Path, *, checked: bool) -> None:
        words = ["--parallel", str(N_SLOTS), "--port", "0", "--temp", "0", "--queue", str(4 * N_CLIENTS), "--quiet"]
        command = [sys.executable, __file__, "--serve"] if checked else [sys.executable, "-m", "foreal_local", "serve"]
        self._log = log
        self.process = subprocess.Popen([*command, *words], stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=ROOT)
        found = None
        while found is None:
            time.sleep(0.1)
            assert self.process.poll() is None, log.read_text()
            found = re.search(r"(http://\S+) is ready", log.read_text())
        self.url = found[1]

    def resident(self) -> float | None:
        """Megabytes in memory."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> str:
        """End it as a service manager does; what it has said."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        said = self._log.read_text()
        assert code == 0, f"exit code {code}: {said}"
        return said


PROBLEMS = ROOT / "models" / "heldout.jsonl"


def problems(n: int) -> list[str]:
    lines = PROBLEMS.read_text("utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:n]]


# ---------------------------------------------------------------- clients
@dataclass
class Seen:
    """What the clients have seen.

    first, between: seconds to the first text, and between two pieces of it
    n_left: clients that left, by the moment
    wrong: answers that are not those of the same prompt alone
    """

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    n_answers: int = 0
    n_left: dict[str, int] = field(default_factory=lambda: {"waiting": 0, "at its first text": 0, "in the answer": 0})
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


def body_of(prompt: str, stream: bool) -> Json:
    messages = [{"role": "user", "content": prompt}]
    return {"messages": messages, "stream": stream, "temperature": 0, "seed": 1, "max_tokens": MAX_TOKENS}


async def whole(client: httpx.AsyncClient, prompt: str) -> tuple[str, int]:
    """An answer and how many tokens it has."""
    response = await client.post("/v1/chat/completions", json=body_of(prompt, False))
    response.raise_for_status()
    answer = response.json()
    message = answer["choices"][0]["message"]
    return message.get("reasoning_content", "") + message["content"], answer["usage"]["completion_tokens"]


async def streamed(client: httpx.AsyncClient, prompt: str, seen: Seen, n_pieces: int | None) -> str | None:
    """An answer; None where the client leaves after so many pieces of it."""
    started, last, text = time.perf_counter(), 0.0, ""
    async with client.stream("POST", "/v1/chat/completions", json=body_of(prompt, True)) as response:
        if response.status_code != 200:
            seen.refused.append(response.status_code)
            return None
        n = 0
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
            piece = delta.get("reasoning_content") or delta.get("content") or ""
            if not piece:
                continue
            now = time.perf_counter()
            (seen.between if last else seen.first).append(now - (last or started))
            last, text, n = now, text + piece, n + 1
            if n == n_pieces:
                seen.n_left["at its first text" if n == 1 else "in the answer"] += 1
                return None
    return text


async def visit(client: httpx.AsyncClient, rng: random.Random, expected: dict[str, str], seen: Seen) -> None:
    """One request, which half of the clients leave."""
    prompt = rng.choice(list(expected))
    if rng.random() < 0.5:
        if rng.random() < 0.4:
            task = asyncio.ensure_future(whole(client, prompt))
            await asyncio.sleep(rng.uniform(0, 0.4))
            seen.n_left["waiting"] += not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            await streamed(client, prompt, seen, rng.choice((1, 2, 5, 20)))
        return
    text = await streamed(client, prompt, seen, None) if rng.random() < 0.7 else (await whole(client, prompt))[0]
    if text is not None:
        seen.n_answers += 1
        if text != expected[prompt]:
            seen.wrong.append((prompt, text, expected[prompt]))


async def stay(url: str, number: int, until: float, expected: dict[str, str], seen: Seen) -> None:
    rng = random.Random(number)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        while time.monotonic() < until:
            await visit(client, rng, expected, seen)


async def load(server: Server, seconds: float) -> None:
    """Clients for so long; prints what came of it."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        expected = {prompt: (await whole(client, prompt))[0] for prompt in problems(60)}
    seen, until = Seen(), time.monotonic() + seconds
    clients = [asyncio.ensure_future(stay(server.url, i, until, expected, seen)) for i in range(N_CLIENTS)]
    memory = {}
    for share in (1 / 3, 1.0):
        await asyncio.sleep(max(0.0, until - seconds * (1 - share) - time.monotonic()))
        memory[share * seconds] = server.resident()
    await asyncio.gather(*clients)
    print(f"{N_CLIENTS} clients for {seconds:.0f} s, {N_SLOTS} answers at a time, seeds 0 to {N_CLIENTS - 1}")
    print(f"answers {seen.n_answers}, left " + ", ".join(f"{n} {moment}" for moment, n in seen.n_left.items()))
    print(f"other than alone: {len(seen.wrong)}; refused: {len(seen.refused)}")
    for name, values in (("first text", seen.first), ("between two pieces", seen.between)):
        values.sort()
        shown = ", ".join(f"p{100 * share:.0f} {1000 * values[int(share * (len(values) - 1))]:.0f}" for share in SHARES)
        print(f"{name}, ms: {shown}")
    if None not in memory.values():
        print("memory, MB: " + ", ".join(f"{mb:.0f} after {at:.0f} s" for at, mb in memory.items()))
    for prompt, text, wanted in seen.wrong[:3]:
        print(f"{prompt!r}\n  {text!r}\n  alone {wanted!r}")


# ---------------------------------------------------------------- speed
async def answer_all(url: str, prompts: list[str]) -> float:
    """Tokens a second of all prompts, as many at a time as there are slots."""
    waiting = list(reversed(prompts))

    async def one(client: httpx.AsyncClient) -> int:
        n = 0
        while waiting:
            n += (await whole(client, waiting.pop()))[1]
        return n

    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        numbers = await asyncio.gather(*(one(client) for _ in range(N_SLOTS)))
    return sum(numbers) / (time.perf_counter() - started)


def by_gen(prompts: list[str], folder: Path) -> float:
    """The same of foreal-gen, as its summary says it: without the time in which models load."""
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), "utf-8")
    command = [sys.executable, "-m", "foreal_local", "gen", "--file", str(file), "--parallel", str(N_SLOTS)]
    command += ["--temp", "0", "--seed", "1", "--max-tokens", str(MAX_TOKENS), "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found = re.search(r"(\d+) tokens/s", done.stderr)
    assert found, done.stderr
    return float(found[1])


def compare(folder: Path, rounds: int) -> None:
    """Server and foreal-gen in turn, so that what else the machine does meets both."""
    prompts, ratios = problems(200), []
    for i in range(rounds):
        server = Server(folder / "speed.log", checked=False)
        asyncio.run(answer_all(server.url, prompts[:20]))  # the first answers find memory that was never touched
        speeds = {"server": asyncio.run(answer_all(server.url, prompts))}
        server.stop()
        speeds["foreal-gen"] = by_gen(prompts, folder)
        ratios.append(speeds["server"] / speeds["foreal-gen"])
        print(f"round {i + 1}: " + ", ".join(f"{name} {speed:.0f} tokens/s" for name, speed in speeds.items()))
    print(f"the server writes {sorted(ratios)[rounds // 2]:.2f} of foreal-gen's tokens a second (median)")


@click.command()
@click.option("--seconds", default=180.0, help="For which clients come and go.")
@click.option("--rounds", default=3, help="Of the comparison; 0: none.")
def main(seconds: float, rounds: int) -> None:
    """Clients that come and go, then the speed against foreal-gen's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if seconds:
            server = Server(folder / "load.log", checked=True)
            try:
                asyncio.run(load(server, seconds))
            finally:
                print("server: " + server.stop().strip().splitlines()[-1])
        compare(folder, rounds) if rounds else None


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve_checked(sys.argv[2:])
    else:
        main()
