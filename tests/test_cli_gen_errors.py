"""foreal-gen refusing: one line that helps, the right exit code, and no file touched."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import INSTALLED, MODULE, environment, error_line, jsonl, records, run
from real.models import Files, TinyModels

PROMPT = ("--prompt", "wait")


@pytest.fixture
def refused(env: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Calls foreal-gen, which must refuse with code 2, one line and no file made or changed; gives the line."""
    folder = tmp_path / "results"
    folder.mkdir()
    output, trace = folder / "out.jsonl", folder / "trace.jsonl"
    output.write_text("keep me\n")
    trace.write_text("me too\n")

    def call(*arguments: str | Path, stdin: str = "", env: dict[str, str] = env) -> str:
        done = run(*arguments, "-o", output, "--trace", trace, env=env, stdin=stdin)
        line = error_line(done)
        assert done.returncode == 2
        left = {path.name: path.read_text() for path in folder.iterdir()}
        assert left == {"out.jsonl": "keep me\n", "trace.jsonl": "me too\n"}
        return line

    return call


# ---------------------------------------------------------------- options
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-such-option"], ["--no-such-option"]),
        (["surplus.txt"], ["surplus.txt"]),
        (["--temp", "hot"], ["--temp", "hot"]),
        (["--temp", "-1"], ["temp", "-1"]),
        (["--temp", "nan"], ["temp", "nan"]),
        (["--lead-prob", "1.5"], ["1.5", "0 and 1"]),
        (["--lead-prob", "nan"], ["nan", "0 and 1"]),
        (["-n", "-1"], ["-1"]),
        (["-k", "1.5"], ["1.5"]),
        (["--top-p", "0"], ["top_p", "0"]),
        (["--max-tokens", "0"], ["max_tokens", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--stop", ""], ["stop"]),
        (["--mode", "both"], ["both", "foreal"]),
        (["--ctx-size", "1"], ["ctx_size"]),
        (["--threads", "0"], ["threads"]),
        (["--batch-size", "0"], ["batch_size"]),
        (["--parallel", "0"], ["--parallel", "0"]),
        (["--leader-gpu-layers", "-2"], ["gpu_layers"]),
        (["--template-arg", "thinking"], ["thinking", "NAME=VALUE"]),
        (["--raw", "--system", "ten"], ["--raw", "ten"]),
        (["--pair", "tiny", "--leader", "x.gguf"], ["--pair", "--leader"]),
        (["--threads", "513"], ["threads", "512"]),
        (["--batch-size", "99999999999"], ["batch_size", "65536"]),
        (["--ctx-size", "4294967296"], ["ctx_size"]),
        (["--cache-type-v", "q8_0", "--flash-attn", "off"], ["q8_0", "flash attention"]),
        (["--template-arg", "messages=3"], ["messages", "--template-arg"]),
        (["--template-arg", "x=" + "[" * 600 + "]" * 600], ["template_args", "100"]),
        (["--template-arg", "x=" + "[" * 9000], ["--template-arg", "nested"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_an_option_that_cannot_be_used(options: list[str], words: list[str], refused: Callable[..., str]) -> None:
    """Guards values that are silently accepted or changed, and contradictions where one of the two is ignored."""
    line = refused(*PROMPT, *options)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "command",
    [
        ["gen", "--file", "-"],
        ["gen", "--file", "-", "--no-fit"],
        ["bench", "--problems", "-", "--modes", "leader"],
        ["serve", "--port", "0"],
        ["analyze", "--problems", "-", "--limit", "300", "--no-fit"],
    ],
    ids=" ".join,
)
def test_more_prompts_at_a_time_than_llama_cpp_takes(command: list[str], env: dict[str, str]) -> None:
    """Guards models that are loaded first, and a message in llama.cpp's words."""
    problems = "".join(f"How many are {i} apples?\n" for i in range(300))
    if command[0] != "gen":
        problems = jsonl(*({"problem": line, "answer": "1"} for line in problems.splitlines()))
    foreal = [sys.executable, "-m", "foreal_local"]
    env = env | {"FOREAL_LANES": "1"}
    done = run(*command, "--parallel", "300", "-q", env=env, stdin=problems, command=foreal)
    assert done.returncode == 2
    line = error_line(done)
    assert "300 prompts at a time are too many: llama.cpp takes 256 sequences in a context" in line
    assert re.search(r"--parallel may be 25[56] at most$", line)


def test_a_variable_that_cannot_be_used(env: dict[str, str], refused: Callable[..., str]) -> None:
    """Guards a bad FOREAL_* variable that is ignored."""
    assert "'hot'" in refused(*PROMPT, env=env | {"FOREAL_TEMP": "hot"})


def test_one_model_is_not_enough_for_two_roles(chat_pair: Files, refused: Callable[..., str], tmp_path: Path) -> None:
    """Guards a leader that quietly leads itself, by the run's mode or by the mode of one prompt."""
    env = environment(None, tmp_path)
    assert "--draft" in refused(*PROMPT, "--leader", chat_pair.leader, env=env)
    assert "--leader" in refused(*PROMPT, "--draft", chat_pair.draft, env=env)
    lines = jsonl({"prompt": "wait"}, {"prompt": "now", "mode": "foreal"})
    assert "--draft" in refused("-f", "-", "--leader", chat_pair.leader, "--mode", "leader", env=env, stdin=lines)


def test_one_model_is_enough_for_one_role(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a draft that is asked for where it has nothing to do."""
    options = (*PROMPT, "--max-tokens", "2", "--format", "jsonl", "--temp", "0")
    env = environment(None, tmp_path)
    (leader,) = records(run(*options, "--mode", "leader", "-l", chat_pair.leader, env=env).stdout)
    (draft,) = records(run(*options, "--mode", "draft", "-d", chat_pair.draft, env=env).stdout)
    assert (leader["usage"]["leader_tokens"], draft["usage"]["draft_tokens"]) == (2, 2)


def test_an_unknown_pair_names_those_there_are(tmp_path: Path, refused: Callable[..., str]) -> None:
    """Guards a wrong name that falls back to the default pair."""
    line = refused(*PROMPT, "--pair", "tinny", env=environment(None, tmp_path))
    assert "tinny" in line
    assert "tiny" in line.replace("tinny", "")


def test_output_and_trace_in_one_file(env: dict[str, str], tmp_path: Path) -> None:
    """Guards two writers on one file, which destroy each other's lines."""
    path = tmp_path / "both.jsonl"
    done = run(*PROMPT, "-o", path, "--trace", path, "--max-tokens", "2", env=env)
    assert done.returncode == 2
    assert "--trace" in error_line(done)


@pytest.mark.parametrize("option", ["--output", "--trace"])
@pytest.mark.parametrize("target", ["prompts", "draft", "linked"])
def test_what_is_read_is_never_set_aside(
    target: str, option: str, env: dict[str, str], chat_pair: Files, tmp_path: Path
) -> None:
    """Guards prompts or a model renamed away because a result was to have their name, or a link's."""
    prompts, draft, linked = tmp_path / "p.jsonl", tmp_path / "draft.gguf", tmp_path / "link.gguf"
    prompts.write_text(jsonl({"prompt": "wait"}))
    draft.write_bytes(chat_pair.draft.read_bytes())
    linked.hardlink_to(draft)
    path = {"prompts": prompts, "draft": draft, "linked": linked}[target]
    before = path.read_bytes()
    done = run("-f", prompts, "-d", draft, option, path, "--max-tokens", "2", env=env)
    assert done.returncode == 2
    assert option in error_line(done)
    assert path.read_bytes() == before


@pytest.mark.parametrize("where", ["nowhere/out.jsonl", "."])
def test_an_output_that_cannot_be_made(where: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a long run whose results have no place to go."""
    done = run(*PROMPT, "-o", tmp_path / where, env=env)
    assert done.returncode in (1, 2)
    assert str(tmp_path / where) in error_line(done)


# ---------------------------------------------------------------- models
def test_a_model_that_is_no_model(chat_pair: Files, refused: Callable[..., str], tmp_path: Path) -> None:
    """Guards a missing, empty or foreign file whose error names neither the file nor the reason."""
    for name, content in (("empty.gguf", b""), ("text.gguf", b"Once upon a time there was a model.\n")):
        (tmp_path / name).write_bytes(content)
    for name, word in (("missing.gguf", "no such"), ("empty.gguf", "empty"), ("text.gguf", "not a GGUF")):
        for role in ("--leader", "--draft"):
            line = refused(*PROMPT, role, tmp_path / name)
            assert name in line
            assert word in line
    assert "directory" in refused(*PROMPT, "--leader", chat_pair.leader.parent)


@pytest.mark.parametrize("place", range(10))
def test_a_model_cut_short(place: int, chat_pair: Files, refused: Callable[..., str], tmp_path: Path) -> None:
    """Guards a torn download, cut in the header, the tensor table or the data: no crash, and the file is named."""
    data = chat_pair.draft.read_bytes()
    sizes = [3, 10, 30, 300, 4000, 8000, 20_000, len(data) // 2, len(data) - 5000, len(data) - 1]
    path = tmp_path / "torn.gguf"
    path.write_bytes(data[: sizes[place]])
    assert "torn.gguf" in refused(*PROMPT, "--draft", path)


def test_models_with_different_words(tiny: TinyModels, env: dict[str, str]) -> None:
    """Guards a pair that writes more slowly than it could, and nobody says why."""
    models = ["-l", str(tiny.model("llama", "plain")), "-d", str(tiny.model("llama", "other"))]
    done = run(*PROMPT, *models, "--max-tokens", "4", env=env)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "reads what the other wrote as text" in line]
    assert "number" in line
    assert "figure" in line


# ---------------------------------------------------------------- prompts
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, ["missing.txt"]),
        ("empty.txt", b"", ["empty.txt", "no prompts"]),
        ("blank.txt", b" \n\r\n\t\n", ["blank.txt", "no prompts"]),
        ("empty.jsonl", b"", ["empty.jsonl", "no prompts"]),
        ("latin.txt", b"wait\ncaf\xe9\n", ["latin.txt:2", "UTF-8"]),
        ("bad.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', ["bad.jsonl:3", "JSON"]),
        ("list.jsonl", b'{"prompt": "a"}\n["b"]\n', ["list.jsonl:2"]),
        ("both.jsonl", b'{"prompt": "a", "messages": []}\n', ["both.jsonl:1", "prompt", "messages"]),
        ("neither.jsonl", b'{"text": "a"}\n', ["neither.jsonl:1", "prompt", "messages"]),
        ("number.jsonl", b'{"prompt": 5}\n', ["number.jsonl:1", "5"]),
        ("half.jsonl", b'{"messages": [{"role": "user"}]}\n', ["half.jsonl:1", "content"]),
        ("none.jsonl", b'{"messages": []}\n', ["none.jsonl:1", "messages"]),
        ("twins.jsonl", b'{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n', ["twins.jsonl", "'x'"]),
        ("index.jsonl", b'{"prompt": "a", "id": "1"}\n{"prompt": "b"}\n', ["index.jsonl", "'1'"]),
        ("hot.jsonl", b'{"prompt": "a"}\n{"prompt": "a", "temp": "hot"}\n', ["hot.jsonl:2", "temp", "hot"]),
        ("range.jsonl", b'{"prompt": "a", "p": 2}\n', ["range.jsonl:1", "2"]),
        ("inf.jsonl", b'{"prompt": "a", "n": Infinity}\n', ["inf.jsonl:1", "n is"]),
        ("deep.jsonl", b"[" * 100_000 + b"\n", ["deep.jsonl:1", "JSON"]),
        ("mode.jsonl", b'{"prompt": "a", "mode": "both"}\n', ["mode.jsonl:1", "both"]),
        ("unhashable.jsonl", b'{"prompt": "a", "mode": ["leader"]}\n', ["unhashable.jsonl:1", "mode"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_prompts_that_cannot_be_read(
    name: str, content: bytes | None, words: list[str], refused: Callable[..., str], tmp_path: Path
) -> None:
    """Guards a bad line that is skipped or found after hours of work, and an error without its place."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused("--file", tmp_path / name)
    assert all(word in line for word in words), line


def test_prompts_from_a_directory_or_an_empty_stdin(refused: Callable[..., str], tmp_path: Path) -> None:
    """Guards a traceback of the operating system's, and a run over nothing that ends well."""
    assert str(tmp_path) in refused("--file", tmp_path)
    assert "<stdin>" in refused("--file", "-")
    assert "<stdin>:1" in refused("--file", "-", stdin='{"prompt": 1}\n')


def test_the_installed_command_refuses_alike(env: dict[str, str]) -> None:
    """Guards an entry point that shows tracebacks where the module shows a line."""
    done = run(*PROMPT, "--leader", "missing.gguf", env=env, command=INSTALLED)
    assert done.returncode == 2
    assert "missing.gguf" in error_line(done)


@pytest.mark.parametrize("option", ["--json-schema", "--grammar"])
def test_an_empty_file_of_a_form_is_named(option: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a message about a setting that is '', where a file was given."""
    (tmp_path / "empty.form").touch()
    line = error_line(run(*PROMPT, option, "empty.form", env=env, cwd=tmp_path))
    assert line.startswith(f"Error: {option} is 'empty.form', and that file is empty")


@pytest.mark.parametrize("command", ["gen", "chat"])
@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_prompt_is_refused(text: str, command: str, env: dict[str, str]) -> None:
    """Guards `"$QUESTION"` of a variable that is not set: a whole answer to nothing. A document alone is a prompt."""
    words = [*MODULE[:3], command]
    assert "a prompt is empty" in error_line(run(text, env=env, command=words))
    if command == "gen":
        assert "a prompt is empty" in error_line(run("--prompt", "a", "--prompt", text, env=env))
        assert run(text, "--max-tokens", "2", "-q", env=env, stdin="one two").returncode == 0


def test_one_model_alone_is_told_how_it_can_answer(env: dict[str, str], chat_pair: Files) -> None:
    """Guards a user of one model who is asked for a second, and not told that one can do."""
    for name in ("FOREAL_LEADER", "FOREAL_DRAFT"):
        env.pop(name, None)
    line = error_line(run(*PROMPT, "--leader", chat_pair.leader, env=env))
    assert line.endswith("--draft is missing (foreal-gen --mode leader needs none)")
    words = ("--leader", chat_pair.leader, "--mode", "leader", "--max-tokens", "2", "-q")
    assert run(*PROMPT, *words, env=env).returncode == 0
