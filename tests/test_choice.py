"""Mode auto with --loss: the leader's own text, or a setting that foreal bench has measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import MODULE, error_line, records, run

from foreal_local.choice import Measured, choose, measured_of
from foreal_local.config import Generation, Method
from foreal_local.errors import UsageError
from foreal_local.method.plan import Plan, Speed
from foreal_local.method.roles import Role

LEADER, DRAFT = Role.LEADER, Role.DRAFT
AUTO = Generation(mode="auto", method=Method(review="ratio"))
CHEAP_READING = Plan({LEADER: Speed({1: 1.0, 16: 1.0}), DRAFT: Speed({1: 0.1})})
DEAR_READING = Plan({LEADER: Speed({1: 1.0, 16: 16.0}), DRAFT: Speed({1: 0.5})})


def measured(points_lost: float = 2.0, leader_calls: float = 0.1) -> Measured:
    work = {LEADER: (leader_calls, 1.2), DRAFT: (1.2, 1.2)}
    return Measured("foreal", 100, points_lost, work)


def test_times_are_predicted_from_calls_and_their_sizes() -> None:
    """0.1 calls of the leader with 12 tokens each, and 1.2 of the draft's: 0.1 x 1.0 + 1.2 x 0.1 against 1.0."""
    assert measured().gain(CHEAP_READING) == pytest.approx(1 / 0.22)
    assert measured().gain(DEAR_READING) == pytest.approx(1 / (0.1 * 12 + 1.2 * 0.5))
    halves = Measured("foreal", 100, 0.0, {LEADER: (0.5, 1.25), DRAFT: (0.0, 0.0)})  # 2.5 tokens each
    assert halves.gain(DEAR_READING) == pytest.approx(1 / (0.5 * 2.5))


def test_the_measured_setting_is_chosen_where_it_is_fastest_and_loses_little() -> None:
    settings, why = choose(CHEAP_READING, AUTO, measured(), 5)
    assert (settings.mode, settings.method) == ("foreal", AUTO.method)
    assert "loses 2.0 points" in why
    assert "4.55 times" in why
    for plan, found, loss in ((CHEAP_READING, measured(5.1), 5), (DEAR_READING, measured(0.0), 100)):
        settings, why = choose(plan, AUTO, found, loss)
        assert settings is AUTO
        assert "the leader's own text" in why
    assert "1.00 times" in why  # nor do proposals pay there


def test_a_setting_slower_than_speculation_is_not_chosen() -> None:
    settings, why = choose(CHEAP_READING, AUTO, measured(leader_calls=0.9), 5)
    assert settings is AUTO
    assert CHEAP_READING.expected[1] > 1 / (0.9 + 0.12) > 0.9
    assert "0.98 times" in why


def record(completion: int = 10, leader: tuple[int, int] = (5, 30), draft: tuple[int, int] = (9, 40)) -> dict[str, Any]:
    """A record with calls and evaluated tokens, those of a prompt of 20 tokens among them."""
    cost = {
        role: {"calls": calls, "decode_tokens": 4, "prefill_tokens": n - 4}
        for role, (calls, n) in (("leader", leader), ("draft", draft))
    }
    return {"usage": {"completion_tokens": completion, "prompt_tokens": 20}, "cost": cost}


def test_a_bench_says_how_often_each_model_was_asked() -> None:
    """Guards prompts that are counted as part of the responses."""
    table = measured_of([record(), record(30, (3, 22), (31, 52))], 1.5)
    assert table == {
        "responses": 2, "points-lost": 1.5, "leader-calls": 6 / 40, "leader-tokens": 12 / 40,
        "draft-calls": 38 / 40, "draft-tokens": 52 / 40,
    }  # fmt: skip
    assert Measured.of("foreal", table).work == {LEADER: (0.15, 0.3), DRAFT: (0.95, 1.3)}
    with pytest.raises(UsageError, match="leader-calls"):
        Measured.of("foreal", {**table, "leader-calls": "many"})
    with pytest.raises(UsageError, match="mode"):
        Measured.of(None, table)


def test_a_beginning_that_was_copied_is_no_work_of_the_response() -> None:
    """Guards a setting that looks cheaper because its prompts begin alike."""
    copied = record(leader=(5, 15), draft=(9, 25))
    for role in ("leader", "draft"):
        copied["cost"][role]["reused_tokens"] = 15
    assert measured_of([copied], 0.0) == measured_of([record()], 0.0)


