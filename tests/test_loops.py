"""What is watched while an answer is written: loops, and how long it thinks."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from foreal_local.chat.loops import LoopGuard, ThinkingMeter
from foreal_local.method.reasoning import ReasoningTags
from foreal_local.method.roles import Role
from foreal_local.method.sentences import SentenceDetector, Verdict
from foreal_local.method.tokens import Token

NAMES = ["Tom", "Anna", "Ben", "Cara", "Dan", "Emma", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kate"]


def written(text: str) -> list[Token]:
    """The text as tokens, with the sentences that the product would find in it."""
    detector, sentence, tokens = SentenceDetector(), 1, []
    pieces = re.findall(r"\n+|[^\S\n]*\w{1,6}|[^\S\n]*[^\w\s]|[^\S\n]+", text)
    assert "".join(pieces) == text
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
        tokens.append(Token(len(tokens), Role.LEADER, piece, sentence, False, 0))
        verdict = detector.feed(piece)
        if verdict is Verdict.END or (verdict is Verdict.MAYBE and detector.confirms(following)):
            sentence += 1
            detector.start()
    return tokens


def where_alarmed(text: str, size: int = 1) -> tuple[int | None, str]:
    """How many characters are written when the guard says that they are a loop, and what it found."""
    guard, tokens, n_characters = LoopGuard(), written(text), 0
    for begin in range(0, len(tokens), size):
        part = tokens[begin : begin + size]
        n_characters += sum(len(token.text) for token in part)
        if guard.feed(part):
            return n_characters, guard.repeated
        assert guard.repeated == ""
    return None, ""


def chain(seed: int) -> Iterator[str]:
    """A chain of thought as the bundled leader writes it: every step said twice, with short sentences between."""
    rng = random.Random(seed)
    value = rng.randrange(10, 40)
    for before, name in pairwise(NAMES):
        amount = rng.randrange(2, 9)
        opening = rng.choice(["Okay.", "Wait, no.", "Hmm.", "So yes.", "Good."])
        fact = f"Now {before} has {value} and {name} has {amount} more, so {value} + {amount} = {value + amount}."
        yield f"{opening} {fact} Wait. {opening} {fact} "
        value += amount
    yield f"The answer is {value}. Let me check.\n\n\\boxed{{{value}}}"


# ---------------------------------------------------------------- no loop
@pytest.mark.parametrize(
    "text",
    [
        *("".join(chain(seed)) for seed in range(3)),
        "".join(random.Random(1).choices(["Okay. ", "Hmm. ", "Wait. ", "So yes.\n", "No! "], k=400)),
        "".join(f"{i}. The number {i} is {'even' if i % 2 == 0 else 'odd'}.\n" for i in range(200)),
        "| a | b | c |\n|---|---|---|\n" + "".join(f"| {i} | {i * i} | yes |\n" for i in range(60)),
        "```python\n" + "".join(f"    if x == {i}:\n        return False\n" for i in range(40)) + "```\n",
        "\n" * 600 + " " * 600 + "Done.",
        "Is it so? It is so. It is so. It is so. It is so. And so on.",
        "数が大きい。" * 3 + "終わり。",
        "".join(f"{a} and {b}. " for a in NAMES for b in NAMES),
    ],
)
def test_text_that_goes_on_is_no_loop(text: str) -> None:
    """Guards answers that are cut because they say a thing twice, say short things often, count, or are tables."""
    for size in (1, 7):
        assert where_alarmed(text, size) == (None, "")


def test_the_same_verdict_on_different_cases_is_no_loop() -> None:
    """Guards a search through cases that is cut although each case is another one."""
    text = "".join(f"For n = {n} we get {n * n + 1} squared. That is not a square. " for n in range(1, 12))
    assert where_alarmed(text) == (None, "")


# ---------------------------------------------------------------- loops
BEFORE = "Tom has 12 apples. Anna has 3 more apples than Tom. So we add. "


@pytest.mark.parametrize(
    ("again", "found", "n_least"),
    [
        ("And Kate has 12 apples. ", "And Kate has 12 apples.", 4),
        ("So it is true. But wait, is it not false? ", "So it is true.", 4),
        ("One of them is so. Two of them are so. Three of them are so. Four are not. ", "One of them is so.", 4),
        ("- the same line\n", "- the same line", 4),
        ("wait ", "wait", 480 // 5 - 30),
        ("so we add and ", "so we add and", 10),
        ("ab", "ab", 150),
        ("数と和", "数と和", 100),
    ],
)
def test_the_same_again_and_again_is_a_loop(again: str, found: str, n_least: int) -> None:
    """Guards a loop that is not seen: of one sentence, of some in turn, of words without an end, with or without
    spaces; one that is named wrongly; and an alarm at its first repetition."""
    for size in (1, 5):
        at, what = where_alarmed(BEFORE + again * 400, size)
        assert at is not None
        assert what in again * 3
        assert sorted(what) == sorted(found)
        n_repeated = (at - len(BEFORE)) / len(again)
        assert n_least <= n_repeated <= max(8, 700 / len(again))


def test_what_comes_back_now_and_then_is_no_loop() -> None:
    """Guards a sentence that is said at each step of a long chain."""
    text = "".join(f"And Kate has 12 apples. {' '.join(f'Step {i} {j}.' for j in range(30))} " for i in range(20))
    assert where_alarmed(text) == (None, "")


# ---------------------------------------------------------------- reasoning
@pytest.mark.parametrize(
    ("starts_thinking", "pieces", "counts"),
    [
        (True, ["Okay", ", so", " we", "</think>", "\n\n", "5"], [1, 2, 3, 0, 0, 0]),
        (True, ["<think>", "\n", "so", "</th", "ink>", "5", "</think>"], [1, 2, 3, 4, 0, 0, 0]),
        (False, ["so", " we"], [0, 0]),
        (False, ["<think>", "so", "</think>", "5"], [1, 2, 0, 0]),
        (False, ["5", "<think>", "so"], [0, 0, 0]),
    ],
)
def test_reasoning_is_counted_while_it_is_open(starts_thinking: bool, pieces: list[str], counts: list[int]) -> None:
    """Guards a budget that the answer's own words use up, or that reasoning opened by the model escapes."""
    tokens = [Token(i, Role.DRAFT, piece, 1, False, 0) for i, piece in enumerate(pieces)]
    meter, found = ThinkingMeter(ReasoningTags(opened=starts_thinking)), []
    for token in tokens:
        meter.feed([token])
        found.append(meter.n_tokens)
    assert found == counts
    at_once = ThinkingMeter(ReasoningTags(opened=starts_thinking))
    at_once.feed(tokens)
    assert at_once.n_tokens == counts[-1]
