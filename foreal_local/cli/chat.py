"""foreal-chat: a chat with a pair in the terminal. Parses, opens the engine and the session, starts the chat."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from .. import __version__
from ..config import Prompting, Runtime, generation_of, names_of, prompting_of, runtime_of
from ..errors import UsageError
from .asking import message_of, prompt_argument
from .command import ForealCommand, option
from .options import (
    background_option,
    is_default,
    loss_option,
    measured_in,
    method_options,
    mode_option,
    model_options,
    preset_option,
    sampling_options,
    setting_option,
    setting_options,
    settings_in,
    typed_models,
    typed_settings,
)
from .sessions import delete_session, history_file, print_sessions, session_named
from .start import Start
from .streams import require_output

if TYPE_CHECKING:
    from ..chat.conversation import Conversation
    from ..chat.screen import Screen
    from ..chat.session import ChatSession
    from ..engine import Engine

EPILOG = """\b
Examples:
  foreal-chat
  foreal-chat --session homework --think-budget 2000
  foreal-chat --list
  foreal-chat -l leader.gguf -d draft.gguf --system 'Answer briefly.'
  foreal-chat 'Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?'
  foreal-chat 'What does this say?' < notes.txt     # one answer about a document
Inside, /help lists the commands. Every option is also an environment variable: FOREAL_SESSION=homework."""


_FIRST = (
    "pair", "leader", "draft", "session", "system", "mode", "temp", "max_tokens", "think_budget", "ctx_size",
)  # fmt: skip


@click.command(cls=ForealCommand, first=_FIRST, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@prompt_argument
@option("--lines", is_flag=True, help="Each line of stdin is a message or a command; else all of it is one message.")
@option("--session", "-s", metavar="NAME", help="Keep the conversation under this name, and go on with it next time.")
@option("--list", "list_sessions", is_flag=True, help="List the sessions, and leave.", envvar=None)
@option("--delete", metavar="NAME", help="Delete a session, and leave; on a terminal you are asked.", envvar=None)
@option("--yes", is_flag=True, help="Delete it without a question.", envvar=None)
@option("--think-budget", type=int, metavar="N", help="Close the reasoning after N tokens and ask for the answer.")
@option("--thinking/--no-thinking", default=None, help="Where the template can: enable_thinking.", envvar=None)
@option("--reasoning", type=click.Choice(["show", "hide"]), default="show", help="Reasoning on the screen.")
@option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="The leader's words in colour.")
@background_option
@option("--markdown/--no-markdown", default=True, help="Show Markdown as what it means.")
@option("--wrap/--no-wrap", default=True, help="Break lines between words; code never is.")
@option("--quiet", "-q", is_flag=True, help="No progress while loading, and no opening lines.")
@model_options(without=["lanes"])
@preset_option
@mode_option
@loss_option
@method_options
@sampling_options
@setting_options(*(name for name in names_of(Prompting) if name != "raw"))
@setting_option("raw", hidden=True)
@click.version_option(__version__, prog_name="foreal-chat")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Chat with a pair: a leader starts the sentences of an answer, a draft finishes them. PROMPT is the first message.

    Where something is piped in, it is one message, or stands before PROMPT: it is answered, and the chat ends.
    """
    if values["list_sessions"]:
        print_sessions()
        return
    if values["delete"] is not None:
        delete_session(values["delete"], values["yes"])
        return
    require_output("answers are printed there")
    if sys.stdin is None and not values["words"]:
        raise UsageError("standard input is closed: a chat reads its messages there; or give PROMPT")
    if values["raw"]:
        raise UsageError("a chat needs a chat template: leave out --raw (FOREAL_RAW)")
    kind = _input_of(values)
    first = ""
    if values["words"] or kind == "document":
        first = message_of(values, _note, kind == "document")
    sys.exit(_chat(context, typed_models(values, context), first, kind))


Input = Literal["editor", "lines", "document"]


def _input_of(values: dict[str, Any]) -> Input:
    """What standard input is: a terminal to write messages on, lines that are messages, or one message."""
    on_terminal = sys.stdin is not None and sys.stdin.isatty()
    if on_terminal and sys.stdout.isatty():
        return "editor"
    return "lines" if values["lines"] or (on_terminal and not values["words"]) else "document"


def _note(text: str) -> None:
    click.echo(f"foreal-chat: {text}", err=True)


def _chat(context: click.Context, values: dict[str, Any], first: str, kind: Input) -> int:
    from ..chat.input import NoLines, PipedLines
    from ..chat.loop import Chat, editor_for
    from ..chat.past import show_loaded
    from ..chat.screen import Screen
    from ..method.roles import Role
    from ..palette import palette_of
    from ..runtime.room import check_room
    from .loading import color_of

    screen = Screen(
        color_of(values["color"]),
        values["reasoning"] == "show",
        palette=palette_of(values["background"]),
        wrap=values["wrap"],
        markdown=values["markdown"],
    )
    with contextlib.ExitStack() as stack:
        session = _open_session(stack, values)
        start = Start(context, values, session)
        opener = _Opener(stack, context, start)
        if kind == "document":
            check_room([first], opener.pair, Role, opener.runtime)
        conversation = opener.open()
        chat = Chat(conversation, screen, opener.reopen, session, opener.models)
        if session:
            _remember(session, opener, screen, start, context)
        if session and session.exists:
            session.load(conversation, start.same_pair)
            _apply_typed(conversation, context, values)
            opener.choose_mode(conversation)
        elif opener.prompting.system:
            conversation.set_system(opener.prompting.system)  # known by now whether the models can be told
        if session and not session.exists:
            session.begin(conversation)
        if not values["quiet"] and screen.is_terminal and kind != "document":
            for line in opener.opening_lines(conversation):
                screen.note(line)
            screen.legend()
        if start.note:
            screen.note(start.note)
        chat.tell_warnings()
        show_loaded(conversation, screen)
        if kind == "editor":
            return chat.run(editor_for(chat, history_file()), first)
        return chat.run(PipedLines() if kind == "lines" else NoLines(), first)


