"""A sequence as plain values (JSON), and back. It can be saved between any two changes, inside a sentence too.

Knows what of a `Sequence` is saved. What can be computed from its tokens (counters, the places of the sentence detector
and of the decoder) is not. Files of version 1 are read as well (version_1.py).
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

from ..config import Generation, Method, Sampling, from_older
from ..method.ledger import Cost
from ..method.reasoning import ReasoningTags
from ..method.requests import Answer, Written
from ..method.roles import Role
from ..method.sentences import Verdict
from ..method.sequence import Sequence
from ..method.tokens import Choice, FinishReason, Likelihood, TakenBack, Token
from ..method.view import View
from .version_1 import upgraded

_GENERATORS = ("gate_rng", "token_rng")
_PLAIN = ("n_proposed", "n_accepted", "n_rejected", "n_shown", "n_drawn", "led", "seconds", "error")
_AUTHORS = {"l": Role.LEADER, "d": Role.DRAFT}


def settings_as_dict(settings: Generation) -> dict[str, Any]:
    return asdict(settings) | {"stop": list(settings.stop)}


def settings_from_dict(values: dict[str, Any]) -> Generation:
    """Settings from saved values; one that is not among them gets the value that means what held before it existed."""
    method, sampling = from_older(values["method"], Method), from_older(values["sampling"], Sampling)
    own = from_older(values, Generation)
    own["stop"] = tuple(own["stop"])
    return Generation(method=Method(**method), sampling=Sampling(**sampling), **own)


def as_dict(sequence: Sequence) -> dict[str, Any]:
    """All of a sequence. Tokens are saved column by column: field names for each token would take more room than it."""
    tokens = sequence.tokens
    written = [token.id for token in tokens]
    return {
        "id": sequence.id,
        "index": sequence.index,
        "settings": settings_as_dict(sequence.settings),
        "tags": asdict(sequence.tags),
        "prompt": {str(role): view.ids[: view.n_prompt] for role, view in sequence.views.items()},
        "response": {str(r): _none_if(written, view.ids[view.n_prompt :]) for r, view in sequence.views.items()},
        "starts": {
            str(role): _none_if(list(range(len(tokens))), [at - view.n_prompt for at in view.starts])
            for role, view in sequence.views.items()
        },
        **({"pending": pending} if (pending := _pending(sequence)) else {}),
        "tokens": _columns(tokens, sequence.settings.sampling.greedy),
        "taken_back": [
            {"at": rewound.at, "tokens": _columns(rewound.tokens, False), "reason": rewound.reason}
            for rewound in sequence.taken_back
        ],
        "answers": [[n, _answer(answer)] for n, answer in sequence.answers],
        **{name: getattr(sequence, name) for name in _PLAIN},
        **{name: getattr(sequence, name).bit_generator.state for name in _GENERATORS},
        **sequence.unsettled(),
        "opening": sequence.opening,
        "verdict": sequence.verdict.name,
        "peek": None if sequence.peek is None else {**sequence.peek._asdict(), "role": str(sequence.peek.role)},
        **({"prompt_likelihoods": sequence.prompt_likelihoods} if sequence.prompt_likelihoods else {}),
        "cost": {str(role): asdict(cost) for role, cost in sequence.cost.items()},
        "stopped_by": sequence.stopped_by,
        "finish_reason": sequence.finish_reason and str(sequence.finish_reason),
    }


def _pending(sequence: Sequence) -> dict[str, str]:
    """The ends of texts that a view has no ids for."""
    return {str(r): base64.b64encode(view.pending).decode() for r, view in sequence.views.items() if view.pending}


def _columns(tokens: list[Token], greedy: bool) -> dict[str, Any]:
    """Tokens by column; half characters only where there are any."""
    likelihoods = [token.likelihood for token in tokens]
    written, usual = [token.id for token in tokens], [0 if greedy else i for i in range(len(tokens))]
    return {
        "id": written,
        "text": [token.text for token in tokens],
        "author": "".join(token.author.value[0] for token in tokens),
        "sentence": [token.sentence for token in tokens],
        "led": "".join("01"[token.led] for token in tokens),
        "top1": _none_if(written, [token.top1 for token in tokens]),
        "hit": "".join("?" if token.hit is None else "01"[token.hit] for token in tokens),
        "hits": [token.hits for token in tokens],
        "inserted": "".join("01"[token.inserted] for token in tokens),
        "half": {i: base64.b64encode(token.half).decode() for i, token in enumerate(tokens) if token.half},
        "n_drawn": _none_if(usual, [token.n_drawn for token in tokens]),
        **({"likelihood": likelihoods} if any(likelihoods) else {}),
    }


def _tokens(columns: dict[str, Any], greedy: bool) -> list[Token]:
    columns = dict(columns)
    n = len(columns["id"])
    columns["top1"] = columns["id"] if columns["top1"] is None else columns["top1"]
    columns["author"] = [_AUTHORS[letter] for letter in columns["author"]]
    columns |= {name: [letter == "1" for letter in columns[name]] for name in ("led", "inserted")}
    columns["hit"] = [{"?": None, "0": False, "1": True}[letter] for letter in columns["hit"]]
    half = {int(i): base64.b64decode(text) for i, text in columns["half"].items()}
    columns["half"] = [half.get(i, b"") for i in range(n)]
    columns["n_drawn"] = [0 if greedy else i for i in range(n)] if columns["n_drawn"] is None else columns["n_drawn"]
    if "likelihood" in columns:
        columns["likelihood"] = [_likelihood_from(value) for value in columns["likelihood"]]
    rows = zip(*columns.values(), strict=True)
    return [Token(**dict(zip(columns, row, strict=True))) for row in rows]


def _none_if(usual: list[int], values: list[int]) -> list[int] | None:
    """None instead of values that follow from others, as with one vocabulary or greedy decoding."""
    return None if values == usual else values


def _answer(answer: Answer) -> Any:
    """An answer for JSON: a boolean as it is, a number from 0 to 3 for Written, a text of 0 and 1 for flags."""
    if isinstance(answer, Written):
        return 2 * answer.ends_sentence + answer.added
    return answer if isinstance(answer, bool) else "".join("01"[flag] for flag in answer)


def _answer_from(value: Any) -> Answer:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return Written(bool(value & 2), bool(value & 1))
    return tuple(letter == "1" for letter in value)


def _likelihood_from(value: Any) -> Likelihood | None:
    return value and Likelihood(value[0], tuple((token, logprob) for token, logprob in value[1]))


def _peek_from(value: dict[str, Any] | None) -> Choice | None:
    if value is None:
        return None
    return Choice(**{**value, "role": Role(value["role"]), "likelihood": _likelihood_from(value.get("likelihood"))})


def _cost(values: dict[str, Any]) -> Cost:
    """Files of an earlier version do not say how much of the prompt was read: all of it was, up to where that went."""
    return Cost(**{"n_prompt_read": values.get("n_prompt_done", 0), **values})


def from_dict(values: dict[str, Any]) -> Sequence:
    """The sequence that `as_dict` saved. Values of another origin may raise any exception."""
    settings = settings_from_dict(values["settings"])
    if "answers" not in values:
        values = upgraded(values, settings)
        settings = settings_from_dict(values["settings"])
    prompt = {Role(role): list(ids) for role, ids in values["prompt"].items()}
    tags = ReasoningTags.of(values.get("tags", {}))  # version 0.1.0 knows no others
    sequence = Sequence(values["id"], values["index"], settings, prompt, tags)
    greedy, columns = sequence.settings.sampling.greedy, values["tokens"]
    views = {}
    for role, view in sequence.views.items():
        starts, response = values["starts"][role], values["response"][role]
        starts = range(len(columns["id"])) if starts is None else starts
        ids = view.ids + (columns["id"] if response is None else response)
        pending = base64.b64decode(values.get("pending", {}).get(role, ""))
        views[role] = View(ids, view.n_prompt, [view.n_prompt + at for at in starts], pending)
    sequence.put_back(
        views=views,
        tokens=_tokens(columns, greedy),
        taken_back=[TakenBack(t["at"], _tokens(t["tokens"], False), t["reason"]) for t in values["taken_back"]],
        answers=[(n, _answer_from(answer)) for n, answer in values["answers"]],
        peek=_peek_from(values["peek"]),
        prompt_likelihoods=[_likelihood_from(value) for value in values.get("prompt_likelihoods", ())],
        cost={Role(role): _cost(cost) for role, cost in values["cost"].items()},
        finish_reason=values["finish_reason"] and FinishReason(values["finish_reason"]),
        stopped_by=values.get("stopped_by"),
        ending=values.get("ending") and FinishReason(values["ending"]),
        _n_settled=values.get("n_settled", len(columns["id"])),
        random_states={name: values[name] for name in _GENERATORS},
        opening=values["opening"],
        verdict=Verdict[values["verdict"]],
        **{name: values[name] for name in _PLAIN},
    )
    return sequence
