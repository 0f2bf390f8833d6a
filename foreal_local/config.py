"""Every setting, checked when it is built; its default, range and option are written once, here or, for the method's
own, in method/settings.py.

To add a setting, add a field and read it where it matters: options, environment variables, /set, overrides of single
prompts, pairs and config files, records, traces and hashes follow (settings.py). Say with `was` which value means what
was so before it existed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .errors import UsageError
from .method.modes import MODES as MODES
from .method.modes import axes_of
from .method.settings import COMPARE as COMPARE
from .method.settings import HITS_FROM as HITS_FROM
from .method.settings import Method as Method
from .model_files import FilePath as FilePath
from .model_files import ModelSettings as ModelSettings
from .model_files import Pair as Pair
from .running import OF_WORKERS as OF_WORKERS
from .running import Runtime as Runtime
from .settings import OWN_TEMPLATE_ARGS, Setting, as_json, check_all, setting, settings_of, shown

MOST_LOGPROBS = 100
"""Most likely tokens that can be recorded beside each."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    temp: temperature; 0 is greedy
    top_k: most likely tokens kept; 0 is all
    top_p: the nucleus; 1 is all
    min_p: least probability against the most likely token's; 0 is all
    repeat_penalty: what the logits of recent tokens are divided by; 1 is off
    repeat_last_n: how many tokens count as recent
    """

    temp: float = setting(0.6, "Temperature; 0 is greedy.", "--temp", kind=float, low=0)
    top_k: int = setting(0, "Most likely tokens kept; 0 is off.", "--top-k", kind=int, low=0, note="all")
    top_p: float = setting(0.95, "Nucleus; 1 is off.", "--top-p", kind=float, above=0, high=1)
    min_p: float = setting(0.0, "Least chance against the best; 0 is off.", "--min-p", kind=float, low=0, high=1)
    repeat_penalty: float = setting(
        1.0, "Penalty on recent tokens; 1 is off.", "--repeat-penalty", kind=float, above=0, high=1e6, note="1 is none"
    )
    repeat_last_n: int = setting(64, "Tokens that count as recent.", "--repeat-last-n", kind=int, low=0)

    def __post_init__(self) -> None:
        check_all(self)

    @property
    def greedy(self) -> bool:
        return self.temp == 0.0

    @property
    def takes_top1(self) -> bool:
        """Whether each token is the most likely one."""
        return self.temp == 0.0 and self.repeat_penalty == 1.0


@dataclass(frozen=True)
class Generation:
    """What one sequence is generated with.

    mode: who writes (method/modes.py)
    method: the method's settings
    sampling: how tokens are chosen
    seed: of its random numbers; None: one is drawn and reported
    max_tokens: None: until the model ends or the context is full
    stop: texts that end the answer and are not part of it
    stop_in_reasoning: they end the reasoning, too
    grammar: the answer keeps to this grammar, in llama.cpp's GBNF
    json_schema: the answer is JSON that keeps to this schema, a text; given as one or as an object
    logprobs: each token is recorded with its logarithmic probability and those of so many of the most likely
    prompt_logprobs: so are the prompt's, by the leader where it has a part; nothing of them is taken from a cache
    """

    mode: str = setting("foreal", "Who writes.", "--mode", choices=MODES.keys)
    method: Method = field(default_factory=Method)
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = setting(
        None, "Seed of all random numbers; 0 is one, too.  [default: drawn, and reported]", "--seed", kind=int,
        metavar="N", low=0, optional=True,
    )  # fmt: skip
    max_tokens: int | None = setting(
        None, "Most tokens of a response.  [default: until its end, or the context is full]", "--max-tokens", kind=int,
        metavar="N", low=1, optional=True,
    )  # fmt: skip
    stop: tuple[str, ...] = setting(
        (), "End the answer before this text; repeatable.", "--stop", kind=tuple, metavar="TEXT"
    )
    stop_in_reasoning: bool = setting(
        False, "Stop texts end the reasoning, too.", "--stop-in-reasoning", kind=bool, was=True, needs=("stop", ()),
    )  # fmt: skip
    grammar: str | None = setting(
        None, "GBNF grammar that the answer keeps to: a text, or a file's name.", "--grammar", metavar="GRAMMAR",
        optional=True, was=None, document="a GBNF grammar",
    )  # fmt: skip
    json_schema: str | None = setting(
        None, "The answer is JSON of this schema: a text, or a file's name.", "--json-schema", metavar="SCHEMA",
        optional=True, was=None, document="a JSON schema", is_json=True,
    )  # fmt: skip
    logprobs: int | None = setting(
        None, "Record each token's log-probability, and those of the N most likely.", "--logprobs", kind=int,
        metavar="N", low=0, high=MOST_LOGPROBS, optional=True, was=None,
    )  # fmt: skip
    prompt_logprobs: int | None = setting(
        None, "The same of the prompt's tokens.", "--prompt-logprobs", kind=int,
        metavar="N", low=0, high=MOST_LOGPROBS, optional=True, was=None,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not isinstance(self.stop, tuple):  # one text, or a list of them
            object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        if isinstance(self.json_schema, dict):
            object.__setattr__(self, "json_schema", as_json(self.json_schema, "json_schema"))
        check_all(self)
        self._check_schema()

    @property
    def has_grammar(self) -> bool:
        """Whether the answer keeps to a grammar."""
        return self.grammar is not None or self.json_schema is not None

    def _check_schema(self) -> None:
        if self.json_schema is None:
            return
        if self.grammar is not None:
            raise UsageError("there are a grammar and a JSON schema: give one of them", "json_schema")
        try:
            is_schema = isinstance(json.loads(self.json_schema), dict)
        except (ValueError, RecursionError) as error:
            why = f"json_schema is {shown(self.json_schema)}, which is not JSON: {error}"
            raise UsageError(why, "json_schema") from None
        if not is_schema:
            raise UsageError(f"json_schema is {shown(self.json_schema)}, but must be an object", "json_schema")


@dataclass(frozen=True)
class Prompting:
    """How a prompt becomes tokens.

    system: a system message
    raw: no chat template at all
    template_args: passed to the chat template, such as enable_thinking=False
    parse_special: control tokens that are spelled out in messages are control tokens; else they are text. A raw prompt
        is all the user's own: they always are
    now: what chat templates take for the time, in ISO's format; None: when the models were opened
    """

    system: str | None = setting(None, "System message.", "--system", metavar="TEXT", optional=True)
    raw: bool = setting(False, "No chat template: the prompt as it is.", "--raw", kind=bool)
    template_args: dict[str, Any] = setting(
        None, "A switch of the chat template, such as enable_thinking=false; repeatable.", "--template-arg", kind=dict,
        metavar="NAME=VALUE",
    )  # fmt: skip
    parse_special: bool = setting(
        False, "Read control tokens that a prompt's text spells out.", "--parse-special", kind=bool, was=False
    )
    now: str | None = setting(
        None, "The time for chat templates, such as 2025-07-01T12:00.  [default: of the run's start]", "--now",
        metavar="TIME", optional=True, was=None,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_all(self)
        for name in self.template_args:
            if name in OWN_TEMPLATE_ARGS:
                why = f"template_args has {name}, which is the program's own: it cannot be given"
                raise UsageError(why, "template_args")
        if self.now is not None:
            try:
                datetime.fromisoformat(self.now)
            except ValueError:
                wanted = "a time such as 2025-07-01T12:00"
                raise UsageError(f"now is {self.now!r}, but must be {wanted}", "now") from None
        if self.raw and self.system:
            wanted = "left out with --raw (no chat template)"
            raise UsageError(f"system is {self.system!r}, but must be {wanted}", "system")


# ---------------------------------------------------------------- the table
GROUPS = (Method, Sampling, Generation, Prompting, Runtime)
SETTINGS: dict[str, Setting] = {each.name: each for group in GROUPS for each in settings_of(group)}
"""Every setting by its field's name."""
_GROUP = {each.name: group for group in GROUPS for each in settings_of(group)}