def _remember(session: ChatSession, opener: _Opener, screen: Screen, start: Start, context: click.Context) -> None:
    """What the session keeps besides the conversation; what is shown, and how, is as it was the last time."""
    hidden = start.kept.get("reasoning") == "hide"
    if hidden and is_default(context, "reasoning"):
        screen.show_thinking = False
    for name in screen.switches:
        if name in start.kept and is_default(context, name):
            setattr(screen, name, bool(start.kept[name]))

    def about() -> dict[str, Any]:
        hides = not screen.show_thinking if screen.is_terminal else hidden
        return opener.about() | {"reasoning": "hide" if hides else "show"} | screen.switches

    session.about = about


def _open_session(stack: contextlib.ExitStack, values: dict[str, Any]) -> ChatSession | None:
    """The session that is named, which no other chat has now."""
    if not values["session"]:
        return None
    session = session_named(values["session"])
    session.make_folder()
    stack.enter_context(session.locked())
    return session


class _Opener:
    """Opens the engine of a chat, and another one when a setting of the models changes.

    pair, runtime: the models, and how they run
    models: lines that describe the models
    prompting: of a conversation that begins
    """

    def __init__(self, stack: contextlib.ExitStack, context: click.Context, start: Start) -> None:
        from ..pairs import limits_of

        values = start.values
        self._values, self.runtime, self._about = values, start.runtime, start.about
        self.pair = start.pair()
        self._engine: Engine | None = None
        self._limits = limits_of(start.entry)
        stack.callback(self._close)
        self.prompting, self._settings = _prompting(values), generation_of(settings_in(values))
        self._measured = measured_in(values, context)
        self.models: list[str] = []

    def about(self) -> dict[str, Any]:
        """What a session remembers of the models: which they are, and how they run where that is not as by default."""
        usual = asdict(Runtime())
        runtime = {name: value for name, value in asdict(self.runtime).items() if value != usual[name]}
        return {"pair": self._about, "runtime": runtime}

    def _close(self) -> None:
        if self._engine:
            self._engine.close()

    def open(self) -> Conversation:
        """An empty conversation in a new engine."""
        from ..batch.progress import Bars
        from ..chat.commands import budget_of
        from ..chat.conversation import Conversation
        from ..engine import Engine
        from ..memory.fitting import fitting
        from ..method.roles import Role

        fit = fitting(self._values["fit"], _note)
        pair, runtime = fit(self.pair, self.runtime)
        with Bars(not (self._values["quiet"] or runtime.verbose)).loading() as on_progress:
            self._engine = Engine(
                pair,
                runtime=runtime,
                settings=self._settings,
                prompting=self.prompting,
                on_progress=on_progress,
            )
        self._engine.loaded.require_templates(self.prompting)
        self.models[:] = [f"{role:8}  {self._engine.describe(role)}" for role in Role]
        budget = self._values["think_budget"]
        conversation = Conversation(
            self._engine, self._settings, self.prompting, None if budget is None else budget_of(str(budget))
        )
        self.choose_mode(conversation)
        return conversation

    def choose_mode(self, conversation: Conversation) -> None:
        """In place of auto, where a measured setting may be chosen."""
        settings = conversation.settings
        if self._measured and settings.mode == self._settings.mode:
            conversation.settings = conversation.engine.choose_mode(settings, self._measured, self._values["loss"])

    def reopen(self, changes: dict[str, Any]) -> Conversation:
        """An empty conversation in a new engine with these changes; where that fails, the old engine stays."""
        before, runtime = self._engine, self.runtime
        self.runtime = runtime_of(changes, runtime)
        try:
            conversation = self.open()
        except BaseException:
            self._engine, self.runtime = before, runtime
            raise
        if before:
            before.close()
        return conversation

    def opening_lines(self, conversation: Conversation) -> list[str]:
        from ..chat.commands import describe_around, describe_chat
        from ..method.roles import Role

        engine = conversation.engine
        around = describe_around(conversation.prompting, self.runtime)
        settings = describe_chat(conversation.settings, conversation.think_budget, conversation.thinking)
        why = [f"mode {conversation.settings.mode}: {engine.plan.choice}"] if engine.plan.choice else []
        return [
            " · ".join(f"{role} {engine.describe(role)}" for role in Role),
            f"context {engine.ctx_size} · {settings}{', ' if around else ''}{around}"
            " · /help for commands, Ctrl-D to leave",
            *why,
            *([f"pair {self._limits}"] if self._limits else []),
        ]


def _apply_typed(conversation: Conversation, context: click.Context, values: dict[str, Any]) -> None:
    """Change the session's settings to those that were given at the start of this chat."""
    from ..chat.commands import budget_of

    typed = typed_settings(values, context)
    conversation.settings = generation_of(typed, conversation.settings)
    if not is_default(context, "think_budget"):
        conversation.think_budget = budget_of(str(values["think_budget"]))
    if "system" in typed:
        conversation.set_system(typed.pop("system"))
    if values["thinking"] is not None:
        conversation.set_thinking(values["thinking"])
    conversation.prompting = prompting_of(typed, conversation.prompting)


def _prompting(values: dict[str, Any]) -> Prompting:
    prompting = prompting_of(settings_in(values))
    if values["thinking"] is None:
        return prompting
    return replace(prompting, template_args={**prompting.template_args, "enable_thinking": values["thinking"]})
