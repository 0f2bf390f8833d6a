"""A role whose worker dies, on the command line, in a chat and over HTTP: what was running fails with one clear line,
the program goes on, and once the worker is back so does the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import ROOT, environment, jsonl, records, run
from on_workers import ON_WORKERS
from real.models import Files
from serving import Server
from terminal import Terminal, terminal_environment

_PROMPTS = jsonl(*({"id": f"p{i}", "prompt": f" we add {i}"} for i in range(5)))
_OPTIONS = [
    "--raw",
    "--format",
    "jsonl",
    "--max-tokens",
    "40",
    "--temp",
    "0",
    "--seed",
    "1",
    "--proposals",
    "0",
    "--parallel",
    "2",
]
_WORKER = ["--leader-rpc", "127.0.0.1:50052"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What happens to the workers: see on_workers.py."""
    made = tmp_path / "workers"
    made.mkdir()
    return made


@pytest.fixture
def lost(chat_pair: Files, tmp_path: Path, folder: Path) -> dict[str, str]:
    return environment(chat_pair, tmp_path, FAKE_WORKERS=str(folder), PYTHONPATH="")


def gen(*arguments: str | Path, env: dict[str, str], stdin: str = _PROMPTS) -> Any:
    return run("gen", "--file", "-", *_OPTIONS, *_WORKER, *arguments, env=env, stdin=stdin, command=ON_WORKERS)


def texts(found: list[dict[str, Any]]) -> dict[str, str]:
    return {record["id"]: record["text"] for record in found}


def test_a_run_over_workers_writes_what_a_run_here_writes(env: dict[str, str], lost: dict[str, str]) -> None:
    """Guards records of a role in a child that are not those of the same model here."""
    here = run("--file", "-", *_OPTIONS, env=env, stdin=_PROMPTS)
    there = gen(env=lost)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert texts(records(there.stdout)) == texts(records(here.stdout))


def test_answers_in_hand_end_with_the_reason_and_a_resumed_run_makes_them_again(
    env: dict[str, str], lost: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    """Guards a hang, a traceback, answers that vanish, and records without a reason."""
    output = tmp_path / "answers.jsonl"
    (folder / "dies_at").write_text("45")
    done = gen("-o", output, env=lost)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    for part in ("Error: the leader", "127.0.0.1:50052", "Remote RPC server crashed", "does not answer", "--resume"):
        assert part in error
    failed = [record for record in records(output.read_text()) if record["finish_reason"] == "error"]
    assert len(failed) == 2
    assert all("the leader, whose layers lie on 127.0.0.1:50052, was lost" in record["error"] for record in failed)
    done = gen("-o", output, "--resume", env=lost)
    assert "127.0.0.1:50052 cannot be reached" in done.stderr.splitlines()[-1]
    (folder / "gone").unlink()
    done = gen("-o", output, "--resume", env=lost)
    assert done.returncode == 0, done.stderr
    here = run("--file", "-", *_OPTIONS, env=env, stdin=_PROMPTS)
    assert texts(records(output.read_text())) == texts(records(here.stdout))


def test_with_a_checkpoint_answers_go_on_where_they_were(
    env: dict[str, str], lost: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    """Guards checkpoints that are removed with a failed record, or that hold what the lost worker had."""
    output, checkpoint = tmp_path / "answers.jsonl", tmp_path / "checkpoint"
    words = ["-o", output, "--resume", "--checkpoint", checkpoint]
    (folder / "dies_at").write_text("45")
    done = gen(*words, env=lost)
    assert done.returncode == 1
    assert all(record["finish_reason"] != "error" for record in records(output.read_text()))
    assert len(list(checkpoint.glob("*.session"))) == 2
    (folder / "gone").unlink()
    done = gen(*words, env=lost)
    assert done.returncode == 0, done.stderr
    here = run("--file", "-", *_OPTIONS, env=env, stdin=_PROMPTS)
    found = records(output.read_text())
    assert texts(found) == texts(records(here.stdout))
    assert sum(record.get("restarts", 0) for record in found) == 2 or len(found) == 5


def test_a_chat_says_it_and_stays(chat_pair: Files, tmp_path: Path, folder: Path) -> None:
    """Guards a chat that ends with its worker, or an answer that is half kept; once it is back, a question loads the
    model again."""
    env = terminal_environment(chat_pair, tmp_path, FAKE_WORKERS=str(folder), PYTHONPATH="")
    words = ["--max-tokens", "20", "--temp", "0", "--seed", "1", "--mode", "leader", *_WORKER]
    with Terminal(*words, env=env, columns=240, program=ON_WORKERS[1:]) as chat:
        (folder / "dies_at").write_text("12")
        answer = chat.say(" one")
        assert "failed: the leader, whose layers lie on 127.0.0.1:50052, was lost" in answer
        assert "the conversation is as it was before this question" in answer
        assert "the leader's worker 127.0.0.1:50052 cannot be reached" in chat.say(" two")
        (folder / "gone").unlink()
        again = chat.say(" three")
        assert "lost" not in again
        assert "tokens" in again
        assert chat.leave() == 0


def test_a_server_answers_503_and_then_again(chat_pair: Files, tmp_path: Path, folder: Path) -> None:
    """Guards a server that ends with a worker, or says that it is its own fault."""
    env = environment(chat_pair, tmp_path, FAKE_WORKERS=str(folder), PYTHONPATH="")
    question = {"messages": [{"role": "user", "content": "one"}], "max_tokens": 20}
    server = Server([*ON_WORKERS, "serve", "--port", "0", "--mode", "leader", *_WORKER], env, ROOT)
    url = f"{server.url}/v1/chat/completions"
    (folder / "dies_at").write_text("12")
    try:
        for reason in ("was lost", "cannot be reached"):
            found = httpx.post(url, json=question, timeout=30)
            assert found.status_code == 503
            assert found.json()["error"]["code"] == "worker_lost"
            assert reason in found.json()["error"]["message"]
            assert int(found.headers["Retry-After"]) > 0
        (folder / "gone").unlink()
        assert httpx.post(url, json=question, timeout=30).status_code == 200
    finally:
        assert server.stop() == 0
