"""The engine behind the server: a bounded number of open requests, the checks before an answer, and a graceful end.

Owner of the open requests. Knows the engine and its settings; no request's fields, and nothing of HTTP but its errors.
All methods but `opened` and `close` are for the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

from .. import __version__
from ..config import Generation, Prompting
from ..engine import Engine
from ..errors import ContextFullError, ForealError, UsageError, WorkerError
from ..method.modes import gate_of, roles_of
from ..method.reasoning import DEFAULT_TAGS, ReasoningTags
from ..method.roles import Role
from ..results import Chunk, Prompt, Result
from ..runtime.messages import SYSTEM_ROLES, PromptContent, TokenIds
from ..runtime.text import least_tokens
from .body import Bodies
from .errors import ApiError, context_full, failed, invalid, unavailable
from .names import ModelNames

T = TypeVar("T")
_READERS = 2
"""Threads that read prompts before they are answered; the event loop goes on meanwhile."""


@dataclass(frozen=True)
class Limits:
    """How much is taken on.

    n_slots: answers at a time
    n_queued: requests that may wait beside them
    n_body: bytes of a request's body
    """

    n_slots: int
    n_queued: int
    n_body: int

    @property
    def n_open(self) -> int:
        return self.n_slots + self.n_queued


class Serving:
    """What answers requests, once the models are loaded.

    names: of the models
    limits: how much is taken on
    created: when the server was started, in seconds since 1970
    stopping: no new requests are taken
    cut: set when answers have to end now
    bodies: reads those of requests
    tell: takes lines for the user
    """

    def __init__(self, names: ModelNames, limits: Limits, tell: Callable[[str], None]) -> None:
        self.names, self.limits = names, limits
        self.bodies = Bodies(limits.n_body)
        self._tell, self._told = tell, set[str]()
        self.created = int(time.time())
        self.stopping = False
        self.cut = asyncio.Event()
        self.n_open = 0
        self.fingerprint = ""
        self.tags: ReasoningTags = DEFAULT_TAGS
        self._engine: Engine | None = None
        self._settings = Generation()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="prompts")
        self._schemas = ThreadPoolExecutor(1, thread_name_prefix="schemas")

    def opened(self, engine: Engine, settings: Generation) -> None:
        """The models are loaded. `settings` are those of requests that say nothing else."""
        self._settings = settings
        models = "".join(engine.loaded.fingerprints[role] for role in sorted(engine.loaded.roles))
        self.fingerprint = "fp_" + hashlib.sha256(f"{models}{__version__}".encode()).hexdigest()[:12]
        try:
            self.tags = replace(engine.encode([{"role": "user", "content": "Hello"}]).tags, opened=False)
        except ForealError:  # no chat template: there will be no messages
            self.tags = DEFAULT_TAGS
        self.tell_warnings(engine)
        self._engine = engine

    # ---------------------------------------------------------------- what it is like
    @property
    def is_ready(self) -> bool:
        return self._engine is not None and not self.stopping

    def require_ready(self) -> None:
        """ApiError while nothing is answered."""
        _ = self.engine

    @property
    def engine(self) -> Engine:
        """ApiError while there is none, or it takes nothing new."""
        if self.stopping:
            raise unavailable("the server is stopping", "stopping", 5)
        if self._engine is None:
            raise unavailable("the models are being loaded", "loading", 2)
        return self._engine

    @property
    def ctx_size(self) -> int | None:
        """Tokens of a prompt with its answer; None while that is not known."""
        return self._engine.ctx_size if self._engine else None

    @property
    def settings(self) -> Generation:
        return self._settings

    @property
    def prompting(self) -> Prompting:
        """Templates are told today's date: one that changed with each request would void what the caches hold."""
        prompting = self.engine.prompting
        return prompting if prompting.now or prompting.raw else replace(prompting, now=f"{date.today()}T00:00")

    @property
    def n_running(self) -> int:
        """Answers that have a slot."""
        engine = self._engine
        return min(self.limits.n_slots, sum(lane.n_open for lane in engine.lanes)) if engine else 0

    def piece(self, role: Role, token: int) -> bytes:
        """The bytes of a role's token; none of one that ends a response."""
        assert self._engine is not None
        return self._engine.piece(role, token)

    # ---------------------------------------------------------------- answering
    @contextmanager
    def place(self) -> Iterator[None]:
        """Around a request; ApiError where there are too many."""
        if self.n_open >= self.limits.n_open:
            message = f"{self.n_open} requests are open, as many as are taken (--parallel and --queue): try again"
            raise unavailable(message, "overloaded", 2)
        self.n_open += 1
        try:
            yield
        finally:
            self.n_open -= 1

    async def aside(self, work: Callable[[], T]) -> T:
        """What the work gives, done in a thread while the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def check(
        self, prompts: Sequence[Prompt], settings: Generation, prompting: Prompting, param: str, of_schema: str
    ) -> None:
        """ApiError where a prompt cannot be answered so: said before anything else is.

        param, of_schema: the fields that the prompts and the JSON schema are from
        """
        engine, run = self.engine, asyncio.get_running_loop().run_in_executor
        _require_roles(engine, settings)
        if settings.has_grammar:  # some schemas take minutes to be refused: nobody else waits for that
            await run(self._schemas, _require_grammar, engine, settings, of_schema)
        for prompt in prompts:
            await run(self._readers, _require_room, engine, prompt, prompting, roles_of(settings.mode), param)
        self.tell_warnings(engine)

    def tell_warnings(self, engine: Engine) -> None:
        """Those that were not told yet: some come with the first prompt that they are about."""
        for warning in engine.warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._tell(f"warning: {warning}")

    async def stream(
        self, prompt: Prompt, settings: Generation, prompting: Prompting
    ) -> AsyncGenerator[Chunk | Result, None]:
        """A prompt's tokens as they are written, then its result; ApiError where it fails."""
        events = self.engine.astream(prompt, settings, prompting)
        try:
            async for event in events:
                if isinstance(event, Result):
                    require_answered(event)
                yield event
        except ForealError as error:
            raise _failure(error) from error
        finally:
            await events.aclose()

    async def whole(self, prompts: list[Prompt], settings: Generation, prompting: Prompting) -> list[Result]:
        """The results of prompts, in their order; ApiError where one fails."""
        try:
            results = await self.engine.agenerate(prompts, settings, prompting)
        except ForealError as error:
            raise _failure(error) from error
        for result in results:
            require_answered(result)
        return results

    # ---------------------------------------------------------------- the end
    async def stop(self, seconds: float) -> None:
        """Take nothing new, let running answers finish for so many seconds, then end them."""
        self.stopping = True
        until = time.monotonic() + seconds
        while self.n_open and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.cut.set()
        until = time.monotonic() + 2.0
        while self.n_open and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Wait for the threads that still read a prompt or a schema, once the event loop has ended.

        Both ask the models' vocabularies, which must not be freed meanwhile: that would end the process.
        """
        for pool in (self._readers, self._schemas):
            pool.shutdown(cancel_futures=True)


def _require_roles(engine: Engine, settings: Generation) -> None:
    """ApiError where the mode needs a model that is not there."""
    needed = roles_of(settings.mode)
    missing = [str(role) for role in needed if role not in engine.loaded.roles]
    if missing:
        raise invalid(f"mode {settings.mode} needs the {' and the '.join(missing)}, which is not loaded", "foreal.mode")
    asked = gate_of(settings).role
    if asked is not None and asked not in needed:
        what = f"gate {settings.method.gate} asks the {asked}, which has no part in mode {settings.mode}"
        raise invalid(what, "foreal.gate")


def _require_grammar(engine: Engine, settings: Generation, param: str) -> None:
    """ApiError where the schema cannot be read."""
    try:
        engine.loaded.require_grammar(settings)
    except UsageError as error:
        raise invalid(f"`{param}`: {error}", param) from None


def _require_room(engine: Engine, prompt: Prompt, prompting: Prompting, roles: list[Role], param: str) -> None:
    """ApiError where the prompt cannot be read, or is longer than the context."""
    least, ctx_size = _least_tokens(prompt.content, prompting.system), engine.ctx_size
    if least > ctx_size:
        raise context_full(f"{least} or more", ctx_size, param)
    try:
        ids = engine.loaded.encode(prompt.content, prompting, ctx_size).ids
    except ContextFullError as error:  # by what a template puts around the messages
        raise context_full(f"{error.n_tokens} or more", ctx_size, param) from None
    except ForealError as error:
        raise invalid(str(error), param) from None
    needed = [len(ids[role]) for role in roles]
    if not min(needed):
        raise invalid("the prompt is empty: there is no token to continue from", param)
    if max(needed) > ctx_size:
        raise context_full(max(needed), ctx_size, param)


def _failure(error: ForealError) -> ApiError:
    """What a request hears of an error; of a worker that is lost, that it may ask again later."""
    return unavailable(str(error), "worker_lost", 10) if isinstance(error, WorkerError) else failed(str(error))


def require_answered(result: Result) -> None:
    """ApiError where the models could not answer."""
    if result.error is not None:
        raise failed(f"the answer failed: {result.error}")


def _least_tokens(content: PromptContent, system: str | None) -> int:
    """How many tokens a prompt with this system message has at least, before a template has been asked."""
    if isinstance(content, TokenIds):
        return len(content)
    if isinstance(content, str):
        return least_tokens(content)
    has_own = any(message["role"] in SYSTEM_ROLES for message in content)
    texts = [message["content"] for message in content] + ([system] if system and not has_own else [])
    return len(texts) + least_tokens("".join(texts))


def stopped() -> ApiError:
    """What an answer ends with that the server's end has cut off."""
    return unavailable("the server was stopped before the answer was finished", "stopping", 5)
