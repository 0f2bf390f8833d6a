"""What is watched while an answer is written: the same words over and over, and how long it thinks."""

from __future__ import annotations

from collections import deque

from ..method.reasoning import ReasoningSplitter
from ..method.tokens import Token

_LONGEST_ROUND, _N_ROUNDS = 6, 4  # sentences that come again and again in the same order, and how often
_N_SAME = 12  # times that one sentence may come among the last of them, whatever stands between
_SHORTEST = 12  # characters of a round; shorter ones ("Okay.") may come often
_TAIL, _LONGEST_PERIOD, _N_PERIODS = 480, 96, 5  # characters, for what repeats without an end of a sentence


class LoopGuard:
    """Says when a response repeats itself: the same few sentences, or the same few words, over and over.

    `found`: what was repeated.
    """

    def __init__(self) -> None:
        self._sentences: deque[str] = deque(maxlen=_LONGEST_ROUND * _N_ROUNDS)
        self._open, self._number = "", 0
        self._tail = ""
        self.found = ""

    def feed(self, tokens: list[Token]) -> bool:
        """Take tokens as they are written; True once they are a loop."""
        for token in tokens:
            if token.sentence != self._number:
                if self._ended():
                    return True
                self._number = token.sentence
            self._open += token.text
            self._tail = (self._tail + token.text)[-_TAIL:]
        return bool(tokens) and self._periodic()

    def _ended(self) -> bool:
        self._sentences.append(" ".join(self._open.split()))
        self._open = ""
        said = list(self._sentences)
        if len(said[-1]) >= _SHORTEST and said.count(said[-1]) >= _N_SAME:
            self.found = said[-1]
            return True
        for n in range(1, min(_LONGEST_ROUND, len(said) // _N_ROUNDS) + 1):
            n_rounds = _N_ROUNDS + (n == 1)
            last = said[-n:]
            if said[-n * n_rounds :] == last * n_rounds and len(" ".join(last)) >= _SHORTEST:
                self.found = last[0]
                return True
        return False

    def _periodic(self) -> bool:
        tail = self._tail
        if len(tail) < _TAIL:
            return False
        last = tail[-_LONGEST_PERIOD:]
        at = tail.rfind(last, 0, -1)  # where the last words stood before
        period = len(tail) - _LONGEST_PERIOD - at
        if at < 0 or period > _LONGEST_PERIOD or not tail[-period:].strip():
            return False
        if tail[-_N_PERIODS * period :] == tail[-period:] * _N_PERIODS:
            self.found = tail[-period:].strip()
        return bool(self.found)


class ThinkingMeter:
    """Counts the tokens of the reasoning while it goes on; 0 once it is closed."""

    def __init__(self, starts_thinking: bool) -> None:
        self._splitter = ReasoningSplitter(starts_thinking)
        self.n_tokens = 0

    def feed(self, tokens: list[Token]) -> None:
        for token in tokens:
            self._splitter.feed(token.text)
            self.n_tokens = self.n_tokens + 1 if self._splitter.thinking else 0
