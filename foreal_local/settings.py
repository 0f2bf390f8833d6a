"""What is said once about a setting: its option, its help, its range, and what a text or a JSON value means for it.

A setting is a field of a frozen dataclass (config.py). Command-line options, environment variables, /set, overrides of
single prompts, pairs and config files, records, traces and hashes read the fields from here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from .errors import UsageError

SINCE_0_1_0 = object()  # the setting is in every file
_NONE = ("none", "off")  # what /set takes for no value


@dataclass(frozen=True)
class Setting:
    """One setting.

    help: what it is, in a sentence
    option: its long option on the command line
    kind: int, float, str, bool, tuple (texts) or dict (a JSON object)
    short: its short option
    label: its name in messages, where the field's own name would not be understood
    metavar: what stands for its value in help
    low, high: the least and the most it may be
    above: it must be larger than this
    choices: the only values it may have; called each time, because tables of names may grow
    note: what a message adds about the range
    optional: None is a value, too
    was: the value that means what was so before this setting existed, for those that version 0.1.0 does not have
    of_modes: only responses of modes that have it (Mode.settings) carry it in records and hashes
    needs: another setting, and the values of it with which this one means anything; none: any that is not empty
    name: the field's name
    default: the field's default
    """

    help: str
    option: str
    kind: type = str
    short: str | None = None
    label: str | None = None
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: Callable[[], Collection[str]] | None = None
    note: str = ""
    optional: bool = False
    was: Any = SINCE_0_1_0
    of_modes: bool = False
    needs: tuple[str, tuple[str, ...]] | None = None
    name: str = ""
    default: Any = None

    @property
    def names(self) -> set[str]:
        """What users may call it, with _ for -."""
        short = {self.short.lstrip("-")} if self.short else set()
        return {self.name, self.option.strip("-").replace("-", "_")} | short

    @property
    def shown_name(self) -> str:
        """As /set lists it."""
        return self.name.replace("_", "-")

    @property
    def kind_in_words(self) -> str:
        """Of a setting that is a number."""
        return "whole number" if self.kind is int else "number"

    def before_it_existed(self) -> Any:
        """What a file that does not name it means."""
        return self.default if self.was is SINCE_0_1_0 else self.was

    def is_idle(self, values: dict[str, Any]) -> bool:
        """Whether it means nothing beside these other settings' values."""
        if self.needs is None:
            return False
        name, meant = self.needs
        return values[name] not in meant if meant else not values[name]

    # ---------------------------------------------------------------- values
    def check(self, value: Any) -> None:
        """UsageError that names the setting and the value where it cannot be used."""
        if self.optional and value is None:
            return
        if not self._holds(value):
            self._refuse(value, _LARGEST if _is_too_large(value) else self._wanted(), self.label)

    def _holds(self, value: Any) -> bool:
        if self.choices is not None:
            return value in self.choices()
        if self.kind is tuple:
            return not isinstance(value, str) and all(isinstance(each, str) and each for each in value)
        if self.kind is str:
            return isinstance(value, str) and (self.optional or bool(value.strip()))
        if self.kind not in (int, float):
            return isinstance(value, self.kind)
        if not _is_number(value) or (self.kind is int and value != int(value)):
            return False
        low = self.low is None or value >= self.low
        return low and (self.high is None or value <= self.high) and (self.above is None or value > self.above)

    def _wanted(self) -> str:
        note = f" ({self.note})" if self.note else ""
        if self.choices is not None:
            return either(self.choices()) + note
        if self.kind is tuple:
            return "texts of at least one character"
        if self.kind is str:
            return "a text"
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}{note}"
        if self.above is not None:
            return f"above {self.above:g}" + ("" if self.high is None else f" and at most {self.high:g}") + note
        return f"{self.low:g} or more{note}"

    def _refuse(self, value: Any, wanted: str, name: str | None = None) -> None:
        raise UsageError(f"{name or self.name} is {shown(value)}, but must be {wanted}", self.name)

    def from_text(self, text: str) -> Any:
        """The value of a text that a user typed; "none" and "off" are None where that is a value."""
        if self.optional and text.lower() in _NONE:
            return None
        if self.kind is bool:
            if text.lower() not in ("on", "off", "true", "false", "yes", "no"):
                self._refuse(text, "on or off")
            return text.lower() in ("on", "true", "yes")
        if self.kind is tuple:
            return () if text.lower() in _NONE else (text,)
        if self.kind is dict:
            return {} if text.lower() in _NONE else arguments_of([text], self.option)
        if self.kind not in (int, float):
            return text
        try:
            return self.kind(text)
        except ValueError:
            self._refuse(text, f"a {self.kind_in_words}")

    def from_json(self, value: Any) -> Any:
        """The value that a JSON or TOML file gives."""
        if self.optional and value is None:
            return None
        if self.kind in (int, float):
            if not _is_number(value) or (self.kind is int and value != int(value)):
                self._refuse(value, _LARGEST if _is_too_large(value) else f"a {self.kind_in_words}")
            return self.kind(value)
        if self.kind is tuple and isinstance(value, str):
            return (value,)
        if self.kind is tuple and not (isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)):
            self._refuse(value, "a text or a list of texts")
        if self.kind in (str, bool, dict) and not isinstance(value, self.kind):
            self._refuse(value, {str: "a text", bool: "true or false", dict: "an object"}[self.kind])
        if self.kind is dict and not _is_finite(value):
            self._refuse(value, "an object whose numbers are finite")
        return tuple(value) if self.kind is tuple else value


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold; a whole number may be of any length."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


