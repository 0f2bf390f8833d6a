"""What of a conversation reaches a model through its chat template; and templates that anybody may have made."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from foreal_local.config import Prompting
from foreal_local.errors import UsageError
from foreal_local.runtime.chat_template import ChatTemplate
from foreal_local.runtime.jinja import render
from foreal_local.runtime.messages import Messages, as_messages

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<user>{{ m['content'] }}</><assistant>"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}</>{% endif %}{% endfor %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}<{{ m['role'] }}>{{ m['content'] | trim }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FIRST_SYSTEM_ONLY = (
    "{% if messages[0]['role'] == 'system' %}<system>{{ messages[0]['content'] }}</>{% endif %}"
    "{% for m in messages %}{% if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}</>{% endif %}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
PARTS_OF_THE_USER = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'user' %}{{ m['content'][0]['text'] }}"
    "{% else %}{{ m['content'] + '' }}{% endif %}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
OWN_DEVELOPER = CHATML + "{# developer #}"


def messages(*pairs: str) -> Messages:
    """From "role: text" each."""
    return [dict(zip(("role", "content"), pair.split(": ", 1), strict=True)) for pair in pairs]


def rendered(source: str, *pairs: str, **prompting: Any) -> tuple[str, list[str]]:
    """The prompt, and the template's notes."""
    template = ChatTemplate(source, "", "", "some.gguf")
    return template.render(messages(*pairs), Prompting(**prompting)), template.notes


# ---------------------------------------------------------------- every message reaches the model
@pytest.mark.parametrize("source", [NO_SYSTEM, REFUSES_SYSTEM])
def test_a_system_message_without_a_place_comes_before_the_users_text(source: str) -> None:
    """Guards a system message that is dropped without a word, or refused with advice that does not help."""
    text, notes = rendered(source, "system: Be brief.", "user: Hi", "assistant: Ho", "user: So?")
    assert text == "<user>Be brief.\n\nHi</><assistant>Ho</><user>So?</><assistant>"
    assert notes == [
        "the chat template of some.gguf has no place for a system message: it is put before the first text of the user"
    ]


@pytest.mark.parametrize("source", [CHATML, PARTS, FIRST_SYSTEM_ONLY, PARTS_OF_THE_USER])
def test_a_system_message_with_a_place_stays_there(source: str) -> None:
    text, notes = rendered(source, "system: Be brief.", "user: Hi")
    assert text.startswith("<system>Be brief.</><user>Hi</>")
    assert not notes


def test_a_later_system_message_is_found_missing_too() -> None:
    """Guards a template that reads the first message of the system alone."""
    text, notes = rendered(FIRST_SYSTEM_ONLY, "user: Hi", "assistant: Ho", "system: Be brief.", "user: So?")
    assert text == "<user>Hi</><assistant>Ho</><user>Be brief.\n\nSo?</>"
    assert notes


def test_every_message_is_noted_once() -> None:
    template = ChatTemplate(NO_SYSTEM, "", "", "some.gguf")
    for text in ("a", "b"):
        template.render(messages("system: x", f"user: {text}"), Prompting())
    assert len(template.notes) == 1


@pytest.mark.parametrize(("source", "role"), [(CHATML, "system"), (PARTS, "system"), (OWN_DEVELOPER, "developer")])
def test_the_developer_is_the_system_where_the_template_knows_none(source: str, role: str) -> None:
    assert rendered(source, "developer: d", "user: u")[0] == f"<{role}>d</><user>u</><assistant>"


@pytest.mark.parametrize("source", [PARTS, PARTS_OF_THE_USER])
def test_a_template_that_wants_parts_gets_them(source: str) -> None:
    """Guards prompts without their question: Jinja walks over a text's characters, and finds no parts in them."""
    assert rendered(source, "user: Say hello") == ("<user>Say hello</><assistant>", [])


@pytest.mark.parametrize("source", [" \n", "Hello.", "{% for m in messages %}<{{ m.role }}>{{ m.text }}{% endfor %}"])
def test_a_template_that_leaves_out_the_user_is_refused(source: str) -> None:
    """Guards a batch whose prompts are all the same."""
    with pytest.raises(UsageError, match=r"some\.gguf writes none of the messages"):
        rendered(source, "user: Hi")


@pytest.mark.parametrize("role", ["tool", "ipython"])
def test_a_role_that_a_template_leaves_out_is_named(role: str) -> None:
    with pytest.raises(UsageError, match=rf"some\.gguf leaves out messages of the role {role}"):
        rendered(NO_SYSTEM, "user: Hi", "assistant: Ho", f"{role}: 12", "user: So?")
    assert rendered(CHATML, "user: Hi", f"{role}: 12")[0] == f"<user>Hi</><{role}>12</><assistant>"


