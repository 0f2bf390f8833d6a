"""A document that is piped in, a question about it, prompts of several lines: what foreal-gen and foreal-chat ask."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from commands import MODULE, ROOT, Done, error_line, jsonl, records, run
from real.models import Files
from terminal import Terminal, terminal_environment

from foreal_local import documents
from foreal_local.documents import read_whole, text_of, whole, with_question
from foreal_local.errors import UsageError

CHAT = [sys.executable, "-m", "foreal_local", "chat"]
SHORT = ("--temp", "0", "--seed", "1", "--max-tokens", "4", "-q")
JSONL = (*SHORT, "--format", "jsonl")
DOCUMENT = "wait now\n\n  so half\nof ten\n"
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing there")


def asked(*arguments: str | Path, env: dict[str, str], stdin: str | bytes = "", **more: Any) -> list[str]:
    """What foreal-gen has asked the models, as its records say."""
    done = run(*arguments, *JSONL, env=env, stdin=stdin, **more)
    assert done.returncode == 0, done.stderr
    return [record["prompt"] for record in records(done.stdout)]


@pytest.fixture
def chat(env: dict[str, str]) -> Any:
    """A chat that is not told to read messages line by line."""
    env = {name: value for name, value in env.items() if name != "FOREAL_LINES"}

    def call(*arguments: str, stdin: str | bytes = "", **variables: str) -> Done:
        return run(*SHORT, *arguments, env=env | variables, stdin=stdin, command=CHAT)

    return call


# ---------------------------------------------------------------- foreal-gen
@pytest.mark.parametrize(
    ("arguments", "stdin", "prompts"),
    [
        (["wait now"], "", ["wait now"]),
        ([], DOCUMENT, [DOCUMENT[:-1]]),
        (["-"], DOCUMENT, [DOCUMENT[:-1]]),
        (["--prompt", "-"], DOCUMENT, [DOCUMENT[:-1]]),
        (["--prompt-file", "-"], DOCUMENT, [DOCUMENT[:-1]]),
        (["add this"], DOCUMENT, [DOCUMENT + "\nadd this"]),
        (["--prompt", "add"], DOCUMENT, [DOCUMENT + "\nadd"]),
        (["--prompt", "add", "--prompt", "so"], "ten\n", ["ten\n\nadd", "ten\n\nso"]),
        (["--prompt", "so", "--prompt", "-"], "ten\n", ["so", "ten"]),
        (["--prompt", "add"], " \n\n", ["add"]),
        (["--lines"], "wait\n\nnow\n", ["wait", "now"]),
        (["--file", "-"], "wait\n\nnow\n", ["wait", "now"]),
        (["--prompt", "so", "--lines"], "wait\n", ["so", "wait"]),
        (["--lines"], jsonl({"prompt": "a\nb"}), ["a\nb"]),
        (["add"], "ten\r\nso\r\n", ["ten\nso\n\nadd"]),
        (["add"], b"\xef\xbb\xbften\n", ["ten\n\nadd"]),
        (["add"], "caf\u00e9 \u6570\n".encode("utf-16"), ["caf\u00e9 \u6570\n\nadd"]),
        (["add"], "ten".encode("utf-32"), ["ten\n\nadd"]),
        (["--lines"], "wait\nnow\n".encode("utf-16"), ["wait", "now"]),
        (["--raw", "-"], "so\n\n", ["so\n"]),
    ],
    ids=str,
)
def test_what_is_asked(arguments: list[str], stdin: str | bytes, prompts: list[str], env: dict[str, str]) -> None:
    """Guards a document that is answered line by line, a dash that is asked about, a question without its document."""
    assert asked(*arguments, env=env, stdin=stdin) == prompts


def test_files_that_are_prompts(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a file of several lines as several prompts, and an output that replaces it."""
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("wait\nnow\n", "utf-8")
    two.write_text("so\n\nten", "utf-8")
    options = ("--prompt-file", one, "--prompt-file", two)
    assert asked(*options, env=env) == ["wait\nnow", "so\n\nten"]
    assert asked(*options, "--file", one, env=env) == ["wait\nnow", "so\n\nten", "wait", "now"]
    assert asked(*options, env=env, stdin="half\n") == ["half\n\nwait\nnow", "half\n\nso\n\nten"]
    line = error_line(run(*options, "-o", two, env=env))
    assert "--output and --prompt-file" in line
    assert two.read_text("utf-8") == "so\n\nten"


