"""Traces as the command line writes them, replayed: every recorded decision is what the models say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from foreal_local.cli.gen import main
from foreal_local.errors import UsageError
from foreal_local.evaluation.analysis.sources import read_trace
from foreal_local.hub import bundled_dir

from . import replay
from .engines import GPU, PairMaker, open_engine, pair_of, read_lines, replayed, settings

METHODS = ((0, 1.0, 0), (0, 0.5, 1), (1, 1.0, 1), (2, 0.6, 2), (4, 0.8, 3), (3, 1.0, 5), (0, 0.0, 0), (15, 0.6, 5))
PROMPTS = (" the number is", " wait", " so half of ten, we check the total", " now add")


def trace_of(pair: Any, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The trace of a greedy run over all METHODS; the answers differ in length."""
    prompts, trace = folder / "prompts.jsonl", folder / "trace.jsonl"
    lines = [
        {"prompt": PROMPTS[i % len(PROMPTS)], "id": f"{n} {p} {k}", "n": n, "p": p, "k": k, "max_tokens": 40 + 7 * i}
        for i, (n, p, k) in enumerate(METHODS)
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    models = ["-l", str(pair.leader.path), "-d", str(pair.draft.path), "-c", "512", "-t", "1"]
    command = ["-f", str(prompts), "--trace", str(trace), "--temp", "0", "--seed", "5", "--raw", *models, *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return read_lines(trace)


def replay_each(lines: list[dict[str, Any]], pair: Any, folder: Path) -> dict[str, replay.Report]:
    """A report per answer: the replay takes n, p and k from the header, they differ between the answers here."""
    reports = {}
    for prompt in (line for line in lines if line["type"] == "prompt"):
        header = lines[0] | {key: prompt[key] for key in ("n", "p", "k")}
        answer = [header, *(line for line in lines if line.get("id") == prompt["id"])]
        path = folder / "answer.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in answer), encoding="utf-8")
        reports[prompt["id"]] = replay.examine(path, pair.leader.path, pair.draft.path)
    return reports


def wrong(report: replay.Report) -> list[str]:
    """The violations, but for positions that were not compared: the next function knows which may be left out."""
    return [violation for violation in report.violations if "was not compared" not in violation]


def needlessly_uncompared(lines: list[dict[str, Any]]) -> list[str]:
    """Leader's tokens without a hit flag although the handoff could have been due before the sentence's end.

    The draft judges several tokens at once, so those of a sentence that ends before the counter could have
    come to k are never compared.
    """
    found, header = [], lines[0]
    methods = {line["id"]: (line["n"], line["k"]) for line in lines if line["type"] == "prompt"}
    tokens = [line for line in lines if line["type"] == "token" and line["led"]]
    for (id, number), group in itertools.groupby(tokens, key=lambda line: (line["id"], line["sentence"])):
        sentence, (n, k) = list(group), methods[id]
        led = [line for line in sentence if line["author"] == "leader"]
        counted = led[n:] if header["hits_from"] == "lead" else led
        judged = list(itertools.takewhile(lambda line: line["hit"] is not None, counted))
        left_out = counted[len(judged) :]
        hits = judged[-1]["hits"] if judged else 0
        can_be_due = len(led) > n + 1 and hits + len(left_out) - 1 >= k
        if k and left_out and (can_be_due or len(led) < len(sentence) or any(t["hit"] is not None for t in left_out)):
            found.append(f"prompt {id}, sentence {number}: {len(left_out)} of {len(counted)} are not compared")
    return found


@pytest.mark.parametrize("options", [(), ("--parallel", "4"), ("--parallel", "4", "--hits-from", "sentence")], ids=str)
@pytest.mark.parametrize("name", ["llama", "moe", "gemma3", "lfm2", "mamba", "lfm2+llama", "llama+mamba"])
def test_a_trace_of_the_command_line_follows_the_method(
    name: str, options: tuple[str, ...], make: PairMaker, tmp_path: Path
) -> None:
    """Guards decisions that differ from what is recorded, and hits judged under another context than their own."""
    pair = make(name, "plain")
    lines = trace_of(pair, tmp_path, *options)
    reports = replay_each(lines, pair, tmp_path)
    assert [violation for report in reports.values() for violation in wrong(report)] == []
    assert needlessly_uncompared(lines) == []
    assert len(reports) == len(METHODS)
    n_tokens = sum(report.n_tokens for report in reports.values())
    assert sum(report.n_near_ties for report in reports.values()) <= 0.05 * n_tokens
    assert sum(report.n_compared for report in reports.values()) >= 20
    assert sum(report.n_handoffs for report in reports.values()) >= 5


def baseline(mode: str, pair: Any, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Path]:
    """The trace and the records of a greedy run in a mode; the trace's path."""
    trace, out = folder / f"{mode}.trace.jsonl", folder / f"{mode}.jsonl"
    command = ["--mode", mode, "-p", "0.6", "--cue", "wait,", "--proposals", "3", "--temp", "0", "--seed", "3", "--raw"]
    command += ["--max-tokens", "60", "--trace", str(trace), "-o", str(out), "-P", "2", "-q"]
    command += [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    command += ["-l", str(pair.leader.path), "-d", str(pair.draft.path), "-c", "512", "-t", "1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return read_lines(trace), sorted(read_lines(out), key=lambda record: record["index"]), trace


def written_again(lines: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_cue_is_traced_as_nobodys(make: PairMaker, tmp_path: Path) -> None:
    """Guards given tokens that are traced, counted or replayed as the draft's, and a leader who works for nothing."""
    pair = make("llama", "plain")
    lines, records, trace = baseline("cue", pair, tmp_path)
    report = replay.examine(trace, pair.leader.path, pair.draft.path)
    assert (report.violations, report.n_answers) == ([], len(PROMPTS))
    n_cues = 0
    for record in records:
        tokens = [line for line in lines if line["type"] == "token" and line["id"] == record["id"]]
        assert "".join(line["piece"] for line in tokens) == record["text"]
        authors, usage = [line["author"] for line in tokens], record["usage"]
        assert (usage["leader_tokens"], usage["draft_tokens"]) == (0, authors.count("draft"))
        assert usage.get("given_tokens", 0) == authors.count(None)
        assert usage["completion_tokens"] == len(tokens)
        assert (record["mode"], record["cue"], "proposals" in record) == ("cue", "wait,", False)
        assert record["cost"]["leader"]["calls"] == 0
        led = {line["sentence"] for line in tokens if line["author"] is None}
        assert record["sentences"]["led"] == len(led)
        for sentence in led - {tokens[-1]["sentence"]}:
            given = [line["piece"] for line in tokens if line["author"] is None and line["sentence"] == sentence]
            before = "".join(line["piece"] for line in tokens if line["sentence"] < sentence)
            assert "".join(given) == ("wait," if before[-1:].isspace() or not before else " wait,")
            n_cues += 1
    assert n_cues >= 3
    for line in lines:
        if line.get("author", "") is None:
            line["author"] = "draft"
    report = replay.examine(written_again(lines, tmp_path / "changed.jsonl"), pair.leader.path, pair.draft.path)
    assert any("begins with 0 given" in violation for violation in report.violations)


@pytest.mark.parametrize("mode", ["leader", "draft", "cue"])
def test_the_bundled_pairs_baselines_replay(mode: str, tmp_path: Path) -> None:
    """Guards a cue in the answer after the reasoning, and a replay that asks a role that took no part."""
    pair = pair_of(*(bundled_dir() / f"tiny-{role}.gguf" for role in ("leader", "draft")))
    lines = (bundled_dir() / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    with open_engine(pair, ctx_size=1024) as engine:
        prompts = [json.loads(line)["prompt"] for line in lines]
        results = engine.generate(prompts, settings(mode, seed=4, max_tokens=None, p=0.6))
    report = replayed(results, pair, tmp_path)
    assert (report.violations, report.n_answers) == ([], 6)
    assert any("</think>" in result.text for result in results)


def test_the_trace_of_a_cue_run_is_refused_for_what_it_lacks(make: PairMaker, tmp_path: Path) -> None:
    """Guards `foreal analyze --trace` that calls a whole trace broken: it only has no leader's prompt."""
    _, _, path = baseline("cue", make("llama", "plain"), tmp_path)
    with pytest.raises(UsageError, match="no prompt of the leader"):
        read_trace(str(path))


@pytest.mark.parametrize("name", ["llama", "lfm2+llama"])
def test_speculation_is_traced_as_the_leaders_own(name: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards proposals in the trace, tokens of the draft's among the counts, and a text that is not the leader's."""
    pair = make(name, "plain")
    lines, records, trace = baseline("speculative", pair, tmp_path)
    report = replay.examine(trace, pair.leader.path, pair.draft.path)
    assert (report.violations, report.n_answers, report.n_compared) == ([], len(PROMPTS), 0)
    _, leaders, _ = baseline("leader", pair, tmp_path)
    assert GPU or report.n_near_ties or [record["text"] for record in records] == [record["text"] for record in leaders]
    for record in records:
        tokens = [line for line in lines if line["type"] == "token" and line["id"] == record["id"]]
        assert "".join(line["piece"] for line in tokens) == record["text"]
        assert {(line["author"], line["led"], line["hit"]) for line in tokens} == {("leader", True, None)}
        usage = {"completion_tokens": len(tokens), "leader_tokens": len(tokens), "draft_tokens": 0}
        assert {key: value for key, value in record["usage"].items() if key != "prompt_tokens"} == usage
        assert (record["mode"], record["proposals"], "cue" in record) == ("speculative", 3, False)
        assert record["cost"]["draft"]["calls"] > record["cost"]["leader"]["calls"] / 2
    assert len(read_trace(str(trace)).responses) == len(PROMPTS)


def test_the_header_holds_for_all_answers_without_settings_of_their_own(make: PairMaker, tmp_path: Path) -> None:
    """Guards a header that says something else than what was run."""
    pair, trace = make("llama", "plain"), tmp_path / "trace.jsonl"
    command = ["-n", "3", "-p", "0.7", "-k", "2", "--temp", "0", "--raw", "--max-tokens", "90", "--trace", str(trace)]
    command += [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    command += ["-l", str(pair.leader.path), "-d", str(pair.draft.path), "-c", "512", "-t", "1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    report = replay.examine(trace, pair.leader.path, pair.draft.path)
    assert (wrong(report), report.n_answers) == ([], len(PROMPTS))
    lines = read_lines(trace)
    assert needlessly_uncompared(lines) == []
    swapped = tmp_path / "swapped.jsonl"
    changed = [line | {"n": 4} if line["type"] in ("header", "prompt") else line for line in lines]
    swapped.write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert wrong(replay.examine(swapped, pair.leader.path, pair.draft.path)), "another n would not be noticed"
