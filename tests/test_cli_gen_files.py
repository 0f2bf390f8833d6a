"""foreal-gen's files and streams: nothing lost, nothing half written, colour only where it is seen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import MODULE, ROOT, Done, error_line, jsonl, records, run
from real.models import TinyModels
from wcwidth import wcswidth

GREEDY = ("--temp", "0", "--seed", "1", "--max-tokens", "8", "-n", "2", "-k", "1")
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")


# ---------------------------------------------------------------- output files
def test_an_output_file_that_is_there_is_kept_under_a_number(env: dict[str, str], tmp_path: Path) -> None:
    """Guards results of hours that a second run overwrites."""
    out = tmp_path / "out.jsonl"
    texts = []
    for seed in ("1", "2", "3"):
        done = run("--prompt", "wait", "-o", out, "--seed", seed, "--max-tokens", "2", env=env)
        assert done.returncode == 0, done.stderr
        texts.append(out.read_text("utf-8"))
    assert "out.jsonl.~2~" in done.stderr
    left = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert left == {"out.jsonl.~1~": texts[0], "out.jsonl.~2~": texts[1], "out.jsonl": texts[2]}
    assert [records(text)[0]["seed"] for text in texts] == [1, 2, 3]


def test_an_output_file_may_be_text(env: dict[str, str], tmp_path: Path) -> None:
    """Guards --format text that is forgotten where there is an output file."""
    prompts = ("--prompt", "wait", "--prompt", "now")
    done = run(*prompts, *GREEDY, "-o", tmp_path / "out.txt", "--format", "text", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    found = records(run(*prompts, *GREEDY, "--format", "jsonl", env=env).stdout)
    assert (tmp_path / "out.txt").read_text("utf-8") == "".join(record["answer"] + "\n" for record in found)


def assert_disk_full(done: Done, out: Path, n_least: int) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert out.name in error_line(done)
    assert "No space left" in error_line(done)
    assert len(records(out.read_text("utf-8"))) >= n_least


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_leaves_whole_lines(small_disk: Path, env: dict[str, str]) -> None:
    """Guards half a line at the end of the results, and a run that continues for nobody."""
    lines = jsonl(*({"prompt": "so half of ten"},) * 20)
    done = run("-f", "-", "-o", small_disk / "out.jsonl", *GREEDY, "-q", env=env, stdin=lines)
    assert_disk_full(done, small_disk / "out.jsonl", 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("option", ["-o", "--trace"])
def test_a_device_that_is_full_is_one_line(option: str, env: dict[str, str]) -> None:
    """Guards a failure that comes again while the file is closed, as a traceback."""
    done = run("--prompt", "wait", option, "/dev/full", *GREEDY, "-q", "--format", "jsonl", env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert (done.stderr.count("\n"), "No space left" in done.stderr, "/dev/full" in done.stderr) == (1, True, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_behind_stdout_is_an_error(env: dict[str, str]) -> None:
    """Guards `foreal-gen > file` on a full disk that ends well."""
    with open("/dev/full", "wb") as full:
        command = [*MODULE, "--prompt", "wait", *GREEDY, "-q", "--format", "jsonl"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=env, cwd=ROOT, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error: ") == 1


# ---------------------------------------------------------------- streams
@posix
@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_a_reader_that_leaves_is_no_error_of_ours(format: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards the traceback of a broken pipe in `foreal-gen | head -1`."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("wait\nso\nnow\nhalf\n" * 3)
    options = f"-f {prompts} --format {format} --temp 0 --seed 1 --max-tokens 60 -q"
    line = f"{sys.executable} -m foreal_local gen {options} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env, cwd=ROOT, timeout=110)
    answer, code = done.stdout.rsplit("\n", 2)[:2]
    assert answer
    assert code in ("0", "1", "141")
    assert done.stderr.strip() in ("", "Aborted!"), done.stderr


def words(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_colour_is_for_terminals_unless_asked_for(env: dict[str, str]) -> None:
    """Guards escape codes in files and pipes, and --color that does nothing."""
    prompt = ("--prompt", "wait now", *GREEDY, "--lead-prob", "1", "--max-tokens", "25")
    plain, always, never = (
        run(*prompt, *more, env=env).stdout for more in ((), ("--color", "always"), ("--color", "never"))
    )
    assert "\x1b" not in plain + never
    assert plain == never == words(always)
    assert set(re.findall(r"\x1b\[[1-9][0-9;]*m", always)) == {"\x1b[38;5;63m"}
    assert re.sub(r"\x1b\[38;5;63m.*?\x1b\[0m", "", always, flags=re.DOTALL).strip(), "leader and draft look alike"
    light = run(*prompt, "--color", "always", "--background", "light", env=env).stdout
    assert light == always.replace("38;5;63m", "38;5;25m")
    lines = run(*prompt, "--color", "always", "--format", "jsonl", env=env).stdout
    assert "\x1b" not in lines
    assert len(records(lines)) == 1


@posix
def test_no_color_is_heard_on_a_terminal(env: dict[str, str]) -> None:
    """Guards NO_COLOR (https://no-color.org) and --color never, where colour would be shown."""
    prompt = ("--prompt", "wait now", *GREEDY)
    shown = on_terminal(*prompt, env=env)
    assert "\x1b[38;5;" in shown
    underlined = on_terminal(*prompt, env=env | {"NO_COLOR": "1"})
    assert set(re.findall(r"\x1b\[[0-9;]*m", underlined)) == {"\x1b[4m", "\x1b[0m"}
    assert on_terminal(*prompt, "--color", "never", env=env) == underlined
    assert words(underlined) == words(shown)
    assert "\x1b[38;5;" in on_terminal(*prompt, "--color", "always", env=env | {"NO_COLOR": "1"})
    assert "\x1b" not in on_terminal(*prompt, env=env | {"TERM": "dumb"})


@posix
def test_answers_of_several_prompts_are_told_apart(env: dict[str, str], tmp_path: Path) -> None:
    """Guards answers that run into each other on a terminal, a heading that the terminal breaks, headings and legends
    in a pipe, and -q that takes the headings away."""
    file, long = tmp_path / "prompts.txt", "数 and words " * 8
    file.write_text(f"wait now\n{long}\n", encoding="utf-8")
    for more in ((), ("-q",), ("-P", "2")):
        shown = words(on_terminal("-f", str(file), *GREEDY, *more, env=env | {"COLUMNS": "60"})).splitlines()
        assert shown[0] == ("[1/2] wait now" if "-q" in more else "leader draft")
        assert "[1/2] wait now" in shown[:2]
        (second,) = [i for i, line in enumerate(shown) if line.startswith("[2/2] ")]
        assert (shown[second - 1], shown[second][-1]) == ("", "…")
        assert shown[second].startswith("[2/2] 数 and words 数")
        assert 50 < wcswidth(shown[second]) < 60
        piped = run("-f", str(file), *GREEDY, *more, env=env).stdout
        answers = [line for line in shown if line not in ("", "leader draft") and not re.match(r"\[\d/2\] ", line)]
        assert [line for line in piped.splitlines() if line] == answers
    one = words(on_terminal("--prompt", "wait now", *GREEDY, env=env))
    assert one.startswith("leader draft\r\n")
    assert "[1/1]" not in one


def on_terminal(*arguments: str, env: dict[str, str]) -> str:
    """What a terminal on stdout is sent; stderr is none."""
    import pty

    master, slave = pty.openpty()
    try:
        command = [*MODULE, *arguments]
        done = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, stdin=slave, env=env, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    finally:
        os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # the end, on Linux
        pass
    os.close(master)
    return shown.decode()


def test_reasoning_is_shown_on_stderr_only_where_it_is_wanted(tiny: TinyModels, env: dict[str, str]) -> None:
    """Guards reasoning among the answers: these models' template opens it, and they hardly ever close it."""
    leader, draft = tiny.pair("llama", "endless")
    env = env | {"FOREAL_LEADER": str(leader), "FOREAL_DRAFT": str(draft)}
    prompt = ("--prompt", "wait now", *GREEDY)
    (record,) = records(run(*prompt, "--format", "jsonl", env=env).stdout)
    assert (record["answer"], record["reasoning"]) == ("", record["text"].strip())
    hidden, shown = (run(*prompt, "--reasoning", choice, env=env) for choice in ("hide", "show"))
    assert hidden.stdout == shown.stdout == "\n"
    assert record["reasoning"] in shown.stderr
    assert record["reasoning"] not in hidden.stderr
    assert "inside the reasoning" in hidden.stderr


# ---------------------------------------------------------------- the trace
def test_a_trace_has_a_line_for_every_decision(env: dict[str, str], chat_pair: Any, tmp_path: Path) -> None:
    """Guards a trace that cannot be replayed by hand: a key or a line that is missing, in another order or twice."""
    prompts, trace, out = (tmp_path / name for name in ("p.jsonl", "trace.jsonl", "out.jsonl"))
    prompts.write_text(
        jsonl({"prompt": "wait now", "id": "a"}, {"prompt": "x " * 300}, {"prompt": "so", "k": 0}), "utf-8"
    )
    options = (*GREEDY, "--max-tokens", "40", "-p", "0.8", "-P", "2")
    done = run("-f", prompts, "--trace", trace, "-o", out, *options, env=env)
    assert done.returncode == 1, done.stderr
    header, *lines = records(trace.read_text("utf-8"))
    wanted = {"type": "header", "version": 1, "mode": "foreal", "n": 2, "p": 0.8, "k": 1, "hits_from": "lead"}
    wanted |= {"temp": 0.0, "leader": str(chat_pair.leader), "draft": str(chat_pair.draft)}
    assert {key: header[key] for key in wanted} == wanted
    answers = {record["id"]: record for record in records(out.read_text("utf-8"))}
    assert sorted(answers) == ["1", "2", "a"]
    for id, answer in answers.items():
        prompt, *tokens, end = [line for line in lines if line["id"] == id]
        assert (prompt["type"], end["type"]) == ("prompt", "end")
        assert end["finish_reason"] == answer["finish_reason"]
        check_tokens(tokens, answer)
        if id != "1":
            assert len(prompt["leader_tokens"]) == len(prompt["draft_tokens"]) == answer["usage"]["prompt_tokens"]
    assert len(lines) == sum(2 + answer["usage"]["completion_tokens"] for answer in answers.values())


def check_tokens(tokens: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    keys = ["type", "id", "i", "token", "piece", "author", "sentence", "led", "hit", "hits"]
    assert [token["i"] for token in tokens] == list(range(answer["usage"]["completion_tokens"]))
    assert "".join(token["piece"] for token in tokens) == answer["text"]
    assert {role: sum(t["author"] == role for t in tokens) for role in ("leader", "draft")} == {
        role: answer["usage"][f"{role}_tokens"] for role in ("leader", "draft")
    }
    assert {token["sentence"] for token in tokens} == set(range(answer["sentences"]["total"]))
    assert len({token["sentence"] for token in tokens if token["led"]}) == answer["sentences"]["led"]
    for token in tokens:
        assert [key for key in token if key in keys] == keys
        assert token["type"] == "token"
        assert token["hit"] in (True, False, None)


# ---------------------------------------------------------------- nothing finished is lost
def test_half_a_surrogate_pair_is_escaped(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a prompt that is no UTF-8 and ends the run, or makes the whole file of results unreadable."""
    lines = '{"prompt": "\\ud800 wait"}\n{"prompt": "now"}\n'
    printed = run("-f", "-", "--format", "jsonl", *GREEDY, env=env, stdin=lines)
    done = run("-f", "-", "-o", tmp_path / "out.jsonl", *GREEDY, env=env, stdin=lines)
    assert (printed.returncode, done.returncode) == (0, 0), printed.stderr
    for text in (printed.stdout, (tmp_path / "out.jsonl").read_text("utf-8")):
        assert [record["prompt"] for record in records(text)] == ["\ud800 wait", "now"]


def test_texts_in_a_file_are_in_the_order_of_the_prompts(env: dict[str, str], tmp_path: Path) -> None:
    """Guards answers in the order of finishing, which nobody can match to their prompts."""
    lines = jsonl({"prompt": "wait", "max_tokens": 60}, *({"prompt": f"so {i}", "max_tokens": 3} for i in range(5)))
    found = []
    for n in ("1", "4"):
        options = ("-f", "-", "--format", "text", "--temp", "0", "--seed", "1", "--lanes", "1", "-P", n)
        assert run(*options, "-o", tmp_path / n, env=env, stdin=lines).returncode == 0
        found.append((tmp_path / n).read_text("utf-8"))
    assert found[0] == found[1]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="POSIX only")
def test_results_and_traces_may_go_nowhere(env: dict[str, str]) -> None:
    """Guards a device that cannot be synced."""
    done = run("--prompt", "wait", "-o", "/dev/null", "--trace", "/dev/null", *GREEDY, "-q", env=env)
    assert (done.returncode, done.stderr) == (0, "")


@posix
def test_a_trace_that_cannot_be_written_costs_no_record(env: dict[str, str], tmp_path: Path) -> None:
    """Guards an answer that is lost because the trace came first."""
    out = tmp_path / "out.jsonl"
    code = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
    code += "sys.argv[0] = 'foreal'; runpy.run_module('foreal_local', run_name='__main__')"
    command = [sys.executable, "-c", code, "gen"]
    options = ("--prompt", "wait", "-o", out, "--trace", tmp_path / "trace.jsonl", "--temp", "0", "--max-tokens", "40")
    done = run(*options, env=env, command=command)
    assert (done.returncode, "trace.jsonl" in done.stderr) == (1, True), done.stderr
    assert len(records(out.read_text("utf-8"))) == 1


@posix
def test_after_an_answer_that_cannot_be_written_there_is_none(env: dict[str, str], tmp_path: Path) -> None:
    """Guards shorter answers that are written where a longer one before them found no room: the n-th line of a file
    of texts is the n-th prompt's."""
    out = tmp_path / "out.txt"
    code = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    code += "sys.argv[0] = 'foreal'; runpy.run_module('foreal_local', run_name='__main__')"
    lines = jsonl({"prompt": "so", "max_tokens": 2}, {"prompt": "wait", "max_tokens": 200}, {"prompt": "so"})
    options = ("-f", "-", *GREEDY, "-P", "3", "--format", "text", "-o", out, "-q")
    done = run(*options, env=env, command=[sys.executable, "-c", code, "gen"], stdin=lines)
    assert done.returncode == 1
    assert f"cannot write {out}: File too large" in error_line(done)
    assert out.read_bytes().count(b"\n") == 1
    assert b"\0" not in out.read_bytes()


@posix
def test_an_interrupt_prints_what_was_finished_behind_a_prompt_that_was_not(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Guards finished answers that wait for their turn when Ctrl-C comes."""
    lines = jsonl({"prompt": "wait", "max_tokens": 100_000}, *({"prompt": "so", "max_tokens": 2},) * 3)
    command = [*MODULE, "-f", "-", "-P", "2", "--lanes", "2", "-c", "30000", "--temp", "0", "--seed", "1"]
    trace = tmp_path / "trace.jsonl"
    command += ["--trace", str(trace)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin
    process.stdin.write(lines.encode())
    process.stdin.close()
    process.stdin = None
    end = time.monotonic() + 60
    while not trace.exists() or trace.read_bytes().count(b'"end"') < 2:
        assert time.monotonic() < end, "the short answers were not finished"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"2 of 4" in err, err
    assert out.count(b"\n") == 2


CTRL_C_AT_THE_TRACE = """
import runpy, signal, sys
from foreal_local.storage.files import LineFile
write, n_ends = LineFile.write, 0
def interrupted(self, lines):
    global n_ends
    write(self, lines)
    n_ends += self.path.name == "trace.jsonl" and '"end"' in lines
    if n_ends == 2:
        for _ in range({times}):
            signal.raise_signal(signal.SIGINT)
LineFile.write = interrupted
sys.argv[0] = "foreal"
runpy.run_module("foreal_local", run_name="__main__")
"""


@posix
@pytest.mark.parametrize("parallel", ["1", "2"])
@pytest.mark.parametrize("to", ["the screen", "stdout", "a file"])
@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_that_is_being_written_when_ctrl_c_comes_is_written(
    times: int, to: str, parallel: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Guards an answer that was finished and counted, and then lost. A second Ctrl-C ends the run without it."""
    command = [sys.executable, "-c", CTRL_C_AT_THE_TRACE.format(times=times), "gen"]
    out = tmp_path / "out.jsonl"
    options = {"the screen": [], "stdout": ["--format", "jsonl"], "a file": ["-o", str(out)]}[to]
    options += ["--trace", str(tmp_path / "trace.jsonl"), "-P", parallel, *("--prompt", "so") * 4]
    done = run(*options, *GREEDY, env=env, command=command)
    assert done.returncode == 130, done.stderr
    lines = (out.read_text("utf-8") if to == "a file" else done.stdout).splitlines()
    if times == 1:
        assert "2 of 4 prompts finished" in done.stderr
        assert len([line for line in lines if line]) == 2
    elif to != "the screen" or parallel != "1":  # there it was shown before it was finished
        assert len([line for line in lines if line]) == 1


AT = """
import importlib, runpy, signal, sys
owner = getattr(importlib.import_module("foreal_local.{module}"), "{owner}")
real = getattr(owner, "{method}")
def stopped(*arguments, **options):
    signal.raise_signal(signal.SIGTERM)
    return real(*arguments, **options)
setattr(owner, "{method}", stopped)
sys.argv[0] = "foreal"
runpy.run_module("foreal_local", run_name="__main__")
"""


@posix
@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [
        ("batch.run", "BatchRun", "_prepare"),
        ("batch.run", "BatchRun", "_write"),
        ("runtime.llama.context", "Context", "evaluate_parts"),
    ],
)
def test_sigterm_ends_a_run_that_does_not_hear_ctrl_c(
    module: str, owner: str, method: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a run in the background of a script, where Ctrl-C is ignored, and that no signal but SIGKILL ends."""
    command = [sys.executable, "-c", AT.format(module=module, owner=owner, method=method), "gen"]
    options = [*GREEDY, "-o", str(tmp_path / "out.jsonl"), "--prompt", "so", "--prompt", "wait"]
    process = subprocess.run(
        [*command, *options],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.returncode == 130, process.stderr
    if method == "_write":
        assert len(records((tmp_path / "out.jsonl").read_text("utf-8"))) == 1
