"""Named settings for people who want one knob: what each stands for is here, why is in docs/results.md."""

from __future__ import annotations

from typing import Any

from .errors import UsageError
from .settings import either

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"mode": "foreal", "n": 15, "p": 0.6, "k": 5, "gate": "random", "review": "off"},
    "fast": {"mode": "foreal", "gate": "never", "review": "ratio", "tau": 0.1, "rewrite_k": 0},
    "balanced": {"mode": "foreal", "gate": "never", "review": "ratio", "tau": 0.3, "rewrite_k": 2},
    "faithful": {"mode": "foreal", "gate": "never", "review": "ratio", "tau": 0.7, "rewrite_k": 2},
}
"""Settings by name, the paper's first, then from the least of the leader to the most."""


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset, by their names in config.py."""
    if name not in PRESETS:
        raise UsageError(f"preset is {name!r}, but must be {either(PRESETS)}")
    return dict(PRESETS[name])
