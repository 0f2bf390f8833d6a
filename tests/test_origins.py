"""Where a value came from: errors name the option, the variable, or the file with its line and key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import MODULE, environment, error_line, run
from real.models import Files

CHAT, BENCH, ANALYZE = ([sys.executable, "-m", "foreal_local", name] for name in ("chat", "bench", "analyze"))
COMMANDS = {"gen": (MODULE, "wait"), "chat": (CHAT, "wait"), "bench": (BENCH, "-q")}


def refused(*arguments: str, env: dict[str, str], command: list[str] = MODULE) -> str:
    done = run(*arguments, env=env, command=command)
    assert done.returncode == 2
    return error_line(done)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--temp", "-1", "temp is -1.0, but must be 0 or more"),
        ("--temp", "hot", "'hot' is not a valid float"),
        ("--lead-prob", "2", "p (lead probability) is 2.0"),
        ("--max-tokens", "0", "max_tokens is 0"),
        ("--flash-attn", "never", "'never' is not one of"),
        ("--threads", "1.5", "'1.5' is not a valid"),
        ("--now", "noon", "now is 'noon'"),
    ],
)
def test_a_value_that_cannot_be_used(
    name: str, option: str, value: str, words: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Guards "temp is -1.0" where nobody knows which of a script, a profile and a file says so."""
    command, argument = COMMANDS[name]
    line = refused(argument, option, value, env=env, command=command)
    assert words in line
    assert option in line
    variable = "FOREAL_" + option.strip("-").replace("-", "_").upper()
    line = refused(argument, env=env | {variable: value}, command=command)
    assert words in line
    assert variable in line
    file = tmp_path / "best.toml"
    key = option.strip("-")
    file.write_text(f"# mine\n\n{key} = {value if value[0] in '-20' else repr(value)}\n", "utf-8")
    env.pop(variable, None)
    line = refused(argument, "--config", str(file), env=env, command=command)
    assert words.split("'")[0] in line
    assert f"{file}:3: {key}" in line


def test_the_nearest_place_is_named(env: dict[str, str], tmp_path: Path) -> None:
    """Guards the file's name for a value of the command line, which goes before it."""
    file = tmp_path / "best.toml"
    file.write_text("temp = 0.5\n", "utf-8")
    line = refused("a", "--config", str(file), "--temp", "-1", env=env | {"FOREAL_TEMP": "2"})
    assert line.endswith("(from --temp)")


def test_an_option_that_is_no_setting(env: dict[str, str]) -> None:
    """Guards the same for options that only the command has, and for two that contradict each other."""
    assert "--parallel is from FOREAL_PARALLEL" in refused("a", env=env | {"FOREAL_PARALLEL": "0"})
    assert "FOREAL_" not in refused("a", "--parallel", "0", env=env)
    line = refused("a", env=env | {"FOREAL_PAIR": "tiny"})
    assert all(f"{name} is from FOREAL_{name[2:].upper()}" in line for name in ("--pair", "--leader", "--draft"))
    assert "--file is from FOREAL_FILE" in refused("a", env=env | {"FOREAL_FILE": "README.md"})


def test_a_value_of_a_pair(chat_pair: Files, tmp_path: Path) -> None:
    """Guards an error about a setting that stands in a file of pairs, which it did not name."""
    file = tmp_path / "pairs.toml"
    file.write_text(f"[mine]\nleader = '{chat_pair.leader}'\ndraft = '{chat_pair.draft}'\nn = -3\n", "utf-8")
    env = environment(None, tmp_path, FOREAL_PAIRS=str(file))
    line = refused("a", "--pair", "mine", env=env)
    assert line.endswith(f"(from n of pair 'mine' in {file})")
    assert "-n" not in refused("a", "--pair", "mine", "--lead-tokens", "-4", env=env).split("from")[1]


@pytest.mark.parametrize("command", [MODULE, CHAT, BENCH, ANALYZE])
def test_a_key_that_is_no_option(command: list[str], env: dict[str, str], tmp_path: Path) -> None:
    """Guards a misspelt key of a file without its line."""
    file = tmp_path / "best.toml"
    file.write_text('n = 3\n"thread" = 2\n', "utf-8")
    line = refused("--config", str(file), env=env, command=command)
    assert f"{file}:2: thread: no option of" in line
    assert "(did you mean threads?)" in line


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--temprature", "temp"),
        ("--temperature", "temp"),
        ("--n-predict", "max-tokens"),
        ("--topk", "top-k"),
        ("--model", "leader"),
        ("-m", "leader"),
        ("--num-ctx", "ctx-size"),
        ("--system-prompt", "system"),
    ],
)
def test_an_option_of_another_program_is_told_as_it_is_called_here(option: str, meant: str, tmp_path: Path) -> None:
    """Guards a list of options that look alike and mean something else, or no hint at all."""
    env = environment(None, tmp_path)
    line = error_line(run(option, "1", "Hi", env=env))
    assert line == f"Error: No such option '{option}'. Did you mean '--{meant}'?"
    (tmp_path / "set.toml").write_text(f"{option.lstrip('-')} = 1\n")
    assert f"(did you mean {meant.replace('-', '_')}?)" in error_line(
        run("--config", tmp_path / "set.toml", "Hi", env=env)
    )
