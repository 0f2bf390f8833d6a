"""Texts and ids of a pair: shared words, differing special tokens, prompts for both roles, the reasoning's tags."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import DRAFT, LEADER

from foreal_local.config import Prompting
from foreal_local.errors import UsageError, VocabularyError
from foreal_local.method.borders import reread
from foreal_local.method.reasoning import ReasoningSplitter, ReasoningTags, split_reasoning
from foreal_local.method.roles import Role
from foreal_local.method.view import View
from foreal_local.runtime.chat_template import ChatTemplate
from foreal_local.runtime.messages import Messages, as_messages
from foreal_local.runtime.pair_tokens import PairTokens, different_tokens
from foreal_local.runtime.tags import own_tags
from foreal_local.runtime.text import PromptTokens, encode_prompt
from foreal_local.runtime.vocabulary import Special, encode_after

WORDS = [*(chr(code) for code in range(32, 127)), "\n"]


@dataclass
class FakeRoleVocabulary:
    """One token per character, then special tokens, which are recognised in texts. Ids from 0.

    user_defined: those special tokens that are recognised in any text, as words are
    adds_blank: a blank is put before a text, and behind each special token, as SentencePiece does
    """

    controls: list[str] = field(default_factory=lambda: ["<s>", "</s>"])
    words: list[str] = field(default_factory=lambda: list(WORDS))
    kind: int = 2
    adds_bos: bool = False
    bos: str = "<s>"
    eos: str = "</s>"
    user_defined: tuple[str, ...] = ()
    adds_blank: bool = False

    @property
    def pieces(self) -> list[str]:
        return [*self.words, *self.controls]

    @property
    def n_tokens(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, parse_special: bool = True) -> list[int]:
        ids: list[int] = []
        blank = self.adds_blank
        while text:
            known = [s for s in self.controls if s and (parse_special or s in self.user_defined)]
            special = next((s for s in known if text.startswith(s)), "")
            if blank and not special:
                ids.append(self.pieces.index(" "))
            blank = self.adds_blank and bool(special)
            ids.append(self.pieces.index(special or (text[0] if text[0] in self.words else "?")))
            text = text[len(special or text[0]) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[token] for token in ids)

    def piece(self, token: int) -> bytes:
        return self.pieces[token].encode()

    def text(self, token: int) -> bytes:
        return self.piece(token)

    def is_end(self, token: int) -> bool:
        return self.pieces[token] == self.eos

    def is_ordinary(self, token: int) -> bool:
        return token < len(self.words)

    def is_control(self, token: int) -> bool:
        return token >= len(self.words) and self.pieces[token] not in self.user_defined

    @property
    def specials(self) -> tuple[Special, ...]:
        return tuple(Special(text, text not in self.user_defined) for text in self.controls)

    @property
    def bos_id(self) -> int:
        return self.pieces.index(self.bos)


# ---------------------------------------------------------------- views
def test_with_one_vocabulary_the_view_is_the_identity() -> None:
    vocabulary = FakeRoleVocabulary()
    for pair in (PairTokens({LEADER: vocabulary, DRAFT: vocabulary}), PairTokens({LEADER: vocabulary})):
        assert pair.n_different == 0
        assert all(pair.translate(LEADER, token, DRAFT) == (token,) for token in range(vocabulary.n_tokens))
    assert pair.piece(LEADER, 33) == b"A"
    assert pair.piece(LEADER, vocabulary.n_tokens - 1) is None


def test_a_special_token_of_another_text_is_read_as_text() -> None:
    """Guards an id that means another thing to the reader: Qwen2.5 and R1-Distill-Qwen share their words only."""
    leader = FakeRoleVocabulary(["<s>", "<|User|>", "<x>"], bos="<s>")
    draft = FakeRoleVocabulary(["<s>", "<im>", "<x>"], bos="<s>")
    pair = PairTokens({LEADER: leader, DRAFT: draft})
    token = leader.pieces.index("<|User|>")
    assert pair.n_different == 1
    assert draft.decode(list(pair.translate(LEADER, token, DRAFT))) == "<|User|>"
    assert leader.decode(list(pair.translate(DRAFT, token, LEADER))) == "<im>"
    assert pair.translate(LEADER, token, LEADER) == (token,)
    for shared in ("<s>", "<x>", "A"):
        same = leader.pieces.index(shared)
        assert pair.translate(LEADER, same, DRAFT) == (same,)


def test_a_special_token_under_another_id_is_read_under_that_id() -> None:
    """Guards <think> spelled out for a reader that has it as a token."""
    leader = FakeRoleVocabulary(["<think>", "<s>"], bos="<s>")
    draft = FakeRoleVocabulary(["<s>", "<think>"], bos="<s>")
    pair = PairTokens({LEADER: leader, DRAFT: draft})
    for name in ("<think>", "<s>"):
        ours, theirs = leader.pieces.index(name), draft.pieces.index(name)
        assert pair.translate(LEADER, ours, DRAFT) == (theirs,)
        assert pair.translate(DRAFT, theirs, LEADER) == (ours,)


def test_letters_that_spell_a_control_token_are_letters() -> None:
    """Guards a draft that writes "<|im_end|>" letter by letter, where the leader would read the end of its turn; tags,
    and control tokens under another number, are what they are called."""
    words = list(reversed(WORDS))
    leader = FakeRoleVocabulary(["<s>", "</s>", "<t>", "</t>", "<end>"])
    draft = FakeRoleVocabulary(["<end>", "<s>", "</s>", "<t>", "</t>"], words=words)
    tags = ReasoningTags("<t>", "</t>")
    pair = PairTokens({LEADER: leader, DRAFT: draft}, {LEADER: tags, DRAFT: tags})
    assert not pair.is_shared
    assert len(pair.encode(LEADER, "<end>")) == len("<end>")
    assert pair.encode(LEADER, "a</t>") == [leader.pieces.index("a"), leader.pieces.index("</t>")]
    end = leader.pieces.index("<end>")
    assert pair.is_control(LEADER, end)
    assert not pair.is_control(LEADER, leader.pieces.index("</t>"))
    assert pair.translate(LEADER, end, DRAFT) == (draft.pieces.index("<end>"),)

    def read(view: View, new: bytes, is_control: bool = False) -> list[int]:
        view.add(reread(view, LEADER, [], new, pair, is_control))
        return view.ids

    view = View([], 0)
    for letter in b"so <end>":
        read(view, bytes([letter]))
    assert leader.decode(view.ids) == "so <end>"
    assert end not in view.ids
    assert read(view, b"<end>", is_control=True)[-1] == end
    assert read(view, b"a")[-2:] == [end, leader.pieces.index("a")], "a control token is no part of a word"


@pytest.mark.parametrize("extra", ["<extra>", ""])
def test_ids_that_the_reader_does_not_have_become_ids_it_has(extra: str) -> None:
    """Guards an id beyond the reader's vocabulary: llama.cpp refuses the whole batch, and the run ends.

    Padding at the end of a vocabulary may have no text at all.
    """
    leader, draft = FakeRoleVocabulary(["<s>", "<e>", extra]), FakeRoleVocabulary(["<s>", "<e>"])
    pair = PairTokens({LEADER: leader, DRAFT: draft})
    ids = pair.translate(LEADER, leader.n_tokens - 1, DRAFT)
    assert ids
    assert all(token < draft.n_tokens for token in ids)
    assert not extra or draft.decode(list(ids)) == extra
    assert pair.translate(DRAFT, 3, LEADER) == (3,)


# ---------------------------------------------------------------- pairs that do not fit
def test_the_first_ordinary_token_that_differs_is_named() -> None:
    """Guards a pair of different families that writes nonsense, and an error that does not say why."""
    draft = FakeRoleVocabulary()
    draft.words[40], draft.words[50] = "@", "@"
    with pytest.raises(VocabularyError) as caught:
        different_tokens(FakeRoleVocabulary(), draft)
    message = str(caught.value)
    assert "token 40 " in message
    assert "'H'" in message
    assert "'@'" in message
    assert "family" in message


def test_the_first_ids_and_special_tokens_may_differ() -> None:
    """Guards a check that is too strict: llama.cpp leaves the first five ids out as well."""
    draft = FakeRoleVocabulary(["<a>", "</s>"])
    draft.words[4] = "@"
    n_words = len(WORDS)
    assert different_tokens(FakeRoleVocabulary(), draft) == [4, n_words]
    draft.words[5] = "@"
    with pytest.raises(VocabularyError, match="token 5 "):
        different_tokens(FakeRoleVocabulary(), draft)


@pytest.mark.parametrize("n_extra", [0, 1, 128, 129])
def test_sizes_may_differ_by_padding_only(n_extra: int) -> None:
    large = FakeRoleVocabulary(["<s>", *(f"<pad{i}>" for i in range(n_extra))])
    small = FakeRoleVocabulary(["<s>"])
    if n_extra <= 128:
        assert different_tokens(large, small) == different_tokens(small, large) == []
    else:
        with pytest.raises(VocabularyError, match=f"token {small.n_tokens} is in one only"):
            different_tokens(small, large)


def test_other_kinds_of_vocabulary_are_refused() -> None:
    """Guards numbers that mean something to llama.cpp alone."""
    with pytest.raises(VocabularyError, match=r"\(BPE and SentencePiece\)"):
        different_tokens(FakeRoleVocabulary(), FakeRoleVocabulary(kind=1))
    with pytest.raises(VocabularyError, match=r"\(BPE and llama\.cpp's number 99\)"):
        different_tokens(FakeRoleVocabulary(), FakeRoleVocabulary(kind=99))


# ---------------------------------------------------------------- prompts
def chat(source: str | None) -> ChatTemplate | None:
    """A template of "bos|role prefix|ending", or any in Jinja."""
    if source is None or "{" in source:
        return None if source is None else ChatTemplate(source, "<s>", "</s>", "model.gguf")
    start, prefix, ending = source.split("|")
    first = "{{ bos_token }}" if start else ""
    body = "{% for m in messages %}" + prefix + "{{ m.role }}:{{ m.content }}\n\n{% endfor %}{{ note }}"
    ending = "{% if add_generation_prompt %}{{ " + repr(ending) + " }}{% endif %}"
    return ChatTemplate(first + body.replace("\n\n", "{{ '\\n' }}") + ending, "<s>", "</s>", "model.gguf")


def prompt_of(
    content: Messages | str,
    prompting: Prompting,
    vocabularies: dict[Role, FakeRoleVocabulary],
    templates: dict[Role, ChatTemplate | None],
) -> PromptTokens:
    own = {role: own_tags(templates.get(role), vocabulary) for role, vocabulary in vocabularies.items()}
    return encode_prompt(content, prompting, dict(vocabularies), templates, own)


def encoded(
    messages: Messages | str,
    templates: dict[Role, str | None],
    prompting: Prompting | None = None,
    **vocabulary: Any,
) -> tuple[dict[Role, str], PromptTokens]:
    """Both roles' prompt texts as their ids spell them."""
    vocabularies = {role: FakeRoleVocabulary(**vocabulary) for role in templates}
    chats = {role: chat(source) for role, source in templates.items()}
    prompt = prompt_of(messages, prompting or Prompting(), vocabularies, chats)
    return {role: vocabulary.decode(prompt.ids[role]) for role, vocabulary in vocabularies.items()}, prompt


