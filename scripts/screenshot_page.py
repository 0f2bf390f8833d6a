#!/usr/bin/env python3
"""Pictures of the page of foreal serve: docs/page-light.png and docs/page-dark.png.

    python scripts/screenshot_page.py

Starts foreal serve with the bundled pair, asks it in a Chromium, and takes a picture in each theme. Needs playwright
('.[test]') and a Chromium; CHROMIUM names one that is not found by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).parent.parent
SIZE = {"width": 860, "height": 760}
QUESTION = (
    "Noah has 36 books. Gina has 2 fewer books than Noah. Ben has 8 fewer books than Gina. "
    "How many books does Ben have?"
)


@click.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), default=ROOT / "docs", show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(folder: Path, seed: int) -> None:
    """Take a picture of the page in a dark and in a light theme."""
    folder.mkdir(exist_ok=True)
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with server() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found)
        for theme in ("light", "dark"):
            path = folder / f"page-{theme}.png"
            take(browser, url, theme, seed, path)
            click.echo(f"{path} {path.stat().st_size / 1000:.0f} kB")
        browser.close()


@contextmanager
def server() -> Iterator[str]:
    """The address of a server with the bundled pair."""
    command = [sys.executable, "-m", "foreal_local", "serve", "--port", "0", "--temp", "0", "--threads", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        ready = next(filter(None, (re.search(r"(http://\S+) is ready", line) for line in process.stderr)), None)
        if ready is None:
            raise click.ClickException("foreal serve did not start: run it to see why")
        yield ready[1]
    finally:
        process.terminate()
        process.wait()


def take(browser: Browser, url: str, theme: Any, seed: int, path: Path) -> None:
    """Ask the question, and take a picture with the answer's reasoning unfolded."""
    page = browser.new_page(viewport=SIZE, color_scheme=theme, reduced_motion="reduce")
    page.goto(url)
    expect(page.locator("#pair")).not_to_be_empty()
    page.click("#open-settings")
    page.fill("#seed", str(seed))
    page.keyboard.press("Escape")
    page.fill("#message", QUESTION)
    page.press("#message", "Enter")
    expect(page.locator(".turn:not(.writing) .figures")).to_be_visible(timeout=60_000)
    page.click("summary")
    page.locator("#message").blur()
    page.screenshot(path=path)
    page.close()


if __name__ == "__main__":
    main()
