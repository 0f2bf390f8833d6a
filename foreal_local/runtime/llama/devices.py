"""What this build of llama.cpp can compute on: its devices with their free memory, and the backends that it has."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from .library import ACCELERATOR, CPU, GPU, library, must_avoid_amx
from .native import function

_NO_COMPUTE = ("CPU", "BLAS", "RPC")
"""Backends that all builds may have, and the one that has no device of its own."""
_SHARING = ("MTL", "Metal")  # say that they have memory of their own


@dataclass(frozen=True)
class Device:
    """A GPU.

    name: llama.cpp's, with which the names of its buffers begin
    description: what it is
    total, free: bytes of its memory; 0 where its driver does not tell
    shares_memory: it is the computer's
    """

    name: str
    description: str
    total: int
    free: int
    shares_memory: bool = False

    def holds(self, buffer_type: str) -> bool:
        """Whether buffers of this type are in its memory."""
        return buffer_type == self.name or buffer_type.startswith(f"{self.name}_")


def devices() -> list[Device]:
    """All GPUs that llama.cpp would use."""
    return [described(device) for device, kind in all_devices() if kind not in (CPU, ACCELERATOR)]


def all_devices() -> list[tuple[int, int]]:
    """llama.cpp's devices on this machine, and of which kind each is."""
    library()
    get = function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    pointers = [get(index) for index in range(function("ggml_backend_dev_count", ctypes.c_size_t)())]
    kind_of = function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    return [(pointer, kind_of(pointer)) for pointer in pointers]


def described(device: int) -> Device:
    """One of `all_devices`."""
    kind = function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(device)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    function("ggml_backend_dev_memory", None, *[ctypes.c_void_p] * 3)(device, ctypes.byref(free), ctypes.byref(total))
    name, description = _text("ggml_backend_dev_name", device), _text("ggml_backend_dev_description", device)
    shares = kind != GPU or name.startswith(_SHARING)
    return Device(name, description, total.value, free.value, shares)


def backends() -> list[str]:
    """What it can compute with besides the processor: CUDA, Metal, Vulkan and so on."""
    library()
    count = function("ggml_backend_reg_count", ctypes.c_size_t)()
    get = function("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    names = [_text("ggml_backend_reg_name", get(index)) for index in range(count)]
    return [name for name in names if name not in _NO_COMPUTE]


def avoids_amx() -> bool:
    """Whether it would crash on this processor's AMX, which is left alone therefore."""
    library()
    return must_avoid_amx()


def _text(name: str, pointer: int) -> str:
    return (function(name, ctypes.c_char_p, ctypes.c_void_p)(pointer) or b"").decode("utf-8", "replace")
