"""What models predict along a response that is written already: each one's top-1 and entropy, and where both agree.

Knows the model protocol, ids, texts and where sentences end. Knows no files, no llama.cpp and no figures
(misalignment.py makes them). Models only read here: no token is chosen.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...method.opinion import Opinion
from ...method.reasoning import DEFAULT_TAGS
from ...method.roles import Role
from ...method.sentences import Boundaries, SentenceDetector, Verdict
from ...method.view import View
from ...method.vocabulary import Logits
from ...runtime.model import Model, Row

END_OF_TEXT = "<end>"
"""What stands for an end-of-generation token among words."""

_FLAT = -80.0  # below this, less than 1e-34 of the best token: nothing in a sum, and never 0 x infinity

Translate = Callable[[int], tuple[int, ...]]
PieceOf = Callable[[int], "bytes | None"]
Bools = NDArray[np.bool_]


# ---------------------------------------------------------------- one model along one response
class Prediction(NamedTuple):
    """What a model predicts at one position of a response.

    top1: its most likely token, in its own ids
    entropy: of its distribution, in nats
    chance: the probability it gives to the token that is written there
    relative: the probability of each token that it was asked about, divided by that of top1
    """

    top1: int
    entropy: float
    chance: float
    relative: tuple[float, ...] = ()


@dataclass(frozen=True)
class Predictions:
    """What a model predicts at all positions of a response, (n_positions,) each.

    words: the text of top1
    relative: (n_positions, n_asked), a column for each token of a position that it was asked about
    """

    top1: NDArray[np.int64]
    entropy: NDArray[np.float64]
    chance: NDArray[np.float64]
    words: list[str]
    relative: NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Sequence[Prediction], piece: PieceOf) -> Predictions:
        nothing = [*[np.zeros(0)] * 3, np.zeros((0, 0))]
        columns = [np.array(column) for column in zip(*predictions, strict=True)] or nothing
        words = {token: readable(piece(token)) for token in {prediction.top1 for prediction in predictions}}
        top1, entropy, chance = columns[0].astype(np.int64), columns[1], columns[2]
        return cls(top1, entropy, chance, [words[token] for token in top1.tolist()], columns[3])


def predict(logits: Logits, token: int, asked: Iterable[int] = ()) -> Prediction:
    """What is kept of logits (n_vocab,), which the model soon overwrites.

    token: the one that is written there, in the model's own ids, as are those of `asked`
    """
    opinion = Opinion(Role.LEADER, 0, logits)  # whose, and after how many ids, is told by who keeps the prediction
    best = opinion.top1
    shifted = np.maximum(logits - logits[best], _FLAT)
    weights = np.exp(shifted)
    total = float(weights.sum(dtype=np.float64))
    entropy = math.log(total) - float(np.dot(weights, shifted)) / total
    relative = tuple(opinion.relative(other) for other in asked)
    return Prediction(best, max(0.0, entropy), float(weights[token]) / total, relative)


@dataclass(slots=True)
class WrittenView(View):
    """A response that is written, as one model reads it.

    asked: the tokens, in its own ids, that it is asked about at each position; as many at all of them
    """

    asked: Sequence[Sequence[int]] = field(default_factory=list)


def view_of(
    prompt: Sequence[int],
    tokens: Sequence[int],
    translate: Translate,
    asked: Sequence[Sequence[int]] | None = None,
) -> WrittenView:
    """The response as one model's ids: its own prompt, then what it reads for each token of the leader."""
    view = WrittenView(list(prompt), len(prompt), asked=[()] * len(tokens) if asked is None else asked)
    for token in tokens:
        view.starts.append(len(view.ids))
        view.ids.extend(translate(token))
    return view


def predict_along(
    model: Model, views: Sequence[WrittenView], advance: Callable[[int], None], piece: PieceOf
) -> Iterator[Predictions | None]:
    """The model's predictions at every token of each view, as many views at a time as it has slots; None for a view
    along which it gives no numbers.

    Each view is one row with all its positions as outputs; no logits are kept. `advance` is called with the number of
    positions that are done.
    """
    for first in range(0, len(views), model.n_slots):
        together = views[first : first + model.n_slots]
        found: list[list[Prediction] | None] = list(_read(model, together, advance) or [])
        if not found:  # NaN spreads to all that share the cache: each by itself tells whose it is
            found = [one[0] if (one := _read(model, [view], lambda _: None)) else None for view in together]
        for predictions in found:
            yield None if predictions is None else Predictions.of(predictions, piece)


