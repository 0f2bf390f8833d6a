"""The contexts of models: how many lanes, slots and threads they have. The same for models that are simulated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..config import Pair, Runtime
from ..errors import UsageError
from ..method.roles import Role
from . import llama
from .gguf_file import model_file
from .hardware import plan_slots, threads_each, usable_cores
from .remote.context import RemoteContext
from .remote.weights import RemoteWeights

AnyWeights = llama.Weights | RemoteWeights
AnyContext = llama.Context | RemoteContext
Lanes = list[dict[Role, AnyContext]]


@dataclass(frozen=True)
class Opening:
    """What contexts are made of.

    weights: of each role that is loaded
    runtime: how the models run
    n_slots: sequences at a time, all lanes together
    ctx_size: tokens of each
    prefix_slot: one more slot in each lane, for a prefix that many sequences share
    """

    weights: Mapping[Role, AnyWeights]
    runtime: Runtime
    n_slots: int
    ctx_size: int
    prefix_slot: bool = False

    @cached_property
    def threads(self) -> int:
        """That evaluate, all lanes together."""
        return self.runtime.threads or usable_cores()

    @cached_property
    def n_bytes(self) -> int:
        """Of the models' files; one that has both roles counts once."""
        return sum(weights.n_bytes for weights in set(self.weights.values()))

    @cached_property
    def _elsewhere(self) -> bool:
        """Whether some of it is computed by other devices than this machine's processor."""
        return llama.supports_gpu_offload() or any(weights.has_workers for weights in self.weights.values())

    def threads_each(self, n_busy: int) -> int:
        """Threads of each of so many lanes that evaluate."""
        return threads_each(self.runtime, self.threads, n_busy, self.n_bytes, self._elsewhere)

    def open(self, lanes: Lanes, abort: llama.Abort, roles: Iterable[Role] = tuple(Role)) -> None:
        """Add all lanes with these roles' contexts; where that fails, those that were made are in `lanes`."""
        slots = plan_slots(self.runtime, self.n_slots, self.threads, self.n_bytes, self._elsewhere)
        for n_slots in slots:
            lane: dict[Role, AnyContext] = {}
            lanes.append(lane)
            for role in (role for role in roles if role in self.weights):
                lane[role] = self._context(self.weights[role], n_slots, len(slots), abort)

    def _context(self, weights: AnyWeights, n_slots: int, n_lanes: int, abort: llama.Abort) -> AnyContext:
        threads, several = self.threads_each(n_lanes), n_lanes > 1
        if isinstance(weights, RemoteWeights):
            how = (n_slots, self.ctx_size, threads, self.runtime, self.prefix_slot, several)
            return RemoteContext(weights, *weights.open_context(*how))
        return llama.open_context(
            weights,
            n_slots,
            self.ctx_size,
            threads,
            self.runtime,
            abort,
            prefix_slot=self.prefix_slot,
            separate_caches=several,
        )


def require_slots(
    pair: Pair, runtime: Runtime, n_slots: int, roles: Iterable[Role] = tuple(Role), prefix_slot: bool = False
) -> None:
    """UsageError where a context would have more sequences than llama.cpp takes; no model is loaded for that."""
    most = llama.most_sequences() - prefix_slot
    if n_slots <= most:
        return
    models = {(model.path.resolve(), model.gpu_layers) for model in map(pair.of, roles)}
    n_bytes = sum(model_file(path).n_bytes for path, _ in models)
    threads = runtime.threads or usable_cores()
    elsewhere = llama.supports_gpu_offload() or bool(runtime.leader_rpc or runtime.draft_rpc)
    n_lanes = len(plan_slots(runtime, n_slots, threads, n_bytes, elsewhere))
    if n_slots <= n_lanes * most:
        return
    why = f"llama.cpp takes {llama.most_sequences()} sequences in a context"
    why += ", one of them for what all prompts begin with" if prefix_slot else ""
    why += f", and these models have {n_lanes} contexts" if n_lanes > 1 else ""
    raise UsageError(f"{n_slots} prompts at a time are too many: {why}; --parallel may be {n_lanes * most} at most")
