"""The sessions of foreal-chat on this computer: where they are, the list of them, and how one goes."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import SessionError, UsageError
from .start import described

if TYPE_CHECKING:
    from ..chat.session import ChatSession


def data_dir() -> Path:
    """Where sessions and the history are kept; UsageError where nobody knows the user's home."""
    folder = click.get_app_dir("foreal")
    if not Path(folder).is_absolute():  # XDG_CONFIG_HOME is empty or a relative path, which is to be ignored
        folder = os.path.expanduser("~/.config/foreal")  # noqa: PTH111  (pathlib's raises where there is no home)
    if folder.startswith("~"):
        raise UsageError("this user has no home folder, where sessions are kept: set HOME, or XDG_CONFIG_HOME")
    return Path(folder)


def history_file() -> Path | None:
    """The lines that were typed earlier; None where there is no place for them."""
    try:
        return data_dir() / "history"
    except UsageError:
        return None


def cache_dir() -> Path:
    """Where that is kept which can be made again."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "foreal"
    home = os.path.expanduser("~")  # noqa: PTH111  (pathlib's raises where nobody knows it)
    if os.name == "nt" or home == "~":
        return Path(os.environ.get("LOCALAPPDATA") or data_dir()) / "foreal" / "Cache"
    return Path(home) / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "foreal"


def session_named(name: str, option: str = "--session") -> ChatSession:
    """The session of this name, which need not be there yet."""
    from ..chat.session import ChatSession

    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{option} is {name!r}, but must be a name of letters, digits, '.', '_' and '-'")
    states = cache_dir() / "sessions" / f"{name}.states"
    return ChatSession(name, data_dir() / "sessions" / f"{name}.session", states)


def _all_sessions() -> list[ChatSession]:
    """Those that are there, the one that was used last first."""
    files = sorted((data_dir() / "sessions").glob("*.session"), key=lambda path: -path.stat().st_mtime)
    return [session_named(path.stem) for path in files if re.fullmatch(r"\w[\w.-]*", path.stem, re.ASCII)]


# ---------------------------------------------------------------- --list
def print_sessions() -> None:
    """A line for each session."""
    rows = [_row(session) for session in _all_sessions()]
    if not rows:
        click.echo("no sessions yet: foreal-chat --session NAME keeps one")
        return
    rows.insert(0, ("name", "last used", "turns", "size", "pair", "first question"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, when, turns, size, pair, first in rows:
        cells = f"{name:<{widths[0]}}  {when:<{widths[1]}}  {turns:>{widths[2]}}  {size:>{widths[3]}}"
        click.echo(_fitted(f"{cells}  {pair:<{widths[4]}}  {first}"))


def _row(session: ChatSession) -> tuple[str, str, str, str, str, str]:
    stat = session.path.stat()
    n_bytes = stat.st_size + (session.states.stat().st_size if session.states.exists() else 0)
    turns, pair, first = "", "", ""
    try:
        content = session.read()
        questions = [str(m["content"]) for m in content["messages"] if m["role"] == "user"]
        turns, pair = str(len(questions)), described(content.get("pair"))
        first = " ".join(questions[0].split()) if questions else "(nothing asked yet)"
    except (SessionError, KeyError, TypeError, AttributeError):
        first = "(damaged: it cannot be read)"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stat.st_mtime))
    return session.name, when, turns, _size(n_bytes), pair or "?", first


def _size(n_bytes: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB")):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{max(1, round(n_bytes / 1e3))} kB"


def _fitted(line: str) -> str:
    """The line, cut to the terminal's width if it goes to one, and else to a width that can be read."""
    from wcwidth import wcswidth

    width = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 160
    if wcswidth(line) <= width:
        return line
    while line and wcswidth(line) > width - 3:
        line = line[:-1]
    return f"{line}..."


# ---------------------------------------------------------------- --delete
def delete_session(name: str, confirmed: bool) -> None:
    """Remove a session for good; on a terminal the user is asked before."""
    session = session_named(name, "--delete")
    if not session.exists:
        names = [each.name for each in _all_sessions()]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else "foreal-chat --list shows those that are there"
        raise UsageError(f"there is no session {name}: {hint}")
    if not confirmed:
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"--delete {name} cannot ask here: --yes deletes it without a question")
        row = _row(session)
        question = f"Delete the session {name} ({row[2] or '?'} turns, {row[3]}, last used {row[1]}) for good?"
        if not click.confirm(question, err=True):
            click.echo(f"{name} is as it was", err=True)
            return
    with session.locked():
        session.delete()
    click.echo(f"deleted {name}", err=True)
