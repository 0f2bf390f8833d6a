"""foreal-chat, or another command, in a pseudo-terminal, and what a terminal emulator (pyte) shows of it."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pexpect
import pyte
from commands import ROOT, environment

PATIENCE = 30.0
"""Seconds until a screen that does not come is given up."""
ENTER, TAB, UP, CTRL_C, CTRL_D, ALT_ENTER = "\r", "\t", "\x1b[A", "\x03", "\x04", "\x1b\r"
_UNSET = ("FOREAL_CTX_SIZE", "VISUAL", "EDITOR", "COLUMNS", "LINES", "NO_COLOR", "PROMPT_TOOLKIT_NO_CPR")


def terminal_environment(pair: tuple[Path, Path] | None, home: Path, **more: str) -> dict[str, str]:
    """As commands.environment, with the models' own context, for a terminal of 256 colours."""
    env = environment(pair, home, TERM="xterm-256color", LC_ALL="C.UTF-8")
    return {name: value for name, value in env.items() if name not in _UNSET} | more


class _Screen(pyte.HistoryScreen):
    """A screen that answers what it is asked, such as where its cursor is."""

    answer: Callable[[str], None]

    def write_process_input(self, data: str) -> None:
        self.answer(data)


class Terminal:
    """One started chat, or another command. `say` is for what ends at the next prompt; `send` and `wait` for all else.

    `raw`: every byte that came. `rows`: the lines that scrolled out, then those on the screen.
    """

    def __init__(
        self,
        *arguments: str | Path,
        env: dict[str, str],
        columns: int = 100,
        lines: int = 50,
        command: str = "chat",
        program: Sequence[str] = ("-m", "foreal_local"),
    ) -> None:
        self._dumb = env["TERM"] == "dumb"
        words = [*program, command, *map(str, arguments)]
        self.process = pexpect.spawn(sys.executable, words, env=env, cwd=str(ROOT), dimensions=(lines, columns))
        self.process.delaybeforesend = None
        self.screen = _Screen(columns, lines, history=3000)
        self.screen.answer = self.send
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""

    # ---------------------------------------------------------------- keys
    def send(self, keys: str) -> None:
        if self.process.isalive():
            self.process.send(keys.encode())

    def type(self, keys: str) -> None:
        """Send keys, and wait until they have changed the screen."""
        before = self._image()
        self.send(keys)
        self.wait(lambda: self._image() != before)

    def ask(self, text: str) -> None:
        """A line and Enter; returns once the line is there, and not what follows from it."""
        self.wait(self.at_prompt)
        self.send(text)
        self.wait(lambda: not self.at_prompt())
        self.send(ENTER)

    def say(self, text: str) -> str:
        """A line, Enter, and what is shown until the next prompt."""
        self.ask(text)
        self.wait(self.at_prompt)
        return self.answer()

    # ---------------------------------------------------------------- what is shown
    def pump(self, seconds: float = 0.05) -> bool:
        """Take what comes within this time; False at the end."""
        try:
            data = self.process.read_nonblocking(65536, seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def wait(self, wanted: str | Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Until a text is on the screen (in one row), or something holds."""
        holds = (lambda: any(wanted in row for row in self.screen.display)) if isinstance(wanted, str) else wanted
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{wanted} did not come within {seconds:.0f} s:\n{self.text}"
            if not self.pump():
                assert holds(), f"the chat ended, and {wanted} did not come:\n{self.text}"
                return

    def wait_for_bytes(self, n: int) -> None:
        """Until so many more have come: an answer is under way."""
        begin = len(self.raw)
        self.wait(lambda: len(self.raw) >= begin + n)

    def _image(self) -> tuple[Any, ...]:
        return (*self.screen.display, self.screen.cursor.x, self.screen.cursor.y)

    @property
    def cells(self) -> list[list[Any]]:
        """The characters of every row, with their attributes."""
        rows = [*self.screen.history.top, *(self.screen.buffer[y] for y in range(self.screen.lines))]
        return [[row[x] for x in range(self.screen.columns)] for row in rows]

    @property
    def rows(self) -> list[str]:
        return ["".join(cell.data for cell in row).rstrip() for row in self.cells]

    @property
    def row(self) -> str:
        """The row that the cursor is in."""
        row = self.screen.buffer[self.screen.cursor.y]
        return "".join(row[x].data for x in range(self.screen.columns)).rstrip()

    @property
    def text(self) -> str:
        return "\n".join(self.rows).rstrip()

    def at_prompt(self) -> bool:
        """An empty prompt, with its toolbar (without one on a dumb terminal), and the cursor in it."""
        if self.screen.cursor.x != 4 or self.row != ">>>":
            return False
        return self._dumb or any(re.search(r"[█░] \d+/", row) for row in self.screen.display[self.screen.cursor.y :])

    def answer(self) -> str:
        """What stands between the last question and the prompt; none of the question's own further lines."""
        begin, end = self._last()
        return "\n".join(self.rows[begin:end])

    def answer_cells(self) -> list[Any]:
        """The characters of `answer` that are not white space."""
        begin, end = self._last()
        return [cell for row in self.cells[begin:end] for cell in row if cell.data.strip()]

    def _last(self) -> tuple[int, int]:
        prompts = [i for i, row in enumerate(self.rows) if row.startswith(">>>")]
        return (prompts[-2] + 1, prompts[-1]) if len(prompts) > 1 else (0, prompts[-1])

    # ---------------------------------------------------------------- around it
    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self.process.setwinsize(lines, columns)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.kill(number)

    def end(self) -> int:
        """Wait until it has ended; its exit code, negative for a signal."""
        self.wait(lambda: not self.pump(0.2))
        self.process.close()
        assert self.process.signalstatus is None or self.process.exitstatus is None
        return -self.process.signalstatus if self.process.signalstatus else self.process.exitstatus

    def leave(self) -> int:
        """Ctrl-D at the prompt."""
        self.wait(self.at_prompt)
        end = time.monotonic() + PATIENCE
        self.send(CTRL_D)
        while self.pump(1.0) and time.monotonic() < end:
            if self._dumb and self.at_prompt():
                self.send(CTRL_D)  # the prompt is shown before the terminal gives single keys: the first may be lost
        return self.end()

    def __enter__(self) -> Terminal:
        self.wait(self.at_prompt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close(force=True)
