#!/usr/bin/env python3
"""Pictures of a real chat for the README: docs/chat-dark.svg and docs/chat-light.svg.

    python scripts/screenshots.py

Starts foreal-chat in a pseudo-terminal, asks it, and draws what stands on the screen. Needs pexpect and pyte
('.[test]').
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import click
import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS, LINES = 92, 34
STEPS = (
    "Emma has 24 shells. Hugo has 9 more shells than Emma. Mia has 5 fewer shells than Hugo. "
    "How many shells does Mia have?",
    "/think hide",
    "Noah has 36 books. Gina has 2 fewer books than Noah. Ben has 8 fewer books than Gina. "
    "How many books does Ben have?",
    "/stats",
)


@click.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), default=ROOT / "docs", show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(folder: Path, seed: int) -> None:
    """Draw a chat in a dark and in a light theme."""
    folder.mkdir(exist_ok=True)
    for name, theme in (("dark", MONOKAI), ("light", DEFAULT_TERMINAL_THEME)):
        console = Console(width=COLUMNS, record=True, file=open(os.devnull, "w"), force_terminal=True)
        for line in lines_of(chat(seed, name)):
            console.print(line)
        path = folder / f"chat-{name}.svg"
        console.save_svg(str(path), title="foreal-chat", theme=theme)
        click.echo(str(path))


def chat(seed: int, background: str) -> pyte.Screen:
    """The screen after all steps."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    command = ["-m", "foreal_local", "chat", "--temp", "0", "--seed", str(seed), "--background", background]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "TERM": "xterm-256color"}
        child = pexpect.spawn(sys.executable, command, env=environment, dimensions=(LINES, COLUMNS), cwd=str(ROOT))
        for step in STEPS:
            show(child, stream, until=lambda: screen.display[screen.cursor.y].startswith(">>> "))
            child.send(step + "\r")
            show(child, stream, until=lambda: not screen.display[screen.cursor.y].startswith(">>> "))
        show(child, stream, until=lambda: screen.display[screen.cursor.y].startswith(">>> "))
        child.close(force=True)
    return screen


def show(child: pexpect.spawn, stream: pyte.ByteStream, until: object, seconds: float = 60) -> None:
    """Feed the screen until it looks as expected and nothing more comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stream.feed(child.read_nonblocking(65536, timeout=0.4))
        except pexpect.TIMEOUT:
            if until():  # type: ignore[operator]
                return
    raise click.ClickException("the chat did not come to its prompt")


def lines_of(screen: pyte.Screen) -> list[Text]:
    """The screen's lines with their styles, without the empty ones at its end."""
    found = []
    for y in range(screen.lines):
        line = Text(no_wrap=True, end="")
        for x in range(screen.columns):
            char = screen.buffer[y][x]
            color = None if char.fg == "default" else f"#{char.fg}" if len(char.fg) == 6 else char.fg
            style = {"bold": char.bold, "italic": char.italics, "underline": char.underscore, "reverse": char.reverse}
            line.append(char.data, Style(color=color, **style))
        found.append(line)
    while found and not found[-1].plain.strip():
        found.pop()
    return found


if __name__ == "__main__":
    main()
