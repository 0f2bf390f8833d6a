"""Where sentences end: a table of texts, and the laws that hold for every text however it is cut into pieces.

Ends are indices into the text. White space between two sentences belongs to either, so ends are compared by
how many visible characters stand before them.
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import get_args

import extensions
import pytest
from fakes import DRAFT
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import new_sequence

from foreal_local.method.sentences import BOUNDARIES, OUTSIDE, Boundaries, SentenceDetector, Verdict
from foreal_local.method.sequence import Sequence
from foreal_local.method.tokens import Choice
from foreal_local.storage.saved_sequence import as_dict, from_dict

NO, MAYBE, END = Verdict.NO, Verdict.MAYBE, Verdict.END

# "|" marks a sentence end. The end of a row is the end of generation, which makes an end of MAYBE.
CASES = [
    # stops and line ends
    "One ends here.| Two goes on",
    "Is it?| Yes!| Good.|",
    "a line\n|and another\n\n|and a third",
    "\n\n  \nAfter blank lines.|\n\n",
    "Windows lines\r\n|are lines",
    "No stop at all",
    "What?!| No!!| Why?..| So it is.|",
    "He left.|\tThen he came.|",
    "x = 5,\n|so 2x = 10",
    "<think>\n|Wait, so.|\n</think>\n|Done",
    # closing marks belong to the sentence before them
    'He said "no."| So we stop.|',
    "(It is so.)| Then go.|",
    "**Note.**| Read _this._| Then `that.`| End",
    "It is “done.”| «Bien.»| Next",
    'A stop outside ("like this").| Next',
    "so $x = 5.$| Then \\(y = 2.\\)| Then",
    'He asked "why?"| Then left',
    "f(x).y() and [a.](b) and **a.**b go on",
    # numbers
    "It is 3.14 or 3.5 or .5 wide.| So",
    "The answer is 42.| So we stop.|",
    "costs $3.| Then $2.50 more",
    "version v1.2.3 or 10.0.0.1 is meant.| Next",
    "In 1999.| Then 2000.|",
    # list numbers, first in their sentence
    "1. First we look.|\n2. Then we leap.|\n",
    "  12. Twelve.| Next",
    "a. Alpha\n|b. Beta\n|iv. Gamma\n|XII. Delta\n|",
    "1.2. Section one.| Next",
    "- 1. Nested.|\n## 2. Heading\n|**3.** Bold.| (4). Round",
    "1) First.| 2) Second.|",
    "1.\n|Alone on its line",
    "civil.| So",
    " " * 70 + "1. First.| Next",
    "We get 1.| First, look at 2.| Then",
    # abbreviations that never come last
    "Mr. Smith met Mrs. Jones and Dr. Who in St. Louis.| They left.|",
    "e.g. This, i.e. That, cf. Knuth vs. Dijkstra.| Next",
    "(e.g. Primes) are (i.e. Are) fine.| Next",
    "see Fig. 3 and eq. (4) w.r.t. X.| Next",
    "a line ends even after Mr.\n|Smith",
    # abbreviations that end a sentence only before a capital
    "apples, pears, etc. are fruit.| Next",
    "apples, pears, etc.| They are fruit.|",
    "apples (pears, etc.) are fruit (figs, etc.).| Next",
    "apples, etc., and pears.| Next",
    "at 5 p.m. we left.| At 6 a.m.| We came back",
    "the U.S. is large.| He has a Ph.D. from there.|",
    "in the U.S.| Then they met",
    "Foo Inc. makes Bar Ltd. tick.| Next",
    "Smith et al. (2019) and Doe et al. 2020 agree.| Next",
    "On Jan. 5 and in Sept. we met.| In Dec.| Then",
    "and so on, etc.\n|next line",
    "und so weiter etc.| Ähnlich",
    "apples etc.|   Then",
    'apples etc. "The end" goes on.| Next',  # a missed end costs less than one in the middle of a sentence
    # abbreviations before a number
    "see No. 5 and p. 3, pp. 4 and vol. 2.| Next",
    "I think no.| So we stop.| Oh no.| it ends",
    "I think no.| ...so be it",
    "Wait, no.| (Or yes.)|",
    # initials
    "J. Smith wrote it.| Then",
    "It was Robert A. Heinlein.| Then J. R. R. Tolkien.|",
    "so we get x.| Then y follows.|",
    "the answer is A.| Then we stop.|",
    "Answer: B.| Then",
    # ellipses
    "Hmm... wait, let me see.| Next",
    "Hmm...| Wait.|",
    "Hmm…| Wait… no.|",
    "and so on...and on...And on.| Next",
    "...and on it goes.| Next",
    "two dots.. Never end",
    "What...?| Is it?..| no matter",
    "Hmm...\n|wait",
    "dots 1, 2, ..., n are many.| Next",
    "Hmm...| 你好",
    # addresses and names of files
    "see www.example.org or foo.py now.| Next",
    "open http://x.y/z?q=1 and http://a.b/c!d now.| Next",
    "file a.tar.gz, method x.y(), and 1.e5.| Next",
    "foo.py.| Next",
    # full-width and other scripts
    "你好。|我很好！|真的吗？|是的｡|",
    "真的吗？|！好。|",
    "圆周率３．１４是数。|好",
    "第一句．|第二句．|",
    "这是３．|首先",
    "１．首先看。|",
    "यह एक है।| दूसरा है।|",
    "هل هذا صحيح؟| نعم.|",
    "ok.然后 go",
    # marks that open no block
    "fine~~~ So it is.| Next",
    "`a.b`, `c.`| d",
    "It is `a\n|b`.| So",
    "a \\$$ is no maths.| Next",
    "row \\\\[2pt] is no maths.| Next",
]
# Each text as "robust" cuts it, then as "whole-blocks" does.
BLOCK_CASES = [
    # fenced code
    (
        "Code:\n|```python\n|x = 1. \n|y = 'a. B'\n|\n```\n|Then.|",
        "Code:\n|```python\nx = 1. \ny = 'a. B'\n\n```\n|Then.|",
    ),
    ("Run ```a. B``` now.| Next", "Run ```a. B``` now.| Next"),
    ("~~~\n|a. B\n|```\n|c. D\n|~~~\n|Then.| So", "~~~\na. B\n```\nc. D\n~~~\n|Then.| So"),
    ("````\n|a. B\n|```\n|c. D\n|````\n|Then.| So", "````\na. B\n```\nc. D\n````\n|Then.| So"),
    ("```\n|a. B\n|`````\n|Then.| So", "```\na. B\n`````\n|Then.| So"),
    ("Done.| ```\n|a. B\n|```", "Done.| ```\na. B\n```"),
    ("```\n|if a:\n|   \n\n\t\n    b()\n|\n```\n|So.| Then", "```\nif a:\n   \n\n\t\n    b()\n\n```\n|So.| Then"),
    ("```\n\n\n|}\n|'\n|.\n|```\n|}\n'So.'| Then", "```\n\n\n}\n'\n.\n```\n|}\n'So.'| Then"),
    ("```c\r\n|a;\r\n|\r\n```\r\n|So.| Then", "```c\r\na;\r\n\r\n```\r\n|So.| Then"),
    ("```\n|1. a. B\n|etc. So\n|", "```\n1. a. B\netc. So\n"),
    ("```\n|$$\n|x\n|```\n|So.| $$\n|y. Z\n|$$.| So", "```\n$$\nx\n```\n|So.| $$\ny. Z\n$$.| So"),
    ("```\n|a. B\n|</think>\n|So.| Then", "```\na. B\n</think>\nSo. Then"),
    # display maths
    ("$$\n|x = 1. \n|\\text{so. Then}\n|$$\n|Next.| So", "$$\nx = 1. \n\\text{so. Then}\n$$\n|Next.| So"),
    ("so $$x = 1. $$ holds.| Next", "so $$x = 1. $$ holds.| Next"),
    ("so \\[ x. \\\\[2pt] Y \\] holds.| Next", "so \\[ x. \\\\[2pt] Y \\] holds.| Next"),
    ("so \\[\n|x. \\\\[2pt]\n|Y \\] holds.| Next", "so \\[\nx. \\\\[2pt]\nY \\] holds.| Next"),
    (
        "\\begin{align*}\n|a &= 1. \\\\\n|b &= 2\n|\\end{align*}\n|Next.| So",
        "\\begin{align*}\na &= 1. \\\\\nb &= 2\n\\end{align*}\n|Next.| So",
    ),
    (
        "\\begin{a}\n|\\begin{b}. C\\end{b}\n|\\end{a}\n|Next.| So",
        "\\begin{a}\n\\begin{b}. C\\end{b}\n\\end{a}\n|Next.| So",
    ),
    ("it costs $$ a lot. Then\n|\nit heals.| Next", "it costs $$ a lot. Then\n\n|it heals.| Next"),
    ("\\[\n|x. Y\n|  \nit heals.| Next", "\\[\nx. Y\n  \n|it heals.| Next"),
    ("$$a. B$$.| Next", "$$a. B$$.| Next"),
]

PROSE = [
    "So we add them. ",
    "Is that right? ",
    "Wait, let me check!\n",
    "Then 3.14 is more. ",
    "你好，我们看看。",
    "(It is so.) ",
]
# No fences and no maths: a piece that holds an end and opens one of those drops the end, on purpose.
MARKS = "etc.|e.g.|U.S.|Hmm...|1.|no.|Dr.|A.|The|the|v1.2".replace("|", " |").split("|")
PLAIN = [*PROSE, *MARKS, "\n\n", *'x5 "*).?!．。」,…']
BLOCKS = ["```", "`", "~~~\n", "$", "$$", "\\[", "\\]", "\\", "\\begin{cases}", "\\end{cases}"]
LINES = ["```py\n", "\n```\n", "    return x. Y\n", "}\n", "\r\n", "   \n", "</think>"]
plain = st.lists(st.sampled_from(PLAIN), max_size=20).map("".join)
MARKED = [("```python\n", "```\n"), ("~~~ c\n", "~~~\n"), ("\\begin{cases}\n", "\\end{cases}\n")]
CODE = ["    return x. Y\n", "for a in range(3):\n", "x = {1: 'a. B'} # etc.\n", "\n", "   \n"]
code = st.lists(st.sampled_from(CODE), max_size=8).map("".join)
anything = st.lists(st.sampled_from(PLAIN + BLOCKS + LINES), max_size=20).map("".join)
rules = st.sampled_from(BOUNDARIES)
seeds = st.integers(0, 2**32)
law = settings(deadline=None, max_examples=300, derandomize=True, database=None)


def ends(pieces: list[str], rule: Boundaries = "robust") -> list[int]:
    """The ends a scheduler finds: after MAYBE it peeks at the next piece; the end of generation confirms."""
    detector, verdict, place, found = SentenceDetector(rule), NO, 0, []
    for piece in pieces:
        if verdict is MAYBE and detector.confirms(piece):
            found.append(place)
            detector.start()
        place += len(piece)
        verdict = detector.feed(piece)
        if verdict is END:
            found.append(place)
            detector.start()
    return found + [place] * (verdict is MAYBE)


def visible(text: str, places: list[int]) -> list[int]:
    """How many visible characters stand before each of the places."""
    return [len("".join(text[:place].split())) for place in places]


def cut(text: str, rng: random.Random, longest: int = 12, at: set[int] | None = None) -> list[str]:
    """Random pieces, some of them empty like half a character's; also cut at the indices `at`."""
    cuts = {0, len(text)} | (at or set())
    place = 0
    while place < len(text):
        cuts.add(place)
        place += rng.randint(1, longest)
    pieces = [text[a:b] for a, b in pairwise(sorted(cuts))]
    return [part for piece in pieces for part in ([piece, ""] if rng.random() < 0.1 else [piece])]