# ---------------------------------------------------------------- command lines
FILE = """mode = "foreal"
gate = "never"
review = "ratio"
tau = 0.1
proposals = 4

[measured]
responses = 100
points-lost = {lost}
leader-calls = {calls}
leader-tokens = {calls}
draft-calls = {calls}
draft-tokens = {calls}
"""
WORDS = ["--mode", "auto", "--prompt", "wait", "--max-tokens", "12", "--seed", "1"]


@pytest.fixture
def bench_file(tmp_path: Path) -> Path:
    file = tmp_path / "best.toml"
    file.write_text(FILE.format(lost=2.5, calls=0.001))
    return file


def test_a_run_takes_the_fastest_and_says_so(bench_file: Path, env: dict[str, str]) -> None:
    """Guards a choice that is told nowhere, or made of what was not asked for."""

    def answered(*words: str) -> tuple[dict[str, Any], str]:
        done = run("--config", bench_file, *WORDS, "--format", "jsonl", *words, env=env)
        assert done.returncode == 0, done.stderr
        return records(done.stdout)[0], done.stderr

    found, told = answered("--loss", "3")
    assert (found["mode"], found["review"]) == ("foreal", "ratio")
    assert "measured setting" in found["auto"]
    assert found["auto"] in " ".join(told.split())
    found, told = answered("--loss", "2")
    assert found["mode"] == "auto"
    assert "loses 2.5 points" in found["auto"]
    found, told = answered()
    assert found["mode"] == "auto"
    assert "auto" not in found
    assert "measured" not in told


def test_a_run_that_goes_on_keeps_what_was_chosen(bench_file: Path, tmp_path: Path, env: dict[str, str]) -> None:
    """Guards records that are dropped because the machine was timed anew."""
    words = ["--config", bench_file, *WORDS, "-o", tmp_path / "out.jsonl", "--loss", "3", "--resume"]
    assert run(*words, env=env).returncode == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    bench_file.write_text(FILE.format(lost=2.5, calls=100))  # it would not be chosen now
    done = run(*words, "--prompt", "so", env=env)
    assert done.returncode == 0, done.stderr
    after = (tmp_path / "out.jsonl").read_bytes()
    assert after.startswith(before)
    first, second = map(json.loads, after.splitlines())
    assert (first["mode"], first["auto"]) == (second["mode"], second["auto"])
    assert first["mode"] == "foreal"
    assert first["auto"] in " ".join(done.stderr.split())


def test_a_mode_that_was_not_chosen_settles_nothing(bench_file: Path, tmp_path: Path, env: dict[str, str]) -> None:
    """Guards a choice that is taken from records of the same mode that a run without --loss has written."""
    out = tmp_path / "out.jsonl"
    assert run(*WORDS, "-o", out, "--mode", "foreal", env=env).returncode == 0
    bench_file.write_text(FILE.format(lost=2.5, calls=100))
    done = run("--config", bench_file, *WORDS, "-o", out, "--loss", "3", "--resume", env=env)
    assert done.returncode == 0, done.stderr
    (found,) = records(out.read_text("utf-8"))
    assert found["mode"] == "auto"
    assert "would be" in found["auto"]


def test_a_chat_takes_it_too_and_says_why(bench_file: Path, tmp_path: Path, env: dict[str, str]) -> None:
    """Guards a session whose stored mode undoes the choice, and a reason that nobody can ask for."""
    words = f"--config {bench_file} --mode auto --loss 3 --session s --max-tokens 8 --seed 1".split()
    for _ in range(2):  # the second goes on with the session
        done = run(*words, env=env, stdin="wait\n/stats\n/show\n", command=[*MODULE[:-1], "chat"])
        assert done.returncode == 0, done.stderr
        told = " ".join(f"{done.stdout} {done.stderr}".split())
        assert "the measured setting (foreal, 100 responses) loses 2.5 points" in told
        assert "settings foreal gate=never" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mode", "foreal"], "the mode is foreal"),
        (["--tau", "0.3"], "the file's figures are of 0.1"),
        (["--loss", "101"], "between 0 and 100"),
    ],
)
def test_a_loss_that_means_nothing_is_refused(
    words: list[str], told: str, bench_file: Path, env: dict[str, str]
) -> None:
    done = run("--config", bench_file, *WORDS, "--loss", "3", *words, env=env)
    assert done.returncode == 2
    assert told in error_line(done)


def test_a_loss_needs_a_measured_file(bench_file: Path, env: dict[str, str]) -> None:
    assert "[measured]" in error_line(run(*WORDS, "--loss", "3", env=env))
    bench_file.write_text(FILE.format(lost='"much"', calls=1))
    assert "points-lost = 'much'" in error_line(run("--config", bench_file, *WORDS, "--loss", "3", env=env))
