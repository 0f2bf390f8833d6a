"""The page of `foreal serve` in a real browser: widths, themes, keys, settings, errors, a server that goes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from browser import Window, ask, expect, faults, is_too_wide, leader_words
from page_server import FIGURES, PAGE, ScriptedServer

from foreal_local.method.gates import GATES
from foreal_local.method.modes import MODES
from foreal_local.method.rules import OFF, RULES
from foreal_local.palette import PALETTES, hexadecimal
from foreal_local.presets import PRESETS

QUESTION = "Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?"
LONG = "averyveryverylongwordwithoutanyplacetobreak" * 4
CODE = f"```python\ndef add(first: int, second: int) -> int:\n    return '{LONG}'\n```\n\n"
MATHS = f"$$\n{' + '.join(f'x_{{{i}}}' for i in range(60))}\n$$\n\nAnd ${' + '.join('abcdefgh')}$ in a line.\n\n"
TABLE = "| a | b | c |\n|---|---|---|\n" + f"| {LONG} | 2 | 3 |\n\n"
BEGUN = [("leader", "First a list:\n\n1. one\n2. **two"), ("draft", f"** and {LONG}\n\n"), ("draft", CODE + MATHS)]
REST = [("leader", TABLE), ("draft", "> a quotation\n\n# A heading\n\n[link](https://example.org) "), ("leader", "15.")]


def sent(answer: Any) -> dict[str, Any]:
    """What the page asked."""
    assert answer.asked.wait(20)
    return answer.request


def answered(page: Any, n: int = 1) -> None:
    expect(page.locator(".turn:not(.writing) .figures")).to_have_count(n)


# ---------------------------------------------------------------- looks
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_it_fits_its_window_and_axe_finds_nothing(
    width: int, scheme: str, chromium: Any, scripted: ScriptedServer
) -> None:
    """Guards a page that scrolls sideways, colours that cannot be read, controls without names."""
    window = Window(chromium, scripted, width, scheme)
    page, answer = window.tab(), scripted.answer()
    assert not is_too_wide(page)
    ask(page, f"{QUESTION} {LONG}")
    answer.reason("leader", "12 + 3. ").reason("draft", LONG)
    for author, text in BEGUN:
        answer.write(author, text)
    expect(page.locator("article math")).to_have_count(2)
    assert not is_too_wide(page)
    for author, text in REST:
        answer.write(author, text)
    answer.end()
    answered(page)
    page.click("summary")
    assert not is_too_wide(page)
    assert faults(page) == []
    page.click("#open-settings")
    assert not is_too_wide(page)
    if width == 360:
        assert faults(page) == []
    window.close()


def test_colours_are_those_of_the_chat_and_can_be_chosen(window: Window) -> None:
    """Guards a leader of another colour than in the terminal, and a choice that is forgotten."""
    page = window.tab()
    colours = {}
    for theme in ("dark", "light"):
        page.click("#open-settings")
        page.select_option("#theme", theme)
        page.keyboard.press("Escape")
        page.reload()
        colours[theme] = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--leader')")
    assert colours == {theme: hexadecimal(PALETTES[theme].leader) for theme in ("dark", "light")}
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(251, 251, 250)")


def test_nothing_moves_for_readers_who_want_that(window: Window, scripted: ScriptedServer) -> None:
    """Guards animations with prefers-reduced-motion, and a sign of life that is missing without."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    expect(page.locator(".waiting")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate("document.getAnimations().length") == 1
    answer.end()
    answered(page)


