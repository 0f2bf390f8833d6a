"""A gate and a mode that the package does not have, made as its users would make them: a class, a flow, two rows."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from foreal_local.config import Method
from foreal_local.method.flows import OPEN_SENTENCE, Flow, write
from foreal_local.method.gates import GATES, SentenceStart
from foreal_local.method.modes import BOTH, MODES, Mode
from foreal_local.method.requests import Judge, TakeBack
from foreal_local.method.roles import Role


@dataclass(frozen=True)
class EntropyGate:
    """The leader leads where the draft does not know how to begin: its entropy is at least `least` nats."""

    least: float
    role: Role = Role.DRAFT

    def opens(self, start: SentenceStart) -> bool:
        assert start.opinion is not None
        return start.opinion.entropy(20) >= self.least


def proofread(method: Method) -> Flow:
    """The draft writes; the leader looks at every n-th token, and writes its own where it had another top-1."""
    while True:
        yield OPEN_SENTENCE
        ended, n = False, 0
        while not ended:
            ended = yield from write(Role.DRAFT)
            n += 1
            if ended or n % max(1, method.n):
                continue
            hits = yield Judge(Role.LEADER, 1)
            assert isinstance(hits, tuple)
            if not hits[-1]:
                yield TakeBack(1, "the leader had another token")
                ended = yield from write(Role.LEADER)


PROOFREAD = Mode("proofread", BOTH, proofread, gate="never", settings=("n",),
                 axes=("n",), rewrites=lambda method: True)  # fmt: skip


def install(patch: pytest.MonkeyPatch) -> None:
    """Put both into the tables, for as long as the patch lasts."""
    patch.setitem(GATES, "entropy-test", lambda method: EntropyGate(method.p))
    patch.setitem(GATES, "leader-test", lambda method: EntropyGate(method.p, Role.LEADER))
    patch.setitem(MODES, "proofread", PROOFREAD)
