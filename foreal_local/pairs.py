"""Pairs of a leader and a draft by name: the bundled pairs.toml, and the user's own file over it.

Knows what a table of such a file may say. Does not know how a model is found or fetched (hub.py).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import OF_A_RESPONSE, find_setting
from .errors import ModelFileError, UsageError
from .hub import bundled_dir
from .hub_names import HOW_TO_NAME, parse_hub_name

DEFAULT_PAIR = "tiny"

_TEXTS = ("leader", "draft", "note", "measured")
_SIZES = ("download_gb", "memory_gb")


@dataclass(frozen=True)
class PairEntry:
    """One table of a pairs file.

    name: of the table
    leader, draft: their files or hub names, for hub.resolve_model
    note: what the pair is good for
    measured: what was measured with it, and where that is told; "" for nothing
    download_gb: gigabytes of both files, about; None: the file of pairs does not say
    memory_gb: gigabytes of both files and both caches of 8192 tokens, about; None as above
    where: the table and its file, for messages
    settings: its settings by their names in config.py; types are checked here, ranges where the settings are used
    """

    name: str
    leader: str
    draft: str
    note: str = ""
    measured: str = ""
    download_gb: float | None = None
    memory_gb: float | None = None
    where: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def limits_of(entry: PairEntry | None) -> str:
    """What is told of a pair that was used without being chosen: what it is good for, and how others are found."""
    if entry is None or entry.name != DEFAULT_PAIR or not entry.note:
        return ""
    return f"{entry.name}: {entry.note} foreal pairs lists others."


def load_pairs() -> dict[str, PairEntry]:
    """The bundled pairs and, over them, the user's own: a table replaces the whole pair of its name."""
    own = _user_pairs_file()
    return _read_pairs(bundled_dir() / "pairs.toml") | (_read_pairs(own) if own else {})


def find_pair(name: str) -> PairEntry:
    """The pair of this name; UsageError with the nearest name where there is none."""
    pairs, name = load_pairs(), name.strip()
    if name not in pairs:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), pairs, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"no pair named '{name}'{hint} (there are: {', '.join(pairs)})")
    return pairs[name]


def _user_pairs_file() -> Path | None:
    """The file FOREAL_PAIRS names, else foreal/pairs.toml in the user's folder for settings if it exists."""
    if named := os.environ.get("FOREAL_PAIRS"):
        return Path(os.path.expanduser(named))  # noqa: PTH111  (pathlib's raises where there is no home)
    named = os.environ.get("XDG_CONFIG_HOME", "")
    folder = named if Path(named).is_absolute() else (os.name == "nt" and os.environ.get("APPDATA")) or "~/.config"
    file = Path(os.path.expanduser(folder)) / "foreal" / "pairs.toml"  # noqa: PTH111
    return file if file.is_file() else None


def _read_pairs(file: Path) -> dict[str, PairEntry]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the pairs file {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the pairs file {file} is not valid TOML: {error}") from error
    return {name: _pair(name, table, file) for name, table in tables.items()}


def _size(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise UsageError(f"{where}: {key} cannot be {value!r}: it is a number of gigabytes")
    return value


def _pair(name: str, table: Any, file: Path) -> PairEntry:
    """A table as a PairEntry; relative paths in it count from the file's folder."""
    where = f"pair '{name}' in {file}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table: write [{name}] on a line of its own")
    texts: dict[str, Any] = {}
    settings = {}
    sizes: dict[str, Any] = {key: _size(table[key], key, where) for key in _SIZES if key in table}
    for key, value in table.items():
        setting = None if key in _TEXTS else find_setting(key)
        if key in sizes:
            continue
        if isinstance(value, dict) and key not in _TEXTS and setting is None:
            raise UsageError(f'{where}: a name with a dot stands in quotes: ["{name}.{key}"]')
        if key not in _TEXTS and (setting is None or setting.name not in OF_A_RESPONSE):
            known = ", ".join([*_TEXTS, *_SIZES, *OF_A_RESPONSE])
            raise UsageError(f"{where}: unknown key '{key}' (known: {known})")
        if setting is None:
            if not isinstance(value, str):
                raise UsageError(f"{where}: {key} cannot be {value!r}")
            texts[key] = value
            continue
        try:
            settings[setting.name] = setting.from_json(value)
        except UsageError as error:
            raise UsageError(f"{where}: {key} cannot be {value!r} ({error})") from None
    for role in ("leader", "draft"):
        if not texts.get(role):
            raise UsageError(f"{where} names no {role}: {HOW_TO_NAME}")
        spec = os.path.expanduser(texts[role].strip())  # noqa: PTH111  (a hub name is no path)
        beside = file.parent.absolute() / spec
        try:
            texts[role] = str(beside) if beside.exists() or parse_hub_name(spec) is None else spec
        except ModelFileError as error:
            raise UsageError(f"{where}: {role}: {error}") from None
    return PairEntry(name, **texts, **sizes, where=where, settings=settings)
