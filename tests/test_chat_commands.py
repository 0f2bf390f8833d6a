"""The slash commands as text: names, arguments, settings and their description."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from foreal_local.chat.actions import Actions
from foreal_local.chat.commands import (
    COMMANDS,
    NAMES,
    NAMES_TO_SET,
    OF_ANSWERS,
    budget_of,
    changed,
    describe_chat,
    help_lines,
    parse,
    preset_lines,
    switch_of,
)
from foreal_local.config import MODES, Generation, Method, Sampling, generation_of
from foreal_local.errors import UsageError
from foreal_local.presets import PRESETS
from foreal_local.settings import either

USUAL = Generation()


# ---------------------------------------------------------------- names
def test_every_command_is_there_and_in_the_help() -> None:
    """Guards a command that ends in an AttributeError, and one that nobody can find."""
    methods = {name[3:] for name in dir(Actions) if name.startswith("do_")}
    assert methods == {command.name for command in COMMANDS}
    lines = help_lines()
    for command in COMMANDS:
        assert NAMES[f"/{command.name}"] is command
        (line,) = [line for line in lines if line.split()[0] == f"/{command.name}"]
        assert command.argument in line
        assert line.endswith(command.help)
    for keys in ("Alt-Enter", "Ctrl-C", "Ctrl-D", '"""'):
        assert any(keys in line for line in lines), keys


def test_every_setting_is_in_the_help() -> None:
    """Guards a setting that nobody can find, and a name that cannot be copied."""
    words = {word.strip(",") for line in help_lines() for word in line.split()}
    assert set(NAMES_TO_SET) <= words


def test_every_preset_is_told_with_all_that_it_sets() -> None:
    """Guards a preset that nobody can find, and one that says less than it does."""
    (line,) = [line for line in help_lines() if line.startswith("presets ")]
    assert all(name in line for name in PRESETS)
    for (name, settings), line in zip(PRESETS.items(), preset_lines(), strict=True):
        assert line.split()[0] == name
        found = USUAL
        for part in line.removeprefix(name).split(","):
            setting, value = part.split()
            found = changed(found, setting, value)
        assert found == generation_of(settings)


def test_the_help_fits_a_terminal() -> None:
    """Guards help whose lines a terminal of 80 columns breaks inside a word."""
    assert max(map(len, help_lines())) <= 80


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/help", "help", ""),
        ("  /HELP  ", "help", ""),
        ("/quit", "exit", ""),
        ("/bye", "exit", ""),
        ("/set", "set", ""),
        ("/set temp 0.5", "set", "temp 0.5"),
        ("/set   temp   0.5  ", "set", "temp   0.5"),
        ("/system", "system", ""),
        ("/system Be brief. ", "system", "Be brief."),
        ("/save", "save", ""),
        ("/read a b c", "read", "a b c"),
        ("/read a what is it\nabout?", "read", "a what is it\nabout?"),
    ],
)
def test_a_line_is_a_command_and_its_argument(text: str, name: str, argument: str) -> None:
    """Guards arguments that lose words, and names that must be in small letters."""
    command, found = parse(text)
    assert (command.name, found) == (name, argument)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/hepl", "unknown command /hepl: did you mean /help"),
        ("/sy", "unknown command /sy"),
        ("/regenerate", "did you mean /regen"),
        ("/colours", "did you mean /colors"),
        ("/xyzzy 3", "unknown command /xyzzy: /help lists all"),
        ("/", "unknown command /"),
        ("/usr/bin/env", "unknown command /usr/bin/env"),
        ("/mode", "/mode needs NAME"),
        ("/read ", "/read needs FILE"),
        ("/load", "/load needs FILE"),
        ("/export", "/export needs FILE.md"),
        ("/think", "/think needs show|hide|last"),
        ("/colors", "/colors needs CHOICE: on, off"),
        ("/undo 2", "/undo takes no argument"),
        ("/exit now", "/exit takes no argument"),
    ],
)
def test_a_wrong_line_says_what_is_wanted(text: str, words: str) -> None:
    """Guards a typing error that goes to the models, or that is answered without a hint."""
    with pytest.raises(UsageError) as error:
        parse(text)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["/system\nBe brief.", "/read\tnotes.txt", "/set\ttemp 1"])
def test_any_white_space_ends_the_name(text: str) -> None:
    """Guards a pasted command whose text begins on the next line, and is then unknown."""
    command, argument = parse(text)
    assert text == f"/{command.name}{text[len(command.name) + 1]}{argument}"


# ---------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("n", "0", replace(USUAL, method=replace(USUAL.method, n=0))),
        ("p", "1", replace(USUAL, method=replace(USUAL.method, p=1.0))),
        ("k", "7", replace(USUAL, method=replace(USUAL.method, k=7))),
        ("temp", "0", replace(USUAL, sampling=replace(USUAL.sampling, temp=0.0))),
        ("temp", "1e-1", replace(USUAL, sampling=replace(USUAL.sampling, temp=0.1))),
        ("top-p", "0.5", replace(USUAL, sampling=replace(USUAL.sampling, top_p=0.5))),
        ("top-k", "40", replace(USUAL, sampling=replace(USUAL.sampling, top_k=40))),
        ("min-p", "0.05", replace(USUAL, sampling=replace(USUAL.sampling, min_p=0.05))),
        ("seed", "0", replace(USUAL, seed=0)),
        ("max-tokens", "12", replace(USUAL, max_tokens=12)),
        ("mode", "draft", replace(USUAL, mode="draft")),
        ("top_p", "0.5", replace(USUAL, sampling=replace(USUAL.sampling, top_p=0.5))),
        ("lead-tokens", "4", replace(USUAL, method=replace(USUAL.method, n=4))),
        ("gate", "always", replace(USUAL, method=replace(USUAL.method, gate="always"))),
        ("hits-from", "sentence", replace(USUAL, method=replace(USUAL.method, hits_from="sentence"))),
        ("compare", "sampled", replace(USUAL, method=replace(USUAL.method, compare="sampled"))),
    ],
)
def test_a_setting_is_set_and_no_other(name: str, text: str, wanted: Generation) -> None:
    """Guards a value that is dropped or lands elsewhere, and a setting that resets the others."""
    assert changed(USUAL, name, text) == wanted
    before = Generation("foreal", Method(3, 0.25, 2), Sampling(0.3, 9, 0.8, 0.1, 1.2), 5, 6, ("x",))
    after = changed(before, name, text)
    different = [field.name for field in fields(before) if getattr(before, field.name) != getattr(after, field.name)]
    assert len(different) == 1
    assert describe_chat(after, None) != describe_chat(before, None)


