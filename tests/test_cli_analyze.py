"""foreal analyze: figures of fresh responses, traces and texts; tables, the JSON file, and refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner
from commands import MODULE, ROOT, Done, environment, error_line, jsonl, records, run
from real import replay
from real.models import Files, TinyModels

from foreal_local.cli.analyze import main

ANALYZE = [sys.executable, "-m", "foreal_local.cli.analyze"]
MODELS = ROOT / "models"
LEADER, DRAFT = MODELS / "tiny-leader.gguf", MODELS / "tiny-draft.gguf"
N = 5
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command on the bundled pair, with its own context."""
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024")


def analyze(*arguments: str | Path, env: dict[str, str], stdin: str = "") -> Done:
    return run(*arguments, env=env, stdin=stdin, command=ANALYZE)


def figures(*arguments: str | Path, env: dict[str, str], folder: Path, code: int = 0) -> tuple[dict[str, Any], Done]:
    """The JSON file of a run, and the run."""
    out = folder / "analysis.json"
    done = analyze(*arguments, "-o", out, env=env)
    assert done.returncode == code, done.stderr
    return json.loads(out.read_text("utf-8")), done


@pytest.fixture(scope="module")
def fresh(bundled: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Done]:
    """The bundled pair on N problems, one at a time, its leader as a second draft."""
    folder = tmp_path_factory.mktemp("fresh")
    return figures("--limit", str(N), "-P", "1", "-d", LEADER, env=bundled, folder=folder)


@pytest.fixture(scope="module")
def trace(bundled: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The leader's greedy responses to the same problems by foreal-gen, as a trace; answers.jsonl beside it."""
    folder = tmp_path_factory.mktemp("trace")
    prompts = folder / "prompts.jsonl"
    lines = (MODELS / "heldout.jsonl").read_text("utf-8").splitlines(keepends=True)
    prompts.write_text("".join(lines[:N]), "utf-8")
    written = ("--trace", folder / "trace.jsonl", "-o", folder / "answers.jsonl")
    done = run("-f", prompts, "--mode", "leader", "--temp", "0", *written, env=bundled, command=MODULE)
    assert done.returncode == 0, done.stderr
    return folder / "trace.jsonl"


def same(found: dict[str, Any]) -> dict[str, Any]:
    """What must be the same wherever the responses come from."""
    drafts = [{key: value for key, value in draft.items() if key != "seconds"} for draft in found["drafts"]]
    lengths = [(one["n_tokens"], one["sentences"]) for one in found["responses"]]
    return {"drafts": drafts, "lengths": lengths, "leader": found["leader"]}


# ---------------------------------------------------------------- figures
def test_the_tables_say_what_the_file_says(fresh: tuple[dict[str, Any], Done]) -> None:
    """Guards a table that is missing, figures that differ from the file's, and colour or progress in a pipe."""
    found, done = fresh
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""
    draft = found["drafts"][0]
    for title in ("by position in the response", "by token of the sentence", "misaligned words", "how sure", "n and k"):
        assert done.stdout.count(f"tiny-draft.gguf: {title}") + done.stdout.count(title) >= 1, title
    assert f"{N} responses, {draft['n_tokens']} tokens, {draft['n_sentences']} sentences" in done.stdout
    assert f"{100 * draft['overall']['value']:.1f} (" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"  (15|25) +[135] ", line)]
    assert [row[2] for row in rows[:6]] == [f"{100 * h['handed']['value']:.1f}" for h in draft["grid"][6:]]
    table = done.stdout.partition("tiny-draft.gguf: what --review ratio would rewrite")[2]
    rows = [line.split() for line in table.splitlines() if re.match(r"  (0\.\d+|1) ", line)][: len(draft["rewrites"])]
    shown = [[float(word) for word in row if not word.startswith("(")] for row in rows]
    assert shown == [
        [
            r["tau"],
            *(round(100 * r[name]["value"], 1) for name in ("refused", "sentences")),
            *(round(r[name]["value"], 3) for name in ("calls", "calls_by_sentence")),
        ]
        for r in draft["rewrites"]
    ]


