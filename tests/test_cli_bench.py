"""foreal bench as users call it: figures that a trace confirms, going on, grading what is there, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import MODULE, ROOT, Done, environment, error_line, jsonl, records, run
from real import recount

BENCH = [sys.executable, "-m", "foreal_local", "bench"]
MODELS = ROOT / "models"
MODES = "leader,draft,foreal,cue,speculative"
N = 4


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command on the bundled pair; a mode from it must change nothing here."""
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024", FOREAL_MODE="draft")


def bench(*arguments: str | Path, env: dict[str, str]) -> Done:
    return run(*arguments, env=env, command=BENCH)


@pytest.fixture(scope="module")
def ran(bundled: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output, trace, figures and table of all modes on N problems, greedy."""
    folder = tmp_path_factory.mktemp("bench")
    written = ["-o", folder / "out.jsonl", "--trace", folder / "trace.jsonl", "--json", folder / "figures.json"]
    done = bench("--limit", str(N), "--temp", "0", "--modes", MODES, "--grid", "p=0.6,1", *written, env=bundled)
    assert done.returncode == 0, done.stderr
    (folder / "table.txt").write_text(done.stdout, encoding="utf-8")
    return folder


# ---------------------------------------------------------------- figures
def test_the_figures_come_out_of_the_trace_again(ran: Path) -> None:
    """Guards lengths, shares and FLOPs that are counted wrong: they are counted again by a program of its own."""
    models = {role: recount.Model.read(MODELS / f"tiny-{role}.gguf") for role in recount.ROLES}
    counted: dict[str, list[recount.Count]] = {}
    for id, count in recount.counts(ran / "trace.jsonl").items():
        counted.setdefault(id.split("|")[1], []).append(count)
    figures = json.loads((ran / "figures.json").read_text("utf-8"))["settings"]
    assert [one["setting"] for one in figures][:2] == ["leader", "draft"]
    assert len(figures) == len(counted) == 7
    for one in figures:
        found, means = counted[one["setting"]], one["means"]
        assert one["n"] == len(found) == N
        assert means["length"] == pytest.approx(sum(c.length for c in found) / N)
        assert means["leader_share"] == pytest.approx(sum(c.leader_share for c in found) / N)
        if one["setting"].startswith("speculative"):  # what was proposed and refused is not in a trace
            assert means["flops_generation"] > sum(c.flops_generation(models) for c in found) / N
            continue
        assert means["flops_generation"] == pytest.approx(sum(c.flops_generation(models) for c in found) / N)
        # A token that showed the end of a sentence and was dropped was evaluated for, and is not in the trace.
        assert means["flops_total"] == pytest.approx(sum(c.flops_total(models) for c in found) / N, rel=5e-3)


def test_ratios_are_those_of_the_records(ran: Path) -> None:
    """Guards a comparison with another reference than the leader alone."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records((ran / "out.jsonl").read_text("utf-8")):
        found.setdefault(record["id"].split("|")[1], []).append(record)
    for one in json.loads((ran / "figures.json").read_text("utf-8"))["settings"][1:]:
        for ratio, value in (("length", _length), ("flops_generation", _flops), ("seconds", _seconds)):
            expected = sum(map(value, found[one["setting"]])) / sum(map(value, found["leader"]))
            assert one["ratios"][ratio]["value"] == pytest.approx(expected)


def _length(record: dict[str, Any]) -> float:
    return float(record["usage"]["completion_tokens"])


def _flops(record: dict[str, Any]) -> float:
    return float(record["cost"]["flops_generation"])


def _seconds(record: dict[str, Any]) -> float:
    return float(record["seconds"])


def test_speculation_writes_what_the_leader_writes(ran: Path) -> None:
    texts = {record["id"]: record["text"] for record in records((ran / "out.jsonl").read_text("utf-8"))}
    for id, text in texts.items():
        problem, setting, sample = id.rsplit("|", 2)
        if setting.startswith("speculative"):
            assert text == texts[f"{problem}|leader|{sample}"]


def test_the_table_has_a_line_for_each_setting(ran: Path) -> None:
    lines = (ran / "table.txt").read_text("utf-8").splitlines()
    settings = ["leader", "draft", "cue p=0.6", "cue p=1", "speculative proposals=5"]
    settings += ["foreal n=15 p=0.6 k=5", "foreal n=15 p=1 k=5"]
    alone, against = lines[1:8], lines[10:16]
    for setting in settings:
        assert sum(line.startswith(f"{setting} ") for line in alone) == 1, setting
        assert sum(line.startswith(f"{setting} ") for line in against) == (setting != "leader"), setting
    assert not any("-0.0" in line for line in lines)


# ---------------------------------------------------------------- going on
def test_a_run_goes_on_from_its_output(ran: Path, bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards responses that are made again, or forgotten, when problems or settings are added."""
    output = tmp_path / "out.jsonl"
    output.write_bytes((ran / "out.jsonl").read_bytes())
    kept = records(output.read_text("utf-8"))
    done = bench("--limit", str(N), "--temp", "0", "--modes", "leader,draft,foreal", "-o", output, env=bundled)
    assert done.returncode == 0, done.stderr
    assert records(output.read_text("utf-8")) == kept
    table = (ran / "table.txt").read_text("utf-8").splitlines()
    assert done.stdout.splitlines()[1].split() == table[1].split()
    done = bench("--limit", str(N + 1), "--temp", "0", "--modes", "draft", "-o", output, env=bundled)
    assert done.returncode == 0, done.stderr
    assert records(output.read_text("utf-8"))[:-1] == kept
    assert "foreal bench: " in done.stderr


def test_samples_have_seeds_of_their_own(bundled: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    words = ["--limit", "2", "--samples", "3", "--modes", "draft", "--seed", "5", "--temp", "1.2", "-o", output]
    assert bench(*words, env=bundled).returncode == 0
    found = records(output.read_text("utf-8"))
    assert sorted(record["seed"] for record in found) == [5, 5, 6, 6, 7, 7]
    assert len({record["text"] for record in found}) > 2


def test_a_recommendation_is_a_file_for_foreal_gen(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a file that --config does not take, and advice that is written where nothing pays."""
    best, output = tmp_path / "best.toml", tmp_path / "out.jsonl"
    words = ["--limit", "3", "--temp", "0", "--modes", "leader,foreal", "--grid", "n=2;p=0.3;k=1"]
    done = bench(*words, "--loss", "100", "--recommend", best, "-o", output, env=bundled)
    assert done.returncode == 0, done.stderr
    if "does not pay" in done.stdout:  # a machine on which the draft is no faster
        assert not best.exists()
        return
    assert best.read_text("utf-8").startswith("# foreal n=2 p=0.3 k=1: ")
    env = {key: value for key, value in bundled.items() if key != "FOREAL_MODE"}
    done = run(
        "--config", best, "--prompt", "How many?", "--max-tokens", "5", "--format", "jsonl", env=env, command=MODULE
    )
    (record,) = records(done.stdout)
    assert (record["n"], record["p"], record["k"]) == (2, 0.3, 1)


# ---------------------------------------------------------------- what is there already
def test_responses_are_graded_without_a_model(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a model that is loaded, answers of several settings in one file, and texts with no box."""
    problems, answers = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    problems.write_text(jsonl(*({"id": f"q{i}", "problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(4))))
    texts = ["so \\boxed{1}", "The answer is 2.", "I do not know", "\\boxed{5}"]
    answers.write_text(jsonl(*({"id": f"q{i}", "text": text} for i, text in enumerate(texts))))
    nothing = env | {"FOREAL_LEADER": "/nowhere.gguf"}
    figures = tmp_path / "figures.json"
    done = bench("--problems", problems, "--responses", answers, "--json", figures, env=nothing)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(figures.read_text("utf-8"))["settings"]
    assert found["verdicts"] == {"correct": 2, "missing": 1, "wrong": 1}
    assert "50.0%" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--modes", "leader,both"], "both"),
        (["--modes", ""], "--modes"),
        (["--grid", "n=x"], "--grid"),
        (["--modes", "leader,foreal", "--grid", "proposals=3"], "proposals"),
        (["--samples", "0"], "--samples"),
        (["--limit", "0"], "limit"),
        (["--problems", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--mode", "leader"], "--mode"),
        (["--proposals", "0"], "proposals"),
        (["--cue", " "], "cue"),
        (["--responses", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(words: list[str], told: str, bundled: dict[str, str]) -> None:
    done = bench(*words, env=bundled)
    assert done.returncode == 2
    assert told in error_line(done)