def cut_at_ends(text: str, rng: random.Random, rule: Boundaries = "robust") -> list[str]:
    """Random pieces none of which goes on with visible text after an end; white space may follow it there."""
    places = ends(list(text), rule)
    gaps = [len(text) - place - len(text[place:].lstrip()) for place in places]
    return cut(text, rng, at={p + rng.randint(0, gap) for p, gap in zip(places, gaps, strict=True)})


def ends_of_pieces(pieces: list[str]) -> list[int]:
    return list(accumulate(len(piece) for piece in pieces))


@pytest.mark.parametrize("rule", ["robust", "whole-blocks"])
@pytest.mark.parametrize("case", CASES)
def test_table(case: str, rule: Boundaries) -> None:
    """Guards every rule of the robust boundaries, and that none depends on how the text is cut."""
    check_case(case, rule)


@pytest.mark.parametrize(("robust", "whole"), BLOCK_CASES)
def test_table_of_blocks(robust: str, whole: str) -> None:
    """Guards against a program that is one sentence, stops that end lines of code, and the block that is forgotten."""
    assert robust.replace("|", "") == whole.replace("|", "")
    check_case(robust, "robust")
    check_case(whole, "whole-blocks")


def check_case(case: str, rule: Boundaries) -> None:
    text = case.replace("|", "")
    expected = visible(text, ends_of_pieces(case.split("|"))[:-1])
    assert visible(text, ends(list(text), rule)) == expected
    rng = random.Random(case)
    for _ in range(30):
        pieces = cut_at_ends(text, rng, rule)
        assert visible(text, ends(pieces, rule)) == expected, pieces


