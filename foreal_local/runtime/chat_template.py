"""One model's chat template, asked once for each kind of conversation whether the model gets to read every message.

A template may leave out what it does not know (a system message, a text where it expects a list of parts) without a
word, or refuse it. Words that occur nowhere else stand for the texts, and are looked for in what comes out. Where some
are missing, the messages are arranged differently; where nothing helps, the prompt is refused.
Knows templates and messages; nothing of tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import jinja2

from ..config import Prompting
from ..errors import UsageError
from .jinja import TemplateLimitError, render
from .messages import SYSTEM_ROLES, Messages, unused_character

_BREAKING = (TemplateLimitError, jinja2.TemplateSyntaxError, RecursionError)
_N_KINDS = 256  # orders of roles whose arrangements are kept
_ADVICE = "another file of this model may have a mended one, and foreal-gen --raw uses none"


@dataclass(frozen=True)
class Arrangement:
    """How messages are given to a template so that all of them are read.

    developer_is_system: messages of the developer are given as the system's
    folds_system: system messages are put before the next text of the user
    parts: roles whose content is given as a list of one text part; None: every role's
    """

    developer_is_system: bool = False
    folds_system: bool = False
    parts: frozenset[str] | None = frozenset()

    def of(self, messages: Messages) -> list[dict[str, Any]]:
        """The messages as the template gets them."""
        if self.developer_is_system or self.folds_system:
            messages = [{**m, "role": "system"} if m["role"] == "developer" else m for m in messages]
        if self.folds_system:
            messages = _folded(messages)
        return [{**m, "content": self._content(m)} for m in messages]

    def _content(self, message: dict[str, str]) -> Any:
        if self.parts is not None and message["role"] not in self.parts:
            return message["content"]
        return [{"type": "text", "text": message["content"]}]


def _folded(messages: Messages) -> Messages:
    """System messages before the next text of the user, or behind the last one; as they are where there is no user."""
    if not any(message["role"] == "user" for message in messages):
        return messages
    found: Messages = []
    held: list[str] = []
    for message in messages:
        if message["role"] == "system":
            held.append(message["content"])
        elif message["role"] == "user" and held:
            found.append({**message, "content": "\n\n".join([*held, message["content"]])})
            held = []
        else:
            found.append(message)
    if held:
        at = max(i for i, message in enumerate(found) if message["role"] == "user")
        found[at] = {**found[at], "content": "\n\n".join([found[at]["content"], *held])}
    return found


class UnusableTemplateError(UsageError):
    """No prompt can be written with this template: it is broken, or leaves out all messages."""


class ChatTemplate:
    """The chat template of a model's file.

    source: in Jinja
    bos, eos: the texts of the model's first and last token, for the template
    model: the file's name, for messages
    notes: what the user should know of how prompts are given to this template, each once
    """

    def __init__(self, source: str, bos: str, eos: str, model: str) -> None:
        self.source, self.bos, self.eos, self.model = source, bos, eos, model
        self.notes: list[str] = []
        self._arrangements: dict[bytes, Arrangement | UsageError] = {}
        self._broken: UnusableTemplateError | None = None

    def render(self, messages: Messages, prompting: Prompting) -> str:
        """The prompt, up to where the assistant begins; a last message of the assistant is left open, to be continued.

        prompting: gives further variables of the template, and the time that it may ask for

        UsageError, which names the model, where the template fails, or leaves out a message.
        """
        arrangement = self.arrangement(messages, prompting)
        if arrangement.folds_system:
            self._note("has no place for a system message: it is put before the first text of the user")
        try:
            return self._written(arrangement, messages, prompting)
        except UsageError:
            raise
        except Exception as error:  # a template can fail in any way: its message is passed on
            raise self._failure(error) from None

    def require_usable(self, prompting: Prompting) -> None:
        """UnusableTemplateError where not even a single message can be written."""
        try:
            self.arrangement([{"role": "user", "content": "."}], prompting)
        except UnusableTemplateError:
            raise
        except UsageError:
            pass  # it may want another order of roles

    def folds_system(self, prompting: Prompting) -> bool:
        """Whether a system message is put before the first text of the user."""
        asked = [{"role": "system", "content": "."}, {"role": "user", "content": "."}]
        return self.arrangement(asked, prompting).folds_system

    def _note(self, text: str) -> None:
        note = f"the chat template of {self.model} {text}"
        if note not in self.notes:
            self.notes.append(note)

    def _written(self, arrangement: Arrangement, messages: Messages, prompting: Prompting) -> str:
        continues = messages[-1]["role"] == "assistant"
        cut = unused_character(self.source + json.dumps(messages, ensure_ascii=False))
        if continues:
            messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + cut}]
        own = {"bos_token": self.bos, "eos_token": self.eos, "add_generation_prompt": not continues}
        variables = {**prompting.template_args, **own, "messages": arrangement.of(messages)}
        now = datetime.fromisoformat(prompting.now) if prompting.now else datetime.now()
        text = render(self.source, variables, now)
        if not continues:
            return text
        if text.count(cut) != 1:
            raise UsageError(
                f"the last message is the assistant's, but the chat template of {self.model} cannot be cut behind it: "
                "leave it out, or ask for its continuation in a message of the user"
            )
        return text[: text.index(cut)]

    # ---------------------------------------------------------------- what reaches the model
    def arrangement(self, messages: Messages, prompting: Prompting) -> Arrangement:
        """How to give such messages; found out once for each order of roles. UsageError where it cannot be done."""
        keys = [(message["role"], sorted(message)) for message in messages]
        text = json.dumps([keys, prompting.template_args], sort_keys=True, default=repr)
        kind = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._arrangements.get(kind)
        if found is None:
            marked = [{**m, "content": _marker(i)} for i, m in enumerate(messages)]
            found = self._find(marked, partial(self._written, messages=marked, prompting=prompting))
            if len(self._arrangements) >= _N_KINDS:
                self._arrangements = {}  # another one, since other threads may be looking into this
            self._arrangements[kind] = found
        if isinstance(found, UsageError):
            raise type(found)(str(found))
        return found

    def _find(self, marked: Messages, written: Callable[[Arrangement], str]) -> Arrangement | UsageError:
        if self._broken:
            return self._broken
        failure = None
        for arrangement in self._candidates({message["role"] for message in marked}):
            try:
                text = written(arrangement).lower()
            except _BREAKING as error:
                failed = UnusableTemplateError(str(self._failure(error)))
                if isinstance(error, jinja2.TemplateSyntaxError):  # else it may be for these messages alone
                    self._broken = failed
                return failed
            except UsageError as error:
                found: UsageError | None = error
            except Exception as error:
                found = self._failure(error)
            else:
                found = self._leaves_out([m["role"] for i, m in enumerate(marked) if _marker(i) not in text], text)
            if found is None:
                return arrangement
            # Of one arrangement, the failure with plain texts says most; of several, that of the last.
            failure = found if failure is None or arrangement.parts == frozenset() else failure
        assert failure is not None
        return failure

    def _candidates(self, roles: set[str]) -> Iterator[Arrangement]:
        knows_developer = "developer" in self.source
        ways = [Arrangement(developer_is_system="developer" in roles and not knows_developer)]
        if "developer" in roles and knows_developer:
            ways.append(Arrangement(developer_is_system=True))
        if roles & set(SYSTEM_ROLES):
            ways.append(Arrangement(folds_system=True))
        for way in ways:
            for parts in (frozenset[str](), None, frozenset({"user"})):
                yield Arrangement(way.developer_is_system, way.folds_system, parts)

    def _failure(self, error: Exception) -> UsageError:
        verb, text = "refuses these messages", " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, _BREAKING):
            verb = "is broken"
        return UsageError(f"the chat template of {self.model} {verb}: {text}; {_ADVICE}")

    def _leaves_out(self, roles: list[str], text: str) -> UsageError | None:
        if not roles:
            return None
        if _marker("") not in text.translate(dict.fromkeys(range(ord("0"), ord("9") + 1))):
            what = "writes none of the messages, so the model would not read them"
            return UnusableTemplateError(f"the chat template of {self.model} {what}: {_ADVICE}")
        return UsageError(
            f"the chat template of {self.model} leaves out messages of the role {roles[0]}, so the model would not "
            "read them: put their text into a message of the user"
        )


def _marker(i: object) -> str:
    return f"qzx{i}xzq"