def _read(model: Model, views: Sequence[WrittenView], advance: Callable[[int], None]) -> list[list[Prediction]] | None:
    """Each of these views in a slot of its own; None where the model gives no numbers (its cache is empty then)."""
    by_view: list[list[Prediction]] = [[] for _ in views]
    filled = [slot for slot, view in enumerate(views) if view.starts]
    rows = []
    for slot in filled:
        first, last = views[slot].starts[0], views[slot].starts[-1]
        rows.append(Row(slot, views[slot].ids[:last], last - first + 1))
    try:
        for output in model.evaluate(rows) if rows else ():
            if output.logits is None:
                assert output.failure is not None
                raise output.failure
            if not Opinion(Role.LEADER, 0, output.logits).is_of_numbers:
                model.clear()
                return None
            slot = filled[output.row]
            view, predictions = views[slot], by_view[slot]
            at = len(predictions)
            if output.index == view.starts[at] - 1:  # else inside a leader's token that is several here
                predictions.append(predict(output.logits, view.ids[output.index + 1], view.asked[at]))
                advance(1)
    finally:
        for slot in filled:
            model.release(slot)
    return by_view


# ---------------------------------------------------------------- texts and sentences
def readable(piece: bytes | None) -> str:
    """A token as a word of a table; None is the end of generation."""
    return END_OF_TEXT if piece is None else piece.decode("utf-8", "replace")


def texts_of(pieces: Iterable[bytes]) -> list[str]:
    """The characters that each token completes; none where it ends in half a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(piece) for piece in pieces]


def sentences_of(texts: Iterable[str], rule: Boundaries, end_of_reasoning: str = DEFAULT_TAGS.closing) -> list[int]:
    """Each token's sentence, counted from 0, cut where the decoder would cut.

    After MAYBE the next token's text decides. The decoder (serving.py) has the same condition for a token that it may
    still hold back; here all tokens are there, no Sequence is being written, and so the condition stands here again.
    """
    detector, verdict, number = SentenceDetector(rule, end_of_reasoning), Verdict.END, -1
    numbers = []
    for text in texts:
        if verdict is Verdict.END or (verdict is Verdict.MAYBE and detector.confirms(text)):
            detector.start()
            number += 1
        numbers.append(number)
        verdict = detector.feed(text)
    return numbers


# ---------------------------------------------------------------- leader and draft
@dataclass(frozen=True)
class LeaderReading:
    """A response without its prompt, and what its leader predicts along it.

    tokens: in the leader's ids; the token that ended the response is left out
    texts: the characters that each token completes
    sentences: the number of each token's sentence, from 0
    leader: the leader's prediction of each token
    """

    id: str
    tokens: list[int]
    texts: list[str]
    sentences: list[int]
    leader: Predictions

    @property
    def is_top1(self) -> Bools:
        """Where the token is the leader's top-1: everywhere in its own greedy response, up to rounding."""
        return np.asarray(self.leader.top1 == np.array(self.tokens, np.int64), dtype=np.bool_)

    @property
    def places(self) -> NDArray[np.int64]:
        """Each token's place in its sentence, the first being 1."""
        numbers = np.array(self.sentences, np.int64)
        first = np.searchsorted(numbers, numbers)  # they never fall
        return np.asarray(np.arange(numbers.size) - first + 1, dtype=np.int64)


@dataclass(frozen=True)
class Judgement:
    """One draft along one response, compared with the leader at each position.

    aligned: both models have the same top-1
    agrees: the draft's top-1 is the token that is written
    relative: the leader's probability of the draft's top-1, divided by that of its own
    """

    reading: LeaderReading
    draft: Predictions
    aligned: Bools
    agrees: Bools
    relative: NDArray[np.float64]

    @classmethod
    def of(cls, reading: LeaderReading, draft: Predictions, translate: Translate, column: int = 0) -> Judgement:
        """Ids are compared as the decoder's check does: the first that the draft reads for the leader's token.

        column: of the leader's relative probabilities, the draft's own
        """

        def same(tokens: Iterable[int]) -> Bools:
            pairs = zip(tokens, draft.top1.tolist(), strict=True)
            return np.array([translate(token)[:1] == (best,) for token, best in pairs], np.bool_)

        relative = reading.leader.relative[:, column]
        return cls(reading, draft, same(reading.leader.top1.tolist()), same(reading.tokens), relative)