PLAIN: dict[Role, str | None] = {LEADER: "|[|]", DRAFT: "|(|)"}


def test_each_role_reads_the_prompt_in_its_own_template() -> None:
    texts, prompt = encoded("Hi", PLAIN)
    assert texts == {LEADER: "[user:Hi\n]", DRAFT: "(user:Hi\n)"}
    assert not prompt.starts_thinking


def test_a_system_message_comes_first_unless_there_is_one() -> None:
    """Guards two system messages, or none."""
    texts, _ = encoded("Hi", PLAIN, Prompting(system="Be brief."))
    assert texts[LEADER] == "[system:Be brief.\n[user:Hi\n]"
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    texts, _ = encoded(own, PLAIN, Prompting(system="Be brief."))
    assert texts[LEADER] == "[system:Mine.\n[user:Hi\n]"
    assert len(own) == 2


def test_template_arguments_reach_both_templates() -> None:
    texts, _ = encoded("Hi", PLAIN, Prompting(template_args={"note": "!"}))
    assert texts == {LEADER: "[user:Hi\n!]", DRAFT: "(user:Hi\n!)"}


def test_without_its_own_template_a_role_reads_the_others_text() -> None:
    """Guards a base model as the draft of an instructed leader."""
    texts, _ = encoded("Hi", {LEADER: "|[|]", DRAFT: None})
    assert texts[DRAFT] == texts[LEADER] == "[user:Hi\n]"
    texts, _ = encoded("Hi", {LEADER: None, DRAFT: "|(|)"})
    assert texts[DRAFT] == texts[LEADER] == "(user:Hi\n)"