# ---------------------------------------------------------------- answers
def test_an_answer_with_its_reasoning_authors_and_figures(window: Window, scripted: ScriptedServer) -> None:
    """Guards reasoning that hides while it is written or covers the answer, and figures that mean something else."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    answer.reason("leader", "Anna has more.").reason("draft", " 12 + 3.")
    reasoning = page.locator("details.reasoning")
    expect(reasoning.locator(".leader")).to_have_text("Anna has more.")
    expect(reasoning).to_have_attribute("open", "")
    answer.write("draft", "She has ").write("leader", "15.")
    expect(page.locator("article > .prose")).to_have_text("She has 15.")
    expect(reasoning).not_to_have_attribute("open", "")
    assert not page.locator(".figures").count()
    answer.end()
    answered(page)
    assert leader_words(page, "article > .prose") == ["15."]
    assert page.locator(".figures li").all_inner_texts() == [
        "2.10 s, 70 % of the leader alone (predicted)", "100 tokens", "leader 57 (57 %), draft 43", "50 tokens/s",
        "5 of 8 sentences led", "4 handoffs", "40 reviewed, 3 rewritten",
    ]  # fmt: skip
    request = sent(answer)
    assert request["messages"] == [{"role": "user", "content": QUESTION}]
    assert (request["model"], request["foreal"]) == ("tiny", {})
    assert request["stream_options"] == {"include_usage": True}


def test_what_is_not_known_is_left_out_of_the_figures(window: Window, scripted: ScriptedServer) -> None:
    """Guards NaN, null and a comparison of the leader with itself."""
    page, answer = window.tab(), scripted.answer()
    foreal = {**FIGURES["foreal"], "leader_alone": None, "led": 0, "handoffs": 0, "reviewed": 0, "draft_tokens": 0}
    answer.write("leader", "15.").end("length", {**FIGURES, "foreal": foreal})
    ask(page, QUESTION)
    answered(page)
    words = page.locator(".figures li").all_inner_texts()
    assert words == [
        "cut off: its most tokens, or a full context",
        "2.10 s",
        "100 tokens",
        "leader 57 (100 %), draft 0",
        "50 tokens/s",
    ]


@pytest.mark.parametrize("by", ["key", "button"])
def test_stop(by: str, window: Window, scripted: ScriptedServer) -> None:
    """Guards a server that writes on for nobody, and a stop that loses the text."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    answer.write("leader", "Half an")
    expect(page.locator("article > .prose")).to_have_text("Half an")
    page.keyboard.press("Escape") if by == "key" else page.click("#stop")
    expect(page.locator(".trouble")).to_have_text("Stopped.")
    assert answer.gone.wait(20)
    expect(page.locator("article > .prose")).to_have_text("Half an")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#message")).to_be_focused()
    following = scripted.answer().write("draft", "Yes.").end()
    ask(page, "Go on")
    answered(page)
    assert [each["content"] for each in sent(following)["messages"]] == [QUESTION, "Half an", "Go on"]


def test_regenerate_keeps_the_answer_until_there_is_another(window: Window, scripted: ScriptedServer) -> None:
    """Guards an answer that is lost for nothing, and one that is the same again because its seed is."""
    page, first, second = window.tab(), scripted.answer(), scripted.answer()
    page.click("#open-settings")
    page.fill("#seed", "7")
    page.keyboard.press("Escape")
    first.write("leader", "The first.").end()
    ask(page, QUESTION)
    answered(page)
    page.click("text=Regenerate")
    assert (sent(first)["seed"], sent(second)["seed"]) == (7, 8)
    assert sent(second)["messages"] == sent(first)["messages"]
    expect(page.locator("article > .prose")).to_have_text("The first.")
    second.write("draft", "The second.").end()
    answered(page)
    expect(page.locator("article > .prose")).to_have_text("The second.")
    scripted.refuse(400, "`seed` is 9, but must be lucky")
    page.click("text=Regenerate")
    expect(page.locator(".trouble")).to_have_text("`seed` is 9, but must be lucky")
    expect(page.locator("article > .prose")).to_have_text("The second.")


