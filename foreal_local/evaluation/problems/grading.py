"""Is a response right? Its final answer is compared with the reference.

Equal strings, plain numbers, words and letters are compared here; everything else by math-verify (verifier.py).
Does not know who wrote the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from importlib.util import find_spec

from ...errors import UsageError
from .answers import LONGEST, chosen_letter, final_answer, normalised, number
from .datasets import Problem
from .verifier import INSTALL, verified


class Grade(str, Enum):
    """What a response is worth."""

    CORRECT = "correct"
    WRONG = "wrong"
    MISSING = "missing"  # no final answer is stated
    UNPARSABLE = "unparsable"  # one is stated, but cannot be read
    FAILED = "failed"  # there is no response

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class GradedAnswer:
    """A response's final answer and its grade.

    grade: FAILED never stands here, since there is a response
    answer: as the text states it, or the letter of the choice; "" where none is stated
    """

    grade: Grade
    answer: str = ""

    @property
    def correct(self) -> bool:
        return self.grade is Grade.CORRECT


def grade(text: str, problem: Problem) -> GradedAnswer:
    """Grade a response. Of reasoning in <think> tags, only what follows it counts.

    Raises UsageError where math-verify is needed and missing; `check_installed` says so before a run. Without it
    an answer that is no number, to a problem whose answer is one, is unparsable.
    """
    answer = final_answer(text.rpartition("</think>")[2], problem)
    if answer is None:
        return GradedAnswer(Grade.MISSING)
    if problem.kind == "choice":
        letter = chosen_letter(answer, problem.choices)
        equal = None if letter is None else letter == problem.answer
        return GradedAnswer(_grade_of(equal), letter or answer)
    return GradedAnswer(_grade_of(same_answer(answer, problem.answer)), answer)


def check_installed(problems: Iterable[Problem]) -> None:
    """UsageError if grading these problems needs math-verify and it cannot be used; numbers and letters do not."""
    for problem in problems:
        if problem.kind == "math" and number(normalised(problem.answer)) is None:
            if find_spec("math_verify") is None:
                raise UsageError(f"math-verify is needed to grade answers like '{problem.answer}': {INSTALL}")
            verified("x", "y")  # starts it
            return


def _grade_of(equal: bool | None) -> Grade:
    return {True: Grade.CORRECT, False: Grade.WRONG, None: Grade.UNPARSABLE}[equal]


# ---- comparing ----

_TAGGED = (  # 52_8 and 3:20 p.m., which state what the problem may have said already
    re.compile(r"\(?(\w+?)\)?(?:_\{?(\d+)\}?)?"),
    re.compile(r"(\d{1,2}(?::\d\d)?)([ap]\.?m)?"),
)
_PERCENT = re.compile(r"%|\bpercent\b", re.I)


def same_answer(answer: str, right: str) -> bool | None:
    """Do both mean the same? None where `answer` cannot be read."""
    if len(answer) > LONGEST:
        return None
    ours, theirs = normalised(answer), normalised(right)
    if not ours or ours.count("{") != ours.count("}"):
        return None
    if ours == theirs:
        return True
    a, b = number(ours), number(theirs)
    if a is not None and b is not None:
        return _same_number(a, b, "." in ours + theirs, *(bool(_PERCENT.search(text)) for text in (answer, right)))
    for tagged in _TAGGED:
        x, y = tagged.fullmatch(ours), tagged.fullmatch(theirs)
        if x and y and (x[2] or y[2] or ":" in ours + theirs):
            return x[1] == y[1] and (x[2] == y[2] or not x[2] or not y[2])
    words = ours.isalpha() and theirs.isalpha() and min(len(ours), len(theirs)) > 2
    if words and sorted(ours) != sorted(theirs):  # else it may be a product: abc and bca
        return False
    if find_spec("math_verify") is None:
        if b is None:
            raise UsageError(f"math-verify is needed to grade answers like '{right}': {INSTALL}")
        return None
    return verified(_both_signs(_bracketed_like(ours, theirs)), _both_signs(theirs))


def _same_number(a: Fraction, b: Fraction, decimals: bool, a_percent: bool, b_percent: bool) -> bool:
    """Equal, to six places if one is a decimal; 10 % is 10 or 0.1 where the other has no percent sign."""
    pairs = [(a, b)]
    if a_percent != b_percent:
        pairs.append((a / 100, b) if a_percent else (a, b / 100))
    return any(x == y or (decimals and round(x, 6) == round(y, 6)) for x, y in pairs)


def _bracketed_like(ours: str, theirs: str) -> str:
    """A list with the parentheses of the other: (1, 2) is a pair, and 1, 2 has no order."""
    if "," not in ours or "," not in theirs:
        return ours
    pair = theirs.startswith("(") and theirs.endswith(")")
    if pair and ours[0] not in "([" and not ours.startswith(("\\{", "\\begin")):
        return f"({ours})"
    if ours.startswith("(") and ours.endswith(")") and ours.count("(") == 1 and theirs[0] not in "([\\":
        return ours[1:-1]
    return ours


def _both_signs(plain: str) -> str:
    """A list of two for the one plus-minus in an answer, wherever it stands."""
    if plain.count(r"\pm") != 1 or "," in plain:
        return plain
    return ", ".join(plain.replace(r"\pm", sign) for sign in "+-")
