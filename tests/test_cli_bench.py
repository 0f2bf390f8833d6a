"""foreal bench as users call it: figures that a trace confirms, resuming, grading what is there, refusals."""

from __future__ import annotations

import json
import re
import subprocess
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
    return environment(
        None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024", FOREAL_MODE="draft", FOREAL_REVIEW="off"
    )


def bench(*arguments: str | Path, env: dict[str, str]) -> Done:
    return run(*arguments, env=env, command=BENCH)


GRID = ("--grid", "p=0.6,1;proposals=0,3")


@pytest.fixture(scope="module")
def ran(bundled: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output, trace, figures and table of all modes on N problems, greedy."""
    folder = tmp_path_factory.mktemp("bench")
    written = ["-o", folder / "out.jsonl", "--trace", folder / "trace.jsonl", "--json", folder / "figures.json"]
    done = bench("--limit", str(N), "--temp", "0", "--modes", MODES, *GRID, *written, env=bundled)
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
    assert len(figures) == len(counted) == 10
    for one in figures:
        found, means = counted[one["setting"]], one["means"]
        assert one["n"] == len(found) == N
        assert means["length"] == pytest.approx(sum(c.length for c in found) / N)
        assert means["leader_share"] == pytest.approx(sum(c.leader_share for c in found) / N)
        generation, total = (
            sum(c.flops_generation(models) for c in found) / N,
            sum(c.flops_total(models) for c in found) / N,
        )
        if one["setting"] == "speculative proposals=3":  # what was proposed and refused is not in a trace
            assert means["flops_generation"] > generation
            continue
        assert means["flops_generation"] == pytest.approx(
            generation, rel=5e-3 if "speculative" in one["setting"] else 1e-6
        )
        if "proposals=3" in one["setting"]:
            assert means["flops_total"] > total
            continue
        # A token that showed the end of a sentence and was dropped was evaluated for, and is not in the trace.
        assert means["flops_total"] == pytest.approx(total, rel=5e-3)


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
    settings = ["leader", "draft", "cue p=0.6", "cue p=1", "speculative proposals=0", "speculative proposals=3"]
    settings += [f"foreal n=15 p={p} k=5 proposals={m}" for p in ("0.6", "1") for m in (0, 3)]
    answers, work, against = lines[1:11], lines[13:23], lines[25:34]
    for setting in settings:
        assert sum(line.startswith(f"{setting} ") for line in answers) == 1, setting
        assert sum(line.startswith(f"{setting} ") for line in work) == 1, setting
        assert sum(line.startswith(f"{setting} ") for line in against) == (setting != "leader"), setting
    assert not any(re.search(r"(?<!\d)-0\.0(?!\d)", line) for line in lines)
    assert max(map(len, lines)) <= 82 + max(map(len, settings))


# ---------------------------------------------------------------- resuming
def test_a_run_is_resumed_from_its_output(ran: Path, bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards responses that are made again, or forgotten, when problems or settings are added."""
    output = tmp_path / "out.jsonl"
    output.write_bytes((ran / "out.jsonl").read_bytes())
    kept = records(output.read_text("utf-8"))
    done = bench("--limit", str(N), "--temp", "0", "--modes", "leader,draft,foreal", *GRID, "-o", output, env=bundled)
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
    words = ["--limit", "10", "--temp", "0", "--modes", "leader,foreal", "--grid", "n=2;p=0.3;k=1"]
    done = bench(*words, "--boundaries", "simple", "--loss", "100", "--recommend", best, "-o", output, env=bundled)
    assert done.returncode == 0, done.stderr
    if not best.exists():  # a machine on which the draft is no faster
        assert "nothing written to" in done.stdout
        return
    assert best.read_text("utf-8").startswith("# foreal n=2 p=0.3 k=1: ")
    env = {key: value for key, value in bundled.items() if key != "FOREAL_MODE"}
    done = run(
        "--config", best, "--prompt", "How many?", "--max-tokens", "5", "--format", "jsonl", env=env, command=MODULE
    )
    (record,) = records(done.stdout)
    assert (record["n"], record["p"], record["k"]) == (2, 0.3, 1)
    assert (record["temp"], record["boundaries"]) == (0.0, "simple")


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
        (["--modes", "leader,draft", "--grid", "proposals=3"], "proposals"),
        (["--samples", "0"], "--samples"),
        (["--limit", "0"], "limit"),
        (["--problems", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--mode", "leader"], "--mode"),
        (["--proposals", "65"], "proposals"),
        (["--cue", " "], "cue"),
        (["--responses", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(words: list[str], told: str, bundled: dict[str, str]) -> None:
    done = bench(*words, env=bundled)
    assert done.returncode == 2
    assert told in error_line(done)


# ---------------------------------------------------------------- what a new user tried
def test_speculation_at_a_high_temperature_loses_nothing(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards settings of a problem that have other random numbers: a lossless mode would seem to lose."""
    output = tmp_path / "out.jsonl"
    words = ["--limit", "3", "--temp", "1.3", "--top-p", "1", "--seed", "3", "--modes", "leader,speculative"]
    assert bench(*words, "-o", output, env=bundled).returncode == 0
    texts = {record["id"]: record["text"] for record in records(output.read_text("utf-8"))}
    for i in range(3):
        assert texts[f"heldout-{i}|leader|0"] == texts[f"heldout-{i}|speculative proposals=auto|0"]


def test_a_settings_figures_do_not_depend_on_the_others(bundled: dict[str, str], ran: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert bench("--limit", "2", "--temp", "0", "--modes", "foreal", *GRID, "-o", output, env=bundled).returncode == 0
    texts = {record["id"]: record["text"] for record in records((ran / "out.jsonl").read_text("utf-8"))}
    for record in records(output.read_text("utf-8")):
        assert record["text"] == texts[record["id"]]


def test_line_separators_of_unicode_are_no_ends_of_lines(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a run that is finished and can never be graded."""
    problems, output = tmp_path / "problems.jsonl", tmp_path / "out.jsonl"
    problems.write_text(jsonl({"id": "a", "problem": "Tom has 3 apples.\u2028How many?", "answer": "3"}), "utf-8")
    words = ["--problems", problems, "--modes", "draft", "--max-tokens", "5", "-o", output]
    for _ in range(2):
        done = bench(*words, env=bundled)
        assert done.returncode == 0, done.stderr


def test_a_problem_that_does_not_fit_counts_as_failed(bundled: dict[str, str], tmp_path: Path) -> None:
    problems, figures = tmp_path / "problems.jsonl", tmp_path / "figures.json"
    lines = [{"problem": "One and one?", "answer": "2"}, {"problem": "Count " * 900, "answer": "3"}]
    problems.write_text(jsonl(*lines), "utf-8")
    words = ["--problems", problems, "--modes", "draft", "--max-tokens", "20", "--json", figures]
    done = bench(*words, env=bundled)
    assert done.returncode == 1
    (found,) = json.loads(figures.read_text("utf-8"))["settings"]
    assert found["verdicts"]["failed"] == 1
    assert found["means"]["length"] == 20


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            '{"id": "a", "problem": "?", "answer": "1"}\n{"id": "a", "problem": "!", "answer": "2"}',
            "both have the id 'a'",
        ),
        ('{"problem": "?", "answer": 1e400}', "has no answer"),
        ('{"problem": "?", "answer": NaN}', "has no answer"),
        ('{"Question": "a"}', "has no 'Correct Answer'"),
    ],
)
def test_problems_that_cannot_be_graded_are_refused(
    line: str, told: str, bundled: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "problems.jsonl").write_text(line)
    done = bench("--problems", tmp_path / "problems.jsonl", env=bundled)
    assert done.returncode == 2
    assert told in error_line(done)


def test_responses_of_any_tool_are_read(env: dict[str, str], tmp_path: Path) -> None:
    """Guards blank lines, a byte order mark, ids with bars, foreign keys and a setting of null."""
    lines = [
        {"id": "heldout-0", "text": "\\boxed{1}", "usage": {}, "cost": {}, "seconds": 1, "setting": None},
        {"id": "heldout-1", "text": "\\boxed{\\infty}"},
        {"id": "heldout-7|a|b|c", "text": "1"},
    ]
    (tmp_path / "r.jsonl").write_text("\ufeff" + jsonl(*lines[:2]) + "\n\n", "utf-8")
    figures = tmp_path / "f.json"
    done = bench("--responses", tmp_path / "r.jsonl", "--json", figures, env=env)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(figures.read_text("utf-8"))["settings"]
    assert (found["setting"], found["verdicts"]) == ("responses", {"wrong": 2})
    (tmp_path / "r.jsonl").write_text(jsonl(lines[2]))
    assert "heldout-7|a|b|c" in error_line(bench("--responses", tmp_path / "r.jsonl", env=env))
    (tmp_path / "r.jsonl").write_text("")
    assert "no responses" in error_line(bench("--responses", tmp_path / "r.jsonl", env=env))


@pytest.mark.parametrize("option", ["--json", "--recommend", "--trace", "-o"])
def test_a_file_that_cannot_be_written_is_reported_first(option: str, bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a traceback after hours of work."""
    assert "cannot write" in error_line(bench(option, tmp_path / "no" / "x", env=bundled))
    assert "cannot write" in error_line(bench(option, tmp_path, env=bundled))


def test_no_file_is_two_things(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards problems and responses that are overwritten by the figures."""
    file = tmp_path / "x.jsonl"
    file.write_text(jsonl({"problem": "?", "answer": "1"}))
    before = file.read_bytes()
    for words in (
        ["--problems", file, "--json", file],
        ["--problems", file, "--trace", file],
        ["-o", file, "--json", file],
        ["--responses", file, "--recommend", file],
    ):
        assert "the same file" in error_line(bench(*words, env=bundled))
    assert file.read_bytes() == before


def test_a_reader_that_leaves_loses_no_file(env: dict[str, str], tmp_path: Path) -> None:
    """Guards figures that are not written because the table was cut by head."""
    (tmp_path / "r.jsonl").write_text(jsonl({"id": "heldout-0", "text": "\\boxed{1}"}))
    command = [*BENCH, "--responses", str(tmp_path / "r.jsonl"), "--json", str(tmp_path / "f.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, cwd=ROOT) as process:
        assert process.stdout
        process.stdout.close()
        process.wait(60)
    assert (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    ("line", "told"), [("n = 1.5", "whole number"), ("limit = true", "whole number"), ("jsonn = 'x'", "no option")]
)
def test_a_settings_file_is_checked(line: str, told: str, bundled: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(line)
    assert told in error_line(bench("--config", tmp_path / "s.toml", env=bundled))


def test_a_settings_file_may_name_any_option(env: dict[str, str], tmp_path: Path) -> None:
    """Guards options whose value has another name inside, and one text where several are possible."""
    (tmp_path / "r.jsonl").write_text(jsonl({"id": "heldout-0", "text": "\\boxed{1}"}))
    (tmp_path / "s.toml").write_text(f'json = "{tmp_path}/f.json"\nstop = "ab"\nlead-tokens = 3\n')
    done = bench("--config", tmp_path / "s.toml", "--responses", tmp_path / "r.jsonl", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.json").exists()


# ---------------------------------------------------------------- where problems come from
APPLES = {"problem": "Tom has 2 apples. Anna has 3 more. How many has Anna?", "answer": "5"}


@pytest.mark.parametrize("command", ["bench", "analyze"])
def test_problems_come_from_a_pipe(command: str, bundled: dict[str, str]) -> None:
    """Guards <(...) of the shell, which was taken for the name of a set on the hub."""
    more = ("--modes", "draft", "--temp", "0") if command == "bench" else ()
    words = [sys.executable, "-m", "foreal_local", command]
    piped = ("--problems", "/dev/stdin", "--max-tokens", "4", "-q")
    done = run(*piped, *more, env=bundled, stdin=jsonl(APPLES), command=words)
    assert (done.returncode, "draft" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p" * 400, None, "there is no such file"),
        ("latin.csv", "Question,Correct Answer\nWie groß?,5\n".encode("latin-1"), "line 2 is not UTF-8 text"),
        ("latin.jsonl", '{"problem": "groß"}\n'.encode("latin-1"), "line 1 is not UTF-8 text"),
        ("long.csv", b"Question\n" + b"x" * 200_000, "row 1 is no CSV: field larger than field limit"),
        ("folder", b"", "there is no such file"),
    ],
    ids=["long name", "csv", "jsonl", "long field", "folder"],
)
def test_problems_that_cannot_be_read_are_told_of(
    name: str, content: bytes | None, said: str, bundled: dict[str, str], tmp_path: Path
) -> None:
    """Guards tracebacks of a name that is too long, and of a table in another encoding."""
    if content:
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        (tmp_path / name).mkdir()
    done = bench("--problems", tmp_path / name, "-q", env=bundled)
    assert (done.returncode, said in error_line(done)) == (2, True), done.stderr