@law
@given(anything, seeds, rules)
def test_cutting_does_not_move_ends(text: str, seed: int, rule: Boundaries) -> None:
    """Guards against rules that see only one piece: marks, words and white space split over pieces."""
    pieces = cut_at_ends(text, random.Random(seed), rule)
    if rule != "simple":  # which calls white space a sentence
        assert visible(text, ends(pieces, rule)) == visible(text, ends(list(text), rule)), pieces


@law
@given(plain, seeds)
def test_an_end_inside_a_piece_is_reported_after_it(text: str, seed: int) -> None:
    """Guards against ends lost inside long pieces: sentences with one start end in the same piece."""
    pieces = cut(text, random.Random(seed))
    found = ends(pieces)
    starts = visible(text, [0, *found])
    for start, end in pairwise([0, *ends(list(text))]):
        if visible(text, [start])[0] in starts:
            first = next(place for place in ends_of_pieces(pieces) if place >= end)
            after_start = [place for place in found if visible(text, [place]) > visible(text, [start])]
            assert len(text[:end].rstrip()) <= after_start[0] <= first, pieces


@law
@given(st.lists(st.sampled_from(PROSE), max_size=12).map("".join), seeds)
def test_prose_keeps_every_end(text: str, seed: int) -> None:
    """Guards against losing step with the text after an end inside a piece."""
    pieces = cut(text, random.Random(seed), longest=6)
    expected = {next(place for place in ends_of_pieces(pieces) if place >= end) for end in ends(list(text))}
    assert ends(pieces) == sorted(expected), pieces


