"""--config FILE: what a settings file may call an option."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from commands import error_line, records, run

from foreal_local.cli.command import parameter_of
from foreal_local.cli.options import settings_in
from foreal_local.config import SETTINGS
from foreal_local.settings import Setting

ROOM = {"ctx_size": 64, "threads": 2, "lanes": 3, "max_tokens": 4, "seed": 5, "system": "Be brief."}


def other_value(setting: Setting) -> Any:
    """A value of the setting that is not its default, as a file has it."""
    if setting.choices is not None:
        return next(value for value in setting.choices() if value != setting.default)
    if setting.document:
        return '{"type": "integer"}' if setting.is_json else 'root ::= "a"'
    by_kind = {bool: True, dict: ["a=1"], tuple: ["end"], str: "So,"}
    return ROOM.get(setting.name, by_kind.get(setting.kind, 1 if setting.default != 1 else 0.5))


@pytest.mark.parametrize("name", ["gen", "chat", "bench", "analyze"])
def test_a_settings_field_may_be_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards flash_attention for --flash-attn, kv_type_k for --cache-type-k and template_args, which were refused."""
    for setting in SETTINGS.values():
        monkeypatch.delenv("FOREAL_" + parameter_of(setting).upper(), raising=False)
    main: click.Command = import_module(f"foreal_local.cli.{name}").main
    options = {parameter.name for parameter in main.params}
    file = tmp_path / "settings.toml"
    n_found = 0
    for setting in SETTINGS.values():
        if parameter_of(setting) not in options:
            continue
        value = other_value(setting)
        for alias in setting.names:
            for spelling in (alias, alias.replace("_", "-")):
                file.write_text(f"{spelling} = {json.dumps(value)}\n", "utf-8")
                context = main.make_context(name, ["--config", str(file)])
                found = settings_in(context.params)[setting.name]
                assert found == ({"a": 1} if setting.kind is dict else tuple(value) if setting.kind is tuple else value)
                n_found += 1
    assert n_found > 40


def test_fields_of_a_file_reach_the_models(env: dict[str, str], tmp_path: Path) -> None:
    """Guards a name that is understood and whose value goes nowhere."""
    file = tmp_path / "settings.toml"
    file.write_text(
        'flash_attention = "on"\nkv_type_k = "f16"\nkv-type-v = "q8"\ntemplate_args = "enable_thinking=false"\n'
    )
    assert "--cache-type-v" in error_line(run("--config", file, "--prompt", "wait", env=env))
    file.write_text('flash_attention = "off"\nkv_type_v = "q8_0"\n')
    assert "kv_type_v" in error_line(run("--config", file, "--prompt", "wait", env=env))
    file.write_text('flash_attention = "on"\nkv_type_k = "f16"\nmax_tokens = 3\n')
    (record,) = records(run("--config", file, "--prompt", "wait", "--format", "jsonl", env=env).stdout)
    assert record["usage"]["completion_tokens"] <= 3
