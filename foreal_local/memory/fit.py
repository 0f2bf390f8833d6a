"""Whether a pair fits this machine, and if not, what makes it fit: as llama.cpp's own fit does it for one model.

What is changed, of that which nobody has chosen, and in this order: the context, down to 4096 tokens; the types of the
caches; layers on the GPU, the leader's first; a context of 2048 tokens. An estimate may be wrong: a run is refused only
where far too little is free, and warned of before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import NotEnoughMemoryError
from ..method.roles import Role
from ..runtime.gguf_file import cache_bytes_per_token
from ..runtime.gguf_header import TOKENS
from ..runtime.llama import Device
from .machine import Machine
from .need import Need, spread
from .request import FitRequest
from .simulator import Simulator
from .words import in_words

TYPES = ("kv_type_k", "kv_type_v")
CONTEXTS = (4096, 2048)
"""Tokens of context that are tried where the default does not fit."""
_SMALLER_TYPE = "q8_0"
_LEFT_FREE, _LEFT_FREE_PLANNED = 1 / 64, 1 / 16
"""Share of a GPU's memory that stays free: of a run as it was asked for, and of one that is changed to fit."""
_MOST_SHARED = 8 * 2**30
"""Bytes of a GPU's memory of which that is the share, where it has more."""
_CLEARLY = 1.25
"""What is needed against what is free, from where on a run is refused."""
_PLENTY = 2.0
_COMPUTE = 256 * 2**20


@dataclass(frozen=True)
class Fitted:
    """A request as it will run.

    request: with what was changed
    need: what it takes; None: that is not known, or so little that nobody asked
    changed: what was changed, in words; "": nothing
    warning: what is tight, in words; "": nothing
    """

    request: FitRequest
    need: Need | None = None
    changed: str = ""
    warning: str = ""

    @property
    def notes(self) -> list[str]:
        """Lines for the user."""
        return [*filter(None, (self.changed, self.warning and f"warning: {self.warning}"))]


def fit(request: FitRequest, machine: Machine, simulator: Simulator, thorough: bool = False) -> Fitted:
    """What of a request fits. NotEnoughMemoryError where nothing would by far.

    thorough: llama.cpp is asked in any case
    """
    if not thorough and plainly_fits(request, machine):
        return Fitted(request)
    return _Fitting(request, machine, simulator).fitted()


def need_of(request: FitRequest, machine: Machine, simulator: Simulator) -> Need | None:
    """What a request needs as it is."""
    return _Fitting(request, machine, simulator).need(request)


def plainly_fits(request: FitRequest, machine: Machine) -> bool:
    """Whether so much is free that nobody needs to ask llama.cpp, which takes a second or two."""
    files = {file.parts: file for file in request.files.values()}.values()
    weights = sum(file.n_bytes for file in files)
    if any("ssm" in key or "wkv" in key or "shortconv" in key for file in files for key in file.first.metadata):
        weights += weights * request.n_slots // 20  # recurrent states
    per_token = sum(cache_bytes_per_token(file.parts[0], 4.0) for file in request.files.values())
    vocabularies = sum(file.first.arrays[TOKENS].size for file in request.files.values() if TOKENS in file.first.arrays)
    n_tokens = request.ctx_size * (request.n_slots + 2)
    compute = _COMPUTE * len(request.files) + 12 * vocabularies * (64 + 36 * request.n_slots)
    bound = 2 * weights + per_token * n_tokens + compute
    rooms = [machine.memory.free]
    if machine.devices and any(request.pair.of(role).gpu_layers for role in request.roles):
        rooms += [device.free for device in machine.devices if device.total]
    return all(_PLENTY * bound <= room for room in rooms)


def _usable(device: Device, left_free: float) -> float:
    """Bytes of a GPU that models may take."""
    return device.free - left_free * min(device.total, _MOST_SHARED)