@law
@given(code, st.sampled_from(MARKED), seeds)
def test_every_line_of_a_block_that_has_text_is_a_sentence(lines: str, marks: tuple[str, str], seed: int) -> None:
    """Guards against line ends that are lost where a token has several characters, and a block left too early or late.

    Pieces are shorter than lines, and are cut before marks: the text that a piece has behind an end may be forgotten.
    """
    opening, closing = marks
    if closing.startswith("\\"):
        lines = re.sub(r"\n\s*\n", "\n", lines.lstrip())  # a blank line ends maths
    text = opening + lines + closing + "Then so\n"
    at = {found.start() for found in re.finditer(r"(?<![`~])[`~\\]", text)}
    pieces = cut(text, random.Random(seed), longest=6, at=at)
    places = accumulate(len(line) for line in text.splitlines(keepends=True))
    expected = [place for place in places if text[:place].splitlines()[-1].strip()]
    found = [next(place for place in ends_of_pieces(pieces) if place >= end) for end in expected]
    assert ends(pieces) == found, pieces


@law
@given(anything, anything, seeds, rules)
def test_nothing_but_a_block_survives_start(before: str, after: str, seed: int, rule: Boundaries) -> None:
    """Guards restarts: a detector that is told the block, or shown all the text, must say the same as one in use."""
    rng = random.Random(seed)
    used, fresh = SentenceDetector(rule), SentenceDetector(rule)
    for piece in cut(before, rng):
        used.feed(piece)
    used.start()
    fresh.start(used.block)
    assert vars(used) == vars(fresh)
    assert used.block == OUTSIDE or (rule == "robust" and used.block[0])
    for piece in cut(after, rng):
        assert used.confirms(piece) == fresh.confirms(piece)
        assert used.feed(piece) is fresh.feed(piece)


