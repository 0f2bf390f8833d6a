"""A sequence as plain values (JSON), and back: at any moment between two changes, also inside a sentence.

Knows what lasts of a `Sequence`. What follows from that (the detector's and the decoder's place) is made again
from the stream.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

from ..config import Generation, Method, Mode, Sampling
from ..method.ledger import Cost
from ..method.sentences import Verdict
from ..method.sequence import Choice, FinishReason, Role, Sequence, Token, View

_COUNTERS = ("n_sentences", "n_led", "n_handoffs", "n_shown", "led", "n_proposed", "n_accepted")
_GENERATORS = ("gate_rng", "token_rng")


def settings_as_dict(settings: Generation) -> dict[str, Any]:
    return asdict(settings) | {"mode": str(settings.mode), "stop": list(settings.stop)}


def settings_from_dict(values: dict[str, Any]) -> Generation:
    parts = {"mode": Mode(values["mode"]), "method": Method(**values["method"])}
    parts |= {"sampling": Sampling(**values["sampling"]), "stop": tuple(values["stop"])}
    return Generation(**{**values, **parts})


def as_dict(sequence: Sequence) -> dict[str, Any]:
    """All of a sequence; the tokens by column, since a table of names would be larger than they are."""
    tokens = sequence.tokens
    written = [token.id for token in tokens]
    return {
        "id": sequence.id,
        "index": sequence.index,
        "settings": settings_as_dict(sequence.settings),
        "prompt": {str(role): view.ids[: view.n_prompt] for role, view in sequence.views.items()},
        "response": {str(r): _unless(written, view.ids[view.n_prompt :]) for r, view in sequence.views.items()},
        "starts": {
            str(role): _unless(list(range(len(tokens))), [at - view.n_prompt for at in view.starts])
            for role, view in sequence.views.items()
        },
        "tokens": {
            "id": written,
            "text": [token.text for token in tokens],
            "author": "".join(token.author.value[0] for token in tokens),
            "sentence": [token.sentence for token in tokens],
            "led": "".join("01"[token.led] for token in tokens),
            "top1": _unless(written, [token.top1 for token in tokens]),
            "hit": "".join("?" if token.hit is None else "01"[token.hit] for token in tokens),
            "hits": [token.hits for token in tokens],
            "given": "".join("01"[token.given] for token in tokens),
        },
        **{name: getattr(sequence, name) for name in _COUNTERS},
        **{name: getattr(sequence, name).bit_generator.state for name in _GENERATORS},
        "opening": sequence.opening,
        "verdict": sequence.verdict.name,
        "half_character": base64.b64encode(sequence.half_character).decode(),
        "peek": None if sequence.peek is None else {**sequence.peek._asdict(), "role": str(sequence.peek.role)},
        "frontier_top1": {str(role): list(top1) for role, top1 in sequence.frontier_top1.items()},
        "cost": {str(role): asdict(cost) for role, cost in sequence.cost.items()},
        "seconds": sequence.seconds,
        "finish_reason": sequence.finish_reason and str(sequence.finish_reason),
        "error": sequence.error,
    }


def _unless(usual: list[int], values: list[int]) -> list[int] | None:
    """None for what is as usual: one vocabulary, greedy decoding."""
    return None if values == usual else values


def from_dict(values: dict[str, Any]) -> Sequence:
    """The sequence again. Anything may be raised for values that are not as_dict's."""
    prompt = {Role(role): list(ids) for role, ids in values["prompt"].items()}
    sequence = Sequence(values["id"], values["index"], settings_from_dict(values["settings"]), prompt)
    columns = dict(values["tokens"])
    for role, view in sequence.views.items():
        starts, response = values["starts"][role], values["response"][role]
        starts = range(len(columns["id"])) if starts is None else starts
        ids = view.ids + (columns["id"] if response is None else response)
        sequence.views[role] = View(ids, view.n_prompt, [view.n_prompt + at for at in starts])
    columns["top1"] = columns["id"] if columns["top1"] is None else columns["top1"]
    columns["author"] = [{"l": Role.LEADER, "d": Role.DRAFT}[letter] for letter in columns["author"]]
    columns.setdefault("given", "0" * len(columns["id"]))  # files of before there were such tokens
    columns |= {name: [letter == "1" for letter in columns[name]] for name in ("led", "given")}
    columns["hit"] = [{"?": None, "0": False, "1": True}[letter] for letter in columns["hit"]]
    rows = zip(*columns.values(), strict=True)
    sequence.tokens = [Token(**dict(zip(columns, row, strict=True))) for row in rows]
    for name in _COUNTERS:
        setattr(sequence, name, values.get(name, 0))  # the last two are not in older files
    for name in _GENERATORS:
        getattr(sequence, name).bit_generator.state = values[name]
    sequence.go_on(values["opening"], Verdict[values["verdict"]], base64.b64decode(values["half_character"]))
    if values["peek"] is not None:
        sequence.peek = Choice(**{**values["peek"], "role": Role(values["peek"]["role"])})
    sequence.frontier_top1 = {Role(role): (at, token) for role, (at, token) in values["frontier_top1"].items()}
    sequence.cost = {Role(role): Cost(**cost) for role, cost in values["cost"].items()}
    sequence.seconds = values["seconds"]
    sequence.finish_reason = values["finish_reason"] and FinishReason(values["finish_reason"])
    sequence.error = values["error"]
    return sequence
