"""Files of results: whole lines or nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from foreal_local.storage.files import LineFile, OutputError


class FullDisk:
    """A file that takes `room` bytes and then fails, as a full disk does."""

    def __init__(self, file: object, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        if self._room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self._room])  # type: ignore[attr-defined]
        self._room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """Guards half a record at the end of the file, zeros where it was, and a second error when it is closed."""
    file = LineFile(str(tmp_path / "out.jsonl"))
    file._file = FullDisk(file._file, 10)  # type: ignore[assignment]
    file.write("first\n")
    with pytest.raises(OutputError, match=r"No space left on device; what was finished"):
        file.write("the second line\n")
    assert (tmp_path / "out.jsonl").read_text() == "first\n"
    file._file._room = 100  # type: ignore[attr-defined]
    file.write("third\n")
    file.close()
    assert (tmp_path / "out.jsonl").read_text() == "first\nthird\n"


def test_existing_file_is_kept_beside(tmp_path: Path) -> None:
    """Guards results of an earlier run that were overwritten."""
    path = tmp_path / "out.jsonl"
    for text in ("one\n", "two\n", "three\n"):
        file = LineFile(str(path))
        file.write(text)
        file.close()
    assert path.read_text() == "three\n"
    assert [(tmp_path / f"out.jsonl.~{i}~").read_text() for i in (1, 2)] == ["one\n", "two\n"]
