r"""How answers are stated: in a box, after "the answer is" or ####, as a letter.

Finds the final answer in a text. Does not know how answers are written (see `notation`), references or grades.
"""

from __future__ import annotations

import re

from .datasets import LETTERS, Problem, last_boxed
from .notation import normalised
from .numbers import number

LONGEST = 500  # characters of an answer that is read: those of MATH have up to a hundred

# ---- finding the answer ----

_STOP = r"(?<!\bRs)(?<!\bapprox)[.;](?=\s|$)"
_TAIL = (
    r"[:*\s]*(?:the (?:\w+ )?answer is\b[:*\s]*)?"  # Final answer: The final answer is 12.
    r"(?:(?:therefore|thus|then|simply|about|approximately|exactly|equal to|option|choice)[,:]?\s+)*"
    rf"(?:(?:\\\[|\$\$)(?P<display>.+?)(?:\\\]|\$\$)|(?P<line>[^\n]+?)(?={_STOP}|\n|\Z))"
)
_HEADING, _HASHES = r"^[#* \t]*(?:final )?answer[* \t]*$", r"\#{4}(?![^\n]*\banswer\b)"
_STATED = re.compile(rf"(?:{_HEADING}|{_HASHES}|\banswer\b[^\n.:]{{0,60}}?(?:\bis\b|:)){_TAIL}", re.I | re.M | re.S)
_STATED_CHOICE = re.compile(rf"\b(?:correct|right|best) (?:option|choice) is{_TAIL}", re.I | re.S)
_REMARK = re.compile(r"(?:also|clear|consistent|correct|incorrect|not|right|wrong|valid)\b", re.I)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_MOST_WORDS = 12  # of a stated answer: more is a remark on the answer
_SENTENCE_END = re.compile(rf"{_STOP}|,?\s+(?:because|since|as|so|where|which|after)\b")


def final_answer(text: str, problem: Problem) -> str | None:
    """The last box that is not empty, else the last answer stated in words, else all if that is just an answer."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    stated = list(_STATED.finditer(text))
    if problem.kind == "choice":
        stated += _STATED_CHOICE.finditer(text)
    for match in sorted(stated, key=lambda match: match.start(), reverse=True):
        answer = _SENTENCE_END.split(_plain(match["display"] or match["line"]), maxsplit=1)[0]
        if _plain(answer) and not _REMARK.match(answer) and len(_WORD.findall(answer)) <= _MOST_WORDS:
            return _plain(answer)
    text = _plain(text)
    if problem.kind == "choice":
        last = _plain(text.rpartition("\n")[2])
        return last if _LETTER.fullmatch(last) else None
    return text if len(text) <= LONGEST and number(normalised(text)) is not None else None


def _plain(text: str) -> str:
    """Text without blanks and the marks of Markdown around it."""
    return text.strip("*_` \n\t")


# ---- multiple choice ----

_LETTER = re.compile(r"(?:(?:option|choice|answer)\s+)?[(\[]?([A-Za-z])[)\]]?[.:]?", re.I)


def chosen_letter(answer: str, choices: tuple[str, ...]) -> str | None:
    r"""The letter that is meant by B, (b), B., \text{(B)}, "B) 42 m" or the text of a choice; None if unclear."""
    if len(answer) > LONGEST:
        return None
    letters, plain = LETTERS[: len(choices)], _untagged(answer)
    whole = _LETTER.fullmatch(plain)
    if whole:
        return whole[1].upper() if whole[1].upper() in letters else None
    for form in (_bare, normalised):
        meant = [letter for letter, choice in zip(letters, choices, strict=True) if form(choice) == form(answer)]
        if len(meant) == 1:
            return meant[0]
    start = re.match(rf"(?:option |choice )?(?:\(([{letters}])\)|([{letters}])(?:[.:),]|\s+[-–(]))", plain, re.I)
    if start:
        return (start[1] or start[2]).upper()
    named = set(re.findall(rf"\(([{letters}])\)", plain))
    return named.pop() if len(named) == 1 else None


def _untagged(text: str) -> str:
    return _plain(re.sub(r"\\(?:text(?:bf|rm)?|mathrm|mathbf|boldsymbol)\s*\{([^{}]*)\}|[$*`]", r"\1", text))


def _bare(text: str) -> str:
    """A choice without styles and blanks, its units kept: 10 km is not 10 kg."""
    return re.sub(r"\s|\\[,;!]|~|\.$", "", _untagged(text)).lower()
