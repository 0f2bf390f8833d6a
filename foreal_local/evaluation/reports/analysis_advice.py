"""What to do with the figures of an analysis, in a sentence for each draft. Knows figures, no models and no screen."""

from __future__ import annotations

from ..analysis.analysis import Findings
from ..analysis.misalignment import Misalignment

_FEW = 0.2  # a share of the tokens below which a draft's part is not worth its memory


def advice_of(findings: Findings) -> list[str]:
    """A sentence for each draft."""
    return [f"{name}: {_advice(figures)}" for name, figures in findings.figures.items()]


def _advice(figures: Misalignment) -> str:
    handoffs, direction = figures.handoffs, figures.along_sentence.direction
    share = f"would write about {handoffs.expected.value:.0%} of the tokens"
    if figures.overall.value == 0:
        return f"it agrees everywhere, and {share}: take it if it is the faster model, which foreal bench measures"
    if direction == "unknown":
        return (
            f"{figures.n_responses} responses are too few, or too short, to tell whether it recovers along a sentence: "
            "analyse more of them (--limit), or longer ones"
        )
    if direction != "falls":
        return (
            "it disagrees as often late in a sentence as at its start, so a leader's beginning helps it little: try a "
            "draft nearer to the leader, or --review, by which the leader takes back what it finds improbable"
        )
    if not handoffs.expected.value >= _FEW:
        return f"it recovers along a sentence, but {share}: try a smaller n or k, or a draft nearer to the leader"
    return f"it recovers along a sentence, and {share}: measure accuracy and time of the pair with foreal bench"
