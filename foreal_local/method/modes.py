"""The table of modes: one row for each way to write a response.

To add a mode, write its flow in flows.py and give it a row here; everything that lists, checks, describes or varies
modes reads this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import flows
from .flows import Flow
from .gates import GATES, Gate
from .roles import Role
from .rules import OFF

if TYPE_CHECKING:
    from ..config import Generation, Method

BOTH = (Role.LEADER, Role.DRAFT)


@dataclass(frozen=True)
class Mode:
    """One row.

    name: as users write it
    roles: the models that it needs
    flow: makes the flow of one response from the method's settings
    gate: the gate that it always has, by name; None: the one that the settings name
    settings: the method's settings that it has, in the order of descriptions (what all modes have is left out)
    axes: those of them that a benchmark's tables always name, where they mean something (axes_of)
    of_speed: those of them that change how fast a response is written, but not the response (up to rounding), each with
        the value that hashes have for all its values; None: they leave it out
    rewrites: whether its flow, with these settings, may take back tokens; they are shown once they stand
    """

    name: str
    roles: tuple[Role, ...]
    flow: Callable[[Method], Flow]
    gate: str | None = None
    settings: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    of_speed: Mapping[str, Any] = field(default_factory=dict)
    rewrites: Callable[[Method], bool] = lambda method: False

    @property
    def hands_over(self) -> bool:
        """Whether the leader begins sentences that the draft may finish."""
        return "k" in self.settings

    @property
    def speculates(self) -> bool:
        """Whether tokens are proposed and verified, so that more is evaluated than written and checked."""
        return "proposals" in self.settings


_REVIEW = (
    "review", "tau", "fly_theta", "fly_window", "typical_eps", "typical_delta",
    "review_every", "rewrite_n", "rewrite_k",
)  # fmt: skip

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(  # both, by FoReaL-Decoding
            "foreal",
            BOTH,
            flows.foreal,
            settings=(
                "n",
                "p",
                "k",
                "gate",
                "gate_entropy",
                "lead_share",
                "hits_from",
                "compare",
                "call_back",
                *_REVIEW,
                "proposals",
            ),
            axes=("n", "p", "k"),
            of_speed={"proposals": None},
            rewrites=lambda method: method.review != OFF,
        ),
        Mode("leader", (Role.LEADER,), lambda method: flows.alone(Role.LEADER), gate="always"),
        Mode("draft", (Role.DRAFT,), lambda method: flows.alone(Role.DRAFT), gate="never"),
        Mode(  # the draft, its led sentences begun with a fixed cue
            "cue",
            (Role.DRAFT,),
            lambda method: flows.cued(),
            settings=("cue", "p", "gate", "gate_entropy", "lead_share"),
            axes=("p",),
        ),
        Mode(  # the leader's own tokens, proposed by the draft
            "speculative",
            BOTH,
            flows.speculative,
            gate="always",
            settings=("proposals",),
            axes=("proposals",),
            of_speed={"proposals": 5},
        ),
        Mode(  # the leader's own tokens, proposed by the draft where that pays here
            "auto",
            BOTH,
            flows.speculative,
            gate="always",
            settings=("proposals",),
            of_speed={"proposals": None},
        ),
    )
}
"""The modes by name. The first is the default."""


def axes_of(mode: str, method: Method) -> list[str]:
    """Those of the mode's axes that mean something with these settings: not all gates need n, p and k."""
    if MODES[mode].gate is not None:
        return list(MODES[mode].axes)
    idle = {"never": {"n", "p"}, "always": {"p"}, "entropy": {"p"}}.get(method.gate, set())
    if method.gate == "never" and method.call_back is None:
        idle = idle | {"k"}
    return [name for name in MODES[mode].axes if name not in idle]


def flow_of(settings: Generation) -> Flow:
    """A new flow for a response; it never returns, the scheduler closes it when the response ends."""
    return MODES[settings.mode].flow(settings.method)


def gate_of(settings: Generation) -> Gate:
    """The mode's own gate, or the one that the settings name."""
    return GATES[MODES[settings.mode].gate or settings.method.gate](settings.method)


def roles_of(mode: str) -> list[Role]:
    """The models that a mode needs."""
    return list(MODES[mode].roles)