_DOCUMENTS = ("grammar", "json_schema")
"""One takes the other's place."""


def find_setting(name: str) -> Setting | None:
    """The setting of a name as users write it: the field's, the option's, or the short option's."""
    name = name.replace("-", "_")
    return SETTINGS.get(name) or next((each for each in SETTINGS.values() if name in each.names), None)


def names_of(*groups: type) -> list[str]:
    """The names of these dataclasses' settings."""
    return [name for name, group in _GROUP.items() if group in groups]


GENERATION_NAMES = names_of(Method, Sampling, Generation)
OF_RECORDS = ("logprobs", "prompt_logprobs")
"""They change what is recorded of a response, and no response."""
OF_A_RESPONSE = [*GENERATION_NAMES, *names_of(Prompting)]


def generation_of(values: dict[str, Any], base: Generation | None = None) -> Generation:
    """The generation settings with those of `values` (by field name) set; others in it are left out."""
    base = base or Generation()
    method = {name: values[name] for name in names_of(Method) if name in values}
    sampling = {name: values[name] for name in names_of(Sampling) if name in values}
    own = {name: values[name] for name in names_of(Generation) if name in values}
    for given, other in (_DOCUMENTS, _DOCUMENTS[::-1]):
        if own.get(given) is not None:
            own.setdefault(other, None)
    return replace(
        base,
        method=replace(base.method, **method) if method else base.method,
        sampling=replace(base.sampling, **sampling) if sampling else base.sampling,
        **own,
    )


