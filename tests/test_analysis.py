"""An analysis from Python: what it needs, what it tells while it runs, what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from commands import ROOT

from foreal_local.config import Generation, ModelSettings, Prompting, Runtime, Sampling
from foreal_local.errors import ForealError
from foreal_local.evaluation.analysis.analysis import Analysis, AnalysisRequest
from foreal_local.evaluation.analysis.callbacks import Callbacks
from foreal_local.evaluation.analysis.record import record_of
from foreal_local.evaluation.analysis.sources import RecordedResponse, ResponseSource
from foreal_local.results import Prompt

LEADER, DRAFT = ROOT / "models/tiny-leader.gguf", ROOT / "models/tiny-draft.gguf"
QUESTIONS = ["Tom has 3 apples and buys 4 more. How many apples does he have?", "Ann has 5 pens. How many pens?"]


def request_for(source: ResponseSource) -> AnalysisRequest:
    return AnalysisRequest(
        leader=ModelSettings(LEADER),
        drafts={"small": ModelSettings(DRAFT)},
        source=source,
        source_name="two questions",
        settings=Generation("leader", sampling=Sampling(temp=0), max_tokens=40),
        runtime=Runtime(threads=1),
        prompting=Prompting(),
    )


def test_an_analysis_needs_no_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards an analysis that prints, or that asks for anything that only a command line has."""
    findings = Analysis(request_for([Prompt(text) for text in QUESTIONS])).run()
    assert capfd.readouterr() == ("", "")
    assert list(findings.figures) == list(findings.judgements) == ["small"]
    assert [len(r.tokens) for r in findings.responses] == [j.aligned.size for j in findings.judgements["small"]]
    assert findings.figures["small"].n_responses == len(QUESTIONS)
    assert findings.n_failed == 0
    assert list(findings.seconds) == ["vocabularies", "answers", "small", "leader", "figures"]
    record = record_of(findings, {"limit": 2})
    assert record["settings"]["limit"] == 2
    assert record["settings"]["source"] == "two questions"


def test_an_analysis_tells_what_it_does() -> None:
    """Guards progress that does not come to its end, and a note that is lost."""
    notes: list[str] = []
    steps: list[list[object]] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        steps.append([label, total, 0])

        def advance(n: int) -> None:
            steps[-1][2] += n  # type: ignore[operator]

        yield advance

    findings = Analysis(request_for([Prompt(text) for text in QUESTIONS]), Callbacks(notes.append, progress)).run()
    n_tokens = findings.figures["small"].n_tokens
    assert steps == [
        ["the leader answers", 2, 2],
        ["small reads", n_tokens, n_tokens],
        ["the leader reads", n_tokens, n_tokens],
    ]
    assert notes == []
    assert findings.cut_off == {"length": 2, "context": 0}


def test_responses_without_a_token_are_left_out() -> None:
    """Guards figures over nothing, and a response that goes missing without a word."""
    notes: list[str] = []
    source = [RecordedResponse("0", QUESTIONS[0], ""), RecordedResponse("1", QUESTIONS[1], "She has 5 pens.")]
    findings = Analysis(request_for(source), Callbacks(notes.append)).run()
    assert [response.id for response in findings.responses] == ["1"]
    assert notes == ["1 of 2 responses are empty: left out"]
    with pytest.raises(ForealError, match="no response has a token"):
        Analysis(request_for(source[:1])).run()
