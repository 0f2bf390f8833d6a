"""How much memory the control groups of this process leave it: those of containers, services and batch systems.

Reads the files of Linux's cgroups, version 1 and 2; elsewhere there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT = 2**60
"""Version 1 writes a number near 2**63 where there is no limit."""


@dataclass(frozen=True)
class Limit:
    """A group's limit.

    total: bytes that all its processes may have
    free: those that are left; files in memory count as free, because they give way
    where: the file that says so
    """

    total: int
    free: int
    where: Path


def tightest_limit(root: Path = ROOT, own: Path = OWN) -> Limit | None:
    """The limit that leaves least, of the groups that this process is in; None: there is none.

    root: where the groups are mounted
    own: which groups this process is in
    """
    return min(_limits(root, own), key=lambda limit: limit.free, default=None)


def _limits(root: Path, own: Path) -> Iterator[Limit]:
    for line in (_text(own) or "0::/").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, names = root, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
        else:
            continue
        inside = base / path.strip().lstrip("/")
        for group in (inside, *inside.parents):
            if group == base or base in group.parents:
                yield from _limit_of(group, *names)


def _limit_of(group: Path, limit: str, usage: str, *of_files: str) -> Iterator[Limit]:
    total, used = _number(_text(group / limit)), _number(_text(group / usage))
    if total is None or total >= _NO_LIMIT:
        return
    rows = [line.split() for line in (_text(group / "memory.stat") or "").splitlines()]
    in_files = sum(int(row[1]) for row in rows if len(row) == 2 and row[0] in of_files and row[1].isdigit())
    yield Limit(total, max(0, total - max(0, (used or 0) - in_files)), group / limit)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
