"""foreal-gen and foreal: what they say of themselves, on both ways of calling them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from commands import INSTALLED, MODULE, ROOT, environment, jsonl, run
from real.models import Files

import foreal_local
from foreal_local.cli.command import SECTIONS

# design.md, "Shared options" and "foreal-gen".
OPTIONS = """
    --leader -l --draft -d --pair --mode --lead-tokens -n --lead-prob -p --hits -k --hits-from --boundaries
    --temp --top-p --top-k --min-p --seed --max-tokens --stop --system --raw --ctx-size -c --threads -t
    --leader-gpu-layers --draft-gpu-layers --file -f --prompt --output -o --format --parallel -P --trace
    --version --help -h
"""
DEFAULTS = {
    "--lead-tokens": "15",
    "--lead-prob": "0.6",
    "--hits": "5",
    "--temp": "0.6",
    "--top-p": "0.95",
    "--hits-from": "lead",
}


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = run("--help", env=environment(None, tmp_path_factory.mktemp("home")))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_names_every_option(help_text: str) -> None:
    """Guards options that are documented and do not exist, or exist and are not shown."""
    shown = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_text)
    assert [name for name in OPTIONS.split() if name not in shown] == []


def test_help_shows_the_methods_defaults(help_text: str) -> None:
    """Guards a default that is written twice, differently."""
    flat = " ".join(help_text.split())
    for name, value in DEFAULTS.items():
        text = flat[flat.index(name) :]
        assert text[text.index("[default: ") :].startswith(f"[default: {value}]"), name


def test_help_and_version_on_both_ways_of_calling(help_text: str, env: dict[str, str]) -> None:
    """Guards an entry point that is missing or another command than the module."""
    assert run("-h", env=env, command=INSTALLED).stdout == help_text.replace("foreal gen", "foreal-gen")
    for command in (MODULE, INSTALLED):
        done = run("--version", env=env, command=command)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split() == ["foreal-gen,", "version", foreal_local.__version__]


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no way to ask for a child's time")
def test_help_is_quick(env: dict[str, str]) -> None:
    """Guards --help that loads numpy and llama.cpp first. CPU time, since the machine may be busy."""

    def seconds() -> float:
        process = subprocess.Popen([*MODULE, "--help"], stdout=subprocess.DEVNULL, env=env, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5
    code = "import sys, foreal_local.cli.gen; print(*sorted({'numpy', 'llama_cpp', 'rich'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], env=env, cwd=ROOT, text=True) == "\n"


def test_the_group_lists_its_commands(env: dict[str, str]) -> None:
    """Guards a command that is listed and does not start, and an unknown one that is silently accepted."""
    group = [sys.executable, "-m", "foreal_local"]
    listed = run("--help", env=env, command=group).stdout.partition("Commands:\n")[2]
    names = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
    assert "gen" in names
    for name in names:
        assert run(name, "--help", env=env, command=group).stdout.startswith("Usage: ")
    assert run("nonsense", env=env, command=group).returncode == 2
    assert run("-h", env=env, command=[str(Path(sys.executable).with_name("foreal"))]).returncode == 0


def test_nothing_to_do_is_one_helpful_line(env: dict[str, str]) -> None:
    """Guards a command that waits for a terminal's input, or answers nothing and says so to nobody."""
    for command in (MODULE, INSTALLED):
        done = run(env=env, command=command)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert all(word in done.stderr for word in ("--file", "--prompt", "--help"))


# ---------------------------------------------------------------- what is offered
COMMANDS = ("gen", "chat", "bench", "analyze", "pairs")
WITHOUT = {
    "gen": ["session", "think_budget", "modes", "grid"],
    "chat": ["lanes", "raw", "parallel", "trace", "output", "file"],
    "bench": ["mode", "preset", "session", "file"],
    "analyze": [
        "rollback", "mode", "temp", "top_p", "stop", "cue", "proposals", "gate", "gate_entropy", "lead_share",
        "call_back", "review", "fly_theta", "fly_window", "typical_eps", "typical_delta", "review_every",
        "rewrite_tokens", "rewrite_hits",
    ],
}  # fmt: skip
"""Options that mean nothing to a command."""


