"""The slash commands of a chat: names, arguments and help; and the settings that /set changes.

actions.py says what each command does.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..by_name import nearest
from ..config import (
    GENERATION_NAMES,
    MODES,
    OF_RECORDS,
    SETTINGS,
    Generation,
    Method,
    Prompting,
    Runtime,
    describe,
    find_setting,
    flat,
    generation_of,
    in_force,
    names_of,
)
from ..errors import UsageError
from ..presets import PRESETS
from ..settings import Setting, either


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
    SlashCommand("set", "[NAME [VALUE]]", "change a setting, or show it; alone: all of them"),
    SlashCommand("show", "", "models and settings"),
    SlashCommand("mode", "NAME", f"who writes: {', '.join(MODES)}"),
    SlashCommand("system", "[TEXT]", "set the system message; without a text, remove it"),
    SlashCommand("regen", "", "write the last answer again, with a new seed"),
    SlashCommand("undo", "", "take back the last question and its answer"),
    SlashCommand("edit", "", "change the last question and ask it again"),
    SlashCommand("read", "FILE [TEXT]", "ask with a file's content before the text"),
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


LEAVE = ("exit", "quit")
"""What leaves as a whole line on a terminal, too, as in other programs."""


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
OF_ANSWERS = [SETTINGS[name] for name in GENERATION_NAMES if name not in OF_RECORDS]
OF_THE_PROMPT = [SETTINGS[name] for name in names_of(Prompting) if name != "raw"]  # a chat needs its template
OF_THE_MODELS = [SETTINGS[name] for name in names_of(Runtime) if name != "lanes"]  # a chat has one sequence
_ALL = [*OF_ANSWERS, *OF_THE_PROMPT, *OF_THE_MODELS]
_OTHERS = {
    "think-budget": ("1 or more, or none", "Tokens of reasoning after which it is closed, and the answer follows."),
    "thinking": ("on or off", "Whether the chat template asks for reasoning, where it knows enable_thinking."),
    "preset": (either(PRESETS), "Several settings at a time; /set preset shows what each sets."),
    "markdown": ("on or off", "Whether Markdown is shown as what it means."),
    "wrap": ("on or off", "Whether lines are broken between words; code never is."),
}
"""What /set knows besides the table of settings: what it may be, and what it is."""
NAMES_TO_SET = (*(setting.shown_name for setting in _ALL), *_OTHERS)


def setting_named(name: str) -> Setting:
    """The setting that /set changes under this name; UsageError suggests the nearest name."""
    setting = find_setting(name)
    if setting is not None and setting in _ALL:
        return setting
    near = nearest(name, NAMES_TO_SET)
    hint = f": did you mean {near}?" if near else ": /set lists all"
    raise UsageError(f"no setting {name!r}" + hint)


@dataclass(frozen=True)
class InForce:
    """All that /set can change, as it is now.

    ctx_size: of the context, where no setting says it
    screen: the screen's switches
    """

    settings: Generation
    prompting: Prompting
    runtime: Runtime
    think_budget: int | None
    ctx_size: int
    screen: dict[str, bool]

    @property
    def values(self) -> dict[str, str]:
        """Every name of NAMES_TO_SET with its value as /set takes it."""
        values = flat(self.settings) | asdict(self.prompting) | asdict(self.runtime)
        values["ctx_size"] = values["ctx_size"] or self.ctx_size
        shown = {setting.shown_name: setting.as_text(values[setting.name]) for setting in _ALL}
        thinking = self.prompting.template_args.get("enable_thinking")
        shown["think-budget"] = "none" if self.think_budget is None else str(self.think_budget)
        shown["thinking"] = "as the template" if thinking is None else "on" if thinking else "off"
        names = (name for name in PRESETS if generation_of(PRESETS[name], self.settings) == self.settings)
        shown["preset"] = next(names, "none of them")
        return shown | {name: "on" if value else "off" for name, value in self.screen.items()}

    def lines(self) -> list[str]:
        """Each setting with its value and what it may be."""
        values = self.values
        width, most = max(map(len, values)), 24
        lines = []
        for name in NAMES_TO_SET:
            value = _cut(values[name], most)
            lines += textwrap.wrap(
                f"{name:<{width}}  {value:<{most}}  {_allowed(name)}", 79, subsequent_indent=" " * (width + most + 4)
            )
        return lines

    def lines_of(self, name: str) -> Iterator[str]:
        """One setting: its value, what it may be, what it is. UsageError where there is none of this name."""
        setting = None if name in _OTHERS else setting_named(name)
        name = setting.shown_name if setting else name
        yield f"{name}  {self.values[name]}"
        if name == "preset":
            yield from preset_lines()
            return
        yield f"{_allowed(name)}; default {setting.as_text(setting.default)}" if setting else _allowed(name)
        yield setting.own_help if setting else _OTHERS[name][1]
        if setting in OF_ANSWERS and setting and setting.name not in in_force(self.settings):
            yield f"without effect now, in mode {self.settings.mode} with the other settings as they are"


def _allowed(name: str) -> str:
    setting = find_setting(name)
    return setting.allowed if setting else _OTHERS[name][0]


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


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
    """The settings of answers in a line: mode, temperature, and whatever is not as by default.

    think_budget: tokens of reasoning; None: no limit
    thinking: whether the chat template shall reason; None: as it does by itself
    """
    sampling, parts = settings.sampling, [describe(settings)]
    parts += [f"top-k {sampling.top_k}"] * bool(sampling.top_k) + [f"min-p {sampling.min_p:g}"] * bool(sampling.min_p)
    parts += _changed(in_force(settings), [name for name in GENERATION_NAMES if name not in _IN_WORDS])
    parts += [f"seed {settings.seed}"] * (settings.seed is not None)
    parts += [f"at most {settings.max_tokens} tokens"] * (settings.max_tokens is not None)
    parts += [f"at most {think_budget} tokens of thinking"] * (think_budget is not None)
    parts += [f"thinking {'on' if thinking else 'off'}"] * (thinking is not None)
    return ", ".join(parts)


_IN_WORDS = {
    "mode",
    "temp",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "max_tokens",
    "grammar",
    "json_schema",
    *names_of(Method),
}


def describe_around(prompting: Prompting, runtime: Runtime) -> str:
    """How prompts are made and how the models run, where that is not as by default; "" where all is."""
    prompts = asdict(prompting)
    prompts["template_args"] = {k: v for k, v in prompting.template_args.items() if k != "enable_thinking"}
    running = [name for name in names_of(Runtime) if name != "ctx_size"]
    return ", ".join([*_changed(prompts, names_of(Prompting)), *_changed(asdict(runtime), running)])


def _changed(values: dict[str, Any], names: list[str]) -> list[str]:
    """Those of these settings that are not as by default."""
    wanted = [SETTINGS[name] for name in names if name in values and values[name] != SETTINGS[name].default]
    return [f"{setting.shown_name} {_cut(setting.as_text(values[setting.name]), 60)}" for setting in wanted]
