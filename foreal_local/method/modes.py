"""The table of modes: one row for each way to write a response.

To add a mode, write its flow in flows.py and give it a row here; everything that lists, checks, describes or varies
modes reads this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import flows
from .flows import Flow
from .gates import GATES, Gate
from .roles import Role

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
    axes: those of them that a benchmark's tables always name
    rewrites: its flow may take back tokens of the open sentence, so these are not shown before the sentence has ended
    """

    name: str
    roles: tuple[Role, ...]
    flow: Callable[[Method], Flow]
    gate: str | None = None
    settings: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    rewrites: bool = False

    @property
    def hands_over(self) -> bool:
        """Whether the leader begins sentences that the draft may finish."""
        return "k" in self.settings

    @property
    def speculates(self) -> bool:
        """Whether tokens are proposed and verified, so that more is evaluated than written and checked."""
        return "proposals" in self.settings


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(  # both, by FoReaL-Decoding
            "foreal",
            BOTH,
            flows.foreal,
            settings=("n", "p", "k", "gate", "hits_from", "compare"),
            axes=("n", "p", "k"),
        ),
        Mode("leader", (Role.LEADER,), lambda method: flows.alone(Role.LEADER), gate="always"),
        Mode("draft", (Role.DRAFT,), lambda method: flows.alone(Role.DRAFT), gate="never"),
        Mode(  # the draft, its led sentences begun with a fixed cue
            "cue",
            (Role.DRAFT,),
            lambda method: flows.cued(),
            settings=("cue", "p", "gate"),
            axes=("p",),
        ),
        Mode(  # the leader's own tokens, proposed by the draft
            "speculative",
            BOTH,
            lambda method: flows.speculative(method.proposals),
            gate="always",
            settings=("proposals",),
            axes=("proposals",),
        ),
    )
}
"""The modes by name. The first is the default."""


def flow_of(settings: Generation) -> Flow:
    """A new flow for a response; it never returns, the scheduler closes it when the response ends."""
    return MODES[settings.mode].flow(settings.method)


def gate_of(settings: Generation) -> Gate:
    """The mode's own gate, or the one that the settings name."""
    return GATES[MODES[settings.mode].gate or settings.method.gate](settings.method)


def roles_of(mode: str) -> list[Role]:
    """The models that a mode needs."""
    return list(MODES[mode].roles)
