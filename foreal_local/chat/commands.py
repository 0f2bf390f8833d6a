"""The slash commands of a chat: names, arguments and help; and the settings that /set changes.

actions.py says what each command does.
"""

from __future__ import annotations

import difflib
import textwrap
from dataclasses import dataclass

from ..config import (
    GENERATION_NAMES,
    MODES,
    SETTINGS,
    Generation,
    Prompting,
    Runtime,
    describe,
    find_setting,
    generation_of,
    names_of,
)
from ..errors import UsageError
from ..presets import PRESETS
from ..settings import Setting


@dataclass(frozen=True)
class SlashCommand:
    """One command.

    name: without the slash
    argument: how the help writes its argument, in brackets where it may be left out; "" where there is none
    help: what it does, in a few words
    """

    name: str
    argument: str
    help: str


COMMANDS = (
    SlashCommand("help", "", "these commands"),
    SlashCommand("set", "NAME VALUE", "change a setting; /help lists their names"),
    SlashCommand("show", "", "models and settings"),
    SlashCommand("mode", "NAME", f"who writes: {', '.join(MODES)}"),
    SlashCommand("system", "[TEXT]", "set the system message; without a text, remove it"),
    SlashCommand("regen", "", "write the last answer again, with a new seed"),
    SlashCommand("undo", "", "take back the last question and its answer"),
    SlashCommand("edit", "", "change the last question and ask it again"),
    SlashCommand("read", "FILE [TEXT]", "ask with a file's content after the text"),
    SlashCommand("think", "show|hide|last", "show or hide reasoning, or print the last answer's"),
    SlashCommand("authors", "", "the last answer again, as written: who wrote what"),
    SlashCommand("colors", "CHOICE", "on, off (the leader is underlined), light, dark"),
    SlashCommand("copy", "[code [all]]", "copy the last answer, or its last code block"),
    SlashCommand("write", "FILE", "write the last answer's code, or the answer"),
    SlashCommand("stats", "", "what this conversation has cost"),
    SlashCommand("save", "[FILE]", "keep the conversation; without a file, in its session"),
    SlashCommand("load", "FILE", "go on with a saved conversation"),
    SlashCommand("export", "FILE.md", "write the conversation as Markdown"),
    SlashCommand("clear", "", "begin a new conversation"),
    SlashCommand("exit", "", "leave (also Ctrl-D)"),
)
NAMES = {f"/{command.name}": command for command in COMMANDS} | {"/quit": COMMANDS[-1], "/bye": COMMANDS[-1]}


def parse(text: str) -> tuple[SlashCommand, str]:
    """The command of a line that begins with a slash, and its argument; UsageError suggests the nearest name."""
    name, argument = [*text.strip().split(None, 1), ""][:2]
    command = NAMES.get(name.lower())
    if command is None:
        near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.5)
        raise UsageError(f"unknown command {name}" + (f": did you mean {near[0]}?" if near else ": /help lists all"))
    argument = argument.strip()
    if command.argument and not command.argument.startswith("[") and not argument:
        raise UsageError(f"{name} needs {command.argument}: {command.help}")
    if not command.argument and argument:
        raise UsageError(f"{name} takes no argument, but was given {argument!r}")
    return command, argument


def help_lines() -> list[str]:
    """The lines of /help: commands, names of settings, keys."""
    rows = [(f"/{command.name} {command.argument}".rstrip(), command.help) for command in COMMANDS]
    width = max(len(left) for left, _ in rows)
    names = textwrap.wrap(", ".join(NAMES_TO_SET), 79 - width - 2, break_on_hyphens=False)
    return [f"{left:<{width}}  {help}" for left, help in rows] + [
        *(f"{'' if i else 'settings':<{width}}  {line}" for i, line in enumerate(names)),
        f"{'presets':<{width}}  {', '.join(PRESETS)}; /set preset shows them",
        f"{'Alt-Enter':<{width}}  a line more; several lines also between two " + '"""',
        f"{'Ctrl-C':<{width}}  stop the answer, or clear the line",
    ]


# ---------------------------------------------------------------- settings
OF_ANSWERS = [SETTINGS[name] for name in GENERATION_NAMES]
OF_THE_PROMPT = [SETTINGS[name] for name in names_of(Prompting) if name != "raw"]  # a chat needs its template
OF_THE_MODELS = [SETTINGS[name] for name in names_of(Runtime)]
_ALL = [*OF_ANSWERS, *OF_THE_PROMPT, *OF_THE_MODELS]
OF_THE_SCREEN = ("wrap", "markdown")
"""Switches of what is shown: fields of Screen."""
NAMES_TO_SET = (*(setting.shown_name for setting in _ALL), "think-budget", "thinking", "preset", *OF_THE_SCREEN)


def setting_named(name: str) -> Setting:
    """The setting that /set changes under this name; UsageError suggests the nearest name."""
    setting = find_setting(name)
    if setting is not None and setting in _ALL:
        return setting
    near = difflib.get_close_matches(name, NAMES_TO_SET, 1)
    hint = f": did you mean {near[0]}?" if near else f": {', '.join(NAMES_TO_SET)}"
    raise UsageError(f"no setting {name!r}" + hint)


def preset_lines() -> list[str]:
    """Each preset with the settings that it sets."""
    width = max(map(len, PRESETS))
    lines = []
    for name, settings in PRESETS.items():
        shown = (f"{SETTINGS[each].shown_name} {value}" for each, value in settings.items())
        lines.append(f"{name:<{width}}  {', '.join(shown)}")
    return lines


def changed(settings: Generation, name: str, text: str) -> Generation:
    """The settings of responses with one changed to what the text says; "none" leaves an optional one out."""
    setting = setting_named(name)
    return generation_of({setting.name: setting.from_text(text)}, settings)


def switch_of(name: str, text: str) -> bool:
    """Whether it is switched on, from the text of /set NAME."""
    if text.lower() not in ("on", "off"):
        raise UsageError(f"{name} is {text!r}, but must be on or off")
    return text.lower() == "on"


def budget_of(text: str) -> int | None:
    """Tokens of reasoning, from the text of /set think-budget; None for no limit."""
    if text.lower() in ("none", "off"):
        return None
    try:
        budget = int(text)
    except ValueError:
        raise UsageError(f"think-budget is {text!r}, but must be a whole number") from None
    if budget < 1:
        raise UsageError(f"think-budget is {budget}, but must be 1 or more, or off")
    return budget


def describe_chat(settings: Generation, think_budget: int | None, thinking: bool | None = None) -> str:
    """The settings in a line.

    think_budget: tokens of reasoning; None: no limit
    thinking: whether the chat template shall reason; None: as it does by itself
    """
    sampling, parts = settings.sampling, [describe(settings)]
    parts += [f"top-k {sampling.top_k}"] * bool(sampling.top_k) + [f"min-p {sampling.min_p:g}"] * bool(sampling.min_p)
    parts += [f"seed {settings.seed}"] * (settings.seed is not None)
    parts += [f"at most {settings.max_tokens} tokens"] * (settings.max_tokens is not None)
    parts += [f"at most {think_budget} tokens of thinking"] * (think_budget is not None)
    parts += [f"thinking {'on' if thinking else 'off'}"] * (thinking is not None)
    return ", ".join(parts)