@pytest.mark.parametrize("text", ["none", "off", "NONE"])
def test_a_seed_and_a_limit_can_be_removed(text: str) -> None:
    """Guards a chat that can never again draw seeds, or answer at length."""
    before = replace(USUAL, seed=3, max_tokens=5)
    assert changed(changed(before, "seed", text), "max-tokens", text) == USUAL
    assert budget_of(text) is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        *((name, "x", "whole number") for name in ("n", "k", "top-k", "seed", "max-tokens")),
        *((name, "x", "a number") for name in ("p", "temp", "top-p", "min-p")),
        *((name, "1.5", "whole number") for name in ("n", "k", "top-k", "seed", "max-tokens")),
        *((s.shown_name, "-1", "must be") for s in OF_ANSWERS if s.kind in (int, float) or s.choices),
        *((name, "nan", "must be") for name in ("p", "temp", "top-p", "min-p")),
        ("p", "2", "between 0 and 1"),
        ("top-p", "0", "above 0"),
        ("max-tokens", "0", "1 or more"),
        ("temp", "inf", "0 or more"),
        ("temp", "none", "a number"),
        ("mode", "both", either(MODES)),
        ("tmp", "1", "did you mean temp"),
        ("topp", "1", "did you mean top-p"),
        ("temprature", "1", "did you mean temp?"),
        ("temperature", "1", "did you mean temp?"),
        ("num_ctx", "1", "did you mean ctx-size?"),
        ("nonsense", "1", "no setting 'nonsense': /set lists all"),
        ("max_token", "1", "did you mean max-tokens"),
        ("xyz", "1", "no setting 'xyz'"),
        ("", "1", "no setting"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(name: str, text: str, words: str) -> None:
    """Guards a value out of range that makes the next answer fail, and an error without a name or a way out."""
    with pytest.raises(UsageError) as error:
        changed(USUAL, name, text)
    assert words in str(error.value)
    assert name in str(error.value) or name.replace("-", "_") in str(error.value)


@pytest.mark.parametrize("text", ["0", "-3", "x", "", "1.5"])
def test_a_budget_is_a_number_or_off(text: str) -> None:
    """Guards a budget that closes the reasoning before it begins, or that is silently none."""
    assert (budget_of("1"), budget_of("2000"), budget_of("off")) == (1, 2000, None)
    with pytest.raises(UsageError, match="think-budget"):
        budget_of(text)


def test_thinking_is_on_or_off() -> None:
    """Guards "false" or "0" taken for on, as any text is true."""
    assert (switch_of("thinking", "on"), switch_of("thinking", "OFF")) == (True, False)
    for text in ("0", "false", "yes", ""):
        with pytest.raises(UsageError, match="thinking"):
            switch_of("thinking", text)


METHOD, LIMITED = "foreal n=15 p=0.6 k=5", replace(USUAL, mode="leader", seed=0, max_tokens=9)


@pytest.mark.parametrize(
    ("settings", "budget", "wanted"),
    [
        (USUAL, None, f"{METHOD}, temp 0.6, top-p 0.95"),
        (changed(USUAL, "temp", "0"), None, f"{METHOD}, greedy"),
        (LIMITED, 8, "leader, temp 0.6, top-p 0.95, seed 0, at most 9 tokens, at most 8 tokens of thinking"),
        (
            replace(USUAL, sampling=Sampling(1.0, 40, 1.0, 0.05)),
            None,
            f"{METHOD}, temp 1, top-p 1, top-k 40, min-p 0.05",
        ),
    ],
)
def test_settings_are_described_in_a_line(settings: Generation, budget: int | None, wanted: str) -> None:
    """Guards a toolbar that leaves out what was set, or shows what does not count (n, p and k without the method)."""
    assert describe_chat(settings, budget) == wanted


def test_numbers_are_as_they_were_typed() -> None:
    """Guards a description that rounds what was set to something else."""
    for text in ("0.05", "0.123456", "1", "0.95"):
        found: Any = changed(USUAL, "temp", text)
        assert math.isclose(found.sampling.temp, float(text))
        assert f"temp {text}," in describe_chat(found, None)


@pytest.mark.parametrize(
    ("form", "words"),
    [({"json_schema": '{"type": "object"}'}, "a JSON schema"), ({"grammar": 'root ::= "a"'}, "a GBNF grammar")],
)
def test_a_form_of_answers_is_told_in_words_once(form: dict[str, str], words: str) -> None:
    """Guards a line of settings that a schema fills: it is told in words, and /set shows it."""
    text = describe_chat(generation_of(form), None)
    assert (text.count(words), "type" in text, "root" in text) == (1, False, False)
