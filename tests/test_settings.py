"""Each setting is said once, and can be set everywhere: options, variables, files, single prompts, chats, pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from foreal_local.batch.prompts import read_prompts
from foreal_local.chat.commands import NAMES_TO_SET, OF_ANSWERS, changed
from foreal_local.cli import options
from foreal_local.cli.bench import main as bench
from foreal_local.cli.chat import main as chat
from foreal_local.cli.command import ForealCommand
from foreal_local.cli.gen import main as gen
from foreal_local.config import (
    GENERATION_NAMES,
    MODES,
    OF_RECORDS,
    SETTINGS,
    Generation,
    Prompting,
    Runtime,
    find_setting,
    flat,
    generation_of,
    names_of,
    prompting_of,
)
from foreal_local.errors import UsageError
from foreal_local.pairs import PairEntry, find_pair
from foreal_local.settings import Setting

RESPONSE = [SETTINGS[name] for name in GENERATION_NAMES]
PROMPT = [SETTINGS[name] for name in names_of(Prompting)]


def other_value(setting: Setting) -> Any:
    """A value that is allowed and not the default."""
    if setting.choices is not None:
        return next(value for value in setting.choices() if value != setting.default)
    if setting.name == "now":
        return "2025-07-01T12:00"
    if setting.document:
        return '{"type": "integer"}' if setting.name == "json_schema" else 'root ::= "a"'
    plain = {str: "Hmm,", bool: True, tuple: ("x y",), dict: {"note": "ja"}}
    if setting.kind in plain:
        return plain[setting.kind]
    if setting.kind is float:
        return 0.25
    return 7 if setting.default != 7 else 8


def as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[0])
    if isinstance(value, dict):
        return "note=ja"
    return str(value)


def taken(command: click.Command, arguments: list[str], **env: str) -> dict[str, Any]:
    """The settings among what a command's function would be called with."""
    seen: dict[str, Any] = {}
    twin = ForealCommand("twin", params=command.params, callback=click.pass_context(
        lambda _context, /, **values: seen.update(options.settings_in(values))))  # fmt: skip
    result = CliRunner().invoke(twin, arguments, env=env)
    assert result.exit_code == 0, result.output
    return seen


# ---------------------------------------------------------------- said once
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_its_default_is_allowed_and_its_help_is_a_text(setting: Setting) -> None:
    """Guards a default outside of its own range, and an option without a word about it."""
    setting.check(setting.default)
    setting.check(other_value(setting))
    assert len(setting.help) > 7
    assert setting.option.startswith("--")


def test_no_two_have_a_name_in_common() -> None:
    """Guards a short option or a field that means two settings."""
    seen: dict[str, str] = {}
    for setting in SETTINGS.values():
        for name in setting.names:
            assert name not in seen, f"{name} is {seen.get(name)} and {setting.name}"
            seen[name] = setting.name
            assert find_setting(name) is setting
            assert find_setting(name.replace("_", "-")) is setting


def test_what_modes_have_are_settings() -> None:
    """Guards a row of MODES that names what there is not."""
    for mode in MODES.values():
        assert set(mode.settings) <= set(GENERATION_NAMES)
        assert set(mode.axes) <= set(mode.settings)
        assert all(SETTINGS[name].kind in (int, float) for name in mode.axes)


