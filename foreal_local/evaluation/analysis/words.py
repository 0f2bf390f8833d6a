"""The misaligned words: put together from token pieces, counted, with what the draft predicted instead.

Knows judgements and how a word is written. Knows no models and no intervals.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .judging import Judgement

N_WORDS = 20
_WORD = re.compile(r"(?:[^\W\u2e80-\U0010ffff]|['’])+")  # scripts without spaces have no words to rebuild
_LONGEST_WORD = 16  # tokens


@dataclass(frozen=True)
class Word:
    """A word that the leader predicted and the draft did not.

    n: how often
    n_seen: how often the leader predicted it at all
    n_first: how many of the n are at the first token of a sentence
    drafts: what the draft predicted there, and how often; the most frequent first
    """

    word: str
    n: int
    n_seen: int
    n_first: int
    drafts: list[tuple[str, int]]


def misaligned_words(judgements: Sequence[Judgement], n_words: int = N_WORDS) -> list[Word]:
    """The leader's words that are most often misaligned."""
    seen: Counter[str] = Counter()
    first: Counter[str] = Counter()
    drafts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for judgement in judgements:
        reading = judgement.reading
        is_top1, places = reading.is_top1.tolist(), reading.places.tolist()
        before = ""
        for i, aligned in enumerate(judgement.aligned.tolist()):
            word = word_at(reading.texts, i, before) if is_top1[i] else piece_word(reading.leader.words[i], before)
            seen[word] += 1
            if not aligned:
                drafts[word][piece_word(judgement.draft.words[i], before)] += 1
                first[word] += places[i] == 1
            before = reading.texts[i][-1:] or before
    words = [Word(w, d.total(), seen[w], first[w], d.most_common(3)) for w, d in drafts.items()]
    return sorted(words, key=lambda word: (-word.n, word.word))[:n_words]


def word_at(texts: Sequence[str], at: int, before: str) -> str:
    """The word that begins with token `at`, put together from its pieces; a piece inside a word stays alone."""
    text = texts[at]
    body = text.lstrip()
    if (text and not body) or _inside(text, before):
        return piece_word(text, before)
    for following in texts[at + 1 : at + _LONGEST_WORD]:
        if body and not _WORD.fullmatch(body):
            break
        body += following
    word = _WORD.match(body)
    return word[0] if word else piece_word(text, before)


def piece_word(text: str, before: str) -> str:
    """One piece as a table shows it: white space is quoted, and a piece inside a word begins with "…"."""
    return ("…" if _inside(text, before) else "") + (text.strip() or repr(text))


def _inside(text: str, before: str) -> bool:
    return bool(_WORD.match(text) and _WORD.match(before))