def test_the_last_lines_say_what_to_do(fresh: tuple[dict[str, Any], Done]) -> None:
    """Guards eight tables that leave their reader alone."""
    found, done = fresh
    told = " ".join(done.stdout.rpartition("\n\n")[2].split())
    first, _, second = told.partition(" tiny-leader.gguf: ")
    assert first.startswith("tiny-draft.gguf: ")
    assert "foreal bench" in first or "analyse more" in first or "nearer to the leader" in first
    assert second.startswith("it agrees everywhere, and would write about ")
    assert not re.search(r"(?<![a-z])(nan|inf)(?![a-z])", done.stdout)
    assert found["cut_off"] == {"length": 0, "context": 0}
    assert "cut off" not in done.stdout


def test_the_figures_follow_from_the_flags(fresh: tuple[dict[str, Any], Done]) -> None:
    """Guards figures that nobody can check: counted again here, from flags and sentence lengths, by other code."""
    found, _ = fresh
    draft = found["drafts"][0]
    sentences, position = [], []
    for one, flags in zip(found["responses"], draft["flags"], strict=True):
        assert len(flags) == one["n_tokens"] == sum(one["sentences"])
        position += [(i // 32, flag == "0") for i, flag in enumerate(flags)]
        rest = flags
        for size in one["sentences"]:
            sentences.append(rest[:size])
            rest = rest[size:]
    for place in range(1, 21):
        there = [sentence[place - 1] for sentence in sentences if len(sentence) >= place]
        assert draft["along_sentence"]["n"][place - 1] == len(there)
        assert draft["along_sentence"]["share"][place - 1] == pytest.approx(there.count("0") / len(there), abs=1e-6)
    for i, share in enumerate(draft["along_response"]["share"]):
        there = [missed for at, missed in position if at == i]
        assert share == pytest.approx(sum(there) / len(there), abs=1e-6)
    for promise in [draft["handoffs"], *draft["grid"]]:
        pattern = re.compile(f".{{{promise['n']}}}.*?{'1' * promise['k']}")
        ends = [match.end() for s in sentences if (match := pattern.match(s[:-1]))]
        assert sum(promise["counts"]) == len(ends)
        saved = sum(len(s) for s in sentences if pattern.match(s[:-1])) - sum(ends)
        assert promise["written"]["value"] == pytest.approx(saved / draft["n_tokens"], abs=1e-6)


def test_the_rewrites_follow_from_the_probabilities(fresh: tuple[dict[str, Any], Done]) -> None:
    """Guards a forecast that nobody can check, and one draft's tokens that the other is charged for."""
    found, _ = fresh
    lengths = [one["sentences"] for one in found["responses"]]
    for draft in found["drafts"]:
        sentences: list[list[float]] = []
        for relative, flags, sizes in zip(draft["relative"], draft["flags"], lengths, strict=True):
            assert [value == 1 for value in relative] == [flag == "1" for flag in flags]
            rest = relative
            for size in sizes:
                sentences.append(rest[:size])
                rest = rest[size:]
        for foretold in draft["rewrites"]:
            refused = [sum(value < foretold["tau"] for value in sentence) for sentence in sentences]
            assert foretold["refused"]["value"] == pytest.approx(sum(refused) / draft["n_tokens"], abs=1e-6)
            assert foretold["sentences"]["value"] == pytest.approx(1 - refused.count(0) / len(refused), abs=1e-6)
            calls = (len(refused) + sum(refused)) / draft["n_tokens"]
            assert foretold["calls_by_sentence"]["value"] == pytest.approx(calls, abs=1e-6)
            n_calls = 0
            for relative in draft["relative"]:
                since = 0
                for value in relative:
                    n_calls += since == 0
                    since = 0 if value < foretold["tau"] or since == 15 else since + 1
            assert foretold["calls"]["value"] == pytest.approx(n_calls / draft["n_tokens"], abs=1e-6)
    small, own = (draft["rewrites"] for draft in found["drafts"])
    assert 0 < small[0]["refused"]["value"] <= small[-1]["refused"]["value"] == found["drafts"][0]["overall"]["value"]
    assert [foretold["refused"]["value"] for foretold in own] == [0.0] * len(own)


def test_the_leader_as_its_own_draft_agrees_everywhere(fresh: tuple[dict[str, Any], Done]) -> None:
    """Guards two readings of one response that are not of the same positions."""
    found, _ = fresh
    own = found["drafts"][1]
    assert own["name"] == "tiny-leader.gguf"
    assert own["fingerprint"] == found["leader"]["fingerprint"] != found["drafts"][0]["fingerprint"]
    assert own["overall"]["value"] == 0
    assert (own["handoffs"]["at"], own["words"], own["rebounds"]) == ([20], [], None)
    assert own["own"]["value"] > 0.99, "greedy, but for near ties"


def test_the_flags_are_those_of_an_independent_evaluation(fresh: tuple[dict[str, Any], Done], trace: Path) -> None:
    """Guards flags of other positions, tokens or prompts: both models asked again through llama.cpp by other code."""
    found, _ = fresh
    _, answers = replay.read(records(trace.read_text("utf-8")), replay.Report())
    n_near = 0
    with closing(replay.Model(LEADER, 1024)) as leader, closing(replay.Model(DRAFT, 1024)) as draft:
        for answer, flags in zip(answers, found["drafts"][0]["flags"], strict=True):
            prompt, ids = answer.prompt["leader_tokens"], [line["token"] for line in answer.tokens]
            both = [replay.opinions(model, prompt, ids, replay.TIE) for model in (leader, draft)]
            assert len(flags) == len(ids) - answer.end["finish_reason"].count("stop")
            for line, flag, *opinions in zip(answer.tokens, flags, *both, strict=False):
                step = replay.Step(line, *opinions)
                n_near += step.aligned != (flag == "1")
                assert step.can_be(flag == "1"), line
    assert n_near < 10


def test_a_trace_gives_the_same_figures(
    fresh: tuple[dict[str, Any], Done], trace: Path, bundled: dict[str, str], tmp_path: Path
) -> None:
    """Guards an end token that counts in one source only, another prompt, and other seeds."""
    again, _ = figures("--trace", trace, "-P", "1", "-d", LEADER, env=bundled, folder=tmp_path)
    assert same(again) == same(fresh[0])
    assert [one["finish_reason"] for one in again["responses"]] == ["stop"] * N


def test_records_give_the_same_figures(
    fresh: tuple[dict[str, Any], Done], trace: Path, bundled: dict[str, str], tmp_path: Path
) -> None:
    """Guards records whose prompt or text is read otherwise; the bundled words are cut in one way only."""
    again, _ = figures(
        "--responses", trace.with_name("answers.jsonl"), "-P", "1", "-d", LEADER, env=bundled, folder=tmp_path
    )
    assert same(again) == same(fresh[0])
    texts = tmp_path / "texts.jsonl"
    answers = records(trace.with_name("answers.jsonl").read_text("utf-8"))
    texts.write_text(jsonl(*({"prompt": a["prompt"], "text": a["text"]} for a in answers)))
    again, _ = figures("--responses", texts, "-P", "1", "-d", LEADER, env=bundled, folder=tmp_path)
    assert same(again) == same(fresh[0])


def test_the_seed_gives_the_same_intervals(trace: Path, bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards draws that do not come from --seed, and settings that are not in the file."""
    one, _ = figures("--trace", trace, "--seed", "7", env=bundled, folder=tmp_path)
    two, _ = figures("--trace", trace, "--seed", "7", env=bundled, folder=tmp_path)
    other, _ = figures("--trace", trace, "--seed", "8", "-k", "3", "--bin", "16", env=bundled, folder=tmp_path)
    assert one["drafts"] == two["drafts"] != other["drafts"]
    assert (other["settings"]["seed"], other["settings"]["k"], other["settings"]["bin"]) == (8, 3, 16)
    assert other["drafts"][0]["handoffs"]["k"] == 3
    assert other["drafts"][0]["along_response"]["places"][1] == 17


def test_texts_that_the_leader_did_not_write(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards texts of any domain: they are judged, and it is said that they are not the leader's own."""
    path = tmp_path / "texts.jsonl"
    path.write_text(jsonl({"prompt": "What is it?", "text": "It is a cat. Cats sleep, don't they?"}))
    found, done = figures("--responses", path, env=bundled, folder=tmp_path)
    assert found["drafts"][0]["own"]["value"] < 0.9
    assert found["drafts"][0]["n_sentences"] == 2
    assert "cannot be told" in done.stdout


def test_prompts_of_any_kind(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a sampled response, a prompt's own length that is lost, and prompts that stop the others."""
    path = tmp_path / "prompts.jsonl"
    long = "Tom has 3 apples. " * 300
    path.write_text(
        jsonl({"prompt": "Tom has 3 apples.", "temp": 2.0, "max_tokens": 9, "id": "a"}, {"prompt": long, "id": "b"})
    )
    found, done = figures("--prompts", path, "--max-tokens", "12", env=bundled, folder=tmp_path, code=1)
    assert [(one["id"], one["n_tokens"], one["finish_reason"]) for one in found["responses"]] == [("a", 9, "length")]
    assert found["drafts"][0]["own"]["value"] == 1.0
    assert found["n_failed"] == 1
    assert "prompt b failed" in done.stderr
    assert found["cut_off"] == {"length": 1, "context": 0}
    assert "1 of 1 responses were cut off at --max-tokens: " in done.stdout


def test_a_mixed_trace_gives_the_hits_of_its_run(tiny: TinyModels, tmp_path: Path) -> None:
    """Guards special tokens and templates that differ: the draft's own prompt and ids, as in the run that wrote it."""
    pair = Files(tiny.model("llama", "r1_closing"), tiny.model("llama", "qwen_like", seed=5))
    env, trace, lines = environment(pair, tmp_path), tmp_path / "trace.jsonl", tmp_path / "lines.txt"
    lines.write_text("wait\nthe number\nnow add\nhalf of ten\n")
    options = ("--temp", "1", "--seed", "3", "-n", "1", "-k", "2", "--max-tokens", "40", "--trace", trace)
    done = run("-f", lines, *options, "-q", env=env)
    assert done.returncode == 0, done.stderr
    found, done = figures("--trace", trace, env=env, folder=tmp_path)
    assert "special tokens" in done.stderr
    assert "chat template" not in done.stderr, "both took part: both prompts are in the trace"
    _, answers = replay.read(records(trace.read_text("utf-8")), replay.Report())
    compared, other, authors = 0, 0, set()
    for answer, flags in zip(answers, found["drafts"][0]["flags"], strict=True):
        authors |= {line["author"] for line in answer.tokens}
        if len(flags) == len(answer.tokens):  # else a draft's special token is several of the leader's
            hits = [(line["hit"], flag == "1") for line, flag in zip(answer.tokens, flags, strict=True)]
            compared += sum(hit is not None for hit, _ in hits)
            other += sum(hit is not None and hit != flag for hit, flag in hits)
    assert authors == {"leader", "draft"}
    assert compared > 20
    assert other <= 1, "but for a near tie"


def test_a_template_that_a_trace_does_not_have_is_reported(tiny: TinyModels, tmp_path: Path) -> None:
    """Guards a draft that reads the leader's template as text, without a word about it."""
    pair = Files(tiny.model("llama", "r1_closing"), tiny.model("llama", "qwen_like", seed=5))
    env, trace, answers = environment(pair, tmp_path), tmp_path / "trace.jsonl", tmp_path / "answers.jsonl"
    options = ("--mode", "leader", "--temp", "0", "--max-tokens", "20", "--trace", trace, "-o", answers)
    assert run("--prompt", "wait", *options, env=env).returncode == 0
    traced, done = figures("--trace", trace, env=env, folder=tmp_path)
    assert "chat template" in done.stderr
    text, done = figures("--responses", answers, env=env, folder=tmp_path)
    assert "chat template of its own" not in done.stderr
    assert traced["drafts"][0]["n_tokens"] == text["drafts"][0]["n_tokens"] == 20


def test_a_benchmarks_trace_is_analysed_where_the_leader_took_part(bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards a whole trace refused for the draft's own responses, and prompts that only some responses have."""
    trace, bench = tmp_path / "trace.jsonl", [sys.executable, "-m", "foreal_local", "bench"]
    options = ("--modes", "leader,draft,foreal", "--limit", "2", "--temp", "0", "--trace", trace)
    assert run(*options, env=bundled, command=bench).returncode == 0
    found, done = figures("--trace", trace, env=bundled, folder=tmp_path)
    assert "2 responses of the trace are the draft's alone: left out" in done.stderr
    assert sorted(one["id"].split("|")[1].split()[0] for one in found["responses"]) == ["foreal", "foreal"] + 2 * [
        "leader"
    ]
    assert "chat template" not in done.stderr


# ---------------------------------------------------------------- which models
def test_drafts_beside_a_pair_or_with_a_leader(
    trace: Path, bundled: dict[str, str], chat_pair: Files, tmp_path: Path
) -> None:
    """Guards a pair's own draft that is left out, variables that win over options, and drafts of the same name."""
    other = tmp_path / "a b" / DRAFT.name
    other.parent.mkdir()
    other.write_bytes(DRAFT.read_bytes())

    def names(*arguments: str | Path, **more: str) -> list[str]:
        found, _ = figures("--trace", trace, "--limit", "1", *arguments, env=bundled | more, folder=tmp_path)
        return [draft["name"] for draft in found["drafts"]]

    assert names() == [DRAFT.name]
    assert names("-d", LEADER) == [DRAFT.name, LEADER.name]
    assert names("-l", LEADER, "-d", other) == [DRAFT.name]
    assert names("-d", other) == [str(DRAFT), str(other)]
    assert names("-l", LEADER, "-d", DRAFT, FOREAL_PAIR="nonsense") == [DRAFT.name]
    assert names("--pair", "tiny", FOREAL_LEADER="no.gguf", FOREAL_DRAFT="no.gguf") == [DRAFT.name]
    assert names(FOREAL_LEADER=str(LEADER), FOREAL_DRAFT=str(other)) == [DRAFT.name]
    settings = tmp_path / "settings.toml"
    settings.write_text(f"n = 3\ndraft = {json.dumps(str(LEADER))}\n")
    assert names("--config", settings) == [DRAFT.name, LEADER.name]


def test_a_draft_of_other_words_is_told_before_anything_is_answered(bundled: dict[str, str], tiny: TinyModels) -> None:
    """Guards hours of answers before it is said that the draft reads them as text, and a message that does not say
    which draft."""
    stranger = tiny.model("llama", "plain")
    done = analyze("--limit", "2", "--max-tokens", "20", "-d", stranger, env=bundled)
    assert done.returncode == 0, done.stderr
    assert f"{stranger.name}: each model reads what the other wrote as text" in done.stderr.splitlines()[0]
    assert stranger.name in done.stdout


# ---------------------------------------------------------------- refusals
def refused(*arguments: str) -> tuple[int, str]:
    """The exit code and the one error line of a call in this process, where many must be quick."""
    unset = {name: None for name in os.environ if name.startswith("FOREAL_")}
    result = CliRunner().invoke(main, arguments, env={**unset, "FOREAL_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = [line for line in result.output.splitlines() if line and not re.match(r"Usage: |Try '", line)]
    assert line.startswith("Error: ")
    return result.exit_code, line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--problems", "nonsense"], ["nonsense", "heldout"]),
        (["--problems", "heldout", "--trace", "x"], ["--problems", "--trace"]),
        (["--limit", "0"], ["limit", "0"]),
        (["--bin", "0"], ["--bin", "0"]),
        (["--parallel", "0"], ["--parallel", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--responses", "missing.jsonl"], ["missing.jsonl", "No such file"]),
        (["--trace", "missing.jsonl"], ["missing.jsonl", "No such file"]),
        (["--prompts", "missing.txt"], ["missing.txt"]),
        (["--mode", "draft"], ["--mode"]),
        (["-n", "-1"], ["-1"]),
        (["-l", "x.gguf"], ["--draft"]),
        (["-l", "x.gguf", "--pair", "tiny"], ["--pair", "--leader"]),
        (["--output", "no/such/folder.json"], ["folder.json"]),
        (["-d", "no-such.gguf"], ["no-such.gguf"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_option_that_cannot_be_used(options: list[str], words: list[str]) -> None:
    """Guards values that are silently accepted, and contradictions where one of the two is ignored."""
    code, error = refused(*options)
    assert code in (1, 2)
    assert all(word in error for word in words), error


HEADER = {"type": "header", "version": 1, "draft": "d.gguf"}
PROMPT = {"type": "prompt", "id": "0", "leader_tokens": [5, 6], "draft_tokens": []}
TOKEN = {"type": "token", "id": "0", "token": 7, "piece": "?", "author": "leader"}


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--trace", "", ["no responses"]),
        ("--trace", "{", [":1", "not JSON"]),
        ("--trace", jsonl(PROMPT), ["not a trace", "header"]),
        ("--trace", jsonl(HEADER | {"version": 9}), [":1", "9"]),
        ("--trace", jsonl(HEADER), ["no responses"]),
        ("--trace", jsonl(HEADER, TOKEN), [":2", "line of a trace"]),
        ("--trace", jsonl(HEADER, PROMPT, PROMPT), [":3", "second"]),
        ("--trace", jsonl(HEADER, PROMPT, TOKEN | {"token": "x"}), [":3", "number"]),
        ("--trace", jsonl(HEADER, PROMPT | {"leader_tokens": []}, TOKEN), ["took no part", "modes draft"]),
        ("--trace", jsonl(HEADER, PROMPT, TOKEN | {"token": 10**6}), ["not this leader's"]),
        ("--trace", jsonl(HEADER, PROMPT, TOKEN | {"piece": "never a piece"}), ["not this leader's"]),
        ("--trace", jsonl(HEADER, PROMPT), ["no response has a token"]),
        ("--responses", "", ["no responses"]),
        ("--responses", "[1]", [":1", "not a JSON object"]),
        ("--responses", jsonl({"prompt": "a", "text": "b"}, {"text": "b"}), [":2", "`prompt`"]),
        ("--responses", jsonl({"prompt": "a"}), [":1", "`text`"]),
        ("--responses", jsonl({"messages": [{"role": "user"}], "text": "b"}), [":1", "`content`"]),
        ("--responses", jsonl({"prompt": "a", "text": ""}), ["no response has a token"]),
        ("--responses", b"\xff{}", ["not UTF-8"]),
    ],
    ids=range(19),
)
def test_a_file_that_is_no_trace_and_no_records(
    option: str, text: str | bytes, words: list[str], tmp_path: Path
) -> None:
    """Guards tracebacks, crashes inside llama.cpp, and figures of half a file."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, error = refused(option, str(path))
    assert code in (1, 2)
    assert all(word in error for word in words), error


def test_what_is_read_is_never_overwritten(trace: Path, bundled: dict[str, str]) -> None:
    """Guards a trace or a model that is set aside for the figures, and older figures that are lost."""
    before = trace.read_bytes()
    done = analyze("--trace", trace, "-o", trace, env=bundled)
    assert done.returncode == 2
    assert "--output" in error_line(done)
    assert trace.read_bytes() == before
    out = trace.with_name("older.json")
    out.write_text("older\n")
    done = analyze("--trace", trace, "--limit", "1", "-o", out, env=bundled)
    assert "kept as" in done.stderr
    assert out.with_name("older.json.~1~").read_text() == "older\n"


# ---------------------------------------------------------------- the terminal
@posix
def test_a_terminal_sees_progress_and_tables_that_fit(trace: Path, bundled: dict[str, str]) -> None:
    """Guards a long silence, and tables that break at 80 columns."""
    env = bundled | {"TERM": "xterm", "COLUMNS": "80"}
    words = ["-m", "foreal_local.cli.analyze", "--trace", str(trace)]
    process = pexpect.spawn(sys.executable, words, env=env, cwd=str(ROOT), dimensions=(50, 80), encoding="utf-8")
    text = process.expect(pexpect.EOF, timeout=60) or process.before
    process.close()
    assert process.exitstatus == 0
    assert "the leader reads" in text
    assert "tiny-draft.gguf reads" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"n +k +handed over %", plain), "the grid's head is broken into lines"


@posix
@pytest.mark.parametrize("source", ["opening", "answering", "reading"])
def test_ctrl_c_ends_with_130(source: str, trace: Path, bundled: dict[str, str], tmp_path: Path) -> None:
    """Guards Ctrl-C that is waited for, a traceback, and half a file, whatever the models are doing."""
    out, many = tmp_path / "out.json", tmp_path / "many.jsonl"
    many.write_text(trace.with_name("answers.jsonl").read_text("utf-8") * 60, "utf-8")
    options = ["--responses", str(many)] if source == "reading" else ["--limit", "400"]
    words = [*ANALYZE, *options, "-o", str(out), "--verbose"]
    with open(tmp_path / "log.txt", "wb") as log:
        process = subprocess.Popen(words, env=bundled, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    while not (tmp_path / "log.txt").stat().st_size:  # llama.cpp's first line: it has begun
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.0 if source == "opening" else 1.5)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert (process.returncode, stdout) == (130, b"")
    assert "Traceback" not in (tmp_path / "log.txt").read_text("utf-8", "replace")
    assert not out.exists()


def test_help_is_quick_and_names_every_option(bundled: dict[str, str]) -> None:
    """Guards --help that loads numpy and llama.cpp first, a --mode that means nothing here, and one draft only."""
    done = analyze("--help", env=bundled)
    options = (
        "--problems --prompts --responses --trace --limit --draft -d --leader --pair --output -o -n -k --boundaries"
    )
    shown = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout)
    assert [name for name in options.split() if name not in shown] == []
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", done.stdout, re.MULTILINE)
    assert "--mode" not in listed
    assert listed.count("--draft") == 1
    code = "import sys, foreal_local.cli.analyze; print(*sorted({'numpy', 'llama_cpp', 'rich'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], env=bundled, cwd=ROOT, text=True) == "\n"
