"""The figures of an analysis: where leader and drafts disagree, how sure they are, and what would be handed over.

Knows the curves of misalignment.py and handoffs.py, by the name of the draft; the style is that of plots.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..statistics import Estimate
from .plots import LINE_COLOURS, LINES, bars, curve, legend_below, look, new_figure, shortened, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..analysis.handoffs import Handoffs
    from ..analysis.misalignment import Curve, Uncertainty


def _estimates(of: Curve) -> list[Estimate]:
    return [Estimate(*each) for each in zip(of.share, of.low, of.high, strict=True)]


@styled
def along_sentence(curves: Mapping[str, Curve]) -> Figure:
    """Misaligned positions by token of the sentence, a line for each draft."""
    figure, (axes,) = new_figure()
    for number, (name, along) in enumerate(curves.items()):
        curve(axes, along.places, _estimates(along), name, number, 100)
    axes.set_ylim(bottom=0)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_xlabel("token of the sentence")
    axes.set_ylabel("misaligned positions, %")
    legend_below(figure, axes)
    return figure


@styled
def along_response(curves: Mapping[str, Curve], width: int) -> Figure:
    """Misaligned positions by bins of `width` tokens along the response."""
    figure, (axes,) = new_figure()
    for number, (name, along) in enumerate(curves.items()):
        curve(axes, [place + (width - 1) / 2 for place in along.places], _estimates(along), name, number, 100)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"token of the response (bins of {width})")
    axes.set_ylabel("misaligned positions, %")
    legend_below(figure, axes)
    return figure


@styled
def entropies(by_draft: Mapping[str, tuple[Uncertainty, Uncertainty]]) -> Figure:
    """Mean entropy of both models where a draft is aligned (first of its pair) and where it is not."""
    figure, (axes,) = new_figure(1.4 + 0.95 * len(by_draft))
    places = []
    for number, (name, kinds) in enumerate(by_draft.items()):
        for row, (kind, word) in enumerate(zip(kinds, ("aligned", "misaligned"), strict=True)):
            places.append((2.7 * number + row, word))
            sides = (("leader", kind.leader_entropy, -0.13), ("draft", kind.draft_entropy, 0.13))
            for role, entropy, shift in sides:
                style = look(role, 0) | {"linestyle": "none", "markersize": 7, "capsize": 3}
                label = f"{role}'s entropy" if number == row == 0 else None
                axes.errorbar([entropy.value], [places[-1][0] + shift], xerr=bars([entropy]), label=label, **style)
        if len(by_draft) > 1:
            axes.text(0.01, 2.7 * number - 0.55, shortened(name, 60), size=9, transform=axes.get_yaxis_transform())
    axes.set_yticks([place for place, _ in places], [word for _, word in places])
    axes.set_ylim(places[-1][0] + 0.5, -1.0)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean entropy, nats")
    legend_below(figure, axes)
    return figure


@styled
def handed_over(by_label: Mapping[str, Handoffs]) -> Figure:
    """The share of led sentences that are with the draft by a token of the sentence, a step line for each."""
    figure, (axes,) = new_figure()
    last = max((token for handoffs in by_label.values() for token in handoffs.at), default=1) + 2
    for number, (name, handoffs) in enumerate(by_label.items()):
        places = [0, *handoffs.at, last]
        shares = [0.0, *(100 * handoffs.handed_by(token) for token in handoffs.at)]
        shares.append(shares[-1])
        line: dict[str, Any] = {
            "color": LINE_COLOURS[number % len(LINE_COLOURS)],
            "linestyle": LINES[number % len(LINES)],
        }
        axes.step(places, shares, where="post", label=name, linewidth=1.6, **line)
    axes.set_xlim(0, last)
    axes.set_ylim(0, 102)
    axes.set_xlabel("token of the sentence")
    axes.set_ylabel("led sentences handed over, %")
    legend_below(figure, axes)
    return figure
