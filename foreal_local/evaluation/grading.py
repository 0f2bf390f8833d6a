r"""Is a response right? Find the final answer in its text, and compare it with the reference.

Knows how answers are stated (a box, "the answer is", ####, a letter) and written (LaTeX, units, fractions). Does
not know who wrote the text. Equal strings, plain numbers, words and letters are compared here; everything else by
math-verify (the extra `bench`), in a process of its own: its time limits are signals, which threads cannot use,
and no signal ends a power of ten thousand digits. A process can be ended from any thread.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock, Timer
from typing import Any

from ..errors import UsageError
from .datasets import LETTERS, Problem, last_boxed

SECONDS = 10.0  # for one comparison; sympy can take for ever
LONGEST = 500  # characters of an answer that is read: those of MATH have up to a hundred
INSTALL = "install it with: pip install 'foreal-local[bench]'"


class Verdict(str, Enum):
    """Correct or wrong; no final answer stated; one stated that cannot be read."""

    CORRECT = "correct"
    WRONG = "wrong"
    MISSING = "missing"
    UNPARSABLE = "unparsable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Grade:
    """`found`: the final answer as the text states it, or the letter of the choice."""

    verdict: Verdict
    found: str = ""

    @property
    def correct(self) -> bool:
        return self.verdict is Verdict.CORRECT


def grade(text: str, problem: Problem) -> Grade:
    """Grade a response. Of reasoning in <think> tags, only what follows it counts.

    Raises UsageError where math-verify is needed and missing; `check_installed` says so before a run. Without it
    an answer that is no number, to a problem whose answer is one, is unparsable.
    """
    found = final_answer(text.rpartition("</think>")[2], problem)
    if found is None:
        return Grade(Verdict.MISSING)
    if problem.kind == "choice":
        letter = chosen_letter(found, problem.choices)
        equal = None if letter is None else letter == problem.answer
        return Grade(_verdict(equal), letter or found)
    return Grade(_verdict(same_answer(found, problem.answer)), found)


def check_installed(problems: Iterable[Problem]) -> None:
    """UsageError if grading these problems needs math-verify and it cannot be used; numbers and letters do not."""
    for problem in problems:
        if problem.kind == "math" and number(normalised(problem.answer)) is None:
            if find_spec("math_verify") is None:
                raise UsageError(f"math-verify is needed to grade answers like '{problem.answer}': {INSTALL}")
            _verified("x", "y")  # starts it
            return


def _verdict(equal: bool | None) -> Verdict:
    return {True: Verdict.CORRECT, False: Verdict.WRONG, None: Verdict.UNPARSABLE}[equal]


# ---- finding the answer ----

_TAIL = (
    r"[:*\s]*(?:(?:therefore|thus|then|simply|about|approximately|exactly|equal to|option|choice)[,:]?\s+)*"
    r"(?:(?:\\\[|\$\$)(?P<display>.+?)(?:\\\]|\$\$)|(?P<said>[^\n]+))"
)
_HEADING, _HASHES = r"^[#* \t]*(?:final )?answer[* \t]*$", r"\#{4}(?![^\n]*\banswer\b)"
_STATED = re.compile(rf"(?:{_HEADING}|{_HASHES}|\banswer\b[^\n.:]{{0,60}}?(?:\bis\b|:)){_TAIL}", re.I | re.M | re.S)
_STATED_CHOICE = re.compile(rf"\b(?:correct|right|best) (?:option|choice) is{_TAIL}", re.I | re.S)
_REMARK = re.compile(r"(?:also|clear|consistent|correct|incorrect|not|right|wrong|valid)\b", re.I)
_MOST_WORDS = 12  # of a stated answer: more is a remark on the answer
_SENTENCE_END = re.compile(r"[.;](?=\s|$)|,?\s+(?:because|since|as|so|where|which|after)\b")


def final_answer(text: str, problem: Problem) -> str | None:
    """The last box that is not empty, else the last answer stated in words, else all if that is just an answer."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    stated = list(_STATED.finditer(text))
    if problem.kind == "choice":
        stated += _STATED_CHOICE.finditer(text)
    for match in sorted(stated, key=lambda match: match.start(), reverse=True):
        said = _SENTENCE_END.split(_plain(match["display"] or match["said"]), maxsplit=1)[0]
        if _plain(said) and not _REMARK.match(said) and len(said.split()) <= _MOST_WORDS:
            return _plain(said)
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


def chosen_letter(found: str, choices: tuple[str, ...]) -> str | None:
    r"""The letter that is meant by B, (b), B., \text{(B)}, "B) 42 m" or the text of a choice; None if unclear."""
    letters, plain = LETTERS[: len(choices)], _untagged(found)
    whole = _LETTER.fullmatch(plain)
    if whole:
        return whole[1].upper() if whole[1].upper() in letters else None
    for form in (_bare, normalised):
        meant = [letter for letter, choice in zip(letters, choices, strict=True) if form(choice) == form(found)]
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


# ---- one form for each way to write an answer ----

_NO_UNIT = r"(?:and|or|mod|arc\w+|cos|cot|csc|exp|log|ln|sec|sin|sqrt|tan|[ap]\.?\s?m)\b"
_SQUARED = r"(?:\s*\^\s*\{?[23]\}?)?"
_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle)(?![A-Za-z])", ""),
        (r"(?<=\d)(?:,\\!|\{,\}|\\,)\s*(?=\d{3})", ""),  # between thousands
        (r"\\!|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]|[*`]{2}", ""),
        (r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|~", " "),
        (r"\\?%|\\?\$|[€£]|\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])|°", " "),
        (rf"(?<=[\w}})])\s*\\(?:text|mbox|textrm|mathrm)\s*\{{\s*(?!\s|{_NO_UNIT})[^{{}}\d]*\}}{_SQUARED}[\s.]*$", ""),
        (r"\\(?:text(?:bf|rm|it|normal)?|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (rf"(?<=\d)\s+(?!{_NO_UNIT})(?:[A-Za-z]{{3}}|[ck]?m\b|mm|k?g\b|ft|lb)[A-Za-z /.]*{_SQUARED}\s*$", ""),
        (r"^\s*(-?\d+)\s+(\d+)\s*/\s*(\d+)\s*$", r"\1\\frac{\2}{\3}"),
        (r"(?:,\s*)?\b(?:and|or)\b", ","),
        (r"−|–", "-"),
        (r"π", r"\\pi "),
        (r"∞", r"\\infty "),
        (r"≤|<=|\\leq(?:slant)?(?![A-Za-z])", r"\\le "),
        (r"≥|>=|\\geq(?:slant)?(?![A-Za-z])", r"\\ge "),
        (r"∪", r"\\cup "),
        (r"\\varnothing|∅", r"\\emptyset "),
        (r"\\(?:c?dots|\.\.\.)(?![A-Za-z])", r"\\ldots "),
        (r"\{[pb]matrix\}", "{matrix}"),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\w|\\pi)\s*(\w|\\pi)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\w|\\pi)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
        (r"^\s*\(\s*(-?\d+|[A-Za-z])\s*\)\s*$", r"\1"),
        (r"^\s*(?:\\approx|\\sim)(?![A-Za-z])|\\pmod\s*\{[^{}]*\}\s*$|^\s*(?:an?|the)\s+(?=[a-z]{3,}\s*$)", ""),
        (r"^\s*(?:[A-Za-z]|\\[a-z]+)(?:_\w|\([a-z]\))?\s*(?:=|\\in(?![A-Za-z]))([^=]*)$", r"\1"),  # x =
        (r"^\s*[-+]?\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?\s*$", lambda match: re.sub("[, ]", "", match[0])),
        (r"(\\[A-Za-z]+)\s+(?=[A-Za-z])", "\\1\0"),
        (r"(?<!\d)\s+|\s+(?!\d)", ""),
        ("\0", " "),
        (r",", ", "),
        (r"(?<=\w)\.$|\\$", ""),
    )
)


@lru_cache(maxsize=4096)
def normalised(answer: str) -> str:
    r"""An answer in one form: no styles, units, currency, "x =" or needless blanks; \frac12 as \frac{1}{2}."""
    for pattern, new in _REWRITES:
        answer = pattern.sub(new, answer)
    answer = answer.strip()
    return answer.lower() if answer.isalpha() else answer


_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d+(?:\.\d*)?|\.\d+)?"
    r"(?:/(?P<below>\d+)|\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>\d+)\}|\\overline\{(?P<period>\d+)\})?"
)


def number(plain: str) -> Fraction | None:
    r"""What a normalised answer is worth if it is a plain number: 7, -3.5, 7/2, 3\frac{1}{2}, 0.\overline{3}."""
    match = _NUMBER.fullmatch(plain)
    if not match or not (match["whole"] or match["top"]):
        return None
    value = Fraction(match["whole"] or 0)
    try:
        if match["below"]:
            value /= int(match["below"])
        elif match["top"]:
            value += Fraction(int(match["top"]), int(match["bottom"]))
        elif match["period"]:
            n_places = len(match["whole"].partition(".")[2])  # 0.08\overline{3}
            value += Fraction(int(match["period"]), 10**n_places * (10 ** len(match["period"]) - 1))
    except ZeroDivisionError:
        return None
    return -value if match["sign"] == "-" else value


# ---- comparing ----

_TAGGED = (  # 52_8 and 3:20 p.m., which state what the problem may have said already
    re.compile(r"\(?(\w+?)\)?(?:_\{?(\d+)\}?)?"),
    re.compile(r"(\d{1,2}(?::\d\d)?)([ap]\.?m)?"),
)
_PERCENT = re.compile(r"%|\bpercent\b", re.I)


def same_answer(found: str, right: str) -> bool | None:
    """Do both mean the same? None where `found` cannot be read."""
    if len(found) > LONGEST:
        return None
    ours, theirs = normalised(found), normalised(right)
    if not ours or ours.count("{") != ours.count("}"):
        return None
    if ours == theirs:
        return True
    a, b = number(ours), number(theirs)
    if a is not None and b is not None:
        return _same_number(a, b, "." in ours + theirs, *(bool(_PERCENT.search(answer)) for answer in (found, right)))
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
    return _verified(_both_signs(_bracketed_like(ours, theirs)), _both_signs(theirs))


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


@lru_cache(maxsize=4096)
def _verified(ours: str, theirs: str) -> bool | None:
    return _verifier().ask(ours, theirs)


@cache
def _verifier() -> Verifier:
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier


class Verifier:
    """math-verify in a process of its own, which it owns: started when first asked, ended when it takes too long.

    Threads may share one; they wait for each other.
    """

    def __init__(self, seconds: float = SECONDS, command: list[str] | None = None) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        self.seconds, self.command = seconds, command or [sys.executable, "-c", code]
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, ours: str, theirs: str) -> bool | None:
        """Are they equal? None where `ours` cannot be read, or not in time."""
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            timer = Timer(self.seconds, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps([ours, theirs]) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
            finally:
                timer.cancel()
            if not line:
                self._end()
                return None
            equal: bool | None = json.loads(line)
            return equal

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")
        assert process.stdout is not None
        if not process.stdout.readline():
            reason = process.communicate()[1].strip().rpartition("\n")[2]
            raise UsageError(f"math-verify cannot be used ({reason}): {INSTALL}")
        self._process = process
        return process

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve() -> None:
    """The other process: a pair of answers on each line of stdin, true, false or null on each of stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command line; the end of stdin ends this
    replies, sys.stdout = sys.stdout, open(os.devnull, "w")
    library: Any = import_module("math_verify")
    logging.disable()
    written = library.LatexExtractionConfig().normalization_config
    written = replace(written, units=False)  # its list of units has single letters
    config = (library.LatexExtractionConfig(boxed_match_priority=0, normalization_config=written),)

    @lru_cache(maxsize=4096)
    def read(answer: str) -> list[Any]:
        box = f"\\boxed{{{answer}}}"
        found: list[Any] = library.parse(box, config, "no_fallback", "first_match", parsing_timeout=None)
        return found

    def compare(ours: list[Any], theirs: list[Any]) -> bool | None:
        if not ours or not theirs:
            return False if ours else None
        equal = _equal_to_30_places(ours[0], theirs[0])
        if equal is None:
            equal = bool(library.verify(theirs, ours, allow_set_relation_comp=True, timeout_seconds=None))
        return equal

    print(file=replies, flush=True)
    sys.stderr = sys.stdout  # nobody reads on: the parser's complaints would fill the pipe
    for line in sys.stdin:
        ours, theirs = json.loads(line)
        print(json.dumps(compare(read(ours), read(theirs))), file=replies, flush=True)


def _equal_to_30_places(a: Any, b: Any) -> bool | None:
    """Exact numbers by their value: quicker than algebra, and right for tiny ones. None for all other kinds."""
    if not (getattr(a, "is_number", False) and getattr(b, "is_number", False)):
        return None
    if any(part.is_Float for value in (a, b) for part in value.atoms()):
        return None
    try:
        x, y = a.evalf(30), b.evalf(30)
        return bool(abs(x - y) <= max(abs(x), abs(y)) * 1e-20)
    except Exception:
        return None
