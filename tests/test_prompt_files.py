"""Files of prompts as they are in the field: joined, of other programs, with numbers of any length, edited later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import error_line, jsonl, records, run

from foreal_local.batch.prompts import read_prompts
from foreal_local.batch.run_batch import as_own_line
from foreal_local.config import Generation, Sampling
from foreal_local.errors import UsageError
from foreal_local.results import Prompt

GREEDY = ("--temp", "0", "--seed", "1", "--max-tokens", "6", "-q")


def read(tmp_path: Path, content: bytes | str, name: str = "prompts.jsonl") -> list[Prompt]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_prompts(str(path), Generation())


# ---------------------------------------------------------------- numbers
@pytest.mark.parametrize("digits", [309, 400, 4300, 5000, 200_000])
@pytest.mark.parametrize("key", ["seed", "max_tokens", "temp", "n", "top_p"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_of_any_length_is_named(sign: str, key: str, digits: int, tmp_path: Path) -> None:
    """Guards `OverflowError: int too large to convert to float`, and an error without its line."""
    text = f'{{"prompt": "fine"}}\n{{"prompt": "a", "{key}": {sign}{"9" * digits}}}\n'
    with pytest.raises(UsageError, match=rf"prompts\.jsonl:2: {key} is ") as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 300


def test_seeds_that_fit_are_taken(tmp_path: Path) -> None:
    """Guards a limit that refuses what was fine."""
    prompts = read(tmp_path, "".join(f'{{"prompt": "a", "seed": {seed}}}\n' for seed in (2**64, 10**26, 10**307)))
    assert [prompt.settings and prompt.settings.seed for prompt in prompts] == [2**64, 10**26, 10**307]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_an_argument_of_a_template_is_finite(value: str, tmp_path: Path) -> None:
    """Guards a number that silently becomes another one in the prompt."""
    with pytest.raises(UsageError, match=r"prompts\.jsonl:1: template_args"):
        read(tmp_path, f'{{"prompt": "a", "template_args": {{"x": [{value}]}}}}')


def test_an_option_too_large_for_its_setting(env: dict[str, str]) -> None:
    """Guards the same traceback from the command line."""
    for option in ("--seed", "--max-tokens", "--repeat-last-n"):
        done = run("--prompt", "a", option, "9" * 400, env=env)
        assert (done.returncode, "400 digits" in error_line(done)) == (2, True)


# ---------------------------------------------------------------- files of other programs
def test_a_batch_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Guards "needs either prompt or messages" for the format of vLLM's run-batch, and ids that are 0, 1."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": False}
    more = {"temperature": 0.5, "top_p": 0.7, "stop": ["x"], "seed": 5, "n": 1, "frequency_penalty": 0, "user": "me"}
    lines = jsonl(
        {"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": body | more},
        {"custom_id": "q-2", "body": {"prompt": "Ho", "max_completion_tokens": 3, "response_format": {"type": "text"}}},
        {"custom_id": "q-3", "prompt": "Hu"},
        {"custom_id": "q-4", "url": "https://x/v1/completions", "body": {"prompt": "So"}},
    )
    first, second, third, fourth = read(tmp_path, lines)
    assert [prompt.id for prompt in (first, second, third, fourth)] == ["q-1", "q-2", "q-3", "q-4"]
    assert (first.content, second.content, third.content) == (body["messages"], "Ho", "Hu")
    wanted = Generation(seed=5, max_tokens=4, stop=("x",), sampling=Sampling(temp=0.5, top_p=0.7))
    assert first.settings == wanted, "n is how many answers are wanted, not how long the leader leads"
    assert second.settings == Generation(max_tokens=3)
    assert (third.settings, third.prompting) == (None, None)
    assert fourth.prompting is not None
    assert fourth.prompting.raw, "a text to go on with"


BAD_LINES: dict[str, dict[str, Any]] = {
    "`body` is 3": {"body": 3},
    "`url` is '/v1/embeddings'": {"url": "/v1/embeddings", "body": {"input": "x"}},
    "`url` is 5": {"url": 5, "body": {"prompt": "x"}},
    "`n` of `body` is 2": {"body": {"prompt": "x", "n": 2}},
    "`tools` of `body`": {"body": {"prompt": "x", "tools": [{"type": "function"}]}},
    "`prompt` stands beside `body`": {"prompt": "x", "body": {"prompt": "x"}},
    "either `prompt` or `messages`": {"body": {}},
    "`prompt` is ['x']": {"body": {"prompt": ["x"]}},
    "temp is 'hot'": {"body": {"prompt": "x", "temperature": "hot"}},
    "`id` is ['a']": {"custom_id": ["a"], "prompt": "x"},
}


@pytest.mark.parametrize("words", BAD_LINES)
def test_what_a_batch_file_asks_for_and_is_not_done_here(words: str, tmp_path: Path) -> None:
    """Guards an option that changes the answer and is dropped silently, and an error without its line."""
    with pytest.raises(UsageError) as caught:
        read(tmp_path, jsonl({"prompt": "fine", "id": "x"}, BAD_LINES[words]))
    assert "prompts.jsonl:2: " in str(caught.value)
    assert words in str(caught.value)


def test_an_own_line_stays_as_it_is() -> None:
    """Guards our n and other keys that a batch file gives another meaning."""
    line = {"id": "a", "prompt": "x", "n": 3, "url": "https://x", "tools": 1, "temperature": "of a patient"}
    assert as_own_line("here", line) == line


# ---------------------------------------------------------------- files that were joined
def test_marks_inside_a_joined_file_are_no_text(tmp_path: Path) -> None:
    """Guards `cat a.txt b.txt`: the second prompt began with a character that nobody sees."""
    texts = read(tmp_path, "\ufeffone\n\ufefftwo\r\n\ufeff\n\ufeff\ufeffthree\n", "joined.txt")
    assert [prompt.content for prompt in texts] == ["one", "two", "three"]
    lines = read(tmp_path, '\ufeff{"prompt": "\ufeffone"}\n\ufeff{"prompt": "two"}\n')
    assert [prompt.content for prompt in lines] == ["\ufeffone", "two"]


# ---------------------------------------------------------------- files that were edited
def test_a_line_put_at_the_top_leaves_all_other_records(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a file of prompts whose every line is answered again because its places have changed."""
    prompts, out, trace = tmp_path / "prompts.txt", tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    prompts.write_text("wait\nso\nso\nnow\n")
    options = ("-f", prompts, "-o", out, "--trace", trace, "--resume", "--max-tokens", "8", "--temp", "1.5", "-q")
    assert run(*options, env=env).returncode == 0
    before = {record["id"]: record for record in records(out.read_text("utf-8"))}
    prompts.write_text("first\nwait\nso\nso\nnow\n")
    done = run(*options, env=env)
    assert done.returncode == 0, done.stderr
    assert "3 of the records are of prompts that stand at another place now" in done.stderr
    after = {record["id"]: record for record in records(out.read_text("utf-8"))}
    assert [after[str(i)]["prompt"] for i in range(5)] == ["first", "wait", "so", "so", "now"]
    assert all(record["index"] == int(record["id"]) for record in after.values())
    assert sorted(r["text"] for r in before.values()) == sorted(r["text"] for id, r in after.items() if id != "0")
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    for id, record in after.items():
        assert (
            "".join(line["piece"] for line in lines if (line["type"], line.get("id")) == ("token", id))
            == record["text"]
        )
    assert {path.name for path in tmp_path.glob("out*")} == {"out.jsonl"}
    assert run(*options, env=env).returncode == 0
    assert records(out.read_text("utf-8")) == list(after.values())


