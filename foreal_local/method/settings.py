"""The settings of the method; their defaults, ranges and options are written here alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import check_all, setting
from .gates import GATES
from .rules import OFF, RULES
from .sentences import BOUNDARIES, Boundaries

HitsFrom = Literal["lead", "sentence"]
Compare = Literal["top1", "sampled"]
HITS_FROM: tuple[HitsFrom, ...] = ("lead", "sentence")
COMPARE: tuple[Compare, ...] = ("top1", "sampled")


@dataclass(frozen=True)
class Method:
    """The settings of FoReaL-Decoding (arXiv 2506.06998); n, p and k default to the paper's.

    n: the leader writes more than n tokens of a sentence that it leads
    p: the chance that it leads one
    k: hits in a row before the draft takes over
    hits_from: hits are counted after the first n tokens ("lead") or from the sentence's start
    boundaries: what ends a sentence
    compare: what is held against the draft's top-1, the leader's top-1 or the token that it wrote ("sampled")
    cue: what begins a led sentence in mode cue
    proposals: tokens that the draft proposes at a time where the leader writes; 0: none; None: as many as pay
    gate: what decides who leads a sentence (gates.py)
    gate_entropy: nats from which on the entropy gate lets the leader lead
    lead_share: share of sentences that the entropy gate lets the leader lead, learned while a response is written;
        None: gate_entropy stands
    call_back: nats above which the draft hands a sentence back to the leader; None: never
    review: which of the draft's tokens the leader accepts (rules.py); off: it is not asked
    tau: of rule ratio
    fly_theta, fly_window: of rule fly
    typical_eps, typical_delta: of rule typical
    review_every: most tokens of a sentence that are written before they are reviewed
    rewrite_n, rewrite_k: n and k of the leader's part after it has rewritten a token
    """

    n: int = setting(
        15, "The leader's first tokens of a sentence.", "--lead-tokens", kind=int, short="-n", low=0,
        label="n (lead tokens)",
    )  # fmt: skip
    p: float = setting(
        0.6, "Chance that the leader leads a sentence.", "--lead-prob", kind=float, short="-p", low=0, high=1,
        label="p (lead probability)",
    )  # fmt: skip
    k: int = setting(
        5, "Hits in a row before the draft takes over.", "--hits", kind=int, short="-k", low=0, label="k (hits)"
    )
    hits_from: HitsFrom = setting(
        "lead", "Count hits after n tokens (lead) or from the start.", "--hits-from", choices=lambda: HITS_FROM
    )
    boundaries: Boundaries = setting("robust", "What ends a sentence.", "--boundaries", choices=lambda: BOUNDARIES)
    compare: Compare = setting(
        "top1", "What of the leader's is held against the draft's top-1.", "--compare", choices=lambda: COMPARE
    )
    cue: str = setting("Wait,", "Begins the led sentences of --mode cue.", "--cue", metavar="TEXT", of_modes=True)
    proposals: int | None = setting(
        None, "Proposed to the leader at a time.  [default: as many as pay]", "--proposals", kind=int, metavar="N",
        low=0, high=64, optional=True, of_modes=True,
    )  # fmt: skip
    gate: str = setting(
        "random", "Whether the leader leads: by chance (-p), by the draft's entropy, always, never.", "--gate",
        choices=GATES.keys, was="random", of_modes=True,
    )  # fmt: skip
    gate_entropy: float = setting(
        1.0, "Entropy in nats at which --gate entropy leads.", "--gate-entropy", kind=float, metavar="NATS", low=0,
        was=1.0, of_modes=True, needs=("gate", ("entropy",)),
    )  # fmt: skip
    lead_share: float | None = setting(
        None, "Share of sentences that --gate entropy leads, learned.", "--lead-share", kind=float, metavar="SHARE",
        low=0, high=1, optional=True, was=None, of_modes=True, needs=("gate", ("entropy",)),
    )  # fmt: skip
    call_back: float | None = setting(
        None, "The leader goes on where the draft's entropy is above.", "--call-back", kind=float, metavar="NATS",
        low=0, optional=True, was=None, of_modes=True,
    )  # fmt: skip
    review: str = setting(
        OFF, "Which of the draft's tokens the leader lets stand; off: all.", "--review",
        choices=lambda: [OFF, *RULES], was=OFF, of_modes=True,
    )  # fmt: skip
    tau: float = setting(
        0.1, "--review ratio: least chance against the leader's best.", "--tau", kind=float, low=0, high=1,
        was=0.1, of_modes=True, needs=("review", ("ratio",)),
    )  # fmt: skip
    fly_theta: float = setting(
        0.3, "--review fly: least entropy of the leader's top 3, nats.", "--fly-theta", kind=float, metavar="NATS",
        low=0, was=0.3, of_modes=True, needs=("review", ("fly",)),
    )  # fmt: skip
    fly_window: int = setting(
        6, "--review fly: tokens after it that must be the leader's own.", "--fly-window", kind=int, metavar="N", low=0,
        was=6, of_modes=True, needs=("review", ("fly",)),
    )  # fmt: skip
    typical_eps: float = setting(
        0.09, "--review typical: eps.", "--typical-eps", kind=float, low=0, high=1, was=0.09, of_modes=True,
        needs=("review", ("typical",)),
    )  # fmt: skip
    typical_delta: float = setting(
        0.3, "--review typical: delta.", "--typical-delta", kind=float, low=0, was=0.3, of_modes=True,
        needs=("review", ("typical",)),
    )  # fmt: skip
    review_every: int = setting(
        64, "Most tokens of a sentence before they are reviewed.", "--review-every", kind=int, metavar="N", low=1,
        was=64, of_modes=True, needs=("review", tuple(RULES)),
    )  # fmt: skip
    rewrite_n: int = setting(
        0, "n of the leader's part after a rewritten token.", "--rewrite-tokens", kind=int, metavar="N", low=0,
        was=0, of_modes=True, needs=("review", tuple(RULES)),
    )  # fmt: skip
    rewrite_k: int = setting(
        2, "k of the leader's part after a rewritten token.", "--rewrite-hits", kind=int, metavar="N", low=0,
        was=2, of_modes=True, needs=("review", tuple(RULES)),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_all(self)
