"""What the answers of both interfaces have in common: how they begin, an id, a time and a name, figures."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Generic

from starlette.requests import Request

from ..config import Generation, Prompting
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..results import Result
from .asked import answered_with
from .body import parsed
from .log import Entry, entry_of
from .parts import Parts
from .requests import AnyFields, Kind, read
from .serving import Serving
from .usage import figures_of, n_cached, n_prompt, timings_of

Json = dict[str, Any]
_LARGE = 100_000
"""Bytes of a body that is not read in the event loop's thread, where all others would wait."""


@dataclass(frozen=True)
class Asked(Generic[Kind]):
    """A request that has been read.

    serving: what answers it
    entry: its line in the log
    fields: what it says
    settings, prompting: what it is answered with
    """

    serving: Serving
    entry: Entry
    fields: Kind
    settings: Generation
    prompting: Prompting


async def fields_in(request: Request, kind: type[AnyFields]) -> AnyFields:
    """What the body says; ApiError where that is wrong."""
    serving: Serving = request.app.state.serving
    data = await serving.bodies.read(request)
    return await serving.aside(lambda: read(kind, parsed(data))) if len(data) > _LARGE else read(kind, parsed(data))


async def asked_in(request: Request, kind: type[Kind]) -> Asked[Kind]:
    """The request that is made; ApiError where it cannot be answered."""
    serving: Serving = request.app.state.serving
    serving.require_ready()
    fields = await fields_in(request, kind)
    entry = entry_of(request.scope)
    entry.model = fields.model or serving.names.name
    mode = serving.names.mode_of(fields.model)
    settings, prompting = answered_with(fields, mode, serving.settings, serving.prompting)
    return Asked(serving, entry, fields, settings, prompting)


@dataclass(frozen=True)
class Head:
    """What all parts of one answer say of it.

    prefix: of its id
    model: the name that was asked for
    fingerprint: of the models and of this version
    """

    prefix: str
    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def of(self, kind: str) -> Json:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def finish_reason_of(result: Result) -> str:
    return "stop" if result.finish_reason is FinishReason.STOP else "length"


def by(author: Role | None) -> Json:
    """What stands beside a piece of a stream."""
    return {"foreal": {"author": author and str(author)}}


def figures(result: Result, parts: Parts, in_stream: bool = False) -> Json:
    """The two objects that stand beside a finished answer; in a stream, with the author of its last token."""
    author = by(result.tokens[-1].author if result.tokens else None)["foreal"] if in_stream else {}
    return {"timings": timings_of(result), "foreal": author | figures_of(result, parts)}


def count(entry: Entry, result: Result) -> None:
    """Note a finished answer for the log and the metrics."""
    entry.n_prompt += n_prompt(result)
    entry.n_cached += n_cached(result)
    entry.n_completion += len(result.tokens)
    for role in Role:
        entry.n_written[str(role)] = entry.n_written.get(str(role), 0) + result.sequence.n_written(role)
    entry.n_proposed += result.sequence.n_proposed
    entry.n_accepted += result.sequence.n_accepted
