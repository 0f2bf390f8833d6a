"""The library llama.cpp as a whole: its start, its log, what this build of it can do, and how an evaluation is stopped.

Knows no model.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from ..hardware import amx_crashes
from .native import function

CPU, GPU, SHARING_GPU, ACCELERATOR = range(4)
"""ggml's kinds of devices: a processor, a GPU with memory of its own, one that shares the computer's, an accelerator
that works on the computer's memory."""
_LOG_ERROR, _LOG_CONTINUED = 4, 5


class NativeLog:
    """Receives llama.cpp's log.

    verbose: whether it is written to stderr
    errors: the last error lines, kept for messages where it is not
    listener: hears all of it, in pieces as they come
    """

    def __init__(self) -> None:
        self.verbose = False
        self.errors: deque[str] = deque(maxlen=8)
        self.listener: Callable[[str], None] | None = None
        self._level = 0
        self._callback = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        if level != _LOG_CONTINUED:
            self._level = level
        if self.listener is not None:
            self.listener(text.decode("utf-8", "replace"))
        if self.verbose:
            sys.stderr.write(text.decode("utf-8", "replace"))
        elif self._level == _LOG_ERROR:
            self.errors.append(text.decode("utf-8", "replace").strip())

    def take_reason(self) -> str:
        """Return the first of the kept errors (later ones only say that something failed) and forget them all."""
        reason = next((line for line in self.errors if line), "no reason was given")
        self.errors.clear()
        return reason


@functools.cache
def library() -> NativeLog:
    """Start llama.cpp, once per process, and return its log."""
    log = NativeLog()
    llama_cpp.llama_backend_init()
    return log


def supports_gpu_offload() -> bool:
    """Whether this build of llama.cpp can compute on a GPU, and finds one."""
    library()  # the first question about devices makes llama.cpp log: the log must be ours by then
    if not llama_cpp.llama_supports_gpu_offload():
        return False
    return not llama_cpp.llama_supports_rpc() or _has_gpu()  # a build with RPC says yes without any


@functools.cache
def _has_gpu() -> bool:
    by_type = function("ggml_backend_dev_by_type", ctypes.c_void_p, ctypes.c_int)
    return any(by_type(kind) for kind in (GPU, SHARING_GPU))


def most_sequences() -> int:
    """How many sequences this build of llama.cpp takes in one context."""
    return int(llama_cpp.llama_max_parallel_sequences())


@functools.cache
def must_avoid_amx() -> bool:
    """Whether this build of llama.cpp would crash when it multiplies quantised weights on AMX."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    info = (llama_cpp.llama_print_system_info() or b"").decode()
    return any(amx_crashes(info, file) for file in folder.glob("*ggml-cpu*"))


class Abort:
    """A flag that stops a running evaluation; any thread may set it.

    llama.cpp asks a callback before every node of its graph whether to stop. In Python that would cost more than a
    small model does, so the callback is the C library's strlen: of our buffer it is 0, and 1 once the flag is set.

    requested: the flag is set
    busy: C code runs that asks for the flag. No exception may be raised meanwhile: it could land in a callback
        written in Python (the log's, the progress bar's), where ctypes swallows it
    callback, data: what llama.cpp is given to ask
    """

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(b"\0\0", 2)
        libc = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
        self.callback = llama_cpp.ggml_abort_callback(ctypes.cast(libc.strlen, ctypes.c_void_p).value)
        self.data = ctypes.cast(self._flag, ctypes.c_void_p)
        self.requested = self.busy = False

    def set(self) -> None:
        self.requested = True
        self._flag[0] = b"\1"

    def clear(self) -> None:
        self.requested = False
        self._flag[0] = b"\0"

    @contextmanager
    def held(self) -> Iterator[None]:
        """For C code that may take long; raises KeyboardInterrupt after it if a stop was requested by then."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            if self.requested:
                raise KeyboardInterrupt
