"""Functions of llama.cpp's libraries that the bindings leave out. Knows files and symbols."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import llama_cpp

_NAMES = ("llama", "ggml", "ggml-base")
_SUFFIXES = (".so", ".dylib", ".dll")


@functools.cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    """Those that the bindings have loaded already: opening them again gives the same."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    files = [folder / (prefix + name + suffix) for name in _NAMES for prefix in ("lib", "") for suffix in _SUFFIXES]
    return tuple(ctypes.CDLL(str(file)) for file in files if file.is_file())


def function(name: str, result: Any, *arguments: Any) -> Any:
    """The function of this name; AttributeError where no library has it."""
    for library in _libraries():
        found = getattr(library, name, None)
        if found is not None:
            found.restype, found.argtypes = result, arguments
            return found
    raise AttributeError(f"llama.cpp has no function {name}")
