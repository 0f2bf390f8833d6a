"""A real Chromium for the tests of the page, and what they do with it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_server import NAME, ScriptedServer
from serving import Server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra test has it)")
playwright.expect.set_options(timeout=20_000)
expect = playwright.expect

AXE = Path(__file__).parent / "data" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
EXPECTED = re.compile(r"Failed to load resource|net::ERR_")
"""What the browser says in its console of a server that refuses or is gone: tests do that."""


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where there is none. CHROMIUM names one that is not found by itself."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium: install one, name it in CHROMIUM, or run `playwright install chromium`")
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Window:
    """A window of its own, with nothing stored, and its first tab. What goes wrong in its pages is in `errors`."""

    def __init__(self, browser: Any, server: ScriptedServer | Server, width: int = 800, scheme: str = "light") -> None:
        size = {"width": width, "height": 800}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self.context.set_default_timeout(20_000)
        self.server = server
        self.errors: list[str] = []
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self.context.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.errors.append(message.text)

    def tab(self, name: str = NAME) -> Any:
        """The page in a new tab, when it has found the server and the name of its pair."""
        page = self.context.new_page()
        page.goto(self.server.url)
        expect(page.locator("#pair")).to_have_text(name)
        return page

    def close(self) -> None:
        self.context.close()
        assert self.errors == []


def ask(page: Any, question: str) -> None:
    page.fill("#message", question)
    page.press("#message", "Enter")


def leader_words(page: Any, selector: str = ".prose") -> list[str]:
    """The texts that are marked as the leader's."""
    return page.locator(f"{selector} .leader").all_inner_texts()


def is_too_wide(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def faults(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    bad = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in bad for node in each["nodes"]]