@pytest.mark.parametrize(
    "later",
    [
        ["ten", "now", "so"],  # all are answered
        ["ten", "now"],  # the place of one that is gone is another's
        ["ten", "wait"],
        ["wait", "so", "ten", "now"],
    ],
    ids=", ".join,
)
def test_a_trace_follows_lines_that_were_moved(later: list[str], env: dict[str, str], tmp_path: Path) -> None:
    """Guards a trace that names the wrong prompts, or has two responses of one name."""
    prompts, out, trace = tmp_path / "prompts.txt", tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    options = ("-f", prompts, "-o", out, "--trace", trace, "--resume", "--max-tokens", "8", "--temp", "1.5", "-q")
    for texts in (["so", "ten", "now"], later, later):
        prompts.write_text("\n".join(texts))
        done = run(*options, env=env)
        assert done.returncode == 0, done.stderr
        found = {record["id"]: record for record in records(out.read_text("utf-8"))}
        lines = records(trace.read_text("utf-8"))[1:]
        begins = [line for line in lines if line["type"] == "prompt"]
        assert sorted(line["id"] for line in begins) == sorted(found)
        for line in begins:
            record = found[line["id"]]
            pieces = [each["piece"] for each in lines if each["id"] == line["id"] and each["type"] == "token"]
            assert "".join(pieces) == record["text"]
            for name in ("index", "drawn_index"):
                assert line.get(name) == record.get(name)


def test_json_lines_in_another_order_leave_all_records(env: dict[str, str], tmp_path: Path) -> None:
    """Guards lines without ids, and with them, that are answered again after `sort` or `shuf`."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    asked = [{"prompt": "wait"}, {"id": "x", "prompt": "so"}, {"prompt": "now", "temp": 1}, {"prompt": "ten"}]
    options = ("-f", prompts, "-o", out, "--resume", *GREEDY)
    prompts.write_text(jsonl(*asked))
    assert run(*options, env=env).returncode == 0
    texts = {record["prompt"]: record["text"] for record in records(out.read_text("utf-8"))}
    prompts.write_text(jsonl(*reversed(asked)))
    done = run(*options, env=env)
    assert "made again" not in done.stderr
    after = records(out.read_text("utf-8"))
    assert {record["prompt"]: record["text"] for record in after} == texts
    assert {record["id"]: record["prompt"] for record in after} == {"0": "ten", "1": "now", "x": "so", "3": "wait"}


@pytest.mark.parametrize("content", ['{"prompt": "one"}\n', '{"messages": [{"role": "user", "content": "one"}]}\n'])
def test_json_lines_under_another_name_are_not_asked_as_texts(content: str, tmp_path: Path) -> None:
    """Guards a run over JSON texts, braces and all, because a file ends in .json or .txt: each line was a prompt."""
    assert len(read(tmp_path, content, "prompts.json")) == 1
    assert read(tmp_path, content, "prompts.json")[0].content != content.strip()
    with pytest.raises(UsageError, match=r"prompts\.txt has JSON lines, and its name does not end in \.jsonl"):
        read(tmp_path, content, "prompts.txt")
    with pytest.raises(UsageError, match=r"prompts\.json:1: not a JSON object"):
        read(tmp_path, f"[{content.strip()}]", "prompts.json")
    assert read(tmp_path, '{"a": 1} is what?', "prompts.txt")[0].content == '{"a": 1} is what?'
    assert read(tmp_path, '{"a": 1}', "prompts.txt")[0].content == '{"a": 1}'
