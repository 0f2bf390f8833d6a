"""What is watched while an answer is written: whether it repeats itself, and how long it reasons."""

from __future__ import annotations

from collections import deque

from ..method.reasoning import ReasoningSplitter, ReasoningTags
from ..method.sentences import SentenceDetector, Verdict
from ..method.tokens import Token

# A loop of sentences: a round of 1 to 6 sentences that comes 4 times in a row (a single sentence: 5 times).
_LONGEST_ROUND, _N_ROUNDS = 6, 4
_N_SAME = 12  # or a sentence that is 12 of the last 24, whatever stands between
_SHORTEST = 12  # characters of a round; shorter ones ("Okay.") may come often
# A loop inside a sentence: of the last 480 characters, the last 1 to 96 come 5 times in a row.
_TAIL, _LONGEST_PERIOD, _N_PERIODS = 480, 96, 5


class LoopGuard:
    """Says when a response repeats itself: the same few sentences, or the same few words, over and over.

    Code is one sentence here whatever the rule of the response: lines such as "return False" may come often.

    repeated: the sentence or the words that come again and again; "" before the response is a loop
    """

    def __init__(self) -> None:
        self._sentences: deque[str] = deque(maxlen=_LONGEST_ROUND * _N_ROUNDS)
        self._open = ""
        self._detector, self._verdict = SentenceDetector("whole-blocks"), Verdict.NO
        self._tail = ""
        self.repeated = ""

    def feed(self, tokens: list[Token]) -> bool:
        """Take tokens as they are written; True once they are a loop."""
        for token in tokens:
            maybe = self._verdict is Verdict.MAYBE and self._detector.confirms(token.text)
            if maybe or self._verdict is Verdict.END:
                if self._end_sentence():
                    return True
                self._detector.start()
            self._verdict = self._detector.feed(token.text)
            self._open += token.text
            self._tail = (self._tail + token.text)[-_TAIL:]
        return bool(tokens) and self._is_periodic()

    def _end_sentence(self) -> bool:
        """Add the sentence that has ended to the others; whether the response is a loop now."""
        self._sentences.append(" ".join(self._open.split()))
        self._open = ""
        sentences = list(self._sentences)
        if len(sentences[-1]) >= _SHORTEST and sentences.count(sentences[-1]) >= _N_SAME:
            self.repeated = sentences[-1]
            return True
        for n in range(1, min(_LONGEST_ROUND, len(sentences) // _N_ROUNDS) + 1):
            n_rounds = _N_ROUNDS + (n == 1)
            last = sentences[-n:]
            if sentences[-n * n_rounds :] == last * n_rounds and len(" ".join(last)) >= _SHORTEST:
                self.repeated = last[0]
                return True
        return False

    def _is_periodic(self) -> bool:
        """Whether the last characters repeat themselves, in whatever sentence they are."""
        tail = self._tail
        if len(tail) < _TAIL:
            return False
        last = tail[-_LONGEST_PERIOD:]
        at = tail.rfind(last, 0, -1)  # where the last words stood before
        period = len(tail) - _LONGEST_PERIOD - at
        if at < 0 or period > _LONGEST_PERIOD or not tail[-period:].strip():
            return False
        if tail[-_N_PERIODS * period :] == tail[-period:] * _N_PERIODS:
            self.repeated = tail[-period:].strip()
        return bool(self.repeated)


class ThinkingMeter:
    """Counts the tokens of the reasoning.

    n_tokens: of the reasoning that is open; 0 where none is
    """

    def __init__(self, tags: ReasoningTags) -> None:
        self._splitter = ReasoningSplitter(tags)
        self.n_tokens = 0

    def feed(self, tokens: list[Token]) -> None:
        for token in tokens:
            self._splitter.feed(token.text)
            self.n_tokens = self.n_tokens + 1 if self._splitter.thinking else 0
