"""The page with a real server, and the answers of real models."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

from browser import Window, ask, expect
from serving import start

THREADS = ("--threads", "1", "--ctx-size", "512")


def test_a_real_server_answers_is_stopped_and_comes_back(chromium: Any, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a page that expects other chunks, figures and settings than the server sends."""
    with start(*THREADS, "--max-tokens", "60", "--gate", "entropy", env=env, cwd=tmp_path) as server:
        window = Window(chromium, server)
        page = window.tab(server.models[0])
        ask(page, "Anything?")
        expect(page.locator(".turn:not(.writing) .figures")).to_contain_text("60 tokens")
        expect(page.locator(".figures")).to_contain_text("of the leader alone")
        expect(page.locator(".figures")).to_contain_text("cut off: its most tokens")
        page.click("#open-settings")
        expect(page.locator("#gate option").first).to_have_text("entropy (the server’s)")
        expect(page.locator("#max_tokens")).to_have_attribute("placeholder", "60")
        page.fill("#max_tokens", "200")
        page.keyboard.press("Escape")
        page.select_option("#mode", "leader")
        ask(page, "More?")
        expect(page.locator(".turn").nth(1).locator(".prose .leader").first).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".turn:not(.writing)")).to_have_count(2)
        port = server.url.rpartition(":")[2]
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        ask(page, "Still there?")
        expect(page.locator("#status")).to_have_text("The server cannot be reached. Looking for it …")
    with start(*THREADS, "--port", port, "--gate", "entropy", env=env, cwd=tmp_path):
        expect(page.locator("#status")).to_have_text(re.compile(r"^(The server is there\.)?$"))  # said for a while
        page.select_option("#mode", "foreal")
        page.click("text=Retry")
        expect(page.locator(".turn:not(.writing) .figures")).to_have_count(2)
        expect(page.locator(".figures").last).to_contain_text("draft")
        window.close()
