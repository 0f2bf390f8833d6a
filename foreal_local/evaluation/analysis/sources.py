"""Where analysed responses come from: problems and prompts that are still to be answered, records, traces.

Knows files and their formats. A record's text becomes ids and a trace's ids are checked only where a vocabulary is
at hand (models.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...batch.json_lines import objects
from ...batch.prompts import read_prompts, with_unique_ids
from ...batch.trace import TRACE_VERSION
from ...config import Generation
from ...documents import Note, name_of
from ...errors import UsageError
from ...method.roles import Role
from ...results import Prompt
from ...runtime.messages import Messages, as_messages

N_PROBLEMS = 100  # of a problem set, unless --limit says otherwise

SourceKind = Literal["problems", "prompts", "responses", "trace"]


@dataclass(frozen=True)
class SourceRequest:
    """Where the responses of an analysis come from.

    kind: problems or prompts, which the leader still has to answer; or responses or a trace, which are there already
    path: the file, or the name of a problem set
    limit: read at most so many; None: 100 of a problem set, all of a file
    offline: a problem set may come from the hub's cache only
    """

    kind: SourceKind
    path: str
    limit: int | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}, but must be 1 or more")

    @property
    def name(self) -> str:
        """For titles."""
        return f"the {self.kind} of {name_of(self.path)}"


@dataclass(frozen=True)
class RecordedResponse:
    """A response as text.

    content: what was asked
    finish_reason: why it ended; None where the line does not say it
    """

    id: str
    content: str | Messages
    text: str
    finish_reason: str | None = None


@dataclass
class TracedResponse:
    """A response as a trace has it.

    prompts: each role's ids; none for a role that took no part
    tokens: author (None: inserted by the program), id and text of each; the token that ended it is left out
    """

    id: str
    prompts: dict[Role, list[int]]
    tokens: list[tuple[Role | None, int, str]] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(text for _, _, text in self.tokens)


@dataclass(frozen=True)
class Trace:
    """What a trace has of the leader's responses.

    draft: the file name of the draft that took part
    n_without_leader: responses that are left out, because the leader took no part and its prompt is not there
        (modes draft and cue)
    """

    draft: str
    responses: list[TracedResponse]
    n_without_leader: int = 0


ResponseSource = list[Prompt] | list[RecordedResponse] | Trace
"""Prompts that the leader still has to answer, or responses that are there already."""


def read_source(request: SourceRequest, settings: Generation, note: Note = lambda text: None) -> ResponseSource:
    """What is asked for: prompts to answer greedily, records or a trace.

    settings: how prompts are answered
    note: what tells the user of keys that are probably misspelt, and that standard input is waited for
    """
    if request.kind == "responses":
        return read_records(request.path, note)[: request.limit]
    if request.kind == "trace":
        trace = read_trace(request.path, note)
        return replace(trace, responses=trace.responses[: request.limit])
    if request.kind == "prompts":
        prompts = read_prompts(request.path, settings, None, note)[: request.limit]
        # Who writes and how are this command's own; lengths and seeds may be a prompt's.
        return [replace(p, settings=p.settings and _greedy(p.settings, settings)) for p in prompts]
    from ..problems.datasets import load_problems

    limit, seed = request.limit or N_PROBLEMS, settings.seed or 0
    problems = load_problems(request.path, limit=limit, seed=seed, offline=request.offline, note=note)
    return with_unique_ids([Prompt(problem.question, problem.id) for problem in problems], request.path)


def _greedy(own: Generation, settings: Generation) -> Generation:
    return replace(own, mode=settings.mode, method=settings.method, sampling=settings.sampling)


# ---------------------------------------------------------------- records
def read_records(path: str, note: Note = lambda text: None) -> list[RecordedResponse]:
    """The responses of foreal-gen's records, or of any JSON lines with `prompt` (or `messages`) and `text`."""
    records = []
    for index, (where, line) in enumerate(objects(path, note)):
        content: Any = line.get("prompt", line.get("messages"))
        if content is None:
            raise UsageError(f"{where}: a response needs the `prompt` (or `messages`) it answers")
        try:
            content = content if isinstance(content, str) else as_messages(content)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        if not isinstance(line.get("text"), str):
            raise UsageError(f"{where}: a response needs its `text`")
        reason = line.get("finish_reason")
        ended = reason if isinstance(reason, str) else None
        records.append(RecordedResponse(str(line.get("id", index)), content, line["text"], ended))
    if not records:
        raise UsageError(f"{name_of(path)} has no responses: one JSON object on each line is expected")
    return records


# ---------------------------------------------------------------- traces
def read_trace(path: str, note: Note = lambda text: None) -> Trace:
    """The responses of a trace that foreal-gen has written."""
    name = name_of(path)
    draft: str | None = None
    by_id: dict[str, TracedResponse] = {}
    for where, line in objects(path, note):
        kind = line.get("type")
        if kind == "header":
            if line.get("version") != TRACE_VERSION:
                raise UsageError(f"{where}: a trace of version {line.get('version')!r}; {TRACE_VERSION} can be read")
            draft = Path(str(line.get("draft", ""))).name
        if draft is None:
            raise UsageError(f"{name} is not a trace: it has no header line; foreal-gen --trace writes one")
        try:
            _take(kind, line, by_id)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{where}: not a line of a trace ({type(error).__name__}: {error})") from None
    if not by_id:
        raise UsageError(f"{name} has no responses")
    responses = [response for response in by_id.values() if response.prompts[Role.LEADER]]
    if not responses:
        raise UsageError(f"{name} has no prompt of the leader: it took no part in any response (modes draft and cue)")
    return Trace(draft or "", responses, len(by_id) - len(responses))


def _take(kind: Any, line: dict[str, Any], by_id: dict[str, TracedResponse]) -> None:
    """Put one line of a trace into the response that it belongs to."""
    if kind == "prompt":
        if line["id"] in by_id:
            raise ValueError(f"a second prompt {line['id']!r}")
        by_id[line["id"]] = TracedResponse(line["id"], {role: _ids(line[f"{role}_tokens"]) for role in Role})
    elif kind == "token":
        author = None if line["author"] is None else Role(line["author"])  # None: no model chose it
        by_id[line["id"]].tokens.append((author, _ids([line["token"]])[0], line["piece"]))
    elif kind == "end":
        response = by_id[line["id"]]
        response.finish_reason = line["finish_reason"]
        by_itself = response.finish_reason == "stop" and line.get("stopped_by") is None
        if by_itself and response.tokens and response.tokens[-1][2] == "":
            response.tokens.pop()
    elif kind != "header":
        raise ValueError(f"its type is {kind!r}")


def _ids(values: list[Any]) -> list[int]:
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError("a token is not a number")
    return values
