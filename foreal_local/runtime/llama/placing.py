"""What llama.cpp would take for a simulated model and its contexts, by the types of its buffers.

Weights: where it has put each tensor. All else: what it logs while it makes a context. A type of buffers is called as
llama.cpp calls it: "CPU", "CPU_REPACK" (weights in another order, for its kernels), "CUDA0".
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..gguf_file import model_file
from .library import library
from .native import function
from .weights import Weights

MAPPED = "CPU_Mapped"
"""Weights that stay in their file, which the system reads into free memory."""
_GET_TENSOR = "_ZNK11llama_model10get_tensorEPKc"  # llama_model::get_tensor(char const *) const
_BUFFER_OF = ctypes.sizeof(ctypes.c_void_p)  # of a ggml_tensor, after its type
_SIZE = re.compile(r"(\S+) +(output|compute) buffer size = +([\d.]+) MiB")
_LAYER = re.compile(r"layer +\d+: dev = (\S+)")
_CACHE = re.compile(r"^\w+: size = +([\d.]+) MiB \(")
_MIB = 2**20


def placed(weights: Weights) -> tuple[Counter[str], int]:
    """Bytes of weights by type of buffer, as llama.cpp counts them, and those of the mapped ones that are read: others
    in between are in other buffers, too. OSError where this build does not tell."""
    try:
        get_tensor = function(_GET_TENSOR, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        type_of = function("ggml_backend_buffer_get_type", ctypes.c_void_p, ctypes.c_void_p)
        name_of = function("ggml_backend_buft_name", ctypes.c_char_p, ctypes.c_void_p)
        size_of = function("ggml_backend_buft_get_alloc_size", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    except AttributeError as error:
        raise OSError(str(error)) from None
    found: Counter[str] = Counter()
    n_read = 0
    for header in model_file(weights.path).headers:
        begin, end = header.file_size, 0  # of what stays in this file
        for name, tensor in header.tensors.items():
            pointer = get_tensor(weights.model, os.fsencode(name))
            buffer = pointer and ctypes.c_void_p.from_address(pointer + _BUFFER_OF).value
            if not buffer:
                continue  # of a part that is not loaded, such as one for predicting several tokens
            kind = type_of(buffer)
            where, size = name_of(kind).decode(), int(size_of(kind, pointer))
            if where == "CPU" or where.endswith("_Host"):
                begin, end = min(begin, tensor.offset), max(end, tensor.offset + size)
                n_read += size
            else:
                found[where] += size
        found[MAPPED] += max(0, end - begin)
    return found, n_read


class Heard:
    """What the log says of one context: bytes by type of buffer.

    cache: of keys, values and recurrent states
    compute, output: of evaluations, and of the logits that come out
    """

    def __init__(self) -> None:
        self.cache: Counter[str] = Counter()
        self.compute: Counter[str] = Counter()
        self.output: Counter[str] = Counter()
        self._layers: Counter[str] = Counter()  # of the cache that is being made
        self._line = ""

    def hear(self, text: str) -> None:
        """A piece of the log."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._hear_line(line)

    def _hear_line(self, line: str) -> None:
        if match := _SIZE.search(line):
            sizes = self.output if match[2] == "output" else self.compute
            sizes[match[1]] += round(float(match[3]) * _MIB)
        elif match := _LAYER.search(line):
            self._layers[match[1]] += 1
        elif match := _CACHE.search(line):
            n_layers = sum(self._layers.values())
            for device, n in self._layers.items():
                self.cache[device] += round(float(match[1]) * _MIB * n / n_layers)
            self._layers.clear()


@contextmanager
def hearing() -> Iterator[Heard]:
    """What llama.cpp logs meanwhile."""
    heard, log = Heard(), library()
    log.listener = heard.hear
    try:
        yield heard
    finally:
        log.listener = None
