"""Which llama-cpp-python this package works with, said before a symbol turns out to be missing."""

from __future__ import annotations

import importlib
import re
from importlib import metadata

from ...errors import InstallationError

OLDEST, BEFORE = "0.3.36", "0.4"
WANTED = f"llama-cpp-python>={OLDEST},<{BEFORE}"
"""As pyproject.toml has it. The oldest is the one that all tests are run with; another minor version may change symbols
and structures."""


def require_llama_cpp() -> None:
    """InstallationError where llama-cpp-python is missing, of a version that is too old or too new, or broken."""
    how = f"pip install '{WANTED}' (README, Install, has the commands for prebuilt wheels and GPUs)"
    try:
        found = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        raise InstallationError(f"llama-cpp-python is not installed: {how}") from None
    if not _numbers(OLDEST) <= _numbers(found) < _numbers(BEFORE):
        raise InstallationError(
            f"llama-cpp-python {found} is installed, but {OLDEST} or later, and before {BEFORE}, is needed: {how}"
        )
    try:
        importlib.import_module("llama_cpp")
    except Exception as error:  # a library that it needs, or its own, is missing: of its own errors, or of the loader's
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InstallationError(
            f"llama-cpp-python {found} cannot be loaded ({reason}): install it again with "
            f"pip install --force-reinstall --no-cache-dir '{WANTED}' (README, Install)"
        ) from error


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (0, 3, 36) of 0.3.36+cu124."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
