"""A benchmark as a program calls it, without a command line: what is answered, resumed, graded and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import ROOT, jsonl

from foreal_local.config import Generation, ModelSettings, Pair, Runtime, Sampling
from foreal_local.errors import UsageError
from foreal_local.evaluation.benchmark import BenchRequest, read_responses, run_benchmark
from foreal_local.evaluation.problems.datasets import Problem
from foreal_local.evaluation.problems.grading import Grade

PROBLEMS = [Problem(f"q{i}", f"Tom has {i} apples. Anna gives him 2. How many?", str(i + 2)) for i in range(2)]
BASE = Generation(sampling=Sampling(temp=0), max_tokens=8)
PAIR = Pair(*(ModelSettings(ROOT / "models" / f"tiny-{role}.gguf") for role in ("leader", "draft")))


def test_a_program_runs_a_benchmark_and_resumes_it(tmp_path: Path) -> None:
    """Guards responses out of the settings' order, and ones that are answered again though they are there."""
    output = tmp_path / "out.jsonl"
    runtime = Runtime(ctx_size=256, threads=1)
    request = BenchRequest(PROBLEMS, BASE, ["foreal", "leader"], "n=2", runtime=runtime, output=str(output), quiet=True)
    assert request.base.seed == 0
    responses, exit_code = run_benchmark(request, lambda roles: PAIR)
    assert exit_code == 0
    settings = ["leader"] * 2 + ["foreal n=2 p=0.6 k=5"] * 2
    assert [(r.setting, r.problem) for r in responses] == list(zip(settings, ["q0", "q1"] * 2, strict=True))
    assert all(r.measured and r.record["seed"] == 0 for r in responses)
    written = output.read_bytes()
    assert run_benchmark(request, lambda roles: PAIR) == (responses, 0)
    assert output.read_bytes() == written
    assert {r.text for r in read_responses(str(output), PROBLEMS, None)} == {r.text for r in responses}


def test_a_benchmark_of_no_responses_is_refused() -> None:
    with pytest.raises(UsageError, match="--samples is 0"):
        BenchRequest(PROBLEMS, BASE, ["leader"], n_samples=0)


def test_responses_to_other_problems_are_left_out_under_a_limit_only(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text(jsonl({"id": "q0", "text": "\\boxed{2}"}, {"id": "q7", "text": "\\boxed{9}"}), "utf-8")
    (response,) = read_responses(str(path), PROBLEMS, 2)
    assert (response.problem, response.setting, response.grade) == ("q0", "responses", Grade.CORRECT)
    with pytest.raises(UsageError, match="no problem has the id 'q7'"):
        read_responses(str(path), PROBLEMS, None)
