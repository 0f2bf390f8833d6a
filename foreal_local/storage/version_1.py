"""Sequences as version 0.1.0 saved them: what today's files say and theirs do not is inferred from the tokens.

Its rule "robust" found no sentence end inside fenced code and display maths: that is "whole-blocks" today.
"""

from __future__ import annotations

import base64
from typing import Any

from ..config import Generation
from ..method.modes import flow_of
from ..method.requests import Judge, WriteCue, Written
from ..method.speculation import Propose


def upgraded(values: dict[str, Any], settings: Generation) -> dict[str, Any]:
    """The values of a file of version 1 as version 2 would have saved them."""
    tokens = dict(values["tokens"])
    n = len(tokens["id"])
    inserted = tokens.pop("given", "0" * n)  # the first files have no such column
    half = {n - 1: values["half_character"]} if base64.b64decode(values["half_character"]) and n else {}
    columns = tokens | {"inserted": inserted, "half": half, "n_drawn": [0] * n}
    counts = {"n_proposed": values.get("n_proposed", 0), "n_accepted": values.get("n_accepted", 0)}
    counts |= {"n_rejected": 0, "n_drawn": 0}
    ended = values["verdict"] == "END"
    answers = [] if ended else _answers(settings, columns, values["led"], values["opening"])
    inferred = {"tokens": columns, "taken_back": [], "answers": answers, "settings": _settings(values["settings"])}
    return values | counts | inferred


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """Its settings, under the names that they have today."""
    method = values["method"]
    if method["boundaries"] == "robust":
        method = method | {"boundaries": "whole-blocks"}
    return values | {"method": method}


def _answers(settings: Generation, columns: dict[str, Any], led: bool, opening: bool) -> list[list[Any]]:
    """The answers that the flow got in the open sentence: the flow is run along its tokens to see what it asks."""
    flow = flow_of(settings)
    next(flow)
    request = flow.send(led)
    numbers, n_all = columns["sentence"], len(columns["id"])
    first = n_all if opening or not numbers else numbers.index(numbers[-1])
    answers: list[list[Any]] = [[first, led]]
    at = first
    while True:
        if isinstance(request, Propose):
            request = flow.send(False)
            continue
        if isinstance(request, Judge):
            flags = columns["hit"][at - request.n_tokens : at]
            if "?" in flags:
                break
            answers.append([at, flags])
            request = flow.send(tuple(flag == "1" for flag in flags))
            continue
        if at == n_all:
            break
        at += columns["inserted"][first:].count("1") if isinstance(request, WriteCue) else 1
        answers.append([at, 1])
        request = flow.send(Written(ends_sentence=False))
    return answers
