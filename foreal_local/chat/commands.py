"""The slash commands of a chat. Each is a method of the chat's own; here are their names, help and arguments."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..config import MODES, Generation, Mode
from ..errors import UsageError


@dataclass(frozen=True)
class SlashCommand:
    """`argument`: how its argument is written in the help, in brackets where it may be left out."""

    name: str
    argument: str
    about: str


COMMANDS = (
    SlashCommand("help", "", "these commands"),
    SlashCommand("set", "NAME VALUE", "change a setting; their names stand below"),
    SlashCommand("show", "", "models and settings"),
    SlashCommand("mode", "NAME", f"who writes: {', '.join(Mode)}"),
    SlashCommand("system", "[TEXT]", "set the system message; without a text, remove it"),
    SlashCommand("regen", "", "write the last answer again, with a new seed"),
    SlashCommand("undo", "", "take back the last question and its answer"),
    SlashCommand("edit", "", "change the last question and ask it again"),
    SlashCommand("read", "FILE [TEXT]", "ask with a file's content after the text"),
    SlashCommand("think", "show|hide|last", "show or hide reasoning, or print the last answer's"),
    SlashCommand("colors", "on|off", "the leader in colour, or bold and underlined"),
    SlashCommand("stats", "", "what this conversation has cost"),
    SlashCommand("save", "[FILE]", "keep the conversation; without a file, in its session"),
    SlashCommand("load", "FILE", "go on with a saved conversation"),
    SlashCommand("export", "FILE.md", "write the conversation as Markdown"),
    SlashCommand("clear", "", "begin a new conversation"),
    SlashCommand("exit", "", "leave (also Ctrl-D)"),
)
NAMES = {f"/{command.name}": command for command in COMMANDS} | {"/quit": COMMANDS[-1], "/bye": COMMANDS[-1]}


def parse(text: str) -> tuple[SlashCommand, str]:
    """The command of a line that begins with a slash, and its argument; UsageError suggests the nearest."""
    name, argument = [*text.strip().split(None, 1), ""][:2]
    command = NAMES.get(name.lower())
    if command is None:
        near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.5)
        raise UsageError(f"unknown command {name}" + (f": did you mean {near[0]}?" if near else ": /help lists all"))
    argument = argument.strip()
    if command.argument and not command.argument.startswith("[") and not argument:
        raise UsageError(f"{name} needs {command.argument}: {command.about}")
    if not command.argument and argument:
        raise UsageError(f"{name} takes no argument, but was given {argument!r}")
    return command, argument


def help_lines() -> list[str]:
    rows = [(f"/{command.name} {command.argument}".rstrip(), command.about) for command in COMMANDS]
    width = max(len(left) for left, _ in rows)
    names = textwrap.wrap(", ".join(SETTINGS), 79 - width - 2, break_on_hyphens=False)
    return [f"{left:<{width}}  {about}" for left, about in rows] + [
        *(f"{'' if i else 'settings':<{width}}  {line}" for i, line in enumerate(names)),
        f"{'Alt-Enter':<{width}}  a line more; several lines also between two " + '"""',
        f"{'Ctrl-C':<{width}}  stop the answer, or clear the line",
    ]


# ---------------------------------------------------------------- settings
def _number(kind: Callable[[str], Any], name: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name} is {text!r}, but must be {wanted}") from None


_METHOD: dict[str, Callable[[str], Any]] = {"n": int, "p": float, "k": int, "proposals": int, "cue": str}
_SAMPLING = {"temp": float, "top-p": float, "top-k": int, "min-p": float}
_OPTIONAL = ("seed", "max-tokens")
SETTINGS = (*_METHOD, *_SAMPLING, *_OPTIONAL, "think-budget", "thinking", "mode")


def changed(settings: Generation, name: str, text: str) -> Generation:
    """The settings with one set from its text; `seed` and `max-tokens` may be "none"."""
    if name in _METHOD:
        return replace(settings, method=replace(settings.method, **{name: _number(_METHOD[name], name, text)}))
    if name in _SAMPLING:
        value = {name.replace("-", "_"): _number(_SAMPLING[name], name, text)}
        return replace(settings, sampling=replace(settings.sampling, **value))
    if name in _OPTIONAL:
        number: Any = None if text.lower() in ("none", "off") else _number(int, name, text)
        return replace(settings, seed=number) if name == "seed" else replace(settings, max_tokens=number)
    if name == "mode":
        if text not in list(Mode):
            raise UsageError(f"mode is {text!r}, but must be {MODES}")
        return replace(settings, mode=Mode(text))
    near = difflib.get_close_matches(name, SETTINGS, 1)
    raise UsageError(f"no setting {name!r}" + (f": did you mean {near[0]}?" if near else f": {', '.join(SETTINGS)}"))


def thinking_of(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise UsageError(f"thinking is {text!r}, but must be on or off")
    return text.lower() == "on"


def budget_of(text: str) -> int | None:
    if text.lower() in ("none", "off"):
        return None
    budget: int = _number(int, "think-budget", text)
    if budget < 1:
        raise UsageError(f"think-budget is {budget}, but must be 1 or more, or off")
    return budget


def describe(settings: Generation, think_budget: int | None, thinking: bool | None = None) -> str:
    """The settings in a line; `thinking`: what the template was asked for."""
    method, sampling = settings.method, settings.sampling
    parts = [str(settings.mode)]
    if settings.mode is Mode.FOREAL:
        parts[0] += f" n={method.n} p={method.p:g} k={method.k}"
    elif settings.mode is Mode.CUE:
        parts[0] += f" {method.cue!r} p={method.p:g}"
    elif settings.mode is Mode.SPECULATIVE:
        parts[0] += f" proposals={method.proposals}"
    parts.append("greedy" if sampling.greedy else f"temp {sampling.temp:g}, top-p {sampling.top_p:g}")
    parts += [f"top-k {sampling.top_k}"] * bool(sampling.top_k) + [f"min-p {sampling.min_p:g}"] * bool(sampling.min_p)
    parts += [f"seed {settings.seed}"] * (settings.seed is not None)
    parts += [f"at most {settings.max_tokens} tokens"] * (settings.max_tokens is not None)
    parts += [f"at most {think_budget} tokens of thinking"] * (think_budget is not None)
    parts += [f"thinking {'on' if thinking else 'off'}"] * (thinking is not None)
    return ", ".join(parts)