class _Fitting:
    """The search for one request."""

    def __init__(self, request: FitRequest, machine: Machine, simulator: Simulator) -> None:
        self._request, self._machine, self._simulator = request, machine, simulator
        self._memory, self._devices = machine.memory, [device for device in machine.devices if device.total]
        self._known: dict[FitRequest, Need | None] = {}

    def fitted(self) -> Fitted:
        request, found = self._request, list[tuple[FitRequest, Need]]()
        asked = self.need(request)
        if asked is None or self._fits(asked, _LEFT_FREE):
            return Fitted(request, asked)
        for candidate in self._candidates():
            need = self.need(candidate)
            if need is not None and self._fits(need, _LEFT_FREE_PLANNED):
                return Fitted(candidate, need, self._changed(candidate, asked))
            if need is not None and self._devices_fit(need, _LEFT_FREE_PLANNED):
                found.append((candidate, need))
        if self._devices_fit(asked, _LEFT_FREE):
            found.insert(0, (request, asked))
        return self._tight(asked, found)

    def _tight(self, asked: Need, found: list[tuple[FitRequest, Need]]) -> Fitted:
        """Where nothing fits wholly.

        found: what fits the GPUs, that which changes least first
        """
        if not found:
            return self._on_too_small_gpus(asked)
        runs = next(((each, need) for each, need in found if self._room(need) >= 0), None)
        best, need = runs or min(found, key=lambda each: each[1].taken(self._devices))
        changed = "" if best == self._request else self._changed(best, asked)
        memory, taken = self._memory, need.taken(self._devices)
        if runs:
            left = f"{in_words(memory.free - taken)} of memory that stay free{self._limited()}"
            what = f"{in_words(need.mapped)} of weights do not fit into the {left}, and are read anew all the time"
            return Fitted(best, need, changed, f"{what}: {self._way_out()}")
        what = f"the models need {in_words(taken)} of memory, and {in_words(memory.free)} are free{self._limited()}"
        if taken > _CLEARLY * (memory.free + memory.swap):
            missing = f"{in_words(taken - memory.free)} are missing"
            raise NotEnoughMemoryError(f"{what}, {missing}: {self._way_out()}")
        return Fitted(best, need, changed, f"{what}: the system may end this run; {self._way_out()}")

    def _on_too_small_gpus(self, asked: Need) -> Fitted:
        """Where what was chosen does not fit the GPUs, whatever else is changed."""
        device = next(each for each in self._devices if asked.on(each) > _usable(each, _LEFT_FREE))
        what = f"{in_words(asked.on(device))} are needed on {device.name}, and {in_words(device.free)} are free"
        roles = [role for role in self._request.roles if self._request.gives_layers(role)]
        options = " and ".join(f"--{role}-gpu-layers" for role in roles) or "--ctx-size"
        if asked.on(device) > _CLEARLY * device.free:
            missing = f"{in_words(asked.on(device) - device.free)} are missing"
            raise NotEnoughMemoryError(f"{what}, {missing}: lower {options}, or leave it out; --no-fit tries it")
        return Fitted(self._request, asked, "", f"{what}: lower {options}, or leave it out")

    # ---------------------------------------------------------------- what fits
    def _fits(self, need: Need, left_free: float) -> bool:
        return self._devices_fit(need, left_free) and need.mapped <= self._room(need)

    def _devices_fit(self, need: Need, left_free: float) -> bool:
        return all(need.on(device) <= _usable(device, left_free) for device in self._devices if need.on(device))

    def _room(self, need: Need) -> int:
        """Bytes of the computer's memory that are left for weights in files; negative where there are too few."""
        return self._memory.free - need.taken(self._devices)

    def need(self, request: FitRequest) -> Need | None:
        """What it takes: what llama.cpp says; of a GPU that llama.cpp does not see, what follows from the headers."""
        if request not in self._known:
            self._known[request] = self._simulated(request)
        return self._known[request]

    def _simulated(self, request: FitRequest) -> Need | None:
        need = self._simulator.need(
            request.pair,
            request.runtime,
            ctx_size=request.ctx_size,
            n_slots=request.n_slots,
            roles=request.roles,
            prefix_slot=request.prefix_slot,
        )
        if need is None or not self._devices or any(map(need.on, self._devices)):
            return need
        largest = max(self._devices, key=lambda device: device.free)
        layers = {role: request.pair.of(role).gpu_layers for role in need.roles}
        return Need(
            {role: spread(each, request.files[role], layers[role], largest) for role, each in need.roles.items()}
        )

    # ---------------------------------------------------------------- what is tried
    def _candidates(self) -> Iterator[FitRequest]:
        """Requests that need less, those first that change what matters least."""
        smaller = list(self._smaller())
        yield from smaller
        if not self._devices or all(map(self._request.gives_layers, self._request.roles)):
            return
        usual = next((each for each in smaller if each.ctx_size >= CONTEXTS[0]), self._request)
        yield from self._with_fewer_layers(usual)
        if smaller and smaller[-1] != usual:
            yield from self._with_fewer_layers(smaller[-1])

    def _smaller(self) -> Iterator[FitRequest]:
        """With a smaller context, or smaller caches."""
        request = self._request
        contexts = [] if request.gives_context else [n for n in CONTEXTS if n < request.ctx_size]
        types = {} if request.gives_types else dict.fromkeys(TYPES, _SMALLER_TYPE)
        if contexts:
            yield request.with_runtime(ctx_size=contexts[0])
        if types:
            yield request.with_runtime(ctx_size=contexts[0] if contexts else request.runtime.ctx_size, **types)
        for n in contexts[1:]:
            if types:
                yield request.with_runtime(ctx_size=n, **types)
            yield request.with_runtime(ctx_size=n)

    def _with_fewer_layers(self, request: FitRequest) -> Iterator[FitRequest]:
        """With as many layers on the GPU as have room there, the leader's first."""
        free = [role for role in request.roles if not request.gives_layers(role)]
        layers = {role: 0 if role in free else request.pair.of(role).gpu_layers for role in request.roles}
        for role in free:
            layers[role] = self._most_layers(request, layers, role)
        if not any(layers.values()):
            yield self._request.with_layers(layers)  # on the CPU there may be room for all of the context
        yield request.with_layers(layers)

    def _most_layers(self, request: FitRequest, layers: dict[Role, int], role: Role) -> int:
        """How many of a role's layers fit the GPUs beside the other's: in proportion to what all of them take, and from
        there step by step."""
        most = request.files[role].first.n_layers + 1
        all_of_it, none_of_it = (self.need(request.with_layers({**layers, role: n})) for n in (most, 0))
        if all_of_it is None or none_of_it is None or self._devices_fit(all_of_it, _LEFT_FREE_PLANNED):
            return most if all_of_it else 0
        first, last = (sum(map(need.on, self._devices)) for need in (none_of_it, all_of_it))
        room = sum(_usable(device, _LEFT_FREE_PLANNED) for device in self._devices)
        n = max(0, min(most - 1, int(most * (room - first) / max(1, last - first))))
        while n > 0:
            need = self.need(request.with_layers({**layers, role: n}))
            if need and self._devices_fit(need, _LEFT_FREE_PLANNED):
                break
            n -= max(1, n // 8)
        return n

    # ---------------------------------------------------------------- in words
    def _changed(self, fitted: FitRequest, asked: Need) -> str:
        before, words = self._request, []
        if fitted.ctx_size != before.ctx_size:
            words.append(f"the context is {fitted.ctx_size} tokens instead of {before.ctx_size}")
        if fitted.runtime.kv_type_k != before.runtime.kv_type_k:
            words.append(f"caches are {fitted.runtime.kv_type_k}")
        for role in before.roles:
            n, n_layers = fitted.pair.of(role).gpu_layers, fitted.files[role].first.n_layers + 1
            if n != before.pair.of(role).gpu_layers and n < n_layers:
                words.append(
                    f"{n} of {n_layers} layers of the {role} are on the GPU" if n else f"the {role} is on the CPU"
                )
        return f"{self._too_much(asked)}: {', '.join(words)} (--no-fit changes nothing)"

    def _too_much(self, need: Need) -> str:
        """What is needed of that which has too little."""
        for device in self._devices:
            if need.on(device) > _usable(device, _LEFT_FREE):
                return f"{in_words(need.on(device))} are needed on {device.name}, and {in_words(device.free)} are free"
        total = need.taken(self._devices) + need.mapped
        return f"{in_words(total)} of memory are needed, and {in_words(self._memory.free)} are free{self._limited()}"

    def _limited(self) -> str:
        limit = self._memory.limit
        return f" ({limit.where} is {in_words(limit.total)})" if limit and self._memory.is_limited else ""

    def _way_out(self) -> str:
        request, ways = self._request, ["take smaller files"]
        if request.gives_context:
            ways.append("lower --ctx-size")
        if request.n_slots > 1:
            ways.append("lower --parallel")
        ways.append("raise that limit" if self._memory.is_limited else "end other programs")
        return f"{', '.join(ways[:-1])}, or {ways[-1]}; --no-fit tries it as it is"
