"""What is to run: which models, how, and which of the settings somebody has chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ..config import ModelSettings, Pair, Runtime
from ..method.roles import Role
from ..runtime.gguf_file import ModelFile, model_file
from ..runtime.loaded import ctx_size_of


@dataclass(frozen=True)
class FitRequest:
    """A pair as it is to run; pair, runtime, n_slots, roles and prefix_slot are LoadedPair's."""

    pair: Pair
    runtime: Runtime
    n_slots: int = 1
    roles: tuple[Role, ...] = tuple(Role)
    prefix_slot: bool = False

    @cached_property
    def ctx_size(self) -> int:
        """Tokens of each sequence's context."""
        return ctx_size_of(self.pair, self.runtime)

    @cached_property
    def files(self) -> dict[Role, ModelFile]:
        """Of the roles that are loaded."""
        return {role: model_file(self.pair.of(role).path) for role in self.roles}

    @property
    def gives_context(self) -> bool:
        """Whether somebody chose the context; else a smaller one may be taken."""
        return self.runtime.ctx_size is not None

    @property
    def gives_types(self) -> bool:
        """Whether somebody chose how the caches are stored, or what goes with only some types."""
        runtime = self.runtime
        return (runtime.kv_type_k, runtime.kv_type_v) != ("auto", "auto") or runtime.flash_attention == "off"

    def gives_layers(self, role: Role) -> bool:
        """Whether somebody chose how many layers of a role are on the GPU."""
        return self.pair.of(role).gpu_layers != -1

    def with_layers(self, layers: dict[Role, int]) -> FitRequest:
        """The same with so many layers of each role on the GPU."""
        pair, models = self.pair, {}
        for role in Role:
            model = pair.of(role)
            models[role] = ModelSettings(model.path, layers.get(role, model.gpu_layers))
        return replace(self, pair=Pair(models[Role.LEADER], models[Role.DRAFT], pair.name))

    def with_runtime(self, **changes: object) -> FitRequest:
        """The same with other settings."""
        return replace(self, runtime=replace(self.runtime, **changes)) if changes else self  # type: ignore[arg-type]
