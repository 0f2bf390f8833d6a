"""Progress bars in a terminal: what a command tells meanwhile stands above the bar, in lines of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from commands import jsonl
from terminal import Terminal, terminal_environment

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such terminals there")

PENS = "Leo has 8 pens. Kate has twice as many pens as Leo. How many pens does Kate have?"
SHORT = ("--temp", "0", "--seed", "1", "--max-tokens", "24")
PROBLEMS = (
    {"problem": PENS, "answer": "16"},
    {"problem": "x " * 3000, "answer": "1"},
    {"problem": PENS, "answer": "16"},
)


def rows_of(command: str, *arguments: str | Path, home: Path, columns: int = 80) -> list[str]:
    """What is left on the terminal when a command has ended; it must have shown a bar."""
    env = terminal_environment(None, home) | {"FOREAL_THREADS": "1"}
    terminal = Terminal(*arguments, env=env, columns=columns, command=command)
    terminal.end()
    assert "━" in terminal.raw.decode("utf-8", "replace"), terminal.text
    return terminal.rows


def stand_alone(rows: list[str], notes: str, n: int) -> None:
    """So many notes begin a row, and nothing of a bar is left."""
    text = "\n".join(rows)
    assert "━" not in text, text
    assert sum(bool(re.match(notes, row)) for row in rows) == len(re.findall(notes, text.replace("\n", " "))) == n, text


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_notes_of_a_run_stand_above_its_bar(parallel: str, tmp_path: Path) -> None:
    """Guards "0/4 15 tokens/s foreal-gen: prompt 0: ended ..." in one row."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(jsonl(*({"prompt": one["problem"]} for one in PROBLEMS)), "utf-8")
    output = ("-o", tmp_path / "out.jsonl", "--parallel", parallel, "--ctx-size", "2048")
    rows = rows_of("gen", "-f", file, *SHORT, *output, home=tmp_path)
    stand_alone(rows, r"foreal-gen: (prompt \d|warning: )", 4)


def test_a_bar_is_not_shown_among_words(tmp_path: Path) -> None:
    """Guards reasoning on the terminal whose lines a bar breaks, while the answers go to a file."""
    env = terminal_environment(None, tmp_path)
    terminal = Terminal("--prompt", PENS, "--prompt", PENS, *SHORT, env=env, command="gen")
    terminal.end()
    assert "answering" not in terminal.raw.decode("utf-8", "replace")


def test_notes_of_a_benchmark_stand_above_its_bar(tmp_path: Path) -> None:
    """Guards a failed problem that is told inside the bar."""
    file = tmp_path / "problems.jsonl"
    file.write_text(jsonl(*PROBLEMS), "utf-8")
    options = ("--problems", file, "--modes", "leader,foreal", "-o", tmp_path / "out.jsonl")
    rows = rows_of("bench", *options, *SHORT, home=tmp_path, columns=120)
    stand_alone(rows, r"foreal bench: prompt 1", 2)


def test_notes_of_an_analysis_stand_above_its_bar(tmp_path: Path) -> None:
    """Guards a warning that is told inside the bar."""
    file = tmp_path / "problems.jsonl"
    file.write_text(jsonl(*PROBLEMS), "utf-8")
    rows = rows_of("analyze", "--problems", file, *SHORT[2:], "--ctx-size", "2048", home=tmp_path)
    stand_alone(rows, r"foreal analyze: (prompt 1 failed|warning: )", 2)
