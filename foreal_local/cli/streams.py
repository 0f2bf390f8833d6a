"""Standard input, output and error as a command finds them: in any encoding, or closed by the caller."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any

import click

from ..errors import ForealError, UsageError


class ClosedOutput(io.TextIOWrapper):
    """Standard output that the caller has closed: what is written to it fails."""


def prepare_streams() -> None:
    """A character that an encoding does not have costs itself alone: it is written as \\u6570, not as an error.

    A stream that is closed gets its number back, so that no file that is opened later is taken for it. sys.stdin stays
    None then; writing to standard output fails; what is written to standard error goes nowhere.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _hold(number, flags)
    if sys.stdout is None:
        sys.stdout = ClosedOutput(open(1, "wb", closefd=False), "utf-8", "backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hold(number: int, flags: int) -> None:
    """Let a closed stream's number stand for the null device; `flags` are such that reading or writing fails."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, flags)
        if null != number:
            os.dup2(null, number)
            os.close(null)


def require_output(option: str, is_named: bool = False) -> None:
    """UsageError where results would go to a standard output that is closed.

    option: what names a file for them instead
    is_named: it does; then nothing is printed
    """
    if not isinstance(sys.stdout, ClosedOutput):
        return
    if not is_named:
        raise UsageError(f"standard output is closed: there is no place for what is printed; {option}")
    sys.stdout = open(os.devnull, "w")


class StreamsCommand(click.Command):
    """A command that prepares its streams first, also for --help. An error of standard output is one line."""

    def main(self, *args: Any, **more: Any) -> Any:
        prepare_streams()
        try:
            return super().main(*args, **more)
        except OSError as error:
            if error.filename is not None:
                raise
            raise SystemExit(_told(error)) from None


def _told(error: OSError) -> int:
    """The exit code, after an error of a standard stream is told."""
    # What standard output still holds would fail again when the interpreter ends.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or error
    click.echo(f"Error: cannot write to standard output: {reason}", err=True)
    return ForealError.exit_code
