"""What each slash command of a chat does. commands.py has their names, arguments and help."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config import generation_of, prompting_of
from ..documents import read_whole, with_question
from ..errors import UsageError
from ..palette import PALETTES
from ..presets import preset
from ..settings import Setting
from .clipboard import copy_text
from .commands import (
    OF_THE_MODELS,
    OF_THE_PROMPT,
    budget_of,
    changed,
    help_lines,
    setting_named,
    switch_of,
)
from .fences import blocks_in
from .figures import count, gauge, totals
from .files import named
from .past import short, show_again, show_loaded

if TYPE_CHECKING:
    from .conversation import Conversation, Message
    from .loop import Chat
    from .screen import Screen


class Actions:
    """The commands of one chat: `do_NAME` is /NAME, and takes the text after the name."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    @property
    def _conversation(self) -> Conversation:
        return self._chat.conversation  # another one after `reopen`

    @property
    def _screen(self) -> Screen:
        return self._chat.screen

    def do_help(self, _: str) -> None:
        for line in help_lines():
            self._screen.line(line)

    def do_set(self, argument: str) -> None:
        name, _, value = argument.partition(" ")
        name, text = name.lower().replace("_", "-"), value.strip()
        if not text:
            self._show_settings(name)
        elif name == "think-budget":
            self._conversation.think_budget = budget_of(text)
        elif name == "thinking":
            self._conversation.set_thinking(switch_of(name, text))
        elif name in self._screen.switches:
            setattr(self._screen, name, switch_of(name, text))
            self._tell(f"{name}: {text.lower()}")
            return
        elif name == "preset":
            self._conversation.settings = generation_of(preset(text), self._conversation.settings)
        else:
            self._set(setting_named(name), text)
        if text:
            self._tell(self._chat.settings_line())

    def _show_settings(self, name: str) -> None:
        """One setting, or all of them."""
        in_force = self._chat.in_force()
        if not name:
            for line in in_force.lines():
                self._screen.line(line)
            return
        for line in in_force.lines_of(name):
            self._screen.paragraph(line)

    def _tell(self, text: str) -> None:
        """Say what has changed, when it is kept."""
        self._chat.keep_session()
        self._screen.note(text)

    def _set(self, setting: Setting, text: str) -> None:
        """Change a setting. One of the models' opens them again, and they evaluate the conversation's text again."""
        conversation, value = self._conversation, setting.from_text(text)
        if setting in OF_THE_MODELS:
            self._chat.reopen({setting.name: value})
            self._tell(f"{setting.shown_name}: {setting.as_text(value)}; the models were opened again")
        elif setting.name == "system":
            self.do_system(value or "")
        elif setting in OF_THE_PROMPT:
            conversation.prompting = prompting_of({setting.name: value}, conversation.prompting)
            self._tell(f"{setting.shown_name}: {setting.as_text(getattr(conversation.prompting, setting.name))}")
        else:
            conversation.settings = changed(conversation.settings, setting.name, text)

    def do_mode(self, argument: str) -> None:
        self._conversation.settings = changed(self._conversation.settings, "mode", argument)
        self._tell(self._chat.settings_line())

    def do_show(self, _: str) -> None:
        conversation = self._conversation
        for line in self._chat.models:
            self._screen.line(line)
        self._screen.line(f"settings  {self._chat.settings_line()}")
        place = conversation.place_of_system()
        self._screen.line(f"system    {conversation.prompting.system or 'none'}" + (f" ({place})" if place else ""))
        self._screen.line(f"context   {gauge(conversation.n_prompt(), conversation.engine.ctx_size)} tokens")
        session = self._chat.session
        self._screen.line(f"session   {session.path if session else 'none (--session NAME keeps one)'}")

    def do_system(self, argument: str) -> None:
        self._conversation.set_system(argument or None)  # an error, and no change, where a template refuses it
        self._tell(f"system message: {argument}" if argument else "no system message")
        self._chat.tell_warnings()

    def do_regen(self, _: str) -> None:
        self._chat.show(self._conversation.regenerate(secrets.randbits(31)))

    def do_undo(self, _: str) -> None:
        text = self._conversation.undo()
        self._screen.note(f"taken back: {short(text)}" if text else "there is nothing to take back")
        self._chat.save_session()

    def do_edit(self, _: str) -> None:
        questions = [message.content for message in self._conversation.messages if message.role == "user"]
        if not questions:
            raise UsageError("there is no question to edit yet")
        text = self._edited(questions[-1]).strip()
        before = list(self._conversation.messages)
        if not text:
            return
        self._conversation.undo()
        try:
            self._chat.ask(text)
        finally:
            messages = self._conversation.messages
            if not messages or any(messages[-1] is message for message in before):  # there is no new answer
                self._conversation.messages = before
                self._chat.save_session()

    def _edited(self, text: str) -> str:
        """The text as the user changes it, in an editor or on the chat's line; "" where the user gives up."""
        if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
            try:
                return click.edit(text, require_save=False) or ""
            except click.ClickException as error:
                raise UsageError(f"{error.format_message()}: $VISUAL or $EDITOR names an editor") from None
        assert self._chat.source is not None
        try:
            return self._chat.source.read("edit> ", default=text)
        except (KeyboardInterrupt, EOFError):
            return ""

    def do_read(self, argument: str) -> None:
        line = f"/read {argument}"
        path, text = _file_and_rest(argument)
        self._chat.ask(with_question(read_whole(str(path)), text.strip()), line)

    def do_think(self, argument: str) -> None:
        if argument == "last":
            answer = self._last_answer()
            if answer.parts[0]:
                show_again(answer, self._screen, markdown=False, reasoning=True)
            else:
                self._screen.note("the last answer has no reasoning")
        elif argument in ("show", "hide"):
            self._screen.show_thinking = argument == "show"
            self._tell(f"reasoning is {'shown' if argument == 'show' else 'hidden'}")
        else:
            raise UsageError(f"/think is {argument!r}, but must be show, hide or last")

    def do_authors(self, _: str) -> None:
        answer = self._last_answer()
        self._screen.legend()
        show_again(answer, self._screen, markdown=False)

    def do_colors(self, argument: str) -> None:
        screen, choices = self._screen, ("on", "off", "light", "dark")
        if argument not in choices:
            raise UsageError(f"/colors is {argument!r}, but must be one of {', '.join(choices)}")
        screen.colored = screen.styled and argument != "off"
        if argument in PALETTES:
            screen.palette = PALETTES[argument]
        screen.note(f"colors are {argument}")
        screen.legend()

    def do_copy(self, argument: str) -> None:
        text, what = self._last_answer().parts[1].strip(), "the answer"
        if argument not in ("", "code", "code all"):
            raise UsageError(f"/copy is {argument!r}, but must be alone, or code, or code all")
        if argument:
            blocks = [block.code for block in blocks_in(text)]
            if not blocks:
                raise UsageError("the last answer has no code block: /copy copies the answer")
            several, whole = count(len(blocks), "code block"), argument == "code all" or len(blocks) == 1
            text, what = ("\n".join(blocks), several) if whole else (blocks[-1], f"the last of {several}")
        by, codes = copy_text(text, self._screen.styled)
        self._screen.terminal_codes(codes)
        self._screen.note(f"copied {count(len(text.splitlines()), 'line')}, {what}, by {by}")

    def do_write(self, argument: str) -> None:
        path, answer = named(argument), self._last_answer().parts[1].strip()
        blocks = [] if path.suffix.lower() in (".md", ".markdown") else [block.code for block in blocks_in(answer)]
        text = "\n".join(blocks) if blocks else f"{answer}\n"
        if self._chat.files.write(path, text):
            what = count(len(blocks), "code block") if blocks else "the answer"
            self._screen.note(f"wrote {count(len(text.splitlines()), 'line')}, {what}, to {path}")

    def _last_answer(self) -> Message:
        answers = [message for message in self._conversation.messages if message.role == "assistant"]
        if not answers:
            raise UsageError("there is no answer yet")
        return answers[-1]

    def do_stats(self, _: str) -> None:
        conversation = self._conversation
        for line in totals(conversation.cost, sum(m.role == "assistant" for m in conversation.messages)):
            self._screen.line(line)
        for label, text in conversation.tally.lines(conversation.settings, conversation.engine.plan):
            self._screen.paragraph(f"{label}: {text}")

    def do_save(self, argument: str) -> None:
        if not argument and self._chat.session is None:
            raise UsageError("/save needs a FILE here: only a chat with --session NAME has one of its own")
        session = self._chat.session
        path = session.path if session and not argument else named(argument)
        if self._chat.files.save(path):
            self._screen.note(f"saved in {path}")

    def do_load(self, argument: str) -> None:
        path = named(argument)
        self._conversation.load(path)
        self._chat.files.loaded(path)
        show_loaded(self._conversation, self._screen)
        self._chat.save_session()

    def do_export(self, argument: str) -> None:
        path = named(argument)
        if self._chat.files.export(path):
            self._screen.note(f"written to {path}")

    def do_clear(self, _: str) -> None:
        self._chat.clear()
        self._screen.note("a new conversation")
        self._chat.save_session()

    def do_exit(self, _: str) -> None:
        self._chat.leave()


def _file_and_rest(argument: str) -> tuple[Path, str]:
    """A file's name, which may have spaces, and the text after it."""
    words = argument.split(" ")
    for n in range(len(words), 0, -1):
        path = named(" ".join(words[:n]))
        with contextlib.suppress(OSError):  # a name that is too long
            if path.is_file():
                return path, " ".join(words[n:])
    return named(words[0]), " ".join(words[1:])