@pytest.mark.parametrize("ending", ["<think>", "<think>\n", "<think> \n\n"])
def test_an_opened_reasoning_is_opened_for_both(ending: str) -> None:
    """Guards a draft that answers while the leader reasons: both follow the same response."""
    texts, prompt = encoded("Hi", {LEADER: f"|[|]{ending}", DRAFT: "|(|)"})
    assert texts == {LEADER: f"[user:Hi\n]{ending}", DRAFT: f"(user:Hi\n){ending}"}
    assert prompt.starts_thinking
    texts, prompt = encoded("Hi", {LEADER: "|[|]", DRAFT: f"|(|){ending}"})
    assert texts[LEADER].endswith(f"]{ending}")
    texts, _ = encoded("Hi", {LEADER: "|[|]<think>\n", DRAFT: "|(|)<think>"})
    assert texts[DRAFT].count("<think>") == 1


def test_a_closed_reasoning_is_not_an_open_one() -> None:
    """Guards a template with thinking switched off, and a question about the tag."""
    for ending in ("<think>\n\n</think>\n\n", "<think> say", "think>"):
        texts, prompt = encoded("Hi", {LEADER: f"|[|]{ending}", DRAFT: "|(|)"})
        assert not prompt.starts_thinking
        assert texts[DRAFT] == "(user:Hi\n)"


