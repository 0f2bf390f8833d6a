"""What foreal bench says at its end: the verdict, what was cut off, what is recommended, and what was written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import MODULE, ROOT, Done, environment, jsonl, records, run

BENCH = [sys.executable, "-m", "foreal_local", "bench"]
DEMO = ("--problems", ROOT / "models" / "demo.jsonl", "--temp", "0")
FOREAL = "foreal n=15 p=0.6 k=5"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")


@pytest.fixture(scope="module")
def ran(bundled: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The responses to the twelve problems of the demonstration, and the run."""
    output = tmp_path_factory.mktemp("verdict") / "out.jsonl"
    done = run("--modes", "leader,foreal", *DEMO, "-o", output, env=bundled, command=BENCH)
    assert done.returncode == 0, done.stderr
    return output, done


def bench(*words: str | Path, env: dict[str, str], code: int = 0) -> list[str]:
    """The lines that a run prints; none of them has a figure that is no number."""
    done = run(*words, env=env, command=BENCH)
    assert done.returncode == code, done.stderr
    assert not re.search(r"(?<![a-z])(nan|inf)(?![a-z])", done.stdout), done.stdout
    return done.stdout.splitlines()


def changed(ran: tuple[Path, Done], folder: Path, change: Change, keep: int = 12) -> tuple[str | Path, ...]:
    """The options that grade the first responses to these problems once more, with something changed in each."""
    path, found = folder / "changed.jsonl", records(ran[0].read_text("utf-8"))
    found = [record for record in found if record["index"] < keep]
    for record in found:
        change(record)
    path.write_text(jsonl(*found), "utf-8")
    return (*DEMO[:2], "--responses", path)


def right(**wanted: range) -> Change:
    """Answers: right for these problems (by index) of each mode, and wrong for the others; always in the same time."""
    answers = [json.loads(line)["answer"] for line in DEMO[1].read_text("utf-8").splitlines()]  # type: ignore[union-attr]

    def change(record: dict[str, Any]) -> None:
        is_right = record["index"] in wanted[record["mode"]]
        record["text"] = record["answer"] = f"\\boxed{{{answers[record['index']] if is_right else '-1'}}}"
        record["seconds"] = 2.0 if record["mode"] == "leader" else 1.0

    return change


