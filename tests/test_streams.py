"""Standard input, output and error in any encoding, closed, full: no answer is lost, and errors are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MODULE, ROOT, Done, run

posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")
FOREAL = [sys.executable, "-m", "foreal_local"]
CHAT, BENCH, ANALYZE = ([*FOREAL, name] for name in ("chat", "bench", "analyze"))
ANSWERS = ("--temp", "2", "--top-p", "1", "--seed", "1", "--max-tokens", "40", "-q")
ENCODINGS = ["cp1252", "latin-1", "ascii", "shift_jis", "cp437:strict", "utf-16", "utf-8"]
encodings = pytest.mark.parametrize("encoding", ENCODINGS)
PROMPTS = "wait 数\nso café\nnow “half”\n"


def name_of(encoding: str) -> str:
    """What a command writes its texts in: click writes no ASCII, but UTF-8."""
    return "utf-8" if encoding == "ascii" else encoding.partition(":")[0]


def raw(*arguments: str, env: dict[str, str], command: list[str], stdin: str = "") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [*command, *arguments], input=stdin.encode(), capture_output=True, env=env, cwd=ROOT, timeout=110
    )
    return done.returncode, done.stdout, done.stderr


@encodings
def test_an_encoding_costs_no_answer(encoding: str, env: dict[str, str]) -> None:
    """Guards a run on Windows whose output goes to a file: the first character outside cp1252 ended it."""
    code, plain, error = raw("-f", "-", *ANSWERS, env=env, command=MODULE, stdin=PROMPTS)
    assert code == 0, error
    assert not plain.decode().isascii()
    env = env | {"PYTHONIOENCODING": encoding}
    code, out, error = raw("-f", "-", *ANSWERS, env=env, command=MODULE, stdin=PROMPTS)
    name = name_of(encoding)
    assert (code, b"Traceback" in error) == (0, False), error
    assert out.decode(name) == plain.decode().encode(name, "backslashreplace").decode(name)


@encodings
@pytest.mark.parametrize("options", [("-o", "-"), ("--format", "jsonl")])
def test_json_lines_are_utf_8_in_any_encoding(options: tuple[str, ...], encoding: str, env: dict[str, str]) -> None:
    """Guards records that no reader of JSON can read, or that lose characters."""
    found = []
    for more in ({}, {"PYTHONIOENCODING": encoding}):
        code, out, error = raw("-f", "-", *options, *ANSWERS, env=env | more, command=MODULE, stdin=PROMPTS)
        assert code == 0, error
        found.append([json.loads(line)["text"] for line in out.decode("utf-8").split("\n")[:-1]])
    assert found[0] == found[1]
    assert len(found[0]) == 3


@encodings
def test_a_chat_in_any_encoding(encoding: str, env: dict[str, str]) -> None:
    """Guards a chat through a pipe that ends at the first foreign character, and notes on standard error that do."""
    env = env | {"PYTHONIOENCODING": encoding}
    code, out, error = raw(*ANSWERS, env=env, command=CHAT, stdin=PROMPTS + "/set 数 1\n/export /数/x\nso\n")
    assert code == 1
    assert "Traceback" not in error.decode(name_of(encoding))
    assert out.decode(encoding.partition(":")[0]).strip()


@posix
@pytest.mark.parametrize("language", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_a_language_of_the_system_costs_no_answer(language: str, env: dict[str, str]) -> None:
    """Guards cron and containers, which have no language."""
    env = env | {"LC_ALL": language, "LANG": language}
    code, _, error = raw("-f", "-", *ANSWERS, env=env, command=MODULE, stdin=PROMPTS)
    assert (code, b"Traceback" in error) == (0, False), error


# ---------------------------------------------------------------- closed
def closed(command: list[str], *arguments: str | Path, env: dict[str, str], streams: str, stdin: str = "") -> Done:
    """A call without some of the streams, as a service starts it: `streams` is what a shell makes of it."""
    words = ["bash", "-c", f'exec "$@" {streams}', "-", *command]
    return run(*arguments, env=env, command=words, stdin=stdin)


ONE = ("--prompt", "wait", "--max-tokens", "3", "--seed", "1", "-q")
CLOSED = {
    "prompts from stdin": (MODULE, ("--file", "-"), "<&-", 2, "standard input is closed"),
    "stdin can only be written": (MODULE, ("--file", "-"), "0>/dev/null", 2, "cannot read prompts from -"),
    "chat without stdin": (CHAT, ("-q",), "<&-", 2, "standard input is closed"),
    "chat whose stdin can only be written": (CHAT, ("-q",), "0>/dev/null", 2, "cannot read standard input"),
    "no stdin needed": (MODULE, ONE, "<&-", 0, ""),
    "answers": (MODULE, ONE, ">&-", 2, "standard output is closed"),
    "records": (MODULE, (*ONE, "-o", "-"), ">&-", 2, "standard output is closed"),
    "records to a name of it": (MODULE, (*ONE, "-o", "/dev/stdout"), ">&-", 1, "cannot write /dev/stdout"),
    "chat without stdout": (CHAT, ("-q",), ">&-", 2, "standard output is closed"),
    "a table": (BENCH, ("--limit", "1", "-q"), ">&-", 2, "standard output is closed"),
    "tables": (ANALYZE, ("--limit", "1", "-q"), ">&-", 2, "standard output is closed"),
    "help": (MODULE, ("--help",), ">&-", 1, "cannot write to standard output: it is closed"),
    "help of the group": (FOREAL, ("--help",), ">&-", 1, "cannot write to standard output: it is closed"),
    "version, full": (FOREAL, ("--version",), ">/dev/full", 1, "cannot write to standard output: No space"),
    "answers, full": (MODULE, ONE, ">/dev/full", 1, "cannot write to standard output: No space"),
    "no stderr": (MODULE, ONE, "2>&-", 0, ""),
    "no stderr for an error": (MODULE, (*ONE, "--temp", "hot"), "2>&-", 2, ""),
}


@posix
@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_stream_is_an_error_where_it_is_needed(name: str, env: dict[str, str]) -> None:
    """Guards a traceback under a service, and an answer that is nowhere with exit code 0."""
    command, arguments, streams, code, words = CLOSED[name]
    done = closed(command, *arguments, env=env, streams=streams)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert bool(done.stdout) == (code == 0)


@posix
def test_results_in_a_file_need_no_stream(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a file that is opened under the number of a closed stream, so that messages end up in it."""
    out = tmp_path / "out.jsonl"
    done = closed(MODULE, *ONE, "-o", out, "--verbose", env=env, streams="<&- >&- 2>&-")
    assert done.returncode == 0
    (line,) = out.read_text("utf-8").splitlines()
    assert json.loads(line)["finish_reason"] == "length"


@posix
@pytest.mark.parametrize(("command", "options"), [(MODULE, ("-f", "-")), (MODULE, ("-f", "-", "-o", "-")), (CHAT, ())])
def test_a_reader_that_leaves_is_no_error(command: list[str], options: tuple[str, ...], env: dict[str, str]) -> None:
    """Guards a traceback behind `| head -1`."""
    words = ["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "-", *command, *options, "-q", "--max-tokens", "3"]
    done = run(env=env, command=words, stdin="wait\n" * 8)
    assert done.stdout.count("\n") == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("answer ")] == []
