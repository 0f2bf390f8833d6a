"""What type checkers must accept of the public names, and what they must refuse.

`python -m mypy tests/typed_api.py` checks it (scripts/check does); test_python_api.py runs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from foreal_local import (
    Chunk,
    Conversation,
    Engine,
    Generation,
    Method,
    Pair,
    Prompt,
    Prompting,
    PromptProgress,
    Result,
    Runtime,
    Sampling,
    load,
)


def open_engine(leader: Path, draft: str) -> Engine:
    engine: Engine = load(leader, draft, ctx_size=256, threads=1, parallel=2, roles=["leader", "draft"], temp=0)
    engine.close()
    pair = Pair(leader, draft)
    return Engine(pair, runtime=Runtime(ctx_size=256, threads=1), n_slots=2, prompting=Prompting(raw=True))


def ask(engine: Engine) -> None:
    settings = Generation("leader", Method(n=3), Sampling(temp=0), max_tokens=3)
    one: Result = engine.generate("so", settings)
    same: Result = engine.generate(Prompt("so", id="a"), max_tokens=3)
    several: list[Result] = engine.generate(["so", Prompt("wait")], settings, temp=0)
    others: list[Result] = engine.generate((text for text in ("so", "wait")), max_tokens=3)
    assert [type(one), type(same), len(several), len(others)] == [Result, Result, 2, 2]
    events: Iterator[Chunk | Result] = engine.stream("so", settings)
    for event in events:
        text: str = event.text if isinstance(event, Chunk) else event.answer
        assert isinstance(text, str)


def refused(engine: Engine) -> None:
    one: list[Result] = engine.generate("so")  # type: ignore[assignment]
    several: Result = engine.generate(["so"])  # type: ignore[assignment]
    engine.generate(5)  # type: ignore[call-overload]
    load(5)  # type: ignore[arg-type]
    Pair("big.gguf")  # type: ignore[call-arg]
    del one, several


def talk(engine: Engine) -> None:
    chat = Conversation(engine, Generation("leader", max_tokens=3), Prompting(system="Be brief."))
    for event in chat.ask("so"):
        assert isinstance(event, (Chunk, Result, PromptProgress))
    if chat.result is not None:
        answer: str = chat.result.answer
        assert isinstance(answer, str)


async def answers(engine: Engine) -> None:
    one: Result = await engine.agenerate("so", max_tokens=3)
    several: list[Result] = await engine.agenerate(["so", Prompt("wait")], Generation(max_tokens=3))
    assert [type(one), len(several)] == [Result, 2]
    events: AsyncIterator[Chunk | Result] = engine.astream("so", max_tokens=3)
    async for event in events:
        assert isinstance(event.text, str)
