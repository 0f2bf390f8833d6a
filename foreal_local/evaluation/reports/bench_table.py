"""A benchmark's figures as lines of text and as values for JSON. Knows measures; no options and no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...method.reasoning import ends_inside
from ..cut_off import count_cut_off, cut_off_sentence, is_cut_off
from ..measures import BAD, Measures, Record, Response
from ..problems.grading import Grade
from ..statistics import Estimate
from .table import number, with_interval


def table_lines(measures: list[Measures]) -> list[str]:
    """Three tables, a line for each setting: the answers, the work, and both against the leader alone."""
    width = max(len(m.setting) for m in measures)
    lines = _answers(measures, width)
    measured = [m for m in measures if m.means]
    if measured:
        lines += ["", *_work(measured, width)]
    compared = [m for m in measures if m.accuracy_difference]
    if compared:
        lines += ["", *_against_the_leader(compared, width)]
    return lines


def cut_off_line(responses: Sequence[Response]) -> str | None:
    """How many responses were cut off, what that means, and what to raise; None where there is none."""
    cut = [response for response in responses if is_cut_off(response.finish_reason)]
    n_missing = sum(response.grade is Grade.MISSING for response in cut)
    answers = f"{n_missing} of these have no answer and count as not right" if n_missing else "all have an answer"
    counts = count_cut_off(response.finish_reason for response in responses)
    return cut_off_sentence(counts, len(responses), answers)


def verdict_lines(measures: Sequence[Measures]) -> list[str]:
    """A line for each setting of both models, against the leader alone; of all settings where none has both."""
    leader = next((m for m in measures if m.setting == "leader"), None)
    beside = f"; the leader alone: {_outcome(leader, short=True)}" if leader else ""
    of_both = [m for m in measures if m.of_both] or [m for m in measures if m is not leader]
    lines = [f"{m.setting}: {_outcome(m)}{beside}" for m in of_both]
    return lines or [f"{m.setting}: {_outcome(m)}" for m in measures]


def _outcome(m: Measures, short: bool = False) -> str:
    """Such as `11 of 12 right, 1 cut off, 0.34 s each`."""
    words = [f"{m.n_right} of {m.n}{'' if short else ' right'}"]
    if m.n_cut_off:
        words.append(f"{m.n_cut_off} cut off")
    if m.means:
        words.append(f"{m.means['seconds']:.3g} s each")
    return ", ".join(words)


def stop_line(records: list[Record]) -> str | None:
    """How many responses ended at a stop text, and how many of them before their answer; None where there is none."""
    stopped = [record for record in records if record.get("stopped_by") is not None]
    if not stopped:
        return "no response ended at a stop text" if any(record.get("stop") for record in records) else None
    n_inside = sum(ends_inside(record["text"], record["reasoning"], record["answer"]) for record in stopped)
    inside = f"{n_inside} of them" if n_inside else "none of them"
    texts = ", ".join(sorted({repr(record["stopped_by"]) for record in stopped}))
    ended = f"{len(stopped)} of {len(records)} responses ended at a stop text ({texts})"
    return f"{ended}, {inside} inside the reasoning{', without an answer' if n_inside else ''}"


def _answers(measures: list[Measures], width: int) -> list[str]:
    lines = [f"{'':{width}}  accuracy   95 % interval   wrong/missing/unread/failed  cut off   tokens  leader"]
    for m in measures:
        bad = "/".join(str(m.verdicts.get(grade, 0)) for grade in BAD)
        interval = f"{m.accuracy.low:6.1%} - {m.accuracy.high:6.1%}"
        line = f"{m.setting:{width}}  {m.accuracy.value:8.1%}  {interval}  {bad:>27} {m.n_cut_off:8}"
        if m.means:
            line += f" {m.means['length']:8.1f} {m.means['leader_share']:7.0%}"
        lines.append(line)
    return lines


_UNITS = ((1e15, "PFLOPs"), (1e12, "TFLOPs"), (1e9, "GFLOPs"))


def _work(measures: list[Measures], width: int) -> list[str]:
    largest = max(m.means["flops_total"] for m in measures)
    factor, unit = next(each for each in _UNITS if each[0] == 1e9 or largest >= 10 * each[0])
    lines = [f"{'':{width}}  {unit} written      all   decoded  prefilled  calls   seconds  tokens/s"]
    for m in measures:
        mean = m.means
        line = f"{m.setting:{width}} {mean['flops_generation'] / factor:15.3f} {mean['flops_total'] / factor:8.3f}"
        line += f" {mean['decode_tokens']:9.0f} {mean['prefill_tokens']:10.0f} {m.leader_calls_per_token:6.2f}"
        lines.append(line + f" {mean['seconds']:9.3f} {m.tokens_per_second:9.0f}")
    return lines


def _against_the_leader(measures: list[Measures], width: int) -> list[str]:
    head = "against the leader"
    width = max(width, len(head))
    lines = [f"{head:{width}}  {'accuracy':<17} {'points lost':<20} length  {'written':<16}    all   time"]
    for m in measures:
        difference = m.accuracy_difference
        assert difference is not None
        lost = f"{_points_lost(difference.value)} ({_points_lost(difference.high)} to {_points_lost(difference.low)})"
        line = f"{m.setting:{width}}  {_with_interval(m.ratios['accuracy']):<17} {lost:<20}"
        if "length" in m.ratios:
            length, every, time = (number(m.ratios[key].value, ".2f") for key in ("length", "flops_total", "seconds"))
            line += f" {length:>6}  {_with_interval(m.ratios['flops_generation']):<16} {every:>6} {time:>6}"
        lines.append(line.rstrip())
    return lines


def _with_interval(ratio: Estimate) -> str:
    return with_interval(ratio, ".2f", to="-")


def _points_lost(difference: float) -> str:
    """Percentage points lost; no minus before 0.0."""
    return number(round(-100 * difference, 1) + 0.0, ".1f")


def figures_of(problems: str, measures: list[Measures]) -> dict[str, Any]:
    """All figures, for JSON: the name of the problems, and each setting's measures."""
    figures: dict[str, Any] = _finite({"problems": problems, "settings": [m.as_dict() for m in measures]})
    return figures


def _finite(value: Any) -> Any:
    """The value with None for nan and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