def command_named(name: str) -> click.Command:
    command: click.Command = import_module(f"foreal_local.cli.{name}").main
    return command


@pytest.mark.parametrize("name", WITHOUT)
def test_help_begins_with_what_people_need_first(name: str) -> None:
    """Guards a wall of eighty options in which --output is hard to find."""
    command = command_named(name)
    with click.Context(command, info_name=name) as context:
        text = command.get_help(context)
        options = [each for each in command.get_params(context) if isinstance(each, click.Option) and not each.hidden]
    sections = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert sections[0] == "Most used"
    assert sections[-1] == "Help"
    assert sections == [section for section in SECTIONS if section in sections]
    first = text[text.index("Most used:") : text.index(f"{sections[1]}:")]
    assert len(re.findall(r"^  -", first, re.MULTILINE)) == 10
    names = [max(each.opts, key=len) for each in options]
    counts = [len(re.findall(rf"^  (?:-\w, )?{each}(?= |$)", text, re.MULTILINE)) for each in names]
    assert counts == [1] * len(names)


@pytest.mark.parametrize(("name", "parameter"), [(name, each) for name, gone in WITHOUT.items() for each in gone])
def test_an_option_that_means_nothing_is_not_offered(name: str, parameter: str) -> None:
    """Guards options that a command takes and nobody reads: their value changes nothing, and nobody says so."""
    found = [each for each in command_named(name).params if each.name == parameter]
    assert all(isinstance(each, click.Option) and each.hidden for each in found)


# ---------------------------------------------------------------- examples
def examples_of(name: str) -> list[str]:
    return re.findall(r"^  (foreal.*)$", command_named(name).epilog or "", re.MULTILINE)


@pytest.fixture
def folder(chat_pair: Files, tmp_path: Path) -> Path:
    """A folder with the files that the examples name."""
    here = tmp_path / "examples"
    here.mkdir()
    for file, path in (("leader", chat_pair.leader), ("draft", chat_pair.draft), ("other", chat_pair.draft)):
        (here / f"{file}.gguf").write_bytes(path.read_bytes())
    problems = [{"id": str(i), "problem": "wait", "answer": "5"} for i in range(2)]
    texts = {
        "notes.txt": "wait\nso\n", "question.txt": "wait", "prompts.txt": "wait\nnow\n",
        "prompts.jsonl": jsonl({"prompt": "wait", "id": "a"}, {"prompt": "now", "temp": 0}),
        "problems.jsonl": jsonl(*problems),
        "responses.jsonl": jsonl(*({"id": each["id"], "text": "5"} for each in problems)),
    }  # fmt: skip
    for file, text in texts.items():
        (here / file).write_text(text, "utf-8")
    return here


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_work(name: str, env: dict[str, str], folder: Path) -> None:
    """Guards an example that shows an option that is gone, or files in another form than the command reads."""
    env = env | {"FOREAL_CTX_SIZE": "1024", "FOREAL_MAX_TOKENS": "4", "PYTHONPATH": str(ROOT)}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    env = {key: value for key, value in env.items() if key != "FOREAL_LINES"}
    if name == "bench":
        env["FOREAL_LIMIT"] = "2"
    made = examples_of("gen")[-3:] if name == "analyze" else []
    examples = [re.sub(r"--limit \d+", "--limit 2", line) for line in [*made, *examples_of(name)]]
    assert examples
    for line in examples:
        if "--ray" in line:  # tests/test_cluster_ray.py has a cluster
            continue
        done = run(env=env, cwd=folder, command=["bash", "-c", line], stdin="wait\n" if "chat" in line else "")
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout or " -o " in line, line
