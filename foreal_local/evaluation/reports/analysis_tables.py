"""The tables of an analysis, for the terminal and for the page. Knows figures, no models and no screen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ...method.plan import FEWEST_OWN
from ..analysis.analysis import Findings
from ..analysis.handoffs import Handoffs
from ..analysis.misalignment import FACTOR_PLACE, Curve, Direction, Misalignment
from ..cut_off import cut_off_sentence
from ..statistics import Estimate
from .table import CANNOT_TELL, Table, number, with_interval

_MOST_ROWS = 16  # of the curve along the response
_BAR = 30
_LATER = (5, 10, 20)  # tokens after the earliest handoff, in the table of handoffs

_ALONG_RESPONSE: dict[Direction, str] = {
    "grows": "It grows along the response: the paper's global rebound.",
    "stays": "It stays along the response: the paper's global rebound.",
    "falls": "It falls along the response: no rebound.",
    "unknown": "Whether it stays or falls along the response cannot be told from these responses.",
}
_ALONG_SENTENCE: dict[Direction, str] = {
    "grows": "It grows along the sentence, where the paper's pairs fall.",
    "stays": "It stays along the sentence, where the paper's pairs fall.",
    "falls": "It falls along the sentence: the paper's local diminish.",
    "unknown": "Whether it falls along the sentence cannot be told from these responses.",
}


def tables_of(findings: Findings) -> Iterator[Table]:
    """All tables: one of all drafts, then seven of each."""
    yield _summary(findings)
    for name, figures in findings.figures.items():
        yield _curve(f"{name}: misaligned, by position in the response", "tokens from", figures.along_response)
        sentence = _curve(f"{name}: misaligned, by token of the sentence", "token", figures.along_sentence)
        factor = f"Token 1 against token {FACTOR_PLACE}, in sentences that have both: {_factor(figures.factor)}."
        yield replace(sentence, notes=[*sentence.notes, factor])
        yield _words(name, figures)
        yield _uncertainty(name, figures)
        yield _handoffs(name, figures.handoffs)
        yield _grid(name, figures)
        yield _rewrites(name, figures)


def _summary(findings: Findings) -> Table:
    request, by_draft = findings.request, findings.figures
    first = next(iter(by_draft.values()))
    size = f"{first.n_responses} responses, {first.n_tokens} tokens, {first.n_sentences} sentences"
    columns = ["draft", "misaligned %", "token 1", f"token {FACTOR_PLACE}", "<along response", "draft would write %"]
    rows = []
    for name, figures in by_draft.items():
        local = dict(zip(figures.along_sentence.places, figures.along_sentence.share, strict=True))
        places = [_percent(local.get(place, math.nan)) for place in (1, FACTOR_PLACE)]
        along = figures.along_response.direction
        rows.append([name, _share(figures.overall), *places, along, _share(figures.handoffs.expected)])
    method = request.method
    notes = [
        f"{_percent(first.own.value)} % of the tokens are the leader's own top-1. Intervals: 95 %, over responses.",
        f"Draft would write: of all tokens, at n={method.n} p={method.p:g} k={method.k}, "
        "if the text stayed the leader's.",
    ]
    if cut_off := cut_off_of(findings):
        notes.append(f"{cut_off}.")
    return Table(f"{request.leader.path.name} on {request.source_name}: {size}", columns, rows, notes)


def cut_off_of(findings: Findings) -> str | None:
    """How many responses were cut off, and what that means here; None where none was."""
    return cut_off_sentence(findings.cut_off, len(findings.responses), "the figures lack what would have come then")


def _curve(title: str, place: str, curve: Curve) -> Table:
    n_rows = len(curve.places)
    step = max(1, math.ceil(n_rows / _MOST_ROWS)) if place != "token" else 1
    highest = max((share for share in curve.share if math.isfinite(share)), default=0.0) or 1.0
    rows = []
    for i in range(0, n_rows, step):
        estimate = Estimate(curve.share[i], curve.low[i], curve.high[i])
        bar = "#" * round(_BAR * curve.share[i] / highest) if math.isfinite(curve.share[i]) else ""
        rows.append([str(curve.places[i]), _share(estimate), str(curve.n[i]), bar])
    says = (_ALONG_SENTENCE if place == "token" else _ALONG_RESPONSE)[curve.direction]
    notes = [says]
    if math.isfinite(curve.change.value):
        change = with_interval(curve.change, "+.1f", 100)
        notes.append(f"Change from end to end, inside of each: {change} points, p = {curve.p_value:.4f}.")
    if math.isfinite(curve.trend.rho):
        trend = curve.trend
        notes.append(f"The curve's {trend.n_positions} places by rank: rho {trend.rho:+.2f}, p = {trend.p_value:.4f}.")
    if step > 1:
        notes.append(f"One row of {step} is shown; all {n_rows} are in --output.")
    return Table(title, [place, "misaligned %", "positions", "<"], rows, notes)


def _words(name: str, figures: Misalignment) -> Table:
    rows = []
    for word in figures.words:
        drafts = "  ".join(f"{draft} ({n})" for draft, n in word.drafts)
        rows.append([word.word, str(word.n), _percent(word.n / word.n_seen), str(word.n_first), drafts])
    columns = ["leader's word", "misaligned", "% of its uses", "first in sentence", "<draft's word"]
    return Table(f"{name}: the most frequent misaligned words", columns, rows)


def _uncertainty(name: str, figures: Misalignment) -> Table:
    kinds = (figures.aligned, figures.misaligned)
    rows = [
        ["positions", *(str(kind.n) for kind in kinds)],
        ["leader's entropy, nats", *(_number(kind.leader_entropy, ".3f") for kind in kinds)],
        ["draft's entropy, nats", *(_number(kind.draft_entropy, ".3f") for kind in kinds)],
        ["leader's chance of the token written, %", *(_share(kind.leader_chance) for kind in kinds)],
        ["draft's chance of the token written, %", *(_share(kind.draft_chance) for kind in kinds)],
    ]
    return Table(f"{name}: how sure the models are", ["", "where aligned", "where misaligned"], rows)


def _handoffs(name: str, handoffs: Handoffs) -> Table:
    earliest = handoffs.at[0] if handoffs.at else handoffs.n + max(1, handoffs.k)
    rows = []
    for token in (earliest, *(earliest + later for later in _LATER)):
        rows.append([f"by token {token}", _percent(handoffs.handed_by(token))])
    rows.append(["at all", _share(handoffs.handed)])
    rows.append(["never", _percent(1 - handoffs.handed.value)])
    title = f"{name}: led sentences handed over at n={handoffs.n} k={handoffs.k} ({handoffs.n_sentences} sentences)"
    notes = [
        f"The draft would write {_share(handoffs.written)} % of the tokens if all sentences were led, "
        f"{_share(handoffs.expected)} % at p={handoffs.p:g}."
    ]
    return Table(title, ["handed over", "%"], rows, notes)


def _grid(name: str, figures: Misalignment) -> Table:
    columns = ["n", "k", "handed over %", "middle token", "draft writes %, all led", f"%, p={figures.handoffs.p:g}"]
    rows = [
        [
            str(h.n),
            str(h.k),
            _share(h.handed),
            f"{h.median:g}" if h.at else "-",
            _share(h.written),
            _share(h.expected),
        ]
        for h in figures.grid
    ]
    return Table(f"{name}: the gain to expect, by n and k", columns, rows)


def _rewrites(name: str, figures: Misalignment) -> Table:
    columns = ["tau", "tokens refused %", "sentences with one %", "leader's calls a token", "by sentence"]
    rows = [
        [
            f"{r.tau:g}",
            _share(r.refused),
            _share(r.sentences),
            _number(r.calls, ".3f"),
            _number(r.calls_by_sentence, ".3f"),
        ]
        for r in figures.rewrites
    ]
    notes = [
        "Refused: the leader's p(draft's top-1) < tau * max p, along the leader's own text.",
        f"Calls: 1 for {FEWEST_OWN} tokens read ahead, or for those up to the next refused one (--rewrite-hits 0).",
        "By sentence (--proposals 0): 1 review of each sentence, and 1 more for each token refused.",
        "The leader alone takes 1 call for each token.",
    ]
    return Table(f"{name}: what --review ratio would rewrite, by tau", columns, rows, notes)


# ---------------------------------------------------------------- numbers and lines
def _percent(value: float) -> str:
    """Of a column whose name says %."""
    return number(100 * value, ".1f")


def _share(estimate: Estimate) -> str:
    return with_interval(estimate, ".1f", 100, to="-")


def _number(estimate: Estimate, style: str = ".2f") -> str:
    return with_interval(estimate, style, to="-")


def _factor(estimate: Estimate) -> str:
    if math.isinf(estimate.value):
        return f"at least {number(estimate.low, '.1f')} times as often, never misaligned at {FACTOR_PLACE}"
    return f"{_number(estimate)} times as often" if math.isfinite(estimate.value) else CANNOT_TELL