@law
@given(anything, seeds, rules)
def test_rereading_leads_to_the_same_place(text: str, seed: int, rule: Boundaries) -> None:
    """Guards responses that are resumed: from any token on they must find the ends of those that never stopped."""
    detector, verdict = SentenceDetector(rule), END
    pieces: list[tuple[int, str]] = []
    blocks = [OUTSIDE]
    for piece in cut(text, random.Random(seed)):
        if verdict is END or (verdict is MAYBE and detector.confirms(piece)):
            detector.start()
            blocks[pieces[-1][0] + 1 if pieces else 0 :] = [detector.block]
        number = len(blocks) - 1
        verdict = detector.feed(piece)
        pieces.append((number, piece))
        again = SentenceDetector(rule)
        assert again.reread(each for each in pieces if each[0] < number) == blocks
        found = [again.feed(part) for each, part in pieces if each == number]
        assert found[-1] is verdict
        assert vars(again) == vars(detector)


@law
@given(anything, anything, seeds)
def test_confirms_only_looks(text: str, following: str, seed: int) -> None:
    """Guards peeking: a look at a token that is then dropped must leave no trace."""
    detector = SentenceDetector()
    for piece in cut(text, random.Random(seed)):
        detector.feed(piece)
        state = dict(vars(detector))
        detector.confirms(following)
        assert vars(detector) == state


@law
@given(plain, plain, seeds)
def test_confirms_foretells_feed(text: str, following: str, seed: int) -> None:
    """Guards the two readings of a stop against drifting apart: what is confirmed is an end when fed, too."""
    detector = SentenceDetector()
    for piece in cut(text, random.Random(seed)):
        verdict = detector.feed(piece)
        if verdict is END:
            detector.start()
        elif verdict is MAYBE and detector.confirms(following):
            assert detector.feed(following) is END
            return


