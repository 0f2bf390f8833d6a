#!/usr/bin/env python3
"""docs/answer.svg: one answer of the bundled pair, a line for each sentence, coloured by who wrote it.

    python scripts/draw_answer.py

Runs foreal-gen with --trace and draws what the trace says.
"""

from __future__ import annotations

import html
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "answer.svg"
PROMPT = (
    "Emma has 24 shells. Hugo has 9 more shells than Emma. Mia has 5 fewer shells than Hugo. "
    "How many shells does Mia have?"
)
WIDTH, LINE, TOP, LEFT = 990, 27, 74, 124
STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de } .rule { stroke: #d0d7de }
  text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; white-space: pre }
  .soft { fill: #59636e; font-size: 13px } .ask { fill: #1f2328 }
  .leader { fill: #005faf } .draft { fill: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d } .rule { stroke: #3d444d } .soft { fill: #9198a1 } .ask { fill: #f0f6fc }
    .leader { fill: #5fafff } .draft { fill: #f0f6fc }
  }
"""


@click.command()
@click.option("--seed", default=24, show_default=True, help="Draws the gates; the answer itself is greedy.")
@click.option("--to", "path", type=click.Path(path_type=Path), default=PICTURE)
def main(seed: int, path: Path) -> None:
    """Draw docs/answer.svg."""
    path.write_text(picture(answered(seed), seed), encoding="utf-8")


def answered(seed: int) -> list[list[dict[str, Any]]]:
    """The trace's tokens, sentence by sentence."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        command = ["-m", "foreal_local", "gen", "--prompt", PROMPT, "--temp", "0", "--seed", str(seed)]
        subprocess.run(
            [sys.executable, *command, "--trace", str(trace), "-q"], stdin=subprocess.DEVNULL, cwd=ROOT, check=True
        )
        lines = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    tokens = [line for line in lines if line["type"] == "token"]
    return [list(group) for _, group in itertools.groupby(tokens, key=lambda token: token["sentence"])]


def picture(sentences: list[list[dict[str, Any]]], seed: int) -> str:
    shown = [(sentence, line) for sentence in sentences if (line := spans_of(sentence))]
    height = TOP + LINE * len(shown) + 52
    counts = {who: sum(t["author"] == who for s in sentences for t in s) for who in ("leader", "draft")}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="An answer whose words are coloured by the model that wrote them">',
        f"<!-- Made by scripts/draw_answer.py from a trace of foreal-gen, seed {seed}. -->\n<style>{STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
        f'<text class="ask" x="24" y="36">{html.escape(PROMPT)}</text>',
        f'<line class="rule" x1="24" x2="{WIDTH - 24}" y1="52" y2="52"/>',
    ]
    for i, (sentence, line) in enumerate(shown):
        y = TOP + LINE * i + 6
        parts.append(
            f'<text class="soft" x="24" y="{y}">{"leader leads" if sentence[0]["led"] else "draft alone"}</text>'
        )
        parts.append(f'<text x="{LEFT}" y="{y}" xml:space="preserve">{line}</text>')
    y = height - 22
    legend = [f'<tspan class="{who}">written by the {who}</tspan> ({n} tokens)' for who, n in counts.items()]
    legend.append("at the left: what the gate decided for the sentence")
    parts += [
        f'<line class="rule" x1="24" x2="{WIDTH - 24}" y1="{y - 24}" y2="{y - 24}"/>',
        f'<text class="soft" x="24" y="{y}" xml:space="preserve">{"    ".join(legend)}</text>',
        "</svg>\n",
    ]
    return "\n".join(parts)


def spans_of(sentence: list[dict[str, Any]]) -> str:
    """A sentence's words in their authors' colours; the tags around the reasoning are left out."""
    parts = []
    for author, tokens in itertools.groupby(sentence, key=lambda token: token["author"]):
        text = "".join(token["piece"] for token in tokens).replace("</think>", "").replace("\n", "")
        text = text.lstrip() if not parts else text
        if text:
            parts.append(f'<tspan class="{author}">{html.escape(text)}</tspan>')
    return "".join(parts)


if __name__ == "__main__":
    main()
