"""The harness of scripts/mutate.py itself: what counts as a fault, and that one is found."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from mutations.common import Case, Outcome, fault_of, run_case
from mutations.document import Document
from real.models import TinyModels

GEN = ("gen", "--prompt", "one", "--max-tokens", "2", "--quiet")


@pytest.mark.parametrize(
    ("code", "err", "words"),
    [
        (0, b"", None),
        (2, b"Error: no such file: 'x'; name another\n", None),
        (2, b"", "does not say why"),
        (1, b"Error\n", "does not say why"),
        (None, b"", "hangs"),
        (-11, b"", "SIGSEGV"),
        (3, b"Error: something else", "ends with 3"),
        (1, b"Traceback (most recent call last):\n", "Traceback"),
    ],
)
def test_what_counts_as_a_fault(code: int | None, err: bytes, words: str | None) -> None:
    fault = fault_of(Case("x", GEN), Outcome(code, b"", err, 1.0))
    assert fault is None if words is None else fault is not None and words in fault


@pytest.mark.parametrize("fresh", [True, False])
def test_a_case_runs_in_a_folder_of_its_own(fresh: bool, tmp_path: Path) -> None:
    """Guards two ways to start a command that come to differ: both give it files, input and environment."""
    case = Case("x", ("gen", "--file", "-", "-o", "-"), {"a": b"1"}, b"one\n", {"FOREAL_MAX_TOKENS": "2"})
    outcome = run_case(case, tmp_path / "run", fresh=fresh)
    assert (outcome.code, outcome.out.count(b"\n")) == (0, 1), outcome.err
    assert fault_of(case, outcome) is None
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system copies no processes")
def test_deaths_and_tracebacks_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a harness that finds nothing because it looks at nothing."""
    import foreal_local.cli.main as cli

    def found(fail: object) -> str:
        monkeypatch.setattr(cli, "main", fail)
        return str(fault_of(Case("x", GEN), run_case(Case("x", GEN), tmp_path / "run", limit=1.0)))

    def hang(*_: object, **__: object) -> None:
        import time

        time.sleep(60)

    assert "SIGKILL" in found(lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    assert "Traceback" in found(lambda *_, **__: 1 / 0)
    assert "hangs" in found(hang)


def test_a_file_is_put_together_as_it_was(tiny: TinyModels) -> None:
    """Guards mutations of something that is no model any more for another reason than the one they are named for."""
    data = tiny.model("lfm2").read_bytes()
    document = Document.read(data)
    assert document.write() == data
    assert Document.read(document.without_row(3).write()).rows[3:] == document.without_row(3).rows[3:]
