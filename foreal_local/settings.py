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
from pathlib import Path
from typing import Any

from .errors import UsageError

SINCE_0_1_0 = object()  # the setting is in every file
MOST_LEVELS = 100
"""Of lists and objects in each other, in a JSON value that users give."""
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
    document: a long text such as "a JSON schema", which users may also give as a file's name; "": it is none
    is_json: such a text may be given as an object, too
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
    document: str = ""
    is_json: bool = False
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

    @property
    def allowed(self) -> str:
        """The values that it may have, for users."""
        words = {bool: "on or off", dict: "NAME=VALUE", tuple: "a text"}.get(self.kind) or self._wanted()
        return f"{words}, or none" if self.optional or self.kind in (dict, tuple) else words

    @property
    def own_help(self) -> str:
        """Its help without the default, which an option's help tells."""
        return self.help.partition("  [default: ")[0]

    def as_text(self, value: Any) -> str:
        """A value as `from_text` reads it."""
        if value is None or value in ((), {}):
            return "none"
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, dict):
            return " ".join(f"{name}={json.dumps(each)}" for name, each in value.items())
        if isinstance(value, tuple):
            return " ".join(map(repr, value))
        return f"{value:.12g}" if isinstance(value, float) else str(value)

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
        if self.kind is dict and not is_shallow(value):
            self._refuse(value, _SHALLOW)
        if not self._holds(value):
            self._refuse(value, _LARGEST if _is_too_large(value) else self._wanted(), self.label)

    def _holds(self, value: Any) -> bool:
        if self.choices is not None:
            return value in self.choices()
        if self.kind is tuple:
            return not isinstance(value, str) and all(isinstance(each, str) and each for each in value)
        if self.kind is str:
            may_be_blank = self.optional and not self.document
            return isinstance(value, str) and (may_be_blank or bool(value.strip()))
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
            return self.document or "a text"
        if self.low is not None and self.high is not None:
            return f"between {self.low:.12g} and {self.high:.12g}{note}"
        if self.above is not None:
            return f"above {self.above:.12g}" + ("" if self.high is None else f" and at most {self.high:.12g}") + note
        return f"{self.low:.12g} or more{note}"

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
        if self.document:
            return self.read(text)
        if self.kind not in (int, float):
            return text
        try:
            return self.kind(text)
        except ValueError:
            self._refuse(text, f"a {self.kind_in_words}")

    def read(self, text: str) -> str:
        """A document that a user gave: itself, or the file of that name."""
        if not text.strip() or "::=" in text or text.lstrip().startswith("{"):
            return text
        try:
            document = Path(text).expanduser().read_text("utf-8-sig")
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{self.option} is {shown(text)}: neither {self.document} nor a file that can be read ({why})"
            ) from None
        if not document.strip():
            raise UsageError(f"{self.option} is {shown(text)}, and that file is empty")
        return document

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
        if self.is_json and isinstance(value, dict):
            return as_json(value, self.name)
        if self.kind in (str, bool, dict) and not isinstance(value, self.kind):
            self._refuse(value, {str: "a text", bool: "true or false", dict: "an object"}[self.kind])
        if self.kind is dict and not is_shallow(value):
            self._refuse(value, _SHALLOW)
        if self.kind is dict and not _is_finite(value):
            self._refuse(value, "an object whose numbers are finite")
        return tuple(value) if self.kind is tuple else value


def as_json(value: dict[str, Any], name: str) -> str:
    """A setting's object as a text; its keys keep their order, which a schema's answers follow."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} is {shown(value)}, which is no JSON object: {error}", name) from None


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold; a whole number may be of any length."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


_LARGEST = "one of at most 308 digits"


def _is_too_large(value: Any) -> bool:
    """Whether it is a whole number that no float can hold."""
    return isinstance(value, int) and abs(value) > sys.float_info.max


_SHALLOW = f"of at most {MOST_LEVELS} lists and objects in each other"


def is_shallow(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether a JSON value has at most so many lists and objects in each other, so that functions may walk it."""
    if not isinstance(value, (dict, list, tuple)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(each, levels - 1) for each in inner)


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
    try:
        text = repr(value)
    except RecursionError:
        return "a value that is nested too deeply"
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
        except RecursionError:
            raise UsageError(f"{option}: the value of {name} is nested too deeply") from None
    return arguments