def test_the_last_question_can_be_changed(window: Window, scripted: ScriptedServer) -> None:
    """Guards an edit that asks beside the old question, and one that cannot be taken back."""
    page = window.tab()
    for n, (question, text) in enumerate([("One?", "1"), ("Too?", "2")], 1):
        scripted.answer().write("leader", text).end()
        ask(page, question)
        answered(page, n)
    expect(page.locator("[data-action=edit]:visible")).to_have_count(1)
    page.click("[data-action=edit]:visible")
    page.keyboard.type("nothing")
    page.keyboard.press("Escape")
    expect(page.locator(".question").last).to_have_text("Too?")
    changed = scripted.answer().write("leader", "3").end()
    page.click("[data-action=edit]:visible")
    page.fill("[aria-label='Change the question']", "Two?")
    page.keyboard.press("Enter")
    expect(page.locator("article > .prose").last).to_have_text("3")
    assert [each["content"] for each in sent(changed)["messages"]] == ["One?", "1", "Two?"]
    expect(page.locator(".question")).to_have_text(["One?", "Two?"])


def test_the_end_is_followed_only_by_readers_who_are_there(window: Window, scripted: ScriptedServer) -> None:
    """Guards a page that runs away from what somebody reads."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    answer.write("leader", "Line.\n\n" * 60)
    expect(page.locator("article > .prose p")).to_have_count(60)
    at_end = "scrollY + innerHeight >= document.documentElement.scrollHeight - 1"
    assert page.evaluate(at_end)
    page.mouse.move(400, 300)
    page.mouse.wheel(0, -300)
    expect(page.locator("#to-end")).to_be_visible()
    here = page.evaluate("scrollY")
    answer.write("draft", "Line.\n\n" * 60)
    expect(page.locator("article > .prose p")).to_have_count(120)
    assert page.evaluate("scrollY") == here
    page.click("#to-end")
    answer.write("draft", "Line.\n\n" * 60).end()
    answered(page)
    assert page.evaluate(at_end)
    expect(page.locator("#to-end")).to_be_hidden()


# ---------------------------------------------------------------- what is kept
def test_a_reload_loses_nothing_and_tabs_do_not_mix(window: Window, scripted: ScriptedServer) -> None:
    """Guards a conversation that is gone with F5, and one that appears in another tab."""
    page, other = window.tab(), window.tab()
    scripted.answer().reason("draft", "12 + 3").write("leader", "**Mine** is ").write("draft", "15.").end()
    ask(page, QUESTION)
    half, others = scripted.answer(), scripted.answer()
    answered(page)
    ask(page, "Why?")
    half.write("leader", "Because")
    expect(page.locator("article > .prose").last).to_have_text("Because")
    others.write("draft", "Another tab.").end()
    ask(other, "Elsewhere?")
    answered(other)
    before = page.locator("article > .prose, .question, .figures").evaluate_all("all => all.map((e) => e.innerHTML)")
    page.reload()
    expect(page.locator(".trouble").last).to_have_text("The page was left while this was written.")
    kept = page.locator("article > .prose, .question, .figures").evaluate_all("all => all.map((e) => e.innerHTML)")
    assert kept == before
    assert half.gone.wait(20)
    other.reload()
    expect(other.locator(".question")).to_have_text(["Elsewhere?"])
    again = scripted.answer().write("leader", "Because of 3.").end()
    page.click("text=Retry")
    expect(page.locator("article > .prose").last).to_have_text("Because of 3.")
    assert [each["content"] for each in sent(again)["messages"]] == [QUESTION, "**Mine** is 15.", "Why?"]
    page.click("#new")
    expect(page.locator("#welcome")).to_be_visible()
    page.reload()
    expect(page.locator("article")).to_have_count(0)


def test_a_conversation_that_cannot_be_kept_is_told(window: Window, scripted: ScriptedServer) -> None:
    """Guards a conversation that is lost with the next reload, and nobody was told."""
    page = window.tab()
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('it is full'); }; }")
    scripted.answer().write("leader", "15.").end()
    ask(page, QUESTION)
    answered(page)
    expect(page.locator("#status")).to_contain_text("This browser cannot keep the conversation")


def test_settings_are_sent_and_kept(window: Window, scripted: ScriptedServer) -> None:
    """Guards settings that change nothing, empty fields that are sent, and such as mean nothing in the mode."""
    page = window.tab()
    page.click("#open-settings")
    values = {
        "n": "20",
        "p": "0.5",
        "k": "3",
        "tau": "0.25",
        "temperature": "0",
        "max_tokens": "99",
        "system": "Be brief.",
    }
    for name, value in values.items():
        page.fill(f"#{name}", value)
    page.select_option("#gate", "entropy")
    page.select_option("#review", "ratio")
    page.keyboard.press("Escape")
    page.reload()
    first, second = scripted.answer().write("leader", "1").end(), scripted.answer().write("leader", "2").end()
    ask(page, "One?")
    answered(page)
    page.select_option("#mode", "leader")
    ask(page, "Two?")
    answered(page, 2)
    request = sent(first)
    assert request["foreal"] == {"n": 20, "p": 0.5, "k": 3, "gate": "entropy", "review": "ratio", "tau": 0.25}
    assert (request["temperature"], request["max_tokens"]) == (0, 99)
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "seed" not in request
    assert sent(second)["foreal"] == {"mode": "leader"}
    page.click("#open-settings")
    expect(page.locator("#n")).to_be_disabled()
    page.click("#clear-settings")
    expect(page.locator("#temperature")).to_have_value("")
    expect(page.locator("#temperature")).to_have_attribute("placeholder", "0.6")
    expect(page.locator("#gate option").first).to_have_text("random (the server’s)")
    page.fill("#temperature", "-1")
    page.keyboard.press("Escape")
    ask(page, "Three?")
    expect(page.locator("#settings")).to_be_visible()
    expect(page.locator("#temperature")).to_be_focused()
    assert page.locator("article").count() == 2


def test_its_choices_are_those_of_the_program() -> None:
    """Guards a mode, gate, review or preset that is added or renamed, and not here."""
    source = (PAGE / "index.html").read_text("utf-8")
    for name, choices in {"mode": MODES, "gate": GATES, "review": [OFF, *RULES], "preset": PRESETS}.items():
        select = re.search(rf'<select id="{name}".*?</select>', source, re.DOTALL)
        assert select is not None
        assert sorted(re.findall(r'value="(.+?)"', select[0])) == sorted(choices)
    for name, modes in re.findall(r'name="(\w+)" data-of="foreal" data-modes="(.*?)"', source):
        assert set(modes.split()) == {mode.name for mode in MODES.values() if name in mode.settings}, name


# ---------------------------------------------------------------- errors
def test_the_server_goes_and_comes_back(window: Window, scripted: ScriptedServer) -> None:
    """Guards a text that is lost with the server, and a page that does not notice that it is back."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    answer.write("leader", "As far as")
    expect(page.locator("article > .prose")).to_have_text("As far as")
    scripted.stop()
    expect(page.locator(".trouble")).to_contain_text("The text so far is kept.")
    expect(page.locator("#status")).to_have_text("The server cannot be reached. Looking for it …")
    expect(page.locator("article > .prose")).to_have_text("As far as")
    page.click("text=Retry")
    expect(page.locator(".trouble")).to_contain_text("The server cannot be reached.")
    expect(page.locator("article > .prose")).to_have_text("As far as")
    scripted.is_loading = True
    scripted.start()
    expect(page.locator("#status")).to_have_text("The server is loading its models …")
    scripted.is_loading = False
    expect(page.locator("#status")).to_have_text("The server is there.")
    scripted.answer().write("draft", "Here again.").end()
    page.click("text=Retry")
    answered(page)
    expect(page.locator("article > .prose")).to_have_text("Here again.")
    expect(page.locator(".trouble")).to_be_hidden()


