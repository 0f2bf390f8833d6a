"""Which changes make a pair fit, on machines and for models that are made up: above all GPUs, which may not be here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from real.tiny_gguf import write_llama

from foreal_local.config import ModelSettings, Pair, Runtime
from foreal_local.errors import NotEnoughMemoryError
from foreal_local.memory.fit import Fitted, fit, plainly_fits
from foreal_local.memory.machine import Machine, Memory
from foreal_local.memory.need import Need, RoleNeed, spread
from foreal_local.memory.request import FitRequest
from foreal_local.method.roles import Role
from foreal_local.runtime.gguf_file import model_file
from foreal_local.runtime.llama import Device
from foreal_local.runtime.llama.placing import MAPPED

MB = 10**6
N_LAYERS = 10
LEADER, DRAFT = Role.LEADER, Role.DRAFT


@dataclasses.dataclass
class Model:
    """Megabytes of a made-up model: of each layer, of the output, of the cache for 1024 tokens, of compute buffers."""

    layer: float
    output: float
    cache: float
    compute: float


class FakeSimulator:
    """llama.cpp on a machine with these GPUs. It takes a little more than headers say, as the real one does.

    asked: the layers of both roles that it was asked about
    """

    def __init__(self, models: dict[Role, Model], devices: Iterable[Device] = (), extra: float = 1.0) -> None:
        self._models, self._devices, self._extra = models, list(devices), extra
        self.asked: list[tuple[int, int]] = []

    def need(self, pair: Pair, runtime: Runtime, *, ctx_size: int, roles: Iterable[Role], **_: Any) -> Need | None:
        self.asked.append((pair.leader.gpu_layers, pair.draft.gpu_layers))
        return Need({role: self._role(self._models[role], pair.of(role), runtime, ctx_size) for role in roles})

    def _role(self, model: Model, settings: ModelSettings, runtime: Runtime, ctx_size: int) -> RoleNeed:
        n = N_LAYERS + 1 if settings.gpu_layers < 0 else min(settings.gpu_layers, N_LAYERS + 1)
        n = n if self._devices else 0
        cache = model.cache * ctx_size / 1024 * (0.5 if runtime.kv_type_k == "q8_0" else 1)
        there, share = max(0, n - 1), max(0, n - 1) / N_LAYERS
        weights = {MAPPED: (N_LAYERS - there) * model.layer + (0 if n else model.output)}
        caches, compute = {"CPU": cache * (1 - share)}, {"CPU": model.compute}
        for device in self._devices:
            part = device.free / sum(each.free for each in self._devices)
            weights[device.name] = self._extra * part * (there * model.layer + (model.output if n else 0))
            caches[device.name] = part * cache * share
            compute[device.name] = part * model.compute if n else 0.0
        sizes = [{name: round(each * MB) for name, each in part.items()} for part in (weights, caches, compute)]
        return RoleNeed(*sizes, {"CPU": 0}, 0, sizes[0][MAPPED])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, Path]:
    """Headers of the shape of the made-up models: 10 layers and an output each, tiny."""
    folder = tmp_path_factory.mktemp("fit")
    return {
        role: write_llama(folder / f"{role}.gguf", seed=1, n_layers=N_LAYERS, n_context=8192, width=64) for role in Role
    }


BIG = {LEADER: Model(400, 300, 100, 200), DRAFT: Model(40, 60, 20, 50)}
"""A leader of 4.3 GB and a draft of 0.46 GB; caches of 0.8 GB and 0.16 GB at 8192 tokens."""


def gpu(free: float, total: float = 24_000, name: str = "CUDA0", shares: bool = False) -> Device:
    return Device(name, "a GPU", round(total * MB), round(free * MB), shares)


def fitted(
    files: dict[Role, Path], *devices: Device, free: float = 64_000, layers: tuple[int, int] = (-1, -1),
    runtime: Runtime | None = None, simulator: FakeSimulator | None = None, swap: float = 0,
) -> Fitted:  # fmt: skip
    pair = Pair(*(ModelSettings(files[role], n) for role, n in zip(Role, layers, strict=True)))
    machine = Machine(Memory(10**12, round(free * MB), round(swap * MB)), devices)
    simulator = simulator or FakeSimulator(BIG, devices)
    return fit(FitRequest(pair, runtime or Runtime()), machine, simulator, thorough=True)  # type: ignore[arg-type]


def layers_of(found: Fitted) -> tuple[int, int]:
    return found.request.pair.leader.gpu_layers, found.request.pair.draft.gpu_layers


def test_a_gpu_with_room_changes_nothing(files: dict[Role, Path]) -> None:
    found = fitted(files, gpu(7000))
    assert (layers_of(found), found.notes) == ((-1, -1), [])


def test_a_smaller_context_keeps_all_layers_on_the_gpu(files: dict[Role, Path]) -> None:
    found = fitted(files, gpu(6050))
    assert (layers_of(found), found.request.ctx_size) == ((-1, -1), 4096)
    assert "the context is 4096 tokens instead of 8192" in found.changed


def test_small_caches_come_before_layers(files: dict[Role, Path]) -> None:
    found = fitted(files, gpu(5850))
    assert (layers_of(found), found.request.runtime.kv_type_k) == ((-1, -1), "q8_0")


def test_the_leaders_layers_come_first(files: dict[Role, Path]) -> None:
    """Guards layers that have no room, or leave room unused."""
    counts = []
    for free in (5300, 4000, 2000, 1300):
        device = gpu(free)
        simulator = FakeSimulator(BIG, [device], extra=1.05)
        found = fitted(files, device, simulator=simulator)
        leader, draft = layers_of(found)
        assert found.need is not None
        assert found.need.on(device) <= device.free - 512 * 2**20
        assert found.need.on(device) >= device.free - 512 * 2**20 - 1000 * MB
        assert f"{leader} of 11 layers of the leader are on the GPU" in found.changed
        assert len(simulator.asked) < 20
        counts.append((leader, draft))
    assert counts == sorted(counts, reverse=True)
    assert counts[0][0] >= 8


def test_a_full_gpu_leaves_the_context_as_it_is(files: dict[Role, Path]) -> None:
    found = fitted(files, gpu(50))
    assert (layers_of(found), found.request.ctx_size) == ((0, 0), 8192)
    assert "the leader is on the CPU, the draft is on the CPU" in found.changed


def test_layers_that_were_given_stay(files: dict[Role, Path]) -> None:
    found = fitted(files, gpu(2500), layers=(3, -1))
    assert layers_of(found)[0] == 3
    with pytest.raises(NotEnoughMemoryError, match="lower --leader-gpu-layers and --draft-gpu-layers"):
        fitted(files, gpu(1000), layers=(11, 11))


def test_two_gpus_share_the_layers(files: dict[Role, Path]) -> None:
    """Guards a sum over GPUs of which one is too small."""
    devices = gpu(4000), gpu(3500, name="CUDA1")
    assert fitted(files, *devices).notes == []
    found = fitted(files, gpu(1500), gpu(1300, name="CUDA1"))
    assert found.need is not None
    assert all(found.need.on(device) <= device.free for device in (gpu(1500), gpu(1300, name="CUDA1")))


def test_a_gpu_that_shares_the_computers_memory_counts_twice(files: dict[Role, Path]) -> None:
    """Guards a Mac on which the GPU has room for more than the computer has."""
    device = gpu(20_000, name="MTL0", shares=True)
    assert fitted(files, device, free=10_000).notes == []
    found = fitted(files, device, free=5_900)
    assert "of memory are needed, and 5.9 GB are free: the context is 4096" in found.changed


def test_what_fits_neither_is_refused_by_far_only(files: dict[Role, Path]) -> None:
    caches = Runtime(ctx_size=8192, kv_type_k="f16")  # 0.96 GB, and 0.25 GB of buffers
    assert fitted(files, free=64_000, runtime=caches).notes == []
    assert "are read anew all the time" in fitted(files, free=3000, runtime=caches).warning
    assert "the system may end this run" in fitted(files, free=1000, runtime=caches).warning
    with pytest.raises(NotEnoughMemoryError, match="410 MB are missing"):
        fitted(files, free=800, runtime=caches)
    assert "may end this run" in fitted(files, free=800, runtime=caches, swap=500).warning


def test_no_answer_changes_nothing(files: dict[Role, Path]) -> None:
    """Guards a run that is refused because nobody knows what it takes."""

    class Silent(FakeSimulator):
        def need(self, *_: Any, **__: Any) -> None:
            return None

    found = fitted(files, gpu(1), free=1, simulator=Silent(BIG))
    assert (found.need, found.notes, layers_of(found)) == (None, [], (-1, -1))


def test_plenty_asks_nobody(files: dict[Role, Path]) -> None:
    pair = Pair(files[LEADER], files[DRAFT])
    assert plainly_fits(FitRequest(pair, Runtime()), Machine(Memory(10**11, 10**11)))
    assert not plainly_fits(FitRequest(pair, Runtime()), Machine(Memory(10**11, 10**9)))
    assert not plainly_fits(FitRequest(pair, Runtime()), Machine(Memory(10**11, 10**11), (gpu(1000),)))
    nowhere = Pair(ModelSettings(files[LEADER], 0), ModelSettings(files[DRAFT], 0))
    assert plainly_fits(FitRequest(nowhere, Runtime()), Machine(Memory(10**11, 10**11), (gpu(1000),)))


def test_layers_move_with_their_weights_and_caches(files: dict[Role, Path]) -> None:
    """Guards an estimate without a GPU here: every byte of a tensor is in one place, but the table of embeddings."""
    model, device = model_file(files[LEADER]), gpu(1000)
    whole = RoleNeed({MAPPED: model.n_bytes}, {"CPU": 1000}, {"CPU": 500}, {"CPU": 10}, 0, model.n_bytes)
    before = -1
    for n in range(N_LAYERS + 2):
        part = spread(whole, model, n, device)
        assert sum(part.weights.values()) == model.n_bytes
        assert part.on(device) > before
        before = part.on(device)
    assert spread(whole, model, -1, device) == spread(whole, model, N_LAYERS + 1, device)
    assert spread(whole, model, N_LAYERS + 1, device).cache[device.name] == 1000