_LARGEST = "one of at most 308 digits"


def _is_too_large(value: Any) -> bool:
    """Whether it is a whole number that no float can hold."""
    return isinstance(value, int) and abs(value) > sys.float_info.max


def _is_finite(value: Any) -> bool:
    """Whether all numbers in a JSON value are."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def shown(value: Any) -> str:
    """A value for a message, in a few words where it is long."""
    if isinstance(value, int) and abs(value) >= 10**40:
        exact = abs(value) < 10**4000  # longer ones Python does not write
        return f"a whole number of {len(str(abs(value))) if exact else math.floor(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:160]}... ({len(text)} characters)"


def setting(default: Any, help: str, option: str, **more: Any) -> Any:
    """A dataclass field that is a setting; `more` as in Setting."""
    made = Setting(help, option, **more)
    if made.kind is dict:
        return dataclasses.field(default_factory=dict, metadata={"setting": made})
    return dataclasses.field(default=default, metadata={"setting": made})


def settings_of(kind: Any) -> list[Setting]:
    """The settings among a dataclass's fields, in their order."""
    found = []
    for field in dataclasses.fields(kind):
        made = field.metadata.get("setting")
        if made is not None:
            default = {} if made.kind is dict else field.default
            found.append(dataclasses.replace(made, name=field.name, default=default))
    return found


def check_all(values: Any) -> None:
    """Check every setting of a dataclass's instance."""
    for each in settings_of(type(values)):
        each.check(getattr(values, each.name))


def either(names: Collection[str]) -> str:
    """Names for a message: "a or b", "one of a, b or c"."""
    *most, last = names
    if len(most) < 2:
        return " or ".join([*most, last])
    return f"one of {', '.join(most)} or {last}"


OWN_TEMPLATE_ARGS = (
    "messages",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "raise_exception",
    "strftime_now",
)


def arguments_of(items: Collection[str], option: str) -> dict[str, Any]:
    """The arguments of a chat template from NAME=VALUE texts; values are read as JSON where they are JSON."""
    arguments = {}
    for item in items:
        name, equals, value = item.partition("=")
        if name in OWN_TEMPLATE_ARGS:
            raise UsageError(f"{option}: {name} is the program's own: it cannot be given")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option}: {item!r} is not NAME=VALUE")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments
