r"""Numbers in English words: twenty-one is 21, minus three -3, two thirds \frac{2}{3}, two and a half 2\frac{1}{2}.

Knows words and no other notation.
"""

from __future__ import annotations

import re

_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_SHARES = "half third fourth fifth sixth seventh eighth ninth tenth"
_SMALL = {word: n for n, word in enumerate(_TO_TWENTY.split())}
_SMALL |= {word: 10 * n for n, word in enumerate(_TENS.split(), 3)}
_SMALL |= {"a": 1, "an": 1, "dozen": 12}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {word: n for n, word in enumerate(_SHARES.split(), 2)}
_PARTS |= {"halve": 2, "quarter": 4}
_WORDS = re.compile(r"(?:(?P<minus>minus|negative)\s+)?(?P<words>[a-z]+(?:[\s-]+[a-z]+){0,15})", re.I)


def as_digits(text: str) -> str | None:
    """A number that is written in words, in digits; None for any other text."""
    match = _WORDS.fullmatch(text.strip())
    if not match:
        return None
    sign, words = "-" if match["minus"] else "", re.split(r"[\s-]+", match["words"].lower())
    last = words[-1].removesuffix("s") if len(words) > 1 else ""
    if last not in _PARTS:
        whole = None if words in (["a"], ["an"]) else _whole(words)
        return None if whole is None else f"{sign}{whole}"
    before, _, share = " ".join(words[:-1]).rpartition(" and ")
    top = _whole(share.split())
    whole = _whole(before.split()) if before else 0
    return None if top is None or whole is None else rf"{sign}{whole or ''}\frac{{{top}}}{{{_PARTS[last]}}}"


def _whole(words: list[str]) -> int | None:
    """A whole number of these words; None where one of them is not of a number."""
    total, part, least = 0, 0, 10**15
    if not words or words[-1] == "and":
        return None
    for word in words:
        if word in _SMALL and (part % 100 == 0 or (part % 100 >= 20 and part % 10 == 0 and 0 < _SMALL[word] < 10)):
            part += _SMALL[word]
        elif word == "dozen" and part:
            part *= 12
        elif word == "hundred" and part and part < 100:
            part *= 100
        elif 100 < _SCALES.get(word, 0) < least and part:
            least = _SCALES[word]
            total, part = total + part * least, 0
        elif word != "and" or not (total or part):
            return None
    return total + part
