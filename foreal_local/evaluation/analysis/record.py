"""What foreal analyze --output writes: the figures, and what of each position they follow from, as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ... import __version__
from ...runtime.gguf_file import fingerprint
from .analysis import Findings
from .judging import LeaderReading
from .misalignment import N_DRAWS, plain

ANALYSIS_VERSION = 1


def record_of(findings: Findings, options: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for plots and for other programs; flags and relative probabilities are in the responses' order.

    options: settings that stand in the record as they were given, beside those of method and prompting
    """
    request = findings.request
    settings = asdict(request.method) | dict(options) | asdict(request.prompting)
    settings |= {"source": request.source_name, "n_draws": N_DRAWS}
    leader = {"name": request.leader.path.name, "fingerprint": fingerprint(request.leader.path)}
    drafts = [
        {"name": name, "fingerprint": fingerprint(request.drafts[name].path)}
        | figures.as_dict()
        | {"flags": [_flags(judgement.aligned.tolist()) for judgement in findings.judgements[name]]}
        | {"relative": plain([judgement.relative.tolist() for judgement in findings.judgements[name]])}
        for name, figures in findings.figures.items()
    ]
    responses = [
        {"id": r.id, "n_tokens": len(r.tokens), "finish_reason": r.finish_reason, "sentences": _lengths(reading)}
        for r, reading in zip(findings.responses, findings.readings, strict=True)
    ]
    record = {"type": "analysis", "version": ANALYSIS_VERSION, "foreal_local": __version__, "settings": settings}
    record |= {"n_failed": findings.n_failed, "cut_off": findings.cut_off}
    record |= {"seconds": plain(findings.seconds), "leader": leader}
    return record | {"drafts": drafts, "responses": responses}


def _flags(aligned: list[bool]) -> str:
    """A character for each position: 1 where draft and leader are aligned."""
    return "".join("01"[flag] for flag in aligned)


def _lengths(reading: LeaderReading) -> list[int]:
    """Tokens of each sentence."""
    return [n for _, n in sorted(Counter(reading.sentences).items())]