def prompting_of(values: dict[str, Any], base: Prompting | None = None) -> Prompting:
    """The prompting with those of `values` set; template arguments are added to those that there are."""
    base = base or Prompting()
    own = {name: values[name] for name in names_of(Prompting) if name in values}
    if own.get("template_args"):
        own["template_args"] = {**base.template_args, **own["template_args"]}
    return replace(base, **own)


def with_time(prompting: Prompting, now: str) -> Prompting:
    """The prompting with this time, unless it names one, or uses no chat template."""
    return prompting if prompting.now is not None or prompting.raw else replace(prompting, now=now)


def runtime_of(values: dict[str, Any], base: Runtime | None = None) -> Runtime:
    return replace(base or Runtime(), **{name: values[name] for name in names_of(Runtime) if name in values})


def flat(settings: Generation) -> dict[str, Any]:
    """All generation settings by name, also those of the method and of sampling."""
    parts = {Method: settings.method, Sampling: settings.sampling, Generation: settings}
    return {name: getattr(parts[_GROUP[name]], name) for name in GENERATION_NAMES}


def in_force(settings: Generation) -> dict[str, Any]:
    """As `flat`, without the settings that only other modes have, or that another setting makes idle."""
    own, values = MODES[settings.mode].settings, flat(settings)
    return {
        name: value
        for name, value in values.items()
        if (name in own or not SETTINGS[name].of_modes) and not SETTINGS[name].is_idle(values)
    }


def for_digest(names: Iterable[str], settings: Generation) -> dict[str, Any]:
    """Those of these settings that are in force, without newer ones at the value that means what was so before them.

    Hashes and traces name these, so that a new setting does not void old files; nor does one that changes speed alone.
    """
    values, of_speed = in_force(settings), MODES[settings.mode].of_speed
    values |= {name: value for name, value in of_speed.items() if name in values}
    wanted = [name for name in names if name in values and not (name in of_speed and values[name] is None)]
    return {name: values[name] for name in wanted if not is_as_before(name, values[name])}


def is_as_before(name: str, value: Any) -> bool:
    """Whether the setting is younger than version 0.1.0 and its value means what was so before it existed."""
    return bool(SETTINGS[name].was == value)


def from_older(values: dict[str, Any], group: type) -> dict[str, Any]:
    """The values of a group as a file names them; settings that are not in it mean what was so before they existed, or
    have their default where another makes them idle."""
    found = {name: values.get(name, SETTINGS[name].before_it_existed()) for name in names_of(group)}
    idle = [name for name in found if name not in values and SETTINGS[name].is_idle(found)]
    return found | {name: SETTINGS[name].default for name in idle}


def describe(settings: Generation) -> str:
    """Mode, its own settings and sampling, in a few words."""
    mode = MODES[settings.mode]
    words = [mode.name]
    values, axes = in_force(settings), axes_of(mode.name, settings.method)
    for name in [name for name in mode.settings if name in values and (name in axes or name not in mode.axes)]:
        made, value = SETTINGS[name], values[name]
        if made.kind is str and made.choices is None:
            words.append(repr(value))
        elif name in axes:
            words.append(f"{name}={'auto' if value is None else format(value, 'g')}")
        elif value != made.default:
            words.append(f"{name.replace('_', '-')}={value}")
    sampling = settings.sampling
    words += [f"with {made.document}" for made in SETTINGS.values() if made.document and values[made.name] is not None]
    parts = [" ".join(words), "greedy" if sampling.greedy else f"temp {sampling.temp:g}, top-p {sampling.top_p:g}"]
    return ", ".join(parts)
