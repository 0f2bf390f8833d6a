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
from ...method.reasoning import answer_in
from .answers import LONGEST, chosen_letter, final_answer
from .datasets import Problem
from .moments import same_date, same_time
from .notation import normalised
from .numbers import Number, close, in_other_countries, number
from .quantities import ratio
from .units import without_attached_unit
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


def grade(text: str, problem: Problem, after_reasoning: str | None = None) -> GradedAnswer:
    """Grade a response. Of one with reasoning, only what follows it counts.

    after_reasoning: what follows, where that is known; None: it is looked for in the text

    Raises UsageError where math-verify is needed and missing; `check_installed` says so before a run. Without it
    an answer that is no number, to a problem whose answer is one, is unparsable.
    """
    answer = final_answer(answer_in(text) if after_reasoning is None else after_reasoning, problem)
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

_BASED = re.compile(r"\(?(\w+?)\)?(?:_\{?(\d+)\}?)?")  # 52_8, which may say what the problem has said already
_PERCENT = re.compile(r"%|\bper ?cent\b", re.I)
_SCALE = re.compile(r"(?<=\d)\s*(?:hundred|thousand|million|billion|trillion)\b", re.I)
_VARIABLE = re.compile(r"^[\s$({\\]*([a-z])\s*=")
_ASSIGNED = re.compile(r"\s*([A-Za-z](?:_\{?\w\}?)?)\s*=[^=()\[\]]+")
_GROUP = re.compile(r"\((?:[^()\[\]]|\([^()]*\))*\)")
_VECTOR = re.compile(r"\\begin\{matrix\}(.*)\\end\{matrix\}")
_WORDS = re.compile(r"(?:\\text\{[^{}]*\}|[,; ()]|\\[{}])+")
_WORD = re.compile(r"\\text\{([^{}]*)\}")
# math-verify leaves out the dots, and for it 1 2 is 3, and 5 ft 3 a product
_HALF_READ = re.compile(r"\\ldots|(?<![\d_^])\d+\s+\d|\d\s*(?:[A-Za-z]{2,}|\\text\{\s*[A-Za-z]+\s*\})\s*\d")


def same_answer(answer: str, right: str) -> bool | None:
    """Do both mean the same? None where `answer` cannot be read, or not be compared with what is right.

    A unit may be left out, as the problem may have named it; two that are given must fit.
    """
    if len(answer) > LONGEST:
        return None
    worth = ratio(answer, right)
    if worth == 0:
        return False
    theirs = _plain_number(normalised(right))
    if theirs and not _plain_number(normalised(answer)):
        answer = in_other_countries(answer) or answer
    ours = _plain_number(normalised(answer))
    if worth and ours and theirs:
        return close(ours.times(worth), theirs)
    same = _same_value(answer, right)
    return False if same and worth not in (None, 1) else same


def _same_value(answer: str, right: str) -> bool | None:
    """Do both mean the same, whatever their units are?"""
    answer, right = _by_variable(answer), _by_variable(right)
    ours, theirs = normalised(answer), normalised(right)
    if not ours or ours.count("{") != ours.count("}"):
        return None
    if _other_variable(answer, right):
        return False
    if ours == theirs:
        return True
    if _SCALE.search(answer) and not _SCALE.search(right) and _same_value(_SCALE.sub("", answer), right):
        return True  # a problem may ask for millions
    if _SCALE.search(right) and not _SCALE.search(answer) and _same_value(answer, _SCALE.sub("", right)):
        return True
    same = _same_in_plain(ours, theirs, *(bool(_PERCENT.search(text)) for text in (answer, right)))
    if same is None:
        same = same_date(answer, right)
    if same is not None:
        return same
    if find_spec("math_verify") is None:
        if number(theirs) is None:
            raise UsageError(f"math-verify is needed to grade answers like '{right}': {INSTALL}")
        return None
    same = _same_formula(ours, theirs)
    if same is False and ("=" in ours) != ("=" in theirs):  # y = 2x - 9 is an equation, where the other is one
        same = _same_formula(_equation(answer, ours), _equation(right, theirs))
    return same


def _equation(answer: str, plain: str) -> str:
    name = _VARIABLE.match(answer)
    return f"{name[1]}={plain}" if name and "=" not in plain else plain


def _by_variable(answer: str) -> str:
    """Values of several variables in the order of their names: y = 3, x = 2 is x = 2, y = 3."""
    parts = re.split(r"[,;]|\band\b", answer.replace("$", " "))
    named = sorted((match[1], part.strip()) for part in parts if (match := _ASSIGNED.fullmatch(part)))
    distinct = len({name for name, _ in named}) == len(parts) > 1
    return ", ".join(part for _, part in named) if distinct else answer


def _other_variable(answer: str, right: str) -> bool:
    """x = 5 is another line than y = 5."""
    ours, theirs = _VARIABLE.match(answer), _VARIABLE.match(right)
    return bool(ours and theirs and ours[1] != theirs[1])


def _same_in_plain(ours: str, theirs: str, ours_percent: bool, theirs_percent: bool) -> bool | None:
    """Compare numbers, words, times and digits of another base; None for what is none of them."""
    b = number(theirs)
    a = _plain_number(ours) if b else None
    if a and b:
        return _same_number(a, b, ours_percent, theirs_percent)
    time = same_time(ours, theirs)
    if time is not None:
        return time
    x, y = _BASED.fullmatch(ours), _BASED.fullmatch(theirs)
    if x and y and (x[2] or y[2]):
        return x[1] == y[1] and (x[2] == y[2] or not x[2] or not y[2])
    words = [_WORD.fullmatch(text) for text in (ours, theirs)]
    letters = [word[1] if word else text for word, text in zip(words, (ours, theirs), strict=True)]
    if any(words) and (all(words) or all(text.isalpha() or number(text) for text in letters)):
        return letters[0] == letters[1].lower()
    return None


def _plain_number(plain: str) -> Number | None:
    return number(plain) or number(without_attached_unit(plain))


def _same_number(a: Number, b: Number, a_percent: bool, b_percent: bool) -> bool:
    """10 % is 10, or 0.1 where the other has no percent sign."""
    pairs = [(a, b)]
    if a_percent != b_percent:
        hundredth = Fraction(1, 100)
        pairs.append((a.times(hundredth), b) if a_percent else (a, b.times(hundredth)))
    return any(close(x, y) for x, y in pairs)


def _same_formula(ours: str, theirs: str) -> bool | None:
    """What math-verify says; None where it would read only a part, or words as factors."""
    if _HALF_READ.search(ours) or _HALF_READ.search(theirs):
        return None
    same = verified(_both_signs(_bracketed_like(ours, theirs)), _both_signs(theirs))
    if same is False and _WORD.search(ours) and not _WORD.search(theirs) and not _WORDS.fullmatch(ours):
        return None
    return same


def _as_tuple(ours: str, theirs: str) -> str:
    """A column or a row of a matrix as a tuple, where the other is one."""
    vector = _VECTOR.fullmatch(ours)
    if not vector or not _GROUP.fullmatch(theirs) or ("&" in vector[1] and r"\\" in vector[1]):
        return ours
    return "(" + re.sub(r"&|\\\\", ", ", vector[1]) + ")"


def _bracketed_like(ours: str, theirs: str) -> str:
    """A list with the parentheses of the other: (1, 2) is a pair, and 1, 2 has no order."""
    ours = _as_tuple(ours, theirs)
    if "," not in ours or "," not in theirs:
        return ours
    pair = _GROUP.fullmatch(theirs) is not None
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