def verdicts(*pieces: str, rule: Boundaries = "robust") -> list[Verdict]:
    """Every verdict of a detector that is never asked to confirm, and told to start where a piece was an end."""
    detector, found = SentenceDetector(rule), []
    for piece in pieces:
        found.append(detector.feed(piece))
        if found[-1] is END:
            detector.start()
    return found


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["So", "", " x", "=3", ".", ""], [NO, NO, NO, NO, MAYBE, MAYBE]),
        (["is 3", ".", "14"], [NO, MAYBE, NO]),
        (["done", ".", '"', " So"], [NO, MAYBE, MAYBE, END]),
        (["done. Next"], [END]),
        (["done.\n\n"], [END]),
        (["\n\n", "   ", "x", "\n"], [NO, NO, NO, END]),
        (["etc.", " ", "The"], [MAYBE, MAYBE, END]),
        (["etc.", " ", "the"], [MAYBE, MAYBE, NO]),
        (["Mr.", " ", "X"], [NO, NO, NO]),
        (["1.", " ", "X"], [NO, NO, NO]),
        (["好。"], [END]),
        (["好。」"], [END]),
        (["是３", "．", "１"], [NO, MAYBE, NO]),
        (["one\r"], [END]),
        (["...", " ", "?", "!"], [NO, NO, NO, NO]),
        (["so.", "$$", " x. Y"], [MAYBE, NO, NO]),
        (["see", ".", "."], [NO, MAYBE, NO]),
        (["see..", "."], [NO, MAYBE]),
        (["done. ```py", " x. Y"], [END, NO]),
        (["done. `", "``", "a. B\n"], [MAYBE, END, END]),
        (["done. `", "a"], [MAYBE, END]),
        (["done. $", "$", " x. Y"], [MAYBE, END, NO]),
        (["```", "py", "\n", "\n", "  ", "x. Y", ")\n\n", " \n"], [NO, NO, END, NO, NO, NO, END, NO]),
        (["```\n", "\n    return", " x.", "\n"], [END, NO, NO, END]),
        (["```\nx\n```", "\n", "So", "."], [END, NO, NO, MAYBE]),
        (["done. ```", " ", "`x\n", "```\n", "so. B"], [END, NO, END, END, END]),  # no fence of four
    ],
)
def test_verdicts(pieces: list[str], expected: list[Verdict]) -> None:
    """Guards which answer comes when: NO for MAYBE misses ends, MAYBE for NO peeks for nothing."""
    assert verdicts(*pieces) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["done. ```py\nx. Y"], [NO]),  # the block is worth more than the end before it
        (["done. `", "``", "a. B\n"], [MAYBE, NO, NO]),
        (["done. $", "$", " x. Y"], [MAYBE, NO, NO]),
        (["```\n", "x. Y\n", "```", "\n"], [NO, NO, NO, END]),
    ],
)
def test_verdicts_of_whole_blocks(pieces: list[str], expected: list[Verdict]) -> None:
    """Guards a block that is forgotten at an end before it."""
    assert verdicts(*pieces, rule="whole-blocks") == expected


@pytest.mark.parametrize(
    ("text", "following", "expected"),
    [
        ("done.", " So", True),
        ("done.", "\n", True),
        ("done.", "", False),
        ("done.", '"', False),
        ("done.", '" So', False),  # the quote belongs to this sentence: the end lies behind it
        ("done!", "? So", False),
        ("done?", "！", False),
        ("done", ". So", False),  # no stop yet
        ("is 3.", "1", False),
        ("etc.", " ", False),
        ("etc.", " The", True),
        ("etc. ", "The", True),
        ("etc.", "  the", False),
        ("etc.", " \n", True),
        ("no.", " 5", False),
        ("no.", " So", True),
        ("是３．", "１", False),
        ("是３．", "首", True),
        ("done. `", "``", False),
        ("done. $", "$ x", False),  # the dollar before would be forgotten, and with it the maths
        ("done. \\", "[ x", False),
        ("done. `", "`", False),
        ("done. `", "x", True),
        ("done. `", "x `", True),
        ("done. `", "", False),
    ],
)
def test_confirms(text: str, following: str, expected: bool) -> None:
    """Guards the peek: the point between the two texts, and no later one, is or is not an end."""
    detector = SentenceDetector()
    detector.feed(text)
    assert detector.confirms(following) is expected


def test_closing_marks_alone_are_no_sentence() -> None:
    """Guards against a gate drawn for a bracket that follows a full-width stop in its own piece."""
    assert ends(["好。", "」", "\n", "他说。"]) == [2, 7]
    assert ends(["好。」", "\n", "他说。"]) == [3, 7]


