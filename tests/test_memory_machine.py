"""What a machine has: memory, limits of control groups in files that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreal_local.memory.cgroups import tightest_limit
from foreal_local.memory.machine import Memory, memory_here
from foreal_local.memory.words import in_words


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2_counts_files_in_memory_as_free(tmp_path: Path) -> None:
    """Guards a model that is refused because its own weights, read before, fill the limit: they give way."""
    write(tmp_path, own="0::/box/job")
    group = tmp_path / "cgroup" / "box" / "job"
    stat = "anon 1000\ninactive_file 300\nactive_file 200"
    write(group, memory__max=5000, memory__current=2500, memory__stat=stat)
    write(group.parent, memory__max="max", memory__current=9000)
    limit = tightest_limit(tmp_path / "cgroup", tmp_path / "own")
    assert limit
    assert (limit.total, limit.free, limit.where) == (5000, 3000, group / "memory.max")


def test_a_group_above_may_leave_less(tmp_path: Path) -> None:
    """Guards a limit of a service that its container's own files do not name."""
    write(tmp_path, own="0::/slice/box")
    write(tmp_path / "cgroup" / "slice" / "box", memory__max=9000, memory__current=1000)
    write(tmp_path / "cgroup" / "slice", memory__max=8000, memory__current=7500)
    limit = tightest_limit(tmp_path / "cgroup", tmp_path / "own")
    assert limit
    assert (limit.total, limit.free) == (8000, 500)


def test_version_1_in_a_container_has_its_files_at_the_root(tmp_path: Path) -> None:
    write(tmp_path, own="5:cpu:/docker/x\n4:memory:/docker/x")
    stat = "total_inactive_file 100\ntotal_active_file 50"
    write(tmp_path / "cgroup" / "memory", memory__limit_in_bytes=4000, memory__usage_in_bytes=1000, memory__stat=stat)
    limit = tightest_limit(tmp_path / "cgroup", tmp_path / "own")
    assert limit
    assert (limit.total, limit.free) == (4000, 3150)


@pytest.mark.parametrize("value", ["max", "9223372036854771712", "", "no number"])
def test_there_may_be_no_limit(value: str, tmp_path: Path) -> None:
    write(tmp_path, own="0::/\n3:memory:/")
    write(tmp_path / "cgroup", memory__max=value)
    write(tmp_path / "cgroup" / "memory", memory__limit_in_bytes=value)
    assert tightest_limit(tmp_path / "cgroup", tmp_path / "own") is None
    assert tightest_limit(tmp_path / "nothing", tmp_path / "nothing") is None


def test_what_is_free_is_the_least_of_both(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", memory__max=700, memory__current=100)
    limit = tightest_limit(tmp_path / "cgroup", tmp_path / "own")
    assert Memory(1000, 900, 0, limit).free == 600
    assert Memory(1000, 500, 0, limit).free == 500
    here = memory_here()
    assert 0 < here.free <= here.total


def test_bytes_in_words() -> None:
    assert [in_words(n) for n in (0, 1_500, 2_340_000, 253e6, 999.9e6, 7.812e9, 12.34e9, 123e9, 1.5e12)] == [
        "0 kB", "2 kB", "2.34 MB", "253 MB", "1 GB", "7.81 GB", "12.3 GB", "123 GB", "1.5 TB",
    ]  # fmt: skip


def test_a_system_that_does_not_tell_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a run that is refused, or ends in a traceback, where /proc is not mounted."""

    def fails() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr("psutil.virtual_memory", fails)
    assert memory_here().total == 0
    assert memory_here().free > 10**15
