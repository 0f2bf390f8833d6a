"""Prompt sets on a real Ray cluster, whose nodes are processes of this machine. Skipped where Ray is not installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import ROOT, environment, jsonl, records
from test_cli_gen_resume import call
from test_cluster import PROMPTS, SETTINGS, records_in, same_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.name == "nt", reason="Ray runs no clusters there"),
]
SMALL_PARTS = (
    "from foreal_local.cluster import parts; parts.MOST_RECORDS = 2; from foreal_local.cli.gen import main; main()"
)
PATIENCE = 200.0


@pytest.fixture(autouse=True)
def _needs_ray() -> None:
    pytest.importorskip("ray", reason="needs the extra ray (half a gigabyte)")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(None, tmp_path, FOREAL_CTX_SIZE="512", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    texts = [(id, i, text) for i in range(4) for id, text in PROMPTS.items()]
    path.write_text(jsonl(*({"id": f"{id}{i}", "prompt": text} for id, i, text in texts)), "utf-8")
    return path


@pytest.fixture
def cluster(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a CPU each."""
    monkeypatch.setenv("HOME", env["HOME"])  # where Ray keeps what lets a driver in
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.other = found.add_node(num_cpus=1)
    found.wait_for_nodes()
    yield found
    found.shutdown()


def start(*arguments: str | Path, env: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SMALL_PARTS, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=env, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_for(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_machine_that_dies_costs_time_and_no_record(
    cluster: Any, prompts: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a record that is lost, doubled or another one where a machine dies, and pages of Ray's about it."""
    out = tmp_path / "out"
    asked = ("--file", prompts, *SETTINGS)
    process = start(*asked, "-o", out, "--ray", cluster.address, env=env)
    wait_for(lambda: list(out.glob("part-*")), process)
    raylet = psutil.Process(cluster.other.all_processes["raylet"][0].process.pid)
    for each in [*raylet.children(recursive=True), raylet]:
        each.kill()
    told, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (0, ""), errors
    assert "Traceback" not in errors
    assert "1 machine is gone: what it had in hand is made again elsewhere" in errors
    assert not [line for line in errors.splitlines() if "raylet" in line or "WARNING" in line or " E " in line], errors
    assert call(*asked, "-o", tmp_path / "one.jsonl", env=env).returncode == 0
    wanted = sorted(records((tmp_path / "one.jsonl").read_text("utf-8")), key=lambda record: record["index"])
    assert [same_of(record) for record in records_in(out)] == [same_of(record) for record in wanted]


def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(prompts: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Guards processes of a cluster that was started for the run, and finished records that are thrown away."""
    out = tmp_path / "out"
    process = start("--file", prompts, *SETTINGS, "--max-tokens", "200", "-o", out, "--ray", "--threads", "1", env=env)
    wait_for(lambda: list(out.glob("part-*")), process)
    others = psutil.Process(process.pid).children(recursive=True)
    assert others
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (130, ""), errors
    assert "Traceback" not in errors
    done = records_in(out)
    assert f"interrupted: {len(done)} of 12 prompts finished, kept in {out}" in errors
    assert len({record["id"] for record in done}) == len(done) < 12
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive


def test_notes_stand_above_the_progress(env: dict[str, str], prompts: Path, tmp_path: Path) -> None:
    """Guards notes that are printed into Ray's progress bars, so that neither can be read."""
    pexpect, pyte = pytest.importorskip("pexpect"), pytest.importorskip("pyte")
    words = ["-m", "foreal_local", "gen", "-f", str(prompts), "-o", str(tmp_path / "out"), "--ray", "--ray-actors", "1"]
    words += SETTINGS
    process = pexpect.spawn(sys.executable, words, env=env | {"TERM": "xterm"}, cwd=ROOT, dimensions=(200, 100))
    process.expect(pexpect.EOF, timeout=PATIENCE)
    process.close()
    assert process.exitstatus == 0, process.before.decode()
    screen = pyte.Screen(100, 200)
    pyte.ByteStream(screen).feed(process.before)
    notes = [row.rstrip() for row in screen.display if "oreal-gen: prompt " in row]
    assert len(notes) == len(prompts.read_text("utf-8").splitlines())
    for note in notes:
        assert re.fullmatch(
            r"foreal-gen: prompt \w+: ended by --max-tokens after 30 tokens( inside the reasoning)?", note
        )