@pytest.mark.parametrize("rule", ["robust", "whole-blocks"])
@pytest.mark.parametrize("text", ["x = 1. Then `y`\n" * 3000, "word " * 9000, ".,.,$\\" * 9000, "`" * 45000])
def test_long_sentences_stay_cheap(text: str, rule: Boundaries) -> None:
    """Guards against rereading or keeping the whole sentence: the cost of a piece must not grow."""
    detector = SentenceDetector(rule)
    detector.feed("```")
    began = time.process_time()
    for i in range(0, len(text), 3):
        detector.feed(text[i : i + 3])
    assert time.process_time() - began < 5
    assert sum(len(value) for value in vars(detector).values() if isinstance(value, str)) < 300


@pytest.mark.parametrize(
    ("piece", "expected"),
    [(piece, END) for piece in (".", "?", "!", "。", "．", "？", "！", "｡", "\n", "3.14", "e.g", "a. b", ".\n")]
    + [(piece, NO) for piece in ("", " ", "So", ",", ";", "，", "…", "```", "$$")],
)
def test_simple(piece: str, expected: Verdict) -> None:
    """Guards the paper's rule: punctuation or newlines end a sentence at once, whatever is around them."""
    detector = SentenceDetector("simple")
    assert detector.feed(piece) is expected
    assert detector.confirms(" So") is False
    detector.start()
    assert detector.feed(piece) is expected


def test_simple_finds_what_robust_leaves_out() -> None:
    """Guards the option itself: the rule must reach the detector."""
    pieces = ["It", " is", " 3", ".", "1", ",", " e", ".g", ".", " so", ".", "\n"]
    assert ends(pieces, "simple") == [8, 14, 15, 19, 20]
    assert ends(pieces, "robust") == [19]


def test_the_rules_are_offered_in_this_order() -> None:
    """Guards the order in the help, whose first is the default."""
    assert BOUNDARIES == get_args(Boundaries) == ("robust", "whole-blocks", "simple")


# ---------------------------------------------------------------- a response that is stopped and rewound
@pytest.fixture
def rewriting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        extensions.install(patch)
        yield


def go_on(sequence: Sequence, pieces: list[str]) -> list[int]:
    """Write tokens as a flow does, a new sentence where one has ended; returns the number of each token's sentence."""
    for piece in pieces:
        if sequence.verdict is MAYBE and sequence.confirms_end(piece.encode()):
            sequence.hold(Choice(DRAFT, 0, 0, 0))
        if sequence.verdict is END:
            sequence.open_sentence(led=False)
        sequence.append(Choice(DRAFT, 0, 0, 0), piece.encode(), dict.fromkeys(sequence.views, (0,)))
    return [token.sentence for token in sequence.tokens]


RESPONSE = (
    "So:\n```python\ndef f(a):\n    return a. b\n\n\nf(1)\n```\nIt is 3.14. "
    "$$\nx. Y \\\\ \n$$\nDone. So\n~~~\na\n\nb. C\n"
)


@pytest.mark.usefixtures("rewriting")
@pytest.mark.parametrize("seed", range(20))
def test_a_response_that_is_resumed_or_rewound_in_a_block_is_still_there(seed: int) -> None:
    """Guards a response, read from a file or rewound, that takes code for prose or does not see the closing fence."""
    pieces = cut(RESPONSE, random.Random(seed), longest=1 + seed % 8)
    expected = go_on(new_sequence(0, mode="proofread", max_tokens=None), pieces)
    sequence, n_rewound = new_sequence(0, mode="proofread", max_tokens=None), 0
    for n in range(1, len(pieces) + 1):
        go_on(sequence, pieces[n - 1 : n])
        again = from_dict(json.loads(json.dumps(as_dict(sequence))))
        assert go_on(again, pieces[n:]) == expected, n
        for n_left in range(max(sequence.n_settled, n - 12), n):
            rewound = copy.deepcopy(sequence)
            rewound.rewind(n_left, "a test")
            assert go_on(rewound, pieces[n_left:]) == expected, (n, n_left)
            n_rewound += 1
    assert n_rewound > 20 or seed % 8 > 2