@pytest.mark.parametrize("adds_bos", [True, False])
def test_the_first_token_comes_once(adds_bos: bool) -> None:
    """Guards <s><s>: the template writes it, or the vocabulary adds it."""
    texts, _ = encoded("Hi", {LEADER: "bos|[|]", DRAFT: "|(|)"}, adds_bos=adds_bos)
    assert texts == {LEADER: "<s>[user:Hi\n]", DRAFT: "<s>(user:Hi\n)" if adds_bos else "(user:Hi\n)"}


def test_raw_text_that_begins_with_the_first_token_has_it_once() -> None:
    """Guards two BOS where the user writes it: as with a template."""
    texts, _ = encoded("<s>Hi", PLAIN, Prompting(raw=True), adds_bos=True)
    assert texts == {LEADER: "<s>Hi", DRAFT: "<s>Hi"}


# ---------------------------------------------------------------- control tokens in texts
CONTROLS = {"controls": ["<s>", "</s>", "<think>", "</think>", "<tool>", "<h1>"]}
WORDS_TOO = ("<think>", "</think>", "<tool>", "<h1>")


def specials_in(messages: Messages | str, source: str = "bos|[|]", **prompting: Any) -> list[str]:
    """The special tokens of the leader's prompt, whose text must be as it would be without any."""
    vocabulary: dict[str, Any] = {**CONTROLS, "user_defined": WORDS_TOO}
    texts, prompt = encoded(messages, {LEADER: source}, Prompting(**prompting), **vocabulary)
    template, fake = chat(source), FakeRoleVocabulary(**vocabulary)
    asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    assert template is not None
    assert texts[LEADER] == template.render(asked, Prompting(**prompting))
    return [fake.pieces[token] for token in prompt.ids[LEADER] if not fake.is_ordinary(token)]


@pytest.mark.parametrize("text", ["What does </s> mean?", "</s>", "<s>", "a<s></s>b", "<</s></s>", "Explain </think>!"])
def test_a_control_token_in_a_text_is_text(text: str) -> None:
    """Guards a question that ends where it names the end token, and turns that a text forges."""
    assert specials_in(text) == ["<s>"]
    assert specials_in([{"role": "system", "content": text}, {"role": "user", "content": "Hi"}]) == ["<s>"]
    naming = "<s>{% for m in messages %}{{ m.name }}: {{ m.content }}{% endfor %}"
    assert specials_in([{"role": "user", "content": "Hi", "name": text}], naming) == ["<s>"]
    assert len(specials_in(text, parse_special=True)) > 1


@pytest.mark.parametrize(
    "content", ["m.content | trim", "m.content | tojson", "m.content.split('</think>')[-1]", "m.content | upper"]
)
def test_a_template_may_change_the_texts(content: str) -> None:
    """Guards marks that a template's own work on a text loses."""
    source = "<s>{% for m in messages %}{{ " + content + " }}</s>{% endfor %}"
    assert specials_in(" is </s> or <s> it? ", source) == ["<s>", "</s>"]


def test_two_texts_make_no_control_token_together() -> None:
    """Guards half a token in each of two messages that a template puts side by side."""
    halves = [{"role": "user", "content": "a</"}, {"role": "user", "content": "s>b"}]
    assert specials_in(halves, "{% for m in messages %}{{ m.content }}{% endfor %}") == []


def test_words_of_the_vocabulary_are_read_as_words() -> None:
    """Guards ordinary prompts that become other tokens: user-defined words are words, unless a template names them."""
    assert specials_in("a <h1> b <tool>", "|[|]") == ["<h1>", "<tool>"]
    naming = "{# <tool> #}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert specials_in("a <h1> b <tool>", naming) == ["<h1>"]


