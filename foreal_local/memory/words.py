"""Numbers of bytes as users read them."""

from __future__ import annotations


def in_words(n_bytes: float) -> str:
    """Three digits and a unit: "7.81 GB", "253 MB"."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        value = n_bytes / factor
        if value >= 0.9995:
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