def test_errors_are_told_where_the_answer_would_be(window: Window, scripted: ScriptedServer) -> None:
    """Guards errors in the console alone."""
    page = window.tab()
    scripted.refuse(400, "the conversation has 9,000 tokens, and the context 8,192")
    ask(page, QUESTION)
    expect(page.locator(".trouble")).to_have_text("the conversation has 9,000 tokens, and the context 8,192")
    scripted.answer().write("leader", "Some").fail("the leader gave no numbers")
    page.click("text=Retry")
    expect(page.locator(".trouble")).to_have_text("the leader gave no numbers")
    expect(page.locator("article > .prose")).to_have_text("Some")
    scripted.refuse(503, "32 requests are waiting")
    page.click("text=Retry")
    expect(page.locator(".trouble")).to_have_text("32 requests are waiting")
    expect(page.locator("article > .prose")).to_have_text("Some")


def test_a_server_with_a_key(window: Window, scripted: ScriptedServer) -> None:
    """Guards a page that only says 401, and a key that stays after the tab."""
    scripted.key = "secret"
    page = window.context.new_page()
    page.goto(scripted.url)
    expect(page.locator("#key")).to_be_visible()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("The key is wrong.")
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#pair")).to_have_text("tiny")
    scripted.answer().write("leader", "15.").end()
    ask(page, QUESTION)
    answered(page)
    assert page.evaluate("Object.values(localStorage).join()").count("secret") == 0
    page.reload()
    expect(page.locator("#pair")).to_have_text("tiny")


