"""Answers in many notations against references, by kind: what is right, what is wrong, and what cannot be read.

The pairs stand in answer_pairs.txt.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from foreal_local.evaluation.problems.datasets import Problem
from foreal_local.evaluation.problems.formulas import Formulas
from foreal_local.evaluation.problems.grading import Grade, grade, same_answer
from foreal_local.evaluation.problems.notation import normalised

HERE = Path(__file__).parent
VERDICTS: dict[str, bool | None] = {"right": True, "wrong": False, "unread": None}
KINDS = {
    kind: [tuple(row.split("\t")) for row in rows.splitlines() if row]
    for kind, _, rows in (
        part.partition("\n") for part in (HERE / "answer_pairs.txt").read_text("utf-8").split("== ")[1:]
    )
}


@pytest.mark.parametrize("kind", KINDS)
def test_pairs(kind: str) -> None:
    """Guards a notation that is not read, a wrong answer that passes, and an unread one that counts as wrong."""
    failed = [
        (ours, right, wanted) for ours, right, wanted in KINDS[kind] if same_answer(ours, right) is not VERDICTS[wanted]
    ]
    assert failed == []


def test_the_pairs_are_many() -> None:
    """Guards a file of pairs that is read in part."""
    assert sum(map(len, KINDS.values())) > 550


@pytest.mark.parametrize("tiny", ["1e-7", "2.5e-7", "6.63e-34", "0.00000031", "-4e-9"])
@pytest.mark.parametrize(
    "form", ["{}", "({}, 1)", "\\{{{}, 1\\}}", "[{}, 1]", "{}x + 1", "x = {}", "x > {}", "{} + i", "{}\\sqrt{{2}}"]
)
def test_tiny_numbers_are_different_numbers(tiny: str, form: str) -> None:
    """Guards decimals compared to six places: all that is below 1e-6, of either sign, was one number, and zero."""
    right, times_two = form.format(f"({tiny})"), form.format(f"({2 * float(tiny)})")
    assert same_answer(right, right) is True
    assert same_answer(times_two, right) is False
    assert not same_answer(form.format("0"), right)


@pytest.mark.parametrize(
    ("a", "b"), [("cat", "act"), ("Amy", "May"), ("listen", "silent"), ("BAC", "ABC"), ("north", "thorn"), ("NO", "ON")]
)
@pytest.mark.parametrize("form", ["{}", "\\text{{{}}}", "\\textbf{{{}}}", "{}, Eve", "(1, {})"])
def test_words_of_the_same_letters_differ(a: str, b: str, form: str) -> None:
    """Guards words, names and orders that were taken for products of their letters."""
    assert same_answer(form.format(a), form.format(a)) is True
    assert same_answer(form.format(a), form.format(b)) is False


def test_the_reference_that_cannot_be_read_decides_nothing() -> None:
    """Guards a right answer that counts as wrong because of its reference."""
    assert same_answer("12", r"\foo{12} ? 3") is None
    assert same_answer(r"\foo{12} ? 3", r"\foo{12} ? 3") is True
    assert grade(r"\boxed{12 ? 3}", Problem("0", "", "12")).grade is Grade.UNPARSABLE


def test_hostile_answers_are_normalised_quickly() -> None:
    """Guards a pattern that takes for ever, and characters that stand for something inside."""
    parts = [
        "{",
        "}",
        "(",
        ")",
        "\\text{",
        "\\mathrm{",
        "^(",
        "sqrt(",
        "\\frac",
        "1,",
        "5 m/",
        "\\cdot ",
        "**",
        "a b",
        "1 2",
    ]
    parts += [
        "°",
        "30°",
        "=",
        "1.",
        "\\ldots",
        "½",
        "²",
        "√",
        "1e5",
        "\\bar",
        "[",
        "\\angle",
        "and ",
        "million ",
        "5 apples/ ",
    ]
    parts += ["\ue000", "\ud800", "\0", "\u0305", "\u200b", " ", "٣", "x\\prime", "3\u0305"]
    rng = random.Random(0)
    texts = [part * (480 // len(part)) for part in parts]
    texts += ["".join(rng.choices(parts, k=60)) for _ in range(300)]
    for text in texts:
        started = time.perf_counter()
        normalised(text)
        assert time.perf_counter() - started < 1.0, text


@pytest.mark.parametrize(
    "answer", ["(" * 240 + "1" + ")" * 240, "9" * 400 + "!", "10^{10^{10}}", "1e999999999", r"\frac{1}{0}"]
)
def test_hostile_numbers_end(answer: str) -> None:
    """Guards a power, a factorial or brackets that hold up a benchmark, or end the process that compares."""
    assert not same_answer(answer, r"\sqrt{2}")
    assert same_answer(r"\sqrt{8}", r"2\sqrt{2}") is True


@pytest.mark.parametrize("name", ["models/heldout.jsonl", "models/word-problems.jsonl"])
def test_references_are_right_in_any_notation(name: str) -> None:
    """Guards a rewriting that changes what an answer means: each is right as it stands, and in other notations."""
    lines = (HERE.parent / name).read_text("utf-8").splitlines()
    answers = {json.loads(line)["answer"] for line in lines}
    for answer in answers:
        for form in (
            "{}",
            "${}$",
            "x = {}",
            "{}.0",
            "{} apples",
            "{} mL",
            "\\textbf{{{}}}",
            "{{\\bf {}}}",
            "{}e0",
            "{}。",
        ):
            assert same_answer(form.format(answer), answer) is True, form.format(answer)
        assert same_answer(f"{int(answer) + 1}", answer) is False


def test_formulas_keep_their_decimals() -> None:
    """Guards coefficients that are dropped below 1e-15, and decimals of a formula that must be exact to the last."""
    formulas = Formulas()
    assert formulas.equal(r"2\times10^{-20}x", r"10^{-20}x") is False
    assert formulas.equal("0.333333x+0.5", r"\frac{x+1.5}{3}") is True
    assert formulas.equal("0.3333x", r"\frac{x}{3}") is False
