"""foreal-chat: a chat with a pair in the terminal. Parses, opens the engine and the session, starts the chat."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..config import generation_of, prompting_of, runtime_of
from ..errors import UsageError
from .options import (
    ForealCommand,
    background_option,
    loss_option,
    measured_in,
    method_options,
    mode_option,
    model_options,
    option,
    preset_option,
    prompting_options,
    sampling_options,
    settings_in,
    typed_models,
    typed_settings,
    with_preset,
    with_settings_of,
)
from .streams import require_output

if TYPE_CHECKING:
    from ..chat.conversation import Conversation
    from ..config import Prompting
    from ..engine import Engine
    from ..pairs import PairEntry

EPILOG = """\b
Examples:
  foreal-chat
  foreal-chat --session homework --think-budget 2000
  foreal-chat -l leader.gguf -d draft.gguf --system 'Answer briefly.'
  printf 'Tom has 12 apples. Anna has 3 more. How many does Anna have?\\n' | foreal-chat
Inside, /help lists the commands. Every option is also an environment variable: FOREAL_SESSION=homework."""


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@option("--session", "-s", metavar="NAME", help="Keep the conversation under this name, and go on with it next time.")
@option("--list", "list_sessions", is_flag=True, help="List the sessions, and leave.", envvar=None)
@option("--think-budget", type=int, metavar="N", help="Close the reasoning after N tokens and ask for the answer.")
@option("--thinking/--no-thinking", default=None, help="Where the template can: enable_thinking.", envvar=None)
@option("--reasoning", type=click.Choice(["show", "hide"]), default="show", help="Reasoning on the screen.")
@option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="The leader's words in colour.")
@background_option
@option("--markdown/--no-markdown", default=True, help="Show Markdown as what it means.")
@option("--wrap/--no-wrap", default=True, help="Break lines between words; code never is.")
@option("--quiet", "-q", is_flag=True, help="No progress while loading, and no opening lines.")
@model_options
@preset_option
@mode_option
@loss_option
@method_options
@sampling_options
@prompting_options
@click.version_option(__version__, prog_name="foreal-chat")
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    """Chat with a pair: a leader starts the sentences of an answer, a draft finishes them.

    Without a terminal, each line of the input is a message, and the answers are plain lines.
    """
    if values["list_sessions"]:
        _list()
        return
    from .loading import named_pair

    require_output("answers are printed there")
    if sys.stdin is None:
        raise UsageError("standard input is closed: a chat reads its messages there")
    if values["raw"]:
        raise UsageError("a chat needs a chat template: leave out --raw (FOREAL_RAW)")
    values = typed_models(values, context)
    entry = named_pair(values)
    if entry:
        values = with_settings_of(entry, values, context)
    values = with_preset(values, context)
    sys.exit(_chat(context, values, entry))


def data_dir() -> Path:
    """Where sessions and the history are kept."""
    return Path(click.get_app_dir("foreal"))


def session_path(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"--session is {name!r}, but must be a name of letters, digits, '.', '_' and '-'")
    return data_dir() / "sessions" / f"{name}.session"


def _list() -> None:
    files = sorted((data_dir() / "sessions").glob("*.session"), key=lambda path: -path.stat().st_mtime)
    if not files:
        click.echo("no sessions yet: foreal-chat --session NAME keeps one")
    width = max((len(path.stem) for path in files), default=0)
    for path in files:
        stat = path.stat()
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stat.st_mtime))
        click.echo(f"{path.stem:<{width}}  {when}  {stat.st_size / 1e6:.1f} MB")


def _chat(context: click.Context, values: dict[str, Any], entry: PairEntry | None) -> int:
    from ..chat.input import PipedLines
    from ..chat.loop import Chat, editor_for
    from ..chat.past import show_loaded
    from ..chat.screen import Screen
    from ..palette import palette_of
    from ..storage.files import locked
    from .loading import color_of

    screen = Screen(
        color_of(values["color"]),
        values["reasoning"] == "show",
        palette=palette_of(values["background"]),
        wrap=values["wrap"],
        markdown=values["markdown"],
    )
    with contextlib.ExitStack() as stack:
        session = session_path(values["session"]) if values["session"] else None
        if session:
            session.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(session, "the session"))
        opener = _Opener(stack, context, values, entry)
        conversation = opener.open()
        chat = Chat(conversation, screen, opener.reopen, session, opener.models)
        if not values["quiet"] and screen.is_terminal:
            for line in opener.opening_lines(conversation):
                screen.note(line)
            screen.legend()
        if opener.prompting.system:
            conversation.set_system(opener.prompting.system)  # known by now whether the models can be told
        chat.tell_warnings()
        if session and session.exists():
            conversation.load(session)
            _apply_typed(conversation, context, values)
            opener.choose_mode(conversation)
            show_loaded(conversation, screen)
        interactive = sys.stdin.isatty() and screen.is_terminal
        return chat.run(editor_for(chat, data_dir() / "history") if interactive else PipedLines())


class _Opener:
    """Opens the engine of a chat, and another one when a setting of the models changes.

    models: lines that describe the models
    prompting: of a conversation that begins
    """

    def __init__(
        self, stack: contextlib.ExitStack, context: click.Context, values: dict[str, Any], entry: PairEntry | None
    ) -> None:
        from ..method.roles import Role
        from .loading import pair_of

        self._values, self._runtime = values, runtime_of(settings_in(values))
        self._pair = pair_of(values, entry, set(Role))
        self._engine: Engine | None = None
        stack.callback(self._close)
        self.prompting, self._settings = _prompting(values), generation_of(settings_in(values))
        self._measured = measured_in(values, context)
        self.models: list[str] = []

    def _close(self) -> None:
        if self._engine:
            self._engine.close()

    def open(self) -> Conversation:
        """An empty conversation in a new engine."""
        from ..batch.progress import loading_bar
        from ..chat.commands import budget_of
        from ..chat.conversation import Conversation
        from ..engine import Engine
        from ..method.roles import Role

        with loading_bar(self._values["quiet"]) as on_progress:
            self._engine = Engine(
                self._pair,
                runtime=self._runtime,
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
        before, runtime = self._engine, self._runtime
        self._runtime = runtime_of(changes, runtime)
        try:
            conversation = self.open()
        except BaseException:
            self._engine, self._runtime = before, runtime
            raise
        if before:
            before.close()
        return conversation

    def opening_lines(self, conversation: Conversation) -> list[str]:
        from ..chat.commands import describe_chat
        from ..method.roles import Role

        engine = conversation.engine
        settings = describe_chat(conversation.settings, conversation.think_budget, conversation.thinking)
        why = [f"mode {conversation.settings.mode}: {engine.plan.choice}"] if engine.plan.choice else []
        return [
            " · ".join(f"{role} {engine.describe(role)}" for role in Role),
            f"context {engine.ctx_size} · {settings} · /help for commands, Ctrl-D to leave",
            *why,
        ]


def _apply_typed(conversation: Conversation, context: click.Context, values: dict[str, Any]) -> None:
    """Change the session's settings to those that were given at the start of this chat."""
    from ..chat.commands import budget_of

    typed = typed_settings(values, context)
    conversation.settings = generation_of(typed, conversation.settings)
    if context.get_parameter_source("think_budget") is not click.core.ParameterSource.DEFAULT:
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