# ---------------------------------------------------------------- keyboard and screen readers
def test_it_can_be_used_by_keys_alone(window: Window, scripted: ScriptedServer) -> None:
    """Guards controls that Tab does not reach, or in an order that nobody expects, and focus that cannot be seen."""
    page, answer = window.tab(), scripted.answer()
    expect(page.locator("#message")).to_be_focused()
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    answer.reason("leader", "So.").write("draft", CODE).end()
    answered(page)
    assert sent(answer)["messages"][0]["content"] == "One\ntwo"
    page.locator("#authors").focus()
    reached = ["authors"]
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(e => e.id || e.dataset.action || e.localName)(document.activeElement)"))
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") in ("solid", "auto")
        if reached[-1] == "send":
            break
    assert reached == [
        "authors", "new", "open-settings", "edit", "summary", "copy-code", "pre", "copy-answer", "again", "message",
        "mode", "send",
    ]  # fmt: skip


def test_screen_readers_hear_blocks_not_tokens(window: Window, scripted: ScriptedServer) -> None:
    """Guards an answer that is spoken from its beginning with each token, or not at all."""
    page, answer = window.tab(), scripted.answer()
    ask(page, QUESTION)
    spoken = page.locator("#spoken")
    expect(spoken).to_have_text("Answering.")
    for word in ("Tom ", "has ", "12.\n\n", "So ", "15"):
        answer.write("draft", word)
    expect(spoken.locator("p")).to_have_text(["Answering.", "Tom has 12."])
    answer.end()
    answered(page)
    expect(spoken.locator("p")).to_have_text(["Answering.", "Tom has 12.", "So 15", "End of the answer."])
    assert page.locator("[aria-live]:not(#spoken), [role=log]").count() == 0


# ---------------------------------------------------------------- files
def test_its_files_need_no_other_server_and_no_exception_of_the_policy() -> None:
    """Guards inline scripts and styles, addresses of other servers, and libraries without version or licence."""
    for path in sorted(PAGE.rglob("*")):
        if path.suffix in (".html", ".css", ".js") and "vendor" not in path.parts:
            source = path.read_text("utf-8")
            assert not re.search(r"https?://\w|@import|\bon\w+=\"|innerHTML|eval\(", source), path
            assert not re.search(r"<style|style=|<script(?! src)", source), path
    table = (PAGE / "vendor" / "README.md").read_text("utf-8")
    for folder in (each for each in (PAGE / "vendor").iterdir() if each.is_dir()):
        assert (folder / "LICENSE").read_text("utf-8").strip()
        assert re.search(rf"\| {folder.name} \| \d+\.\d+\.\d+ \|", table)


def test_the_package_has_the_page(tmp_path: Path) -> None:
    """Guards a wheel that answers and shows nothing."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    wheel = next(builder.WheelBuilder(str(PAGE.parents[2])).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert {f"foreal_local/server/page/{path.relative_to(PAGE).as_posix()}" for path in files} <= names
    assert len(files) > 20
