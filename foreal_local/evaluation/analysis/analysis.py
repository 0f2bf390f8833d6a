"""An analysis from start to end: the leader answers or its responses are read, the drafts judge, figures follow.

Knows the order of the steps and how long they take. Opens models by models.py; knows no options, files and screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ...config import Generation, Method, ModelSettings, Prompting, Runtime
from ...errors import ForealError
from ...results import Prompt
from ..cut_off import count_cut_off
from .callbacks import Callbacks
from .drafts import Draft, LeaderResponse
from .judging import Judgement, LeaderReading, Predictions
from .misalignment import Meter, Misalignment
from .models import AnalysisModels
from .sources import ResponseSource, Trace

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class AnalysisRequest:
    """What is asked of an analysis.

    leader: the model whose responses are analysed
    drafts: what is held against it, by the names that stand in the tables
    source: prompts that the leader answers first, or responses
    source_name: where they come from, for titles
    settings: how prompts are answered; the method and the seed are those of the figures too
    n_slots: prompts answered, and responses read, at a time
    bin_width: tokens of a bin along the response
    """

    leader: ModelSettings
    drafts: Mapping[str, ModelSettings]
    source: ResponseSource
    source_name: str
    settings: Generation
    runtime: Runtime
    prompting: Prompting
    n_slots: int = 4
    bin_width: int = 32

    @property
    def method(self) -> Method:
        return self.settings.method

    @property
    def seed(self) -> int:
        """What intervals are drawn with."""
        return self.settings.seed or 0


@dataclass(frozen=True)
class Findings:
    """What an analysis has found; drafts go by their names.

    responses: what was analysed
    readings: the leader along each response, in the same order
    judgements: each draft along each response, in the same order
    figures: the figures of each draft
    n_failed: how many prompts got no response
    seconds: how long each step took
    """

    request: AnalysisRequest
    responses: list[LeaderResponse]
    readings: list[LeaderReading]
    judgements: dict[str, list[Judgement]]
    figures: dict[str, Misalignment]
    n_failed: int
    seconds: dict[str, float]

    @property
    def cut_off(self) -> dict[str, int]:
        """How many responses did not come to their end, by finish reason."""
        return count_cut_off(response.finish_reason for response in self.responses)


class Analysis:
    """One analysis; owns the clock of its steps."""

    def __init__(self, request: AnalysisRequest, callbacks: Callbacks | None = None) -> None:
        self._request, self._callbacks = request, callbacks or Callbacks()
        self._models = AnalysisModels(
            request.leader,
            dict(request.drafts),
            request.runtime,
            request.prompting,
            request.n_slots,
            self._callbacks,
        )
        self._seconds: dict[str, float] = {}

    def run(self) -> Findings:
        with closing(self._models):
            return self._run()

    def _run(self) -> Findings:
        request, models, source = self._request, self._models, self._request.source
        if isinstance(source, Trace) and source.n_without_leader:
            self._callbacks.note(f"{source.n_without_leader} responses of the trace are the draft's alone: left out")
        drafts, responses = self._timed("vocabularies", partial(models.compare, source))
        prompts = [] if isinstance(source, Trace) else [item for item in source if isinstance(item, Prompt)]
        n_failed = 0
        if prompts:
            responses, n_failed = self._timed("answers", partial(models.answers, prompts, request.settings))
        responses = self._not_empty(responses)
        # The drafts read first: then the leader, at each position, can be asked about the tokens that they want there.
        predictions: list[list[Predictions]] = []
        for draft in drafts:
            found = self._timed(draft.name, partial(models.predictions, draft, responses))
            responses, own, *predictions = self._of_numbers(draft.name, found, responses, *predictions)
            predictions.append(own)
        wanted = _wanted(drafts, predictions, responses)
        read = self._timed("leader", partial(models.readings, responses, wanted, request.method.boundaries))
        responses, readings, *predictions = self._of_numbers("the leader", read, responses, *predictions)
        judgements = _judgements(drafts, predictions, readings)
        meter = Meter(request.method, request.bin_width, seed=request.seed)
        figures = {name: self._timed("figures", partial(meter.measure, each)) for name, each in judgements.items()}
        return Findings(request, responses, readings, judgements, figures, n_failed, self._seconds)

    def _not_empty(self, responses: list[LeaderResponse]) -> list[LeaderResponse]:
        left = [response for response in responses if response.tokens]
        if not left:
            raise ForealError("no response has a token: there is nothing to analyse")
        if len(left) < len(responses):
            self._callbacks.note(f"{len(responses) - len(left)} of {len(responses)} responses are empty: left out")
        return left

    def _of_numbers(
        self, name: str, found: Sequence[Any], responses: list[LeaderResponse], *others: list[Any]
    ) -> list[list[Any]]:
        """The responses along which a model gave numbers, what it gave, and what others have given of them."""
        for response, one in zip(responses, found, strict=True):
            if one is None:
                self._callbacks.note(f"response {response.id}: {name} gives no numbers (NaN or infinity): left out")
        kept = [i for i, one in enumerate(found) if one is not None]
        if not kept:
            raise ForealError(f"{name} gives no numbers (NaN or infinity) along any response: its file may be damaged")
        return [[each[i] for i in kept] for each in (responses, found, *others)]

    def _timed(self, name: str, step: Callable[[], Outcome]) -> Outcome:
        started = time.perf_counter()
        try:
            return step()
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started


# ---------------------------------------------------------------- drafts and leader
def _wanted(
    drafts: Sequence[Draft], predictions: Sequence[Sequence[Predictions]], responses: Sequence[LeaderResponse]
) -> list[list[tuple[int, ...]]]:
    """Of each response, at each position, the top-1 of each draft in the leader's ids. `predictions`: by draft."""
    by_response = zip(*predictions, strict=True)
    return [
        list(zip(*(draft.wanted(response, own) for draft, own in zip(drafts, each, strict=True)), strict=True))
        for response, each in zip(responses, by_response, strict=True)
    ]


def _judgements(
    drafts: Sequence[Draft], predictions: Sequence[Sequence[Predictions]], readings: Sequence[LeaderReading]
) -> dict[str, list[Judgement]]:
    """Each draft along each response, compared with the leader."""
    return {
        draft.name: [
            draft.judgement(reading, own, column) for reading, own in zip(readings, predictions[column], strict=True)
        ]
        for column, draft in enumerate(drafts)
    }
