"""A model with an unusual header, loaded by a process of its own first: llama.cpp may end that, and not this one."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from ...errors import ModelFileError
from ..gguf_file import Stamp, model_file, stamp_of
from .apart import CANNOT_LOAD

_SECONDS, _BYTES_PER_SECOND = 60, 20_000_000  # a slow disk reads so many
_MOST_BYTES = 4_000_000_000
"""Larger models are not tried: they would be read twice, and evaluated on the CPU, which can take minutes."""


def try_loading(path: Path) -> None:
    """ModelFileError where llama.cpp would end this process over a model whose header is not a usual one.

    In a program that is one file (frozen), there is no interpreter that could try it.
    """
    file = model_file(path)
    if file.is_usual or file.n_bytes > _MOST_BYTES or not sys.executable or getattr(sys, "frozen", False):
        return
    _try(stamp_of(path))


@functools.lru_cache(maxsize=16)
def _try(stamp: Stamp) -> None:
    path, n_bytes = stamp[0][0], sum(size for _, size, _ in stamp)
    variables = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONFAULTHANDLER": ""}
    variables |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    limit = _SECONDS + n_bytes / _BYTES_PER_SECOND
    program = str(Path(__file__).with_name("apart.py"))
    command = [sys.executable, program, str(path.absolute()), str(int(limit) + 5)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=variables, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refusal(path, f"did not end in {limit:.0f} s") from None
    if done.returncode not in (0, CANNOT_LOAD):  # what it says no to itself it will say again, with the reason
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = lines[-1].rpartition("/")[2] if lines else f"exit code {done.returncode}"
        raise _refusal(path, f"ended the process that tried it, with: {reason}")


def _refusal(path: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f"llama.cpp cannot load {path}: it {what}; the file is damaged, or made for another version: "
        "download or convert it again, or try a newer llama-cpp-python"
    )
