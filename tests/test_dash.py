"""`-` is standard input, whichever option of whichever command names a file to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import ROOT, Done, environment, error_line, run

FOREAL = [sys.executable, "-m", "foreal_local"]
BENCH, ANALYZE = ("bench", "-q", "--temp", "0", "--modes", "leader,draft"), ("analyze", "-q", "-P", "1")
PROBLEMS = "".join((ROOT / "models" / "heldout.jsonl").read_text("utf-8").splitlines(keepends=True)[:2])


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(None, tmp_path_factory.mktemp("home"), FOREAL_CTX_SIZE="1024", FOREAL_MAX_TOKENS="24")


@pytest.fixture(scope="module")
def inputs(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A text that each option can read."""
    folder = tmp_path_factory.mktemp("inputs")
    asked, written = folder / "problems.jsonl", ("-o", folder / "out.jsonl", "--trace", folder / "trace.jsonl")
    asked.write_text(PROBLEMS, "utf-8")
    done = run(*BENCH[:4], "--modes", "leader", "--problems", asked, *written, env=env, command=FOREAL)
    assert done.returncode == 0, done.stderr
    responses, trace = ((folder / name).read_text("utf-8") for name in ("out.jsonl", "trace.jsonl"))
    return {
        "--problems": PROBLEMS,
        "--prompts": '{"prompt": "Leo has 8 pens."}\n',
        "--responses": responses,
        "--trace": trace,
    }


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (BENCH, "--problems"),
        ((*BENCH, "--limit", "2"), "--responses"),
        *((ANALYZE, option) for option in ("--problems", "--prompts", "--responses", "--trace")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_dash_reads_standard_input(
    words: tuple[str, ...], option: str, inputs: dict[str, str], env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a pipe that has to go through a file, since only some options know the dash; and a title that says `-`."""

    def figures(path: str | Path, stdin: str = "") -> str:
        out = tmp_path / f"{path == '-'}.json"
        written = "--json" if words[0] == "bench" else "-o"
        done = run(*words, option, path, written, out, env=env, command=FOREAL, stdin=stdin)
        assert done.returncode == 0, done.stderr
        assert "of -" not in done.stdout
        return "".join(line for line in without_times(done) if "%" in line)

    (file := tmp_path / "in.jsonl").write_text(inputs[option], "utf-8")
    assert figures("-", inputs[option]) == figures(file)


def without_times(done: Done) -> list[str]:
    """The lines of the tables that are the same in every run, without the name of what was read."""
    lines = done.stdout.split("\n\n")[0].splitlines()
    return lines if lines[0].startswith(" ") else lines[1:]


def test_standard_input_is_read_once(env: dict[str, str]) -> None:
    """Guards an empty second reading of a pipe."""
    done = run(*BENCH, "--problems", "-", "--responses", "-", env=env, command=FOREAL, stdin=PROBLEMS)
    assert "standard input can be read once" in error_line(done)


@pytest.mark.parametrize(("words", "option"), [(BENCH, "--problems"), (ANALYZE, "--responses")])
def test_a_place_in_standard_input_is_named(words: tuple[str, ...], option: str, env: dict[str, str]) -> None:
    """Guards messages about a file that is called `-`, and a traceback where there is nothing to read."""
    done = run(*words, option, "-", env=env, command=FOREAL, stdin="{}\nno JSON\n")
    assert error_line(done).startswith("Error: <stdin>")
    assert "<stdin> has no" in error_line(run(*words, option, "-", env=env, command=FOREAL))