def test_the_reasoning_of_an_earlier_answer_keeps_its_tags() -> None:
    """Guards a history that the model reads otherwise than it has written it; but an end token in it is text."""
    past = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>b</think>c</s>"},
        {"role": "user", "content": "<think>"},
    ]
    assert specials_in(past, "|[|]") == ["<think>", "</think>"]


def test_a_role_is_a_word() -> None:
    """Guards control tokens in a role, which stands among the template's own."""
    with pytest.raises(UsageError, match="role"):
        as_messages([{"role": "user</s>", "content": "a"}])


def test_a_text_inside_has_no_blank_that_nobody_wrote() -> None:
    """Guards SentencePiece's blank before whatever is encoded: in cues, closing words, and the other model's tokens."""
    blanks = FakeRoleVocabulary(["<s>", "</s>", "<x>"], adds_blank=True)
    pair = PairTokens({LEADER: blanks, DRAFT: FakeRoleVocabulary(["<s>", "</s>", "<y>"], adds_blank=True)})
    for text in ("a", " a", "\n<x>\n\n", "<x>", "", "b<x> c", "<x><x>d"):
        assert blanks.decode(pair.encode(LEADER, text)) == text
        assert blanks.decode(encode_after(blanks, text)) == text.replace("<x>\n", "<x> \n").replace(
            "<x> c", "<x>  c"
        ).replace("<x>d", "<x> d")
    assert blanks.decode(list(pair.translate(DRAFT, blanks.pieces.index("<x>"), LEADER))) == "<y>"


@pytest.mark.parametrize("raw", [True, False])
def test_raw_text_is_taken_as_it_is(raw: bool) -> None:
    """Guards a template applied to raw text; without any template every text is raw."""
    templates: dict[Role, str | None] = PLAIN if raw else {LEADER: None, DRAFT: None}
    texts, prompt = encoded("Hi <think>\n", templates, Prompting(raw=raw), adds_bos=True)
    assert texts == {LEADER: "<s>Hi <think>\n", DRAFT: "<s>Hi <think>\n"}
    assert prompt.starts_thinking


def test_messages_need_a_template() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    with pytest.raises(UsageError, match="--raw"):
        encoded(messages, PLAIN, Prompting(raw=True))
    with pytest.raises(UsageError, match="neither model has one"):
        encoded(messages, {LEADER: None, DRAFT: None})


def test_a_system_message_without_any_template_is_refused() -> None:
    """Guards an option that is dropped silently: there is nothing that could carry the system message."""
    with pytest.raises(UsageError, match="system"):
        encoded("Hi", {LEADER: None, DRAFT: None}, Prompting(system="Be brief."))


# ---------------------------------------------------------------- reasoning and answer
@pytest.mark.parametrize(
    ("text", "starts_thinking", "expected"),
    [
        ("Just this.", False, ("", "Just this.")),
        (" spaces stay ", False, ("", " spaces stay ")),
        ("So.\n</think>\n\n42", True, ("So.", "42")),
        ("<think>So.</think>42", False, ("So.", "42")),
        ("\n<think>\nSo.\n</think>\n42", True, ("So.", "42")),
        ("never closed", True, ("never closed", "")),
        ("Use the <think> tag.", False, ("", "Use the <think> tag.")),
        ("a</think>b</think>c", True, ("a", "b</think>c")),
        ("no opening</think>b", False, ("", "no opening</think>b")),
        ("</think>b", True, ("", "b")),
        ("", True, ("", "")),
        ("", False, ("", "")),
        ("<thin", False, ("", "<thin")),
        ("a < b </thin", True, ("a < b </thin", "")),
        ("  <think", False, ("", "  <think")),
    ],
)
def test_reasoning_and_answer(text: str, starts_thinking: bool, expected: tuple[str, str]) -> None:
    """Guards tags left in either part; and the split of a stream, however it is cut, from being another one."""
    tags = ReasoningTags(opened=starts_thinking)
    assert split_reasoning(text, tags) == expected
    rng = random.Random(1)
    for _ in range(30):
        splitter, parts, rest = ReasoningSplitter(tags), [], text
        while rest:
            size = rng.randrange(1, 9)
            parts += splitter.feed(rest[:size])
            rest = rest[size:]
        parts += splitter.rest()
        reasoning, answer = ("".join(t for thinking, t in parts if thinking is wanted) for wanted in (True, False))
        assert (reasoning.strip(), answer.strip()) == (expected[0].strip(), expected[1].strip())