def test_several_lines_are_said_to_be_one_prompt(env: dict[str, str]) -> None:
    """Guards a list of prompts that is asked as one, and nobody knows why the answer is odd."""
    loud = ("--max-tokens", "2", "--seed", "1")
    assert "one prompt of 2 lines; --lines" in run(*loud, env=env, stdin="wait\nnow\n").stderr
    assert "2 lines of JSON; --lines" in run(*loud, env=env, stdin=jsonl({"prompt": "a"}, {"prompt": "b"})).stderr
    assert "(4 characters) is put before the prompt" in run(*loud, "now", env=env, stdin="wait\n").stderr
    assert "standard input" not in run(*loud, "wait", env=env).stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["Tom", "has", "12"], "", "PROMPT is 3 words: put quotes around it, as in 'Tom has 12'"),
        (["README.md"], "", "README.md is a file"),
        (["--prompt", "Tom", "has"], "", "PROMPT ('has') stands beside --prompt"),
        (["now", "--prompt-file", "README.md"], "", "stands beside --prompt-file"),
        (["now", "--file", "README.md"], "", "stands beside --file"),
        (["now", "--lines"], "wait\n", "stands beside --file"),
        (["--lines", "--file", "README.md"], "wait\n", "leave one out"),
        (["--prompt", "-", "--file", "-"], "wait\n", "- is given 2 times"),
        (["--prompt-file", "-", "--prompt", "-", "--lines"], "wait\n", "- is given 3 times"),
        (["-"], "", "standard input is empty"),
        (["--prompt", "-"], "\n \n", "standard input is empty"),
        ([], "", "nothing to answer"),
        ([], "\n \n", "nothing to answer"),
        (["--prompt-file", "no-such"], "", "cannot read no-such: No such file"),
        (["--prompt-file", "docs"], "", "cannot read docs: Is a directory"),
        (["--prompt-file", os.devnull], "", "it is empty"),
        (["now"], b"\x89PNG\r\n\x1a\n\0\0", "<stdin>:1: not UTF-8 text (byte 0x89"),
        (["now"], b"so\ncaf\xe9\n", "<stdin>:2: not UTF-8 text (byte 0xe9"),
        (["now"], "ten".encode("utf-16-le"), "<stdin>:1: not text, but binary data or UTF-16"),
        (["now"], b"\xff\xfea", "<stdin>: not UTF-16 text"),
        (["--lines"], b"so\nt\0e\n", "<stdin>:2: not text"),
        ([], b"GGUF\3\0\0\0", "not text"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(arguments: list[str], stdin: str | bytes, words: str, env: dict[str, str]) -> None:
    """Guards words that are dropped, bytes that are asked as they are, and a run over nothing."""
    done = run(*arguments, "-q", env=env, stdin=stdin)
    assert (done.returncode, words in error_line(done)) == (2, True), done.stderr


@posix
@pytest.mark.parametrize("streams", ["<&-", "</dev/null", "0>/dev/null"])
@pytest.mark.parametrize("command", [MODULE, CHAT])
def test_a_question_needs_no_input(command: list[str], streams: str, env: dict[str, str]) -> None:
    """Guards cron and nohup, whose standard input is closed, empty, or can only be written."""
    words = ["bash", "-c", f'exec "$@" {streams}', "-", *command]
    env.pop("FOREAL_LINES", None)
    done = run("wait now", *SHORT, env=env, command=words)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr


@posix
def test_input_that_does_not_come_is_said(env: dict[str, str]) -> None:
    """Guards a command that hangs for ever in a script whose standard input nobody ends, and does not say why."""
    words = ["bash", "-c", 'sleep 12 | exec "$@"', "-", *MODULE]
    done = run("wait", "--seed", "1", "--max-tokens", "2", env=env, command=words)
    assert done.returncode == 0
    assert "waiting for a document on standard input (< /dev/null" in done.stderr


# ---------------------------------------------------------------- too much
@pytest.mark.parametrize("command", [MODULE, CHAT])
def test_a_document_beyond_the_context_is_refused_with_the_numbers(command: list[str], env: dict[str, str]) -> None:
    """Guards minutes of loading before a message that no number helps with."""
    env.pop("FOREAL_LINES", None)
    done = run("now", "-q", env=env, stdin="half of ten so " * 100, command=command)
    line = error_line(done)
    assert done.returncode == 2
    assert "the prompt has 4" in line
    assert "the context is 256" in line
    assert "--ctx-size" in line or "shorten it (the models were trained for" in line


def test_a_text_of_no_end_is_refused(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards memory that is filled by `yes | foreal-gen`."""
    monkeypatch.setattr(documents, "MOST_BYTES", 2**20)
    (tmp_path / "long").write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(UsageError, match="more than 1 MiB"):
        read_whole(str(tmp_path / "long"))


# ---------------------------------------------------------------- foreal-chat
def test_a_document_is_one_message_and_one_answer(chat: Any) -> None:
    """Guards `cat FILE | foreal-chat`, which answered each line of the file."""
    for arguments in ((), ("add",), ("-",)):
        done = chat(*arguments, stdin=DOCUMENT)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "content"),
    [
        (["--session", "s"], DOCUMENT, DOCUMENT[:-1]),
        (["--session", "s", "/set temp 0"], "", "/set temp 0"),
        (["--session", "s", "add"], '"""\nso', '"""\nso\n\nadd'),
        (["--session", "s", "add"], "/load x\n/clear\n", "/load x\n/clear\n\nadd"),
    ],
    ids=str,
)
def test_what_a_chat_is_asked(arguments: list[str], stdin: str, content: str, chat: Any, tmp_path: Path) -> None:
    """Guards lines of a document that are taken for commands or fences, and a session without its question."""
    assert chat(*arguments, stdin=stdin).returncode == 0
    done = chat("--session", "s", "--lines", stdin=f"/export {tmp_path / 'out.md'}\n")
    assert done.returncode == 0, done.stderr
    assert content in (tmp_path / "out.md").read_text("utf-8")


def test_lines_are_messages_where_that_is_asked(chat: Any, env: dict[str, str]) -> None:
    """Guards scripts of messages and commands, which --lines and FOREAL_LINES keep."""
    for done in (chat("--lines", stdin="wait\n/mode leader\nnow\n"), chat(stdin="wait\nnow\n", FOREAL_LINES="1")):
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert len(chat("--lines", "so", stdin="wait\nnow\n").stdout.splitlines()) == 3
    env = {name: value for name, value in env.items() if name != "FOREAL_LINES"}
    told = run("--max-tokens", "2", env=env, stdin="wait\nnow\n", command=CHAT)
    assert "one message of 2 lines; --lines" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ([], "wait\n/set temp 0\n", "<stdin>:2: /set temp 0 is a command of the chat"),
        ([], "", "standard input is empty"),
        (["Tom", "has"], "", "PROMPT is 2 words"),
        (["README.md"], "", "README.md is a file"),
        (["-"], b"\0\1", "not text"),
    ],
    ids=str,
)
def test_what_a_chat_cannot_be_asked(arguments: list[str], stdin: str | bytes, words: str, chat: Any) -> None:
    """Guards commands that are sent to the models as a text, and an empty pipe that nobody is told of."""
    done = chat(*arguments, stdin=stdin)
    assert (done.returncode, words in error_line(done)) == (2, True), done.stderr


# ---------------------------------------------------------------- terminals
@posix
def test_a_pipe_into_a_chat_on_a_terminal_is_answered_once(chat_pair: Files, tmp_path: Path) -> None:
    """Guards an answer for each line on the screen, opening lines about commands that cannot be typed, and a chat that
    stays."""
    env = terminal_environment(chat_pair, tmp_path)
    env.pop("FOREAL_LINES")
    line = f"printf 'wait\\nnow\\n' | {' '.join(CHAT)} add --temp 0 --seed 1 --max-tokens 4; echo code $?"
    process = pexpect.spawn("bash", ["-c", line], env=env, cwd=str(ROOT), timeout=30, encoding="utf-8")
    process.expect(pexpect.EOF)
    process.close()
    assert process.before.count("ended by max-tokens") == 1
    assert "code 0" in process.before
    assert "/help" not in process.before
    assert ">>>" not in process.before


@posix
def test_a_prompt_on_a_terminal_is_the_first_message(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a chat that ends after the prompt it was started with, or that forgets it."""
    with Terminal("wait now", *SHORT, env=terminal_environment(chat_pair, tmp_path)) as chat:
        assert "4 tokens ·" in chat.text
        assert "4 tokens ·" in chat.say("so")
        chat.say(f"/export {tmp_path / 'x.md'}")
    assert "wait now" in (tmp_path / "x.md").read_text("utf-8")


def on_terminal(*arguments: str, env: dict[str, str]) -> pexpect.spawn[str]:
    words = [*MODULE[1:], *arguments]
    return pexpect.spawn(MODULE[0], words, env=env, cwd=str(ROOT), timeout=30, encoding="utf-8", dimensions=(30, 120))


@posix
@pytest.mark.parametrize("arguments", [(), ("-",), ("--prompt", "-")])
def test_a_prompt_is_typed_on_a_terminal(arguments: tuple[str, ...], chat_pair: Files, tmp_path: Path) -> None:
    """Guards a command that waits for input, and says to nobody what it waits for."""
    out = tmp_path / "out.jsonl"
    process = on_terminal(
        *arguments, "-o", str(out), "--max-tokens", "2", env=terminal_environment(chat_pair, tmp_path)
    )
    process.expect("reading a prompt from the terminal; Ctrl-D")
    process.send("wait\nnow\n\x04")
    process.expect(pexpect.EOF)
    assert [record["prompt"] for record in records(out.read_text("utf-8"))] == ["wait\nnow"]


@posix
def test_lines_are_typed_on_a_terminal(chat_pair: Files, tmp_path: Path) -> None:
    """Guards the same where each line is a prompt; and Ctrl-C while it waits."""
    env = terminal_environment(chat_pair, tmp_path)
    process = on_terminal("--file", "-", "--max-tokens", "2", "--seed", "1", env=env)
    process.expect("reading prompts, a line each, from the terminal; Ctrl-D")
    process.send("wait\nnow\n\x04")
    process.expect("2 prompts")
    process.expect(pexpect.EOF)
    process = on_terminal(env=env)
    process.expect("from the terminal")
    process.sendintr()
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 130


# ---------------------------------------------------------------- texts
def test_bytes_as_text() -> None:
    """Guards marks, line ends and encodings that become part of a text."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert whole("a\r\n\u6570\n\n".encode(encoding), "x") == "a\n\u6570\n"
    assert (whole(b"", "x"), whole(b"\xef\xbb\xbf \n", "x")) == ("", "")
    assert (with_question("", "q"), with_question("a\n\n", "q"), with_question("a", "")) == ("q", "a\n\nq", "a")
    with pytest.raises(UsageError, match=r"x:3: not UTF-8 text \(byte 0xff"):
        text_of(b"a\n\n\xff", "x")


def test_a_heading_of_a_document_is_short(chat_pair: Files, tmp_path: Path) -> None:
    """Guards a screen that is filled with the document that was piped in, once for each question, and a heading
    without the question."""
    env = terminal_environment(chat_pair, tmp_path)
    words = f"printf 'so %.0s' $(seq 150) | {' '.join(MODULE)} --prompt one --prompt two --max-tokens 2 --ctx-size 1024"
    process = pexpect.spawn("bash", ["-c", words], env=env, cwd=str(ROOT), timeout=30, encoding="utf-8")
    process.expect(pexpect.EOF)
    heading = next(line for line in process.before.splitlines() if "[1/2]" in line)
    assert re.search(r"\[1/2\] … \w+ (so )+one\b", heading)
    assert heading.count("so") < 27, "as wide as the terminal"