# ---------------------------------------------------------------- set everywhere
@pytest.mark.parametrize("command", [gen, chat, bench], ids=["gen", "chat", "bench"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_it_is_an_option_and_a_variable_and_a_line_of_a_file(
    command: click.Command, setting: Setting, tmp_path: Path
) -> None:
    """Guards a command that lacks a setting, or names it otherwise."""
    if (command, setting.name) in ((bench, "mode"), (chat, "lanes")) or (
        command is chat and setting.name in OF_RECORDS
    ):
        return  # the one has --modes, the other answers one prompt at a time and writes no records
    value, text = other_value(setting), as_text(other_value(setting))
    words = [setting.option] if setting.kind is bool else [setting.option, text]
    assert taken(command, words)[setting.name] == value
    variable = "FOREAL_" + setting.option.strip("-").replace("-", "_").upper()
    given = "x" if setting.kind is tuple else text
    assert taken(command, [], **{variable: given})[setting.name] == (("x",) if setting.kind is tuple else value)
    file = tmp_path / "settings.toml"
    written = {tuple: ["x y"], dict: ["note=ja"]}.get(setting.kind, value)
    file.write_text(f"{setting.option.strip('-')} = {json.dumps(written)}\n")
    assert taken(command, ["--config", str(file)])[setting.name] == value


@pytest.mark.parametrize("setting", [*RESPONSE, *PROMPT], ids=lambda setting: setting.name)
def test_a_single_prompt_may_set_it(setting: Setting, tmp_path: Path) -> None:
    """Guards an override that is dropped in silence."""
    file, value = tmp_path / "prompts.jsonl", other_value(setting)
    for name in (setting.name, setting.option.strip("-"), setting.option.strip("-").replace("-", "_")):
        file.write_text(json.dumps({"prompt": "So?", name: value}) + "\n")
        (prompt,) = read_prompts(str(file), Generation(seed=3), Prompting())
        if setting in RESPONSE:
            assert prompt.settings == generation_of({setting.name: value}, Generation(seed=3))
            assert prompt.prompting is None
        else:
            assert prompt.settings is None
            assert prompt.prompting == prompting_of({setting.name: value})


@pytest.mark.parametrize("setting", RESPONSE, ids=lambda setting: setting.name)
def test_a_wrong_value_of_a_single_prompt_is_told_with_its_line(setting: Setting, tmp_path: Path) -> None:
    """Guards a traceback, or an error that does not say where."""
    file = tmp_path / "prompts.jsonl"
    wrong: list[Any] = [[1]] if setting.is_json else [{"a": 1}, [1]]
    wrong += [5] if setting.kind is tuple else []
    wrong += [math.nan, "x", True] if setting.kind in (int, float) else []
    for value in wrong:
        file.write_text(json.dumps({"prompt": "So?", setting.name: value}) + "\n")
        with pytest.raises(UsageError, match=rf"prompts\.jsonl:1: {setting.name}\b.* is .*, but must be"):
            read_prompts(str(file), Generation())


@pytest.mark.parametrize(
    "setting", [each for each in RESPONSE if each.name not in OF_RECORDS], ids=lambda setting: setting.name
)
def test_a_chat_may_set_it(setting: Setting) -> None:
    """Guards a setting that /set does not know, and one that the help of /set leaves out."""
    assert setting in OF_ANSWERS
    assert setting.shown_name in NAMES_TO_SET
    value = other_value(setting)
    assert changed(Generation(), setting.shown_name, as_text(value)) == generation_of({setting.name: value})


@pytest.mark.parametrize("setting", [*RESPONSE, *PROMPT], ids=lambda setting: setting.name)
def test_a_pair_may_give_it(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a pairs file that knows only some settings."""
    value = other_value(setting)
    text = "{note = 'ja'}" if setting.kind is dict else json.dumps(list(value) if setting.kind is tuple else value)
    (tmp_path / "pairs.toml").write_text(f'[mine]\nleader = "a.gguf"\ndraft = "b.gguf"\n{setting.name} = {text}\n')
    monkeypatch.setenv("FOREAL_PAIRS", str(tmp_path / "pairs.toml"))
    assert find_pair("mine").settings == {setting.name: value}


@pytest.mark.parametrize("setting", [*RESPONSE, *PROMPT], ids=lambda setting: setting.name)
def test_what_a_pair_gives_reaches_the_command(setting: Setting) -> None:
    """Guards a value in a file's form that the command line cannot read: a table of template arguments."""
    seen: dict[str, Any] = {}
    entry = PairEntry("mine", "a.gguf", "b.gguf", settings={setting.name: other_value(setting)})

    @click.pass_context
    def callback(context: click.Context, /, **values: Any) -> None:
        seen.update(options.settings_in(options.with_settings_of(entry, values, context)))

    result = CliRunner().invoke(ForealCommand("twin", params=gen.params, callback=callback), [])
    assert result.exit_code == 0, result.output
    assert seen[setting.name] == other_value(setting)


def test_the_settings_of_the_models_are_not_a_single_prompts(tmp_path: Path) -> None:
    """Guards a record that is given as a prompt again: its ctx_size is what was, not a wish."""
    file = tmp_path / "prompts.jsonl"
    values = {name: other_value(SETTINGS[name]) for name in names_of(Runtime)}
    file.write_text(json.dumps({"prompt": "So?", **values}) + "\n")
    (prompt,) = read_prompts(str(file), Generation())
    assert (prompt.settings, prompt.prompting) == (None, None)


def test_flat_and_back() -> None:
    """Guards a setting that is lost between the nested form and the flat one."""
    for left_out in ("grammar", "json_schema"):  # one takes the other's place
        values = {setting.name: other_value(setting) for setting in RESPONSE} | {left_out: None}
        assert flat(generation_of(values)) == values
