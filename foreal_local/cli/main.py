"""The command `foreal`: a group of the commands, each imported only when it is used."""

from __future__ import annotations

from importlib import import_module

import click

from .. import __version__
from .streams import StreamsCommand

_COMMANDS = {
    "analyze": "Show where leader and drafts disagree.",
    "bench": "Measure accuracy, work and time on problems with answers.",
    "chat": "Talk with a pair in the terminal.",
    "doctor": "Say what this machine has, whether a pair fits, which mode pays.",
    "gen": "Answer a prompt, or a file of prompts.",
    "models": "List the models that are here, and drafts that fit a leader.",
    "pairs": "List the pairs of models that have names.",
    "pull": "Download models and pairs.",
    "rpc-worker": "Offer this machine's memory and compute to models on others.",
    "serve": "Answer OpenAI's API over HTTP, and show a page.",
}


class LazyGroup(StreamsCommand, click.Group):
    """Subcommands by name, so that --help does not wait for what it does not need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = import_module(f".{name.replace('-', '_')}", __package__).main
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="foreal")
def main() -> None:
    """FoReaL-Decoding for GGUF models: a strong leader and a cheap draft write one response."""
