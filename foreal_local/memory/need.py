"""What two models take: weights, caches and buffers, in the computer's memory and in that of GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..method.roles import Role
from ..runtime.gguf_check import size_of
from ..runtime.gguf_file import ModelFile
from ..runtime.llama import Device
from ..runtime.llama.placing import MAPPED

Sizes = Mapping[str, int]
"""Bytes by llama.cpp's name of the type of buffer."""
_BESIDE = 0.1
"""Share of a model's compute buffers that stays with the computer where all its layers are on a GPU."""


@dataclass(frozen=True)
class RoleNeed:
    """One role's.

    weights, cache, compute, outputs: as llama.cpp logs them
    logits: bytes that the outputs may grow to
    mapped_read: bytes of the mapped weights that are read
    """

    weights: Sizes = field(default_factory=dict)
    cache: Sizes = field(default_factory=dict)
    compute: Sizes = field(default_factory=dict)
    outputs: Sizes = field(default_factory=dict)
    logits: int = 0
    mapped_read: int = 0

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> RoleNeed:
        """From what a simulation answers."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})

    @property
    def parts(self) -> dict[str, Sizes]:
        """By what it is for."""
        return {"weights": self.weights, "cache": self.cache, "compute": self.compute, "outputs": self.outputs}

    def on(self, device: Device) -> int:
        """Bytes of the device's memory."""
        return sum(n for sizes in self.parts.values() for kind, n in sizes.items() if device.holds(kind))

    def in_computer(self, part: str, devices: Iterable[Device]) -> int:
        """Bytes of a part that are in the computer's memory, as llama.cpp logs them."""
        devices = list(devices)
        return sum(n for kind, n in self.parts[part].items() if not any(device.holds(kind) for device in devices))


@dataclass(frozen=True)
class Need:
    """Both roles'."""

    roles: Mapping[Role, RoleNeed]

    def on(self, device: Device) -> int:
        """Bytes of the device's memory."""
        return sum(need.on(device) for need in self.roles.values())

    def taken(self, devices: Iterable[Device]) -> int:
        """Bytes of the computer's memory that nothing else can have meanwhile: all but weights that stay in files."""
        devices = list(devices)
        total = sum(self.on(device) for device in devices if device.shares_memory)
        for need in self.roles.values():
            total += sum(need.in_computer(part, devices) for part in need.parts)
            total -= need.weights.get(MAPPED, 0)
            total += max(0, need.logits - sum(need.outputs.values()))
        return total

    @property
    def mapped(self) -> int:
        """Bytes of weights that are read from files, and stay in memory where there is room for them."""
        return sum(need.mapped_read for need in self.roles.values())


def spread(need: RoleNeed, model: ModelFile, gpu_layers: int, device: Device) -> RoleNeed:
    """What is needed, about, with so many layers on a device, from what is needed without one.

    For planning: llama.cpp tells what it really takes, where there is that device.
    gpu_layers: -1 for all; the output counts as one more, and is the first to go there
    """
    if gpu_layers == 0:
        return need
    n_layers = model.first.n_layers
    n_moved = n_layers if gpu_layers < 0 else min(n_layers, gpu_layers - 1)
    sizes = {name: size_of(tensor) or 0 for name, tensor in model.tensors.items()}
    moved = sum(sizes.get(name, 0) for name in ("output.weight", "output_norm.weight"))
    moved += 0 if "output.weight" in sizes else sizes.get("token_embd.weight", 0)
    copied = 0 if "output.weight" in sizes else sizes.get("token_embd.weight", 0)
    first = tuple(f"blk.{i}." for i in range(n_layers - n_moved, n_layers))
    moved += sum(n for name, n in sizes.items() if name.startswith(first)) if first else 0
    share = n_moved / n_layers if n_layers else 0.0
    repacked = {kind: round(n * (1 - share)) for kind, n in need.weights.items() if kind != MAPPED}
    left = max(0, need.weights.get(MAPPED, 0) - moved + copied)
    stays = 1.0 if n_moved < n_layers else _BESIDE
    total = sum(need.compute.values())
    return replace(
        need,
        weights={**repacked, MAPPED: left, device.name: moved},
        mapped_read=min(left, need.mapped_read),
        cache={**_scaled(need.cache, 1 - share), device.name: round(sum(need.cache.values()) * share)},
        compute={**_scaled(need.compute, stays), device.name: total},
    )


def _scaled(sizes: Sizes, factor: float) -> dict[str, int]:
    return {kind: round(n * factor) for kind, n in sizes.items()}