def test_what_a_template_refuses_is_told_with_its_words() -> None:
    """Guards a message that does not say which model refuses, or why."""
    with pytest.raises(UsageError, match=r"some\.gguf refuses these messages: Roles must alternate"):
        rendered(REFUSES_SYSTEM, "system: x", "user: Hi", "user: So?")


def test_a_kind_of_conversation_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a probe for every prompt of a batch."""
    seen = []
    monkeypatch.setattr("foreal_local.runtime.chat_template.render", lambda *args: seen.append(args) or render(*args))
    template = ChatTemplate(PARTS, "", "", "some.gguf")
    for i in range(20):
        template.render(messages("system: x", f"user: {i}"), Prompting())
    assert len(seen) < 25


# ---------------------------------------------------------------- a last message of the assistant
@pytest.mark.parametrize("source", [CHATML, NO_SYSTEM, REFUSES_SYSTEM, PARTS])
def test_a_last_message_of_the_assistant_is_continued(source: str) -> None:
    """Guards a new turn after a finished one: the answer that was begun would never be ended."""
    text, _ = rendered(source, "user: Count", "assistant: one two ")
    assert text == "<user>Count</><assistant>one two "
    assert rendered(source, "user: Count", "assistant: ")[0] == "<user>Count</><assistant>"


@pytest.mark.parametrize(
    "source",
    [
        CHATML.replace("{{ m['content'] }}", "{{ m['content'] ~ m['content'] }}"),
        CHATML.replace("{{ m['content'] }}", "{{ m['content'][:7] }}"),
    ],
)
def test_where_it_cannot_be_continued_it_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=r"the last message is the assistant's.*some\.gguf cannot be cut"):
        rendered(source, "user: Count", "assistant: one")


# ---------------------------------------------------------------- contents as lists
def test_lists_of_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert as_messages([{"role": "user", "content": parts, "name": "x"}]) == [
        {"role": "user", "content": "a\nb", "name": "x"}
    ]


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "'image_url'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "'input_audio'"),
        ({"role": "user", "content": [{"type": "text"}]}, "no `text`"),
        ({"role": "user", "content": ["a"]}, "'a'"),
        ({"role": "user", "content": None}, "both texts"),
        ({"role": "user", "content": 3}, "both texts"),
        ({"role": "user"}, "both texts"),
        ({"role": 3, "content": "a"}, "both texts"),
        ({"role": "", "content": "a"}, "role"),
        ("a", "both texts"),
    ],
)
def test_what_is_no_text_is_refused_by_its_type(message: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        as_messages([message])


# ---------------------------------------------------------------- what templates find
def test_the_time_is_the_one_that_is_given() -> None:
    """Guards prompts of one run that differ by the clock."""
    source = CHATML + "{{ strftime_now('%d %b %Y %H:%M') }}"
    assert rendered(source, "user: u", now="2025-07-01T12:30")[0].endswith("01 Jul 2025 12:30")


def test_templates_find_what_transformers_gives_them() -> None:
    source = (
        "{% generation %}{{ {'é': 1} | tojson }}{% endgeneration %}{% for i in range(9) %}{% if i == 1 %}{% continue %}"
        "{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ tools is none }}{{ 'a' ~ 1 }}{{ gone }}"
    )
    assert render(source, {}, datetime.now()) == '{"é": 1}02Truea1'


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set r = range(9999) %}{% for i in r %}{% for j in r %}{% for k in r %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ 'x' * 99999999999 }}",
        "{{ [1] * 99999999999 }}",
        "{{ 2 ** 99999999999 }}",
        "{{ 'x' | center(99999999999) }}",
        "{{ 'x'.ljust(99999999999) }}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
        "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    ],
)
def test_a_template_without_end_is_stopped(source: str) -> None:
    """Guards a file that hangs a command, or takes all memory."""
    started = time.thread_time()
    with pytest.raises(UsageError, match=r"some\.gguf is broken"):
        rendered(source, "user: u")
    assert time.thread_time() - started < 4


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% include '/etc/passwd' %}"]
)
def test_a_template_gets_at_nothing_of_the_program(source: str) -> None:
    """Guards a template that runs what it likes: it came with a file from somewhere."""
    with pytest.raises(UsageError, match=r"some\.gguf refuses"):
        rendered(source, "user: u")
