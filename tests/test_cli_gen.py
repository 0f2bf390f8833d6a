"""foreal-gen: prompts in, answers and records out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import INSTALLED, environment, jsonl, records, run
from real.models import Files

# design.md, "One result, one line"; further keys may stand between them.
KEYS = [
    "id", "index", "prompt", "text", "reasoning", "answer", "finish_reason", "error", "seed", "mode", "n", "p", "k",
    "usage", "sentences", "cost", "seconds", "tokens_per_second",
]  # fmt: skip
GREEDY = ("--temp", "0", "--seed", "1", "--max-tokens", "8")


# ---------------------------------------------------------------- answers
def test_answers_alone_are_on_stdout_and_a_summary_on_stderr(env: dict[str, str]) -> None:
    """Guards notes, progress or model logs among the answers, and a text that is not the record's answer."""
    text = run("--prompt", "wait now", *GREEDY, env=env)
    assert text.returncode == 0
    (record,) = records(run("--prompt", "wait now", *GREEDY, "--format", "jsonl", "--quiet", env=env).stdout)
    assert text.stdout.strip("\n") == record["answer"].strip("\n")
    assert record["answer"] == record["text"] != ""
    for words in ("1 prompt", "8 tokens", "leader", "draft", "FLOPs", "seed 1", "greedy", "--max-tokens"):
        assert words in text.stderr, words
    assert "\x1b" not in text.stdout + text.stderr


