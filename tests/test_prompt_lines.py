"""What a line of JSON has beside its prompt: kept in the record, and told where it is probably a misspelt setting."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from commands import error_line, jsonl, records, run

from foreal_local.batch.prompts import read_prompts
from foreal_local.config import Generation
from foreal_local.errors import UsageError

OF_OTHER_FILES = [
    "answer", "level", "model", "type", "source", "subject", "name", "task", "question", "index", "language", "code",
    "text", "category", "difficulty", "url", "method", "user", "metadata", "reference", "solution", "context", "title",
    "date", "label", "score", "dataset", "split", "options", "answer_type",
]  # fmt: skip
GREEDY = ("--temp", "0", "--seed", "1", "--max-tokens", "3", "-q")


def notes_of(tmp_path: Path, *lines: dict[str, Any]) -> list[str]:
    path, notes = tmp_path / "p.jsonl", list[str]()
    path.write_text(jsonl(*lines), "utf-8")
    read_prompts(str(path), Generation(), note=notes.append)
    return [note.removeprefix(f"{path}:") for note in notes]


def test_other_keys_are_in_the_record(env: dict[str, str], tmp_path: Path) -> None:
    """Guards an answer that is parted from its reference, its subject, its source."""
    extra = {"answer": "18", "level": 5, "tags": ["a", None], "of": {"x": [1.5, True]}, "text": "\u6570"}
    lines = [{"prompt": "wait", "id": "a", "temp": 0} | extra, {"prompt": "now"}, {"custom_id": "c", "prompt": "so"}]
    lines += [{"custom_id": "d", "url": "/v1/completions", "body": {"prompt": "so", "model": "m", "max_tokens": 2}}]
    (tmp_path / "p.jsonl").write_text(jsonl(*lines), "utf-8")
    options = ("-f", tmp_path / "p.jsonl", "-o", tmp_path / "out.jsonl", "--resume", *GREEDY)
    for _ in range(2):
        done = run(*options, env=env)
        assert (done.returncode, done.stderr.replace("4 of 4", "")[:12]) in ((0, ""), (0, "foreal-gen: ")), done.stderr
        found = {record["id"]: record for record in records((tmp_path / "out.jsonl").read_text("utf-8"))}
        assert found["a"]["extra"] == extra
        assert found["d"]["extra"] == {"url": "/v1/completions", "model": "m"}
        assert ["extra" in found[id] for id in ("a", "1", "c")] == [True, False, False]
    assert list(found["a"])[:4] == ["id", "index", "prompt", "extra"]


def test_numbers_that_json_does_not_have(env: dict[str, str]) -> None:
    """Guards records that no other reader of JSON takes."""
    line = '{"prompt": "wait", "x": [NaN, -Infinity, {"y": 1e999}], "z": ' + "9" * 5000 + "}\n"
    done = run("--lines", "--format", "jsonl", *GREEDY, env=env, stdin=line)
    (record,) = [json.loads(each, parse_constant=math.sqrt) for each in done.stdout.splitlines()]
    assert record["extra"] == {"x": [None, None, {"y": None}], "z": None}


def test_what_is_nested_too_deeply(env: dict[str, str]) -> None:
    """Guards a traceback for a key that nobody reads."""
    for depth in (200, 900, 5000):
        line = '{"prompt": "wait", "x": ' + "[" * depth + "]" * depth + "}\n"
        done = run("--lines", "--format", "jsonl", *GREEDY, env=env, stdin=line)
        assert done.returncode == 0 or "<stdin>:1" in error_line(done)


@pytest.mark.parametrize(
    "keys",
    [
        '"prompt": "wait", "template_args": {"x": NESTED}',
        '"messages": [{"role": "user", "content": "wait", "x": NESTED}]',
        '"messages": [{"role": "user", "content": NESTED}]',
        '"messages": NESTED',
    ],
)
def test_what_reaches_a_chat_template_is_not_nested_too_deeply(keys: str, env: dict[str, str]) -> None:
    """Guards a traceback for values that the program itself walks by calls in each other."""
    line = "{" + keys.replace("NESTED", "[" * 600 + "]" * 600) + "}\n"
    done = run("--lines", "--format", "jsonl", *GREEDY, env=env, stdin=line)
    assert done.returncode == 2
    assert "<stdin>:1: " in error_line(done)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("temprature", "did you mean temp?"),
        ("temperature", "did you mean temp?"),
        ("max_token", "did you mean max_tokens?"),
        ("max-new-tokens", "did you mean max_tokens?"),
        ("Seed", "did you mean seed?"),
        ("topp", "did you mean top_p?"),
        ("top_pp", "did you mean top_p?"),
        ("lead_token", "did you mean n?"),
        ("repetition_penalty", "did you mean repeat_penalty?"),
        ("system_", "did you mean system?"),
        ("ctx_size", "it is the same for all prompts of a run: give --ctx-size"),
        ("threads", "it is the same for all prompts of a run: give --threads"),
    ],
)
def test_a_misspelt_setting_is_told_once(key: str, meant: str, tmp_path: Path) -> None:
    """Guards hours of answers at another temperature than the file says."""
    told = notes_of(
        tmp_path, {"prompt": "a"}, {"prompt": "b", key: 1}, {"prompt": "c", key: 1}, {"prompt": "d", key: 1}
    )
    assert told == [f"2: {key!r} changes nothing, and is kept in the record's `extra`: {meant} (and on 2 more lines)"]


@pytest.mark.parametrize("key", OF_OTHER_FILES)
def test_keys_of_other_files_are_not_taken_for_misspelt_ones(key: str, tmp_path: Path) -> None:
    """Guards a note for each file of problems that there is."""
    assert notes_of(tmp_path, {"prompt": "a", key: 1}) == []


def test_the_command_tells_it_quiet_or_not(env: dict[str, str]) -> None:
    """Guards the note that only Python users could have."""
    done = run("-f", "-", *GREEDY, env=env, stdin=jsonl({"prompt": "a", "temprature": 0}))
    assert done.returncode == 0
    assert done.stderr.startswith("foreal-gen: <stdin>:1: 'temprature' changes nothing")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"promt": "a"}, "either `prompt` or `messages` (it has 'promt': did you mean prompt?)"),
        ({"message": []}, "(it has 'message': did you mean messages?)"),
        ({"prompt": "a", "lead-tokens": -1}, ":1: lead-tokens: n (lead tokens) is -1"),
        ({"prompt": "a", "temp": "hot"}, ":1: temp is 'hot'"),
        ({"body": {"prompt": "a", "temperature": "hot"}}, ":1: temperature: temp is 'hot'"),
        ({"body": {"prompt": "a", "temperature": -1}}, ":1: temperature: temp is -1"),
        ({"body": {"prompt": "a", "max_completion_tokens": 0}}, ":1: max_completion_tokens: max_tokens is 0"),
        ({"prompt": "a", "raw": True, "system": "x"}, ":1: system is 'x'"),
    ],
    ids=str,
)
def test_an_error_names_the_key_as_the_line_has_it(line: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Guards a message about a name that is nowhere in the file."""
    with pytest.raises(UsageError) as caught:
        notes_of(tmp_path, line)
    assert words in str(caught.value)
