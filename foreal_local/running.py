"""How the models of a pair run: contexts, threads, caches. Settings as in config.py, whose table has them, too."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError
from .settings import check_all, setting

FLASH_ATTENTION = ("auto", "on", "off")
KV_TYPES = ("auto", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_MAX_CTX_SIZE = 2**24
OF_WORKERS = ("leader_rpc", "draft_rpc", "rpc_timeout", "allow_public")
"""Settings of models that lie on several machines."""


@dataclass(frozen=True)
class Runtime:
    """How the models run.

    ctx_size: tokens of each sequence's context; None: what both models were trained for, at most 8192
    threads: None: one per core that this process may use
    lanes: how many contexts evaluate at the same time, each with its share of the threads and of the sequences; None:
        one, but for models so small that a batch gains nothing, as many as threads
    batch_size: most tokens of one evaluation
    flash_attention: "auto": where it is known to be faster
    kv_type_k, kv_type_v: element types of the KV cache
    rollback: how many tokens a recurrent memory can take back at once, where its architecture can; each costs one
        more state per sequence
    leader_rpc, draft_rpc: the workers (foreal rpc-worker) that a role's layers lie on: HOST:PORT, several with commas;
        None: it is all here
    rpc_timeout: seconds without a sign of life after which a role with workers is given up
    allow_public: workers may have addresses that the whole internet can reach
    verbose: llama.cpp's own log on stderr
    """

    ctx_size: int | None = setting(
        None, "Context per sequence.  [default: the models', up to 8192]", "--ctx-size", kind=int, short="-c",
        metavar="N", low=2, high=_MAX_CTX_SIZE, optional=True,
    )  # fmt: skip
    threads: int | None = setting(
        None, "Threads.  [default: one per core]", "--threads", kind=int, short="-t", metavar="N", low=1, high=512,
        note="llama.cpp's limit", optional=True,
    )  # fmt: skip
    lanes: int | None = setting(
        None, "Evaluate in N contexts at a time.  [default: 1; small models: threads]", "--lanes", kind=int,
        metavar="N", low=1, optional=True,
    )  # fmt: skip
    batch_size: int = setting(
        512, "Most tokens per evaluation.", "--batch-size", kind=int, metavar="N", low=1, high=65536
    )
    flash_attention: str = setting("auto", "Flash attention.", "--flash-attn", choices=lambda: FLASH_ATTENTION)
    kv_type_k: str = setting("auto", "Type of the K cache.", "--cache-type-k", choices=lambda: KV_TYPES)
    kv_type_v: str = setting("auto", "Type of the V cache.", "--cache-type-v", choices=lambda: KV_TYPES)
    rollback: int = setting(
        0, "Tokens that a recurrent memory can take back at once.", "--rollback", kind=int, metavar="N", low=0, high=64
    )
    leader_rpc: str | None = setting(
        None, "Workers that the leader's layers lie on (foreal rpc-worker).", "--leader-rpc", metavar="HOST:PORT,...",
        optional=True,
    )  # fmt: skip
    draft_rpc: str | None = setting(
        None, "The same for the draft.", "--draft-rpc", metavar="HOST:PORT,...", optional=True
    )
    rpc_timeout: float = setting(
        300.0, "Seconds that a role with workers may be silent.", "--rpc-timeout", kind=float, metavar="S", above=0
    )
    allow_public: bool = setting(
        False, "Workers at public addresses: anybody may read and change what is sent.", "--allow-public", kind=bool
    )
    verbose: bool = setting(False, "llama.cpp's own log on stderr.", "--verbose", kind=bool, short="-v")

    MAX_DEFAULT_CTX_SIZE = 8192

    def workers(self, role: str) -> str | None:
        """Those of a role, as they were given; None: it has none."""
        return self.leader_rpc if role == "leader" else self.draft_rpc

    def __post_init__(self) -> None:
        check_all(self)
        quantised = self.kv_type_v not in ("auto", "f32", "f16", "bf16")
        if quantised and self.flash_attention == "off":
            wanted = "auto, f32, f16 or bf16 without flash attention"
            raise UsageError(f"kv_type_v is {self.kv_type_v!r}, but must be {wanted}", "kv_type_v")