def test_quiet_is_quiet(env: dict[str, str]) -> None:
    """Guards a summary that scripts cannot turn off."""
    done = run("--prompt", "wait", *GREEDY, "-q", env=env, command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def test_a_record_is_what_is_documented(env: dict[str, str], tmp_path: Path) -> None:
    """Guards keys that are missing, renamed or in another order, and numbers that do not agree."""
    done = run("--prompt", "wait now", "-o", tmp_path / "out.jsonl", *GREEDY, "-n", "1", "-k", "1", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    (record,) = records((tmp_path / "out.jsonl").read_text("utf-8"))
    assert [key for key in record if key in KEYS] == KEYS
    expected = {"id": "0", "index": 0, "prompt": "wait now", "finish_reason": "length", "error": None, "seed": 1}
    expected |= {"mode": "foreal", "n": 1, "p": 0.6, "k": 1}
    assert {key: record[key] for key in expected} == expected
    check_numbers(record)


def check_numbers(record: dict[str, Any]) -> None:
    """Usage, sentences and cost of one record agree with each other."""
    usage, sentences, cost = record["usage"], record["sentences"], record["cost"]
    n_stream = usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == usage["leader_tokens"] + usage["draft_tokens"]
    assert sentences["total"] >= sentences["led"] >= sentences["handoffs"] >= 0
    for role in ("leader", "draft"):
        part, written = cost[role], usage[f"{role}_tokens"]
        evaluated = part["decode_tokens"] + part["prefill_tokens"]
        assert evaluated <= n_stream
        if written:
            assert evaluated >= usage["prompt_tokens"] + written - 1
            assert part["calls"] >= written
            assert part["flops"] > 0
        assert part["decode_tokens"] <= written
        if record["mode"] not in ("foreal", role):
            assert (evaluated, part["flops"]) == (0, 0)
    assert cost["flops_total"] == pytest.approx(cost["leader"]["flops"] + cost["draft"]["flops"])
    assert cost["flops_generation"] > 0
    assert cost["flops_leader_only"] > 0
    assert record["tokens_per_second"] == pytest.approx(usage["completion_tokens"] / record["seconds"], rel=0.01)


def test_settings_of_one_prompt_are_its_own(env: dict[str, str], tmp_path: Path) -> None:
    """Guards overrides that are ignored, hold for later prompts too, or unknown keys that are refused."""
    own: list[dict[str, Any]] = [
        {},
        {"seed": 77, "max_tokens": 3, "n": 2, "p": 0.25, "k": 0, "temp": 0.9},
        {"mode": "leader", "max_tokens": 4},
        {"mode": "draft", "id": "last", "level": 5, "answer": "18"},
        {"seed": 0, "id": 12, "temp": 0},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text(jsonl(*({"prompt": "wait now"} | item for item in own)), "utf-8")
    done = run("-f", path, "--format", "jsonl", *GREEDY, "-P", "2", env=env)
    assert done.returncode == 0, done.stderr
    found = sorted(records(done.stdout), key=lambda record: record["index"])
    defaults = {"mode": "foreal", "seed": 1, "n": 15, "p": 0.6, "k": 5, "temp": 0.0, "max_tokens": 8}
    for index, (record, item) in enumerate(zip(found, own, strict=True)):
        wanted = defaults | {key: value for key, value in item.items() if key in defaults}
        assert {key: record[key] for key in wanted} == wanted
        assert record["usage"]["completion_tokens"] == wanted["max_tokens"]
        assert record["id"] == str(item.get("id", index))
        check_numbers(record)


def test_messages_and_a_system_text(env: dict[str, str]) -> None:
    """Guards a conversation that is flattened, and --system that is dropped."""
    messages = [{"role": "user", "content": "wait"}, {"role": "assistant", "content": "so"}]
    messages += [{"role": "user", "content": "now"}]
    lines = jsonl({"messages": messages}, {"prompt": "now"}, {"messages": messages[2:]})
    plain, given = (
        records(run("-f", "-", "--format", "jsonl", *GREEDY, *more, env=env, stdin=lines).stdout)
        for more in ((), ("--system", "ten"))
    )
    assert plain[0]["messages"] == messages
    sizes = [record["usage"]["prompt_tokens"] for record in plain]
    assert sizes[0] > sizes[1] == sizes[2]
    extra = {a["usage"]["prompt_tokens"] - b["usage"]["prompt_tokens"] for a, b in zip(given, plain, strict=True)}
    assert len(extra) == 1
    assert min(extra) > 0


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_files_from_windows_are_read(name: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a byte order mark or carriage returns that become part of the first or of every prompt."""
    prompts = ["wait", "né 数", "so now"]
    lines = jsonl(*({"prompt": prompt} for prompt in prompts)).splitlines() if "json" in name else prompts
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines[:1], "", *lines[1:]]).encode())
    done = run("-f", tmp_path / name, "--format", "jsonl", *GREEDY, env=env)
    assert [record["prompt"] for record in records(done.stdout)] == prompts


def test_line_separators_inside_a_text_end_no_line(env: dict[str, str], tmp_path: Path) -> None:
    """Guards splitting at U+2028, U+0085 or form feeds: JSON allows the first two as they are in a text."""
    texts = ["one\u2028two", "three\u0085four\u2029five", "six"]
    path = tmp_path / "p.jsonl"
    path.write_bytes(jsonl(*({"prompt": text} for text in texts)).encode())
    done = run("-f", path, "--format", "jsonl", *GREEDY, env=env)
    assert done.returncode == 0, done.stderr
    assert [record["prompt"] for record in records(done.stdout)] == texts


def test_prompts_from_stdin_and_options_and_answers_in_order(env: dict[str, str]) -> None:
    """Guards answers in the order of finishing on stdout, and --parallel that changes what is written."""
    lines = "wait\nso half of ten\nnow\nadd\n"
    one, four = (run("--prompt", "first", "-f", "-", *GREEDY, "-P", n, env=env, stdin=lines).stdout for n in ("1", "4"))
    assert one == four
    assert one.count("\n") >= 5
    objects = run("-f", "-", "--format", "jsonl", *GREEDY, env=env, stdin=jsonl({"prompt": "wait", "id": "x"}))
    assert [record["id"] for record in records(objects.stdout)] == ["x"]


def test_a_prompt_that_fails_has_a_record_and_stops_nobody(env: dict[str, str], tmp_path: Path) -> None:
    """Guards one impossible prompt that ends the run, has no reason, or an exit code that hides it."""
    path, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    path.write_text(jsonl({"prompt": "wait"}, {"prompt": "two " * 400, "id": "long"}, {"prompt": "now"}), "utf-8")
    done = run("-f", path, "-o", out, *GREEDY, "-P", "2", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    found = {record["id"]: record for record in records(out.read_text("utf-8"))}
    reasons = {id: record["finish_reason"] for id, record in found.items()}
    assert reasons == {"0": "length", "long": "error", "2": "length"}
    assert "--ctx-size" in found["long"]["error"]
    assert "256" in found["long"]["error"]
    assert "long" in done.stderr


def test_options_from_the_environment(env: dict[str, str]) -> None:
    """Guards an option without its variable, and a variable that wins over the command line."""
    own = {"LEAD_TOKENS": "3", "LEAD_PROB": "0.25", "HITS": "1", "HITS_FROM": "sentence", "BOUNDARIES": "simple"}
    own |= {"TEMP": "0.5", "TOP_K": "9", "SEED": "0", "MAX_TOKENS": "4", "FORMAT": "jsonl", "RAW": "1", "QUIET": "1"}
    done = run("--prompt", " wait", "--hits", "2", env=env | {f"FOREAL_{key}": value for key, value in own.items()})
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = records(done.stdout)
    wanted = {"n": 3, "p": 0.25, "k": 2, "hits_from": "sentence", "boundaries": "simple", "temp": 0.5, "top_k": 9}
    assert {key: record[key] for key in wanted} == wanted
    assert (record["seed"], record["usage"]["completion_tokens"], record["usage"]["prompt_tokens"]) == (0, 4, 1)


def test_a_drawn_seed_is_in_the_record_and_gives_the_same_again(env: dict[str, str]) -> None:
    """Guards answers that nobody can have again."""
    options = ("--prompt", "wait", "--format", "jsonl", "--max-tokens", "12", "--temp", "1")
    (first,) = records(run(*options, env=env).stdout)
    (again,) = records(run(*options, "--seed", str(first["seed"]), env=env).stdout)
    assert first["text"] == again["text"]


def test_the_bundled_pair_answers_without_any_option(tmp_path: Path) -> None:
    """Guards an installation whose bundled pair is missing, torn or not found."""
    done = run("--prompt", "Tom has 3 apples. How many?", *GREEDY, env=environment(None, tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 tokens" in done.stderr


def test_a_pair_of_the_users_own_with_its_settings(chat_pair: Files, tmp_path: Path) -> None:
    """Guards the settings in a pairs file, which hold unless an option says otherwise."""
    (tmp_path / "pairs.toml").write_text(
        f"[mine]\nleader = '{chat_pair.leader}'\ndraft = '{chat_pair.draft}'\nn = 3\np = 0.5\nk = 2\ntemp = 0.0\n",
        "utf-8",
    )
    env = environment(None, tmp_path, FOREAL_PAIRS=str(tmp_path / "pairs.toml"))
    options = ("--pair", "mine", "--prompt", "wait", "--format", "jsonl", "--max-tokens", "3")
    (record,) = records(run(*options, "-k", "4", env=env).stdout)
    assert {key: record[key] for key in ("n", "p", "k", "temp")} == {"n": 3, "p": 0.5, "k": 4, "temp": 0.0}
