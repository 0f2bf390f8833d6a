"""The words of a report that not everybody knows, and what they mean. Knows texts only."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TERMS = {
    "leader": "the strong, expensive model; its own text is what the others are held against",
    "draft": "the small, cheap model that writes most of the text",
    "hit": "a token of the leader that is the draft's most likely token, too",
    "handoff": "the leader has begun a sentence, and after k hits in a row the draft goes on",
    "handed over": "sentences that the leader has begun and the draft goes on with, after k hits in a row",
    "led sentence": "a sentence that the leader begins",
    "aligned": "the draft's most likely token is the one that the leader wrote",
    "misaligned": "the draft's most likely token is not the one that the leader wrote",
    "n": "tokens that the leader writes at the start of a led sentence, before hits count",
    "p": "the chance that the leader begins a sentence",
    "k": "hits in a row before the draft takes over",
    "FLOPs": "floating-point operations: the work of evaluating a model, whatever machine does it",
    "generation": "of FLOPs: of the tokens written, each charged to the model that wrote it, and of the checks",
    "all": "of FLOPs: of everything that both models evaluated, prompts and what the other model wrote included",
    "decoded": "tokens that were evaluated one at a time, by both models",
    "prefilled": "tokens that were evaluated in batches, by both models: prompts, and what the other model wrote",
    "calls": "evaluations of the leader; alone, it needs one for each token",
    "review": "the leader reads what the draft has written, and takes back what it finds improbable",
    "tau": "in review, a token is refused that is less than tau times as probable as the leader's own first choice",
    "refused": "tokens of the draft that the leader would take back in review",
    "entropy": "how unsure a model is of its next token, in nats; 0 is sure",
    "top-1": "a model's most likely token",
    "cut off": "responses that did not come to their own end, because --max-tokens or the context was reached",
    "unread": "answers that were found and could not be understood",
    "interval": "where the true figure lies with 95 % certainty",
    "Pareto front": "the settings that no other beats in accuracy at the same cost or less",
    "cannot tell": "the figure does not follow from these responses, such as a ratio to nothing",
}
_PATTERNS = {name: re.compile(rf"(?<![\w-]){re.escape(name)}(?:s|es)?(?![\w-])") for name in _TERMS}


def terms_in(texts: Iterable[str]) -> dict[str, str]:
    """Those that are in any of the texts, or in the meaning of one that is, with their meanings."""
    text = "\n".join(texts)
    text += "\n".join(_TERMS[name] for name, pattern in _PATTERNS.items() if pattern.search(text))
    return {name: _TERMS[name] for name, pattern in _PATTERNS.items() if pattern.search(text)}


def term_of(column: str) -> str:
    """What the words in a column's name mean; "" where it has none of them."""
    return "; ".join(f"{name}: {meaning}" for name, meaning in _TERMS.items() if _PATTERNS[name].search(column))
