"""Chat templates as users of the commands meet them: what is told of them, the time they are told, and resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import environment, error_line, jsonl, records, run
from real.tiny_gguf import CHATML, write_llama

from foreal_local.cli.chat import main as chat
from foreal_local.cli.gen import main as gen
from foreal_local.config import Generation, Prompting
from foreal_local.digest import settings_hash
from foreal_local.method.roles import Role

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|im_start|>user\n{{ m['content'] }}<|im_end|>\n"
    "<|im_start|>assistant\n{% elif m['role'] == 'assistant' %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
)
DATED = "{{ strftime_now('%H:%M:%S.%f') }}" + CHATML


class Command:
    """A command with a pair of the folder, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = environment(None, folder)

    def model(self, name: str, template: str) -> str:
        path = self.folder / f"{name}.gguf"
        if not path.exists():
            write_llama(path, seed=1, chat_template=template)
        return str(path)

    def __call__(
        self, *arguments: str, leader: str, draft: str = CHATML, command: object = gen, stdin: str = ""
    ) -> str:
        """Standard output and standard error of one run."""
        words = ["-l", self.model("leader", leader), "-d", self.model("draft", draft), "--max-tokens", "3"]
        words += ["--temp", "0", "--seed", "1", "--proposals", "0", *arguments]
        result = CliRunner().invoke(command, words, env=self.env, input=stdin)  # type: ignore[arg-type]
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return str(result.stdout + result.stderr)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_where_a_system_message_goes_is_told(command: Command) -> None:
    """Guards a system message that one of the models never reads, without a word."""
    shown = command("--system", "Be brief.", "--prompt", "wait", "--prompt", "so", leader=NO_SYSTEM)
    assert shown.count("warning: the chat template of leader.gguf has no place for a system message") == 1
    assert "draft.gguf" not in shown
    assert "as the models read it" in shown, "the summary says it, too"
    assert "warning" not in command("--prompt", "wait", "-q", leader=NO_SYSTEM)


def test_a_chat_tells_what_its_models_read(command: Command) -> None:
    """Guards /show that names a system message which no model gets."""
    stdin = "/system Be brief.\n/show\n/system So.\nwait\n/system\n/show\n"
    shown = command(leader=NO_SYSTEM, command=chat, stdin=stdin)
    assert "system    Be brief. (before the first text of the user, for leader.gguf)" in shown
    assert shown.count("warning: ") == 1
    assert "system    none\n" in shown


def test_a_template_that_can_write_nothing_is_refused_at_once(command: Command, tmp_path: Path) -> None:
    """Guards a line of error for each prompt of a long file, and an output that is set aside for nothing."""
    (tmp_path / "o.jsonl").write_text("kept")
    command.model("leader", "{% if %}")
    done = run(
        "-l", tmp_path / "leader.gguf", "-d", command.model("draft", CHATML), "--prompt", "a", "--prompt", "b",
        "-o", tmp_path / "o.jsonl", env=command.env,
    )  # fmt: skip
    assert done.returncode == 2
    assert "the chat template of leader.gguf is broken" in error_line(done)
    assert (tmp_path / "o.jsonl").read_text() == "kept"
    assert "is broken" in command(leader="", command=chat)


def test_a_prompt_that_is_refused_is_named_by_its_line(command: Command, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]
    (tmp_path / "p.jsonl").write_text(jsonl({"prompt": "a"}, {"messages": messages}))
    shown = command("--file", str(tmp_path / "p.jsonl"), leader=NO_SYSTEM)
    assert "p.jsonl:2) failed: the chat template of leader.gguf leaves out messages of the role tool" in shown
    image = [{"role": "user", "content": [{"type": "image_url"}]}]
    (tmp_path / "p.jsonl").write_text(jsonl({"prompt": "a"}, {"messages": image}))
    assert "p.jsonl:2: a part of a message's content is of type 'image_url'" in command(
        "--file", str(tmp_path / "p.jsonl"), leader=NO_SYSTEM
    )


# ---------------------------------------------------------------- the time
def test_all_prompts_of_a_run_are_told_one_time_also_when_it_goes_on(command: Command, tmp_path: Path) -> None:
    """Guards outputs that the clock decides: same seed, same settings, other answers; and resumed runs of two days."""
    output = tmp_path / "o.jsonl"
    command("--prompt", "a", "-o", str(output), "--now", "2025-07-01T12:00", leader=DATED)
    command("--prompt", "a", "--prompt", "b", "-o", str(output), "--resume", leader=DATED)
    first, second = records(output.read_text())
    assert first["now"] == second["now"] == "2025-07-01T12:00"
    command("--prompt", "a", "-o", str(tmp_path / "p.jsonl"), leader=DATED)
    (other,) = records((tmp_path / "p.jsonl").read_text())
    assert other["settings_hash"] != first["settings_hash"]
    command("--prompt", "a", "-o", str(tmp_path / "q.jsonl"), "--now", other["now"], leader=DATED)
    (again,) = records((tmp_path / "q.jsonl").read_text())
    assert (again["settings_hash"], again["text"]) == (other["settings_hash"], other["text"])


def test_the_time_is_nothing_to_other_templates(command: Command, tmp_path: Path) -> None:
    """Guards old outputs that are made again because of a clock that nobody reads."""
    command("--prompt", "a", "-o", str(tmp_path / "o.jsonl"), leader=CHATML)
    (record,) = records((tmp_path / "o.jsonl").read_text())
    assert "now" not in record


def test_a_stopped_run_goes_on_at_its_time(command: Command, tmp_path: Path) -> None:
    """Guards unfinished responses that are not found again because the clock has gone on."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"now": "2025-07-01T12:00:00"}))
    (folder / "other.session").touch()
    shown = command("--prompt", "a", "-o", "-", "--checkpoint", str(folder), "-q", leader=DATED)
    assert '"now": "2025-07-01T12:00:00"' in shown


def test_a_time_that_is_none_is_refused(command: Command) -> None:
    assert "now is 'noon', but must be a time" in command("--prompt", "a", "--now", "noon", leader=CHATML)


# ---------------------------------------------------------------- what is made again
def test_only_prompts_that_are_read_differently_have_another_hash() -> None:
    """Guards old outputs: those with control tokens in their texts are made again, all others stand."""
    models = dict.fromkeys(Role, "x")

    def digest(content: object, **prompting: object) -> str:
        return settings_hash(content, Generation(seed=1), Prompting(**prompting), models)  # type: ignore[arg-type]

    assert digest("a", parse_special=False) == digest("a")
    assert digest("a <b> c") != digest("a <b> c", parse_special=True)
    user = {"role": "user", "content": "a"}
    assert digest([user]) != digest([user, {"role": "assistant", "content": "b"}])
