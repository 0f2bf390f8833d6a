"""The trace: every decision of a response, a line each, enough to replay the method by hand (docs/batch.md)."""

from __future__ import annotations

from typing import Any

from ..config import Generation, Method, for_digest, in_force, names_of
from ..method.roles import Role
from ..method.tokens import TakenBack, Token
from ..results import Result
from .json_lines import to_line

TRACE_VERSION = 1
_FIRST = ("mode", "n", "p", "k", "hits_from", "temp")  # of the header, before the models
_OF_A_PROMPT = ("mode", "n", "p", "k", "temp", "seed")


def trace_header(settings: Generation, leader: str, draft: str) -> str:
    """The first line: the settings of prompts that have none of their own."""
    values = in_force(settings)
    header = {"type": "header", "version": TRACE_VERSION} | {name: values[name] for name in _FIRST}
    header |= {"leader": leader, "draft": draft, "seed": settings.seed}
    return to_line(header | {name: v for name, v in _of_the_method(settings).items() if name not in header})


def _of_the_method(settings: Generation) -> dict[str, Any]:
    """The method's settings. One that is younger than version 0.1.0 is left out at the value that means what held
    before it existed, so that a trace of that version can be continued."""
    return for_digest(names_of(Method), settings)


def trace_lines(result: Result) -> str:
    """The prompt, token and end lines of a response; the prompt line has its settings, also those of its own."""
    sequence, settings, id = result.sequence, result.sequence.settings, result.id
    prompt: dict[str, Any] = {"type": "prompt", "id": id}
    for role in Role:
        view = sequence.views.get(role)
        prompt[f"{role}_tokens"] = view.ids[: view.n_prompt] if view else []
    values = in_force(settings)
    prompt |= {name: values[name] for name in _OF_A_PROMPT} | {"index": result.index}
    prompt |= {name: value for name, value in _of_the_method(settings).items() if name not in prompt}
    lines = [to_line(prompt)]
    taken_back: dict[int, list[TakenBack]] = {}
    for rewound in sequence.taken_back:
        taken_back.setdefault(min(rewound.at, len(sequence.tokens)), []).append(rewound)
    for i, token in enumerate(sequence.tokens):
        lines += [_taken_back_line(id, rewound) for rewound in taken_back.get(i, ())]
        lines.append(_token_line(id, i, token))
    lines += [_taken_back_line(id, rewound) for rewound in taken_back.get(len(sequence.tokens), ())]
    end = {"type": "end", "id": id, "finish_reason": str(result.finish_reason), "stopped_by": result.stopped_by}
    lines.append(to_line(end | ({"error": result.error} if result.error else {})))
    return "".join(lines)


def _author(token: Token) -> str | None:
    """None where no model chose it."""
    return None if token.inserted else str(token.author)


def _token_line(id: str, i: int, token: Token) -> str:
    line = {"type": "token", "id": id, "i": i, "token": token.id, "piece": token.text}
    line |= {"author": _author(token), "sentence": token.sentence, "led": token.led}
    return to_line(line | {"hit": token.hit, "hits": token.hits})


def _taken_back_line(id: str, taken_back: TakenBack) -> str:
    """Tokens that were rewound: they stood from place `i` on, where the next line's token stands now."""
    tokens = taken_back.tokens
    line = {"type": "taken_back", "id": id, "i": taken_back.at, "tokens": [token.id for token in tokens]}
    line |= {"pieces": [token.text for token in tokens], "authors": [_author(token) for token in tokens]}
    return to_line(line | {"reason": taken_back.reason})
