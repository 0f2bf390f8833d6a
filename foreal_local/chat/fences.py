"""Fenced code in Markdown: where it begins and ends, the blocks of a text, and the fence that a cut has left open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_OPENING = re.compile(r"( {0,12})(`{3,}|~{3,})([^`\n]*)")


@dataclass(frozen=True)
class Fence:
    """The line that begins a block of code.

    indent: columns before it
    marks: its backticks or tildes
    language: the first word behind them
    """

    indent: int
    marks: str
    language: str

    def is_closed_by(self, line: str) -> bool:
        """Whether this line ends the block."""
        line = line.strip()
        return len(line) >= len(self.marks) and not line.strip(self.marks[0])

    @property
    def closing(self) -> str:
        """A line that ends the block."""
        return " " * self.indent + self.marks


def fence_in(line: str) -> Fence | None:
    """The fence that a line is, without its line break, where it begins a block."""
    match = _OPENING.fullmatch(line)
    if not match:
        return None
    return Fence(len(match[1]), match[2], (match[3].split() or [""])[0])


@dataclass
class Block:
    """A block of code.

    fence: how it begins
    lines: of code, without the fence's own indentation
    closed: whether a fence ends it
    """

    fence: Fence
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def code(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def blocks_in(text: str) -> Iterator[Block]:
    """The blocks of code in a text; the last may be open."""
    block: Block | None = None
    for line in text.split("\n"):
        if block is None:
            fence = fence_in(line)
            block = Block(fence) if fence else None
        elif block.fence.is_closed_by(line):
            block.closed = True
            yield block
            block = None
        else:
            n_spaces = len(line) - len(line.lstrip(" "))
            block.lines.append(line[min(n_spaces, block.fence.indent) :])
    if block:
        if block.lines and not block.lines[-1].strip():
            block.lines.pop()
        yield block


def closed(text: str) -> str:
    """The text, with a fence at its end where a block of code is open."""
    open_blocks = [block for block in blocks_in(text) if not block.closed]
    return f"{text.rstrip()}\n{open_blocks[0].fence.closing}" if open_blocks else text
