"""llama.cpp's RPC: this machine's devices for models of others, and other machines' devices for a model here.

A build without it has none of the functions. Where a connection is lost, llama.cpp ends the process that uses it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp

from ...errors import EvaluationError, InstallationError
from .devices import Device, all_devices, described
from .library import CPU, GPU, SHARING_GPU, library
from .native import function
from .version import WANTED

HOW_TO_BUILD = (
    'CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python '
    f"'{WANTED}' (ten minutes; with -DGGML_CUDA=on as well for a GPU)"
)
_Start = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)
_Add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)


def has_rpc() -> bool:
    """Whether this build of llama.cpp has it."""
    library()
    return bool(llama_cpp.llama_supports_rpc())


def require_rpc() -> None:
    """InstallationError, with the command that builds it, where this build does not have it."""
    if not has_rpc():
        raise InstallationError(
            f"this llama-cpp-python is built without RPC, which models on several machines need: {HOW_TO_BUILD}"
        )


def _address(name: bytes) -> int:
    """Of one of the functions of the RPC backend, as its registry has it."""
    registry = function("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"RPC")
    get = function("ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    address = get(registry, name)
    if not address:
        raise InstallationError(f"this build of llama.cpp has no {name.decode()}: {HOW_TO_BUILD}")
    return int(address)


def devices_with(endpoints: Sequence[str]) -> Any:
    """What a model may lie on, for llama_model_params.devices: all devices of these workers, then this machine's GPUs,
    as llama.cpp orders them by itself. It gives each as many layers as its free memory is of all."""
    require_rpc()
    add_server = _Add(_address(b"ggml_backend_rpc_add_server"))
    count = function("ggml_backend_reg_dev_count", ctypes.c_size_t, ctypes.c_void_p)
    get = function("ggml_backend_reg_dev_get", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    found: list[int] = []
    for endpoint in endpoints:
        registry = add_server(endpoint.encode())
        if not registry:
            raise EvaluationError(f"the worker {endpoint} offers no device")
        found += [get(registry, index) for index in range(count(registry))]
    found += _gpus()
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


def _gpus() -> list[int]:
    """Those of this machine with memory of their own, or else those that share the computer's."""
    devices = all_devices()
    kinds = ([pointer for pointer, kind in devices if kind == wanted] for wanted in (GPU, SHARING_GPU))
    return next(filter(None, kinds), [])


def _offered() -> list[int]:
    return _gpus() or [pointer for pointer, kind in all_devices() if kind == CPU][:1]


def offered() -> list[Device]:
    """What a worker here would offer: this machine's GPUs, or its processor where there is none."""
    return [described(pointer) for pointer in _offered()]


def serve_worker(endpoint: str, threads: int, cache: str | None) -> None:
    """Offer this machine's devices at an address, to one client after the other. Does not come back, unless llama.cpp
    cannot listen there.

    cache: a folder for large tensors, which are not sent again then
    """
    require_rpc()
    pointers = _offered()
    devices = (ctypes.c_void_p * len(pointers))(*pointers)
    start = _Start(_address(b"ggml_backend_rpc_start_server"))
    start(endpoint.encode(), cache.encode() if cache else None, threads, len(pointers), devices)