def one_text(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


# ---------------------------------------------------------------- the verdict
def test_the_last_lines_are_the_verdict(ran: tuple[Path, Done], env: dict[str, str], tmp_path: Path) -> None:
    """Guards tables that a reader has to compare before they know what came of it."""
    each = r"\d+ of 12 right, [\d.]+ s each; the leader alone: \d+ of 12, [\d.]+ s each"
    assert re.fullmatch(f"{FOREAL}: {each}", ran[1].stdout.splitlines()[-1])
    words = changed(ran, tmp_path, right(leader=range(12), foreal=range(11)))
    lines = bench(*words, "--recommend", tmp_path / "best.toml", "--loss", "10", env=env)
    assert lines[-1] == f"{FOREAL}: 11 of 12 right, 1 s each; the leader alone: 12 of 12, 2 s each"


def test_each_setting_of_both_models_has_its_verdict(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards modes whose text is the leader's, presets, and runs without the leader or of one model."""
    words = [*DEMO, "--limit", "2", "--max-tokens", "20", "-o", tmp_path / "out.jsonl"]
    lines = bench(*words, "--modes", "leader,draft,auto,fast,foreal", "--grid", "k=2,5", env=bundled)
    settings = ["auto", "foreal n=15 p=0.6 k=2", FOREAL, "fast"]
    assert [line.partition(":")[0] for line in lines[-4:]] == settings
    assert lines[-5] == ""
    assert all("; the leader alone: 0 of 2, 2 cut off, " in line for line in lines[-4:])
    assert bench(*words, "--modes", "draft,leader", env=bundled)[-1].startswith("draft: 0 of 2 right, 2 cut off, ")
    assert bench(*words, "--modes", "auto", env=bundled)[-1].startswith("auto: 0 of 2 right, 2 cut off, ")
    assert re.fullmatch(
        r"leader: 0 of 2 right, 2 cut off, \S+ s each", bench(*words, "--modes", "leader", env=bundled)[-1]
    )


# ---------------------------------------------------------------- what was cut off
def test_responses_that_were_cut_off_are_counted(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a model that seems to know nothing, where it only had no room to answer."""
    figures = tmp_path / "figures.json"
    words = [*DEMO, "--limit", "3", "--modes", "leader,draft", "--json", figures]
    lines = bench(*words, "--max-tokens", "20", env=bundled)
    assert lines[0].split()[-3:] == ["off", "tokens", "leader"]
    assert [line.split()[6] for line in lines[1:3]] == ["3", "3"]
    assert "6 of 6 responses were cut off at --max-tokens: 6 of these have no answer and count as not right; " in (
        one_text(lines)
    )
    assert [one["cut_off"] for one in json.loads(figures.read_text("utf-8"))["settings"]] == [
        {"length": 3, "context": 0}
    ] * 2
    told = one_text(bench(*words, "--ctx-size", "100", env=bundled))
    assert re.search(r"\d of 6 responses were cut off where the context was full: .*; raise --ctx-size", told)
    assert "cut off at" not in one_text(bench(*words, "--modes", "draft", env=bundled))


# ---------------------------------------------------------------- what cannot be told
def test_a_ratio_to_nothing_cannot_be_told(ran: tuple[Path, Done], env: dict[str, str], tmp_path: Path) -> None:
    """Guards `inf` and `nan` in the tables and on the page where the leader has nothing right, or little."""
    report = tmp_path / "report"
    for leader, foreal in ((range(0), range(3)), (range(0), range(0)), (range(1), range(3))):
        words = changed(ran, tmp_path, right(leader=leader, foreal=foreal))
        lines = bench(*words, "--report", report, env=env)
        page = re.sub(r"base64,[^\"]*", "", (report / "report.html").read_text("utf-8"))
        assert not re.search(r"(?<![a-z])(nan|inf)(?![a-z])", page)
        told = "or more)" if leader else "cannot tell"
        assert told in one_text(lines)
        assert told in page


def test_a_recommendation_says_how_sure_it_is(ran: tuple[Path, Done], env: dict[str, str], tmp_path: Path) -> None:
    """Guards a setting that is praised for twelve problems, without a word of what it may lose."""
    words = changed(ran, tmp_path, right(leader=range(12), foreal=range(11)))
    told = one_text(bench(*words, "--loss", "10", env=env))
    assert re.search(r"at 95 % it may lose up to 25\.0 points: (about \d+|more) problems would tell", told)
    assert "may lose" not in one_text(bench(*words, "--loss", "60", env=env))
    told = one_text(bench(*words, "--loss", "5", env=env))
    assert "do not pay here at a loss of 5 points" in told
    assert "at 95 % it may lose as little as 0.0 points: " in told
    few = changed(ran, tmp_path, right(leader=range(12), foreal=range(11)), keep=4)
    assert "4 problems, and at least 10 are needed" in one_text(bench(*few, env=env))


# ---------------------------------------------------------------- the file of --recommend
def test_it_says_what_was_written_and_what_not(ran: tuple[Path, Done], env: dict[str, str], tmp_path: Path) -> None:
    """Guards an option that does nothing without a word, and an earlier file that is taken for this run's."""
    best = tmp_path / "my best.toml"
    good = changed(ran, tmp_path, right(leader=range(12), foreal=range(12)))
    told = one_text(bench(*good, "--loss", "90", "--recommend", best, env=env))
    assert f"written to {best}: foreal-gen --config '{best}'" in told
    text = best.read_text("utf-8")
    assert re.search(r"\n# measured \d{4}-\d\d-\d\d \d\d:\d\d UTC, on 12 problems of \S*demo.jsonl\n", text)
    bad = changed(ran, tmp_path, right(leader=range(12), foreal=range(3)))
    told = one_text(bench(*bad, "--recommend", best, env=env))
    assert f"nothing written to {best} (what is there is of an earlier run): two models do not pay here" in told
    assert best.read_text("utf-8") == text
    told = one_text(bench(*bad, "--recommend", tmp_path / "new.toml", env=env))
    assert f"nothing written to {tmp_path / 'new.toml'}: two models do not pay here" in told


def test_the_file_names_its_pair_and_how_it_was_asked(
    ran: tuple[Path, Done], bundled: dict[str, str], tmp_path: Path
) -> None:
    """Guards a file that another default pair would answer, and one that forgets what the answers had to look like."""
    best, grammar = tmp_path / "best.toml", 'root ::= "\\\\boxed{" [0-9]+ "}" "\\n"?'
    words = [*DEMO, "--modes", "leader,foreal", "-p", "0.1", "--loss", "100", "--grammar", grammar]
    told = bench(*words, "--recommend", best, env=bundled)
    if best.exists():  # unless the draft is no faster here
        lines = best.read_text("utf-8").splitlines()
        assert lines[1] == "# pair tiny: leader tiny-leader.gguf, draft tiny-draft.gguf"
        assert 'pair = "tiny"' in lines
        assert asked_with(best, bundled)["grammar"] == grammar
    else:
        assert "nothing written to" in one_text(told)
    schema = '{"type": "integer"}'

    def with_schema(record: dict[str, Any]) -> None:
        right(leader=range(12), foreal=range(12))(record)
        record["json_schema"] = schema

    again = tmp_path / "again.toml"
    bench(*changed(ran, tmp_path, with_schema), "--loss", "90", "--recommend", again, env=bundled)
    assert asked_with(again, bundled)["json_schema"] == schema


def asked_with(config: Path, env: dict[str, str]) -> dict[str, Any]:
    """The record of an answer with the settings of a file."""
    words = ["--config", config, "--prompt", "How many?", "--max-tokens", "5", "--format", "jsonl"]
    (record,) = records(run(*words, env=env, command=MODULE).stdout)
    return record
