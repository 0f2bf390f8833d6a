"""The clipboard: a program of this system, or the terminal itself, which may be on another computer (OSC 52)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

from ..errors import UsageError

_LARGEST = 74_994
"""Bytes of a text that terminals take at least (xterm's limit, less what base64 adds)."""


def programs(environment: Mapping[str, str], platform: str) -> list[list[str]]:
    """The commands that put their input on the clipboard in front of the user, the best first.

    Over ssh the clipboards of this system are not the user's; tmux passes a text on to the terminal that it is in.
    """
    found = []
    if not (environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")):
        if platform == "darwin":
            found.append(["pbcopy"])
        if platform == "win32" or environment.get("WSL_DISTRO_NAME"):
            found.append(["clip.exe"])
        if environment.get("WAYLAND_DISPLAY"):
            found.append(["wl-copy"])
        if environment.get("DISPLAY"):
            found += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    if environment.get("TMUX"):
        found.append(["tmux", "load-buffer", "-w", "-"])
    return [command for command in found if shutil.which(command[0])]


def copy_text(text: str, on_terminal: bool) -> tuple[str, str]:
    """Copy a text: by what, and the codes for the terminal that do it, "" where a program did.

    UsageError where there is no clipboard.
    """
    for command in programs(os.environ, sys.platform):
        try:
            done = subprocess.run(
                command,
                input=text.encode("utf-16" if command[0] == "clip.exe" else "utf-8", "replace"),
                stdout=subprocess.DEVNULL,  # programs that stay to serve the clipboard would keep a pipe open
                stderr=subprocess.DEVNULL,
                timeout=5,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return command[0], ""
    if not on_terminal:
        raise UsageError(
            "there is no clipboard here: no wl-copy, xclip, xsel, pbcopy or terminal; /write FILE writes it"
        )
    data = text.encode("utf-8", "replace")
    by = "the terminal (OSC 52), if it allows that"
    if len(data) > _LARGEST:
        by += f"; {len(data)} bytes may be too many for it"
    return by, f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
