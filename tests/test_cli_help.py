"""foreal-gen and foreal: what they say of themselves, on both ways of calling them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import INSTALLED, MODULE, ROOT, environment, run

import foreal_local

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
