"""The tags around the reasoning: which ones a pair has, what each model reads of them, what is split at them."""

from __future__ import annotations

import random

import pytest
from fakes import DRAFT, LEADER
from test_text import FakeRoleVocabulary, chat, encoded, prompt_of

from foreal_local.config import Prompting
from foreal_local.method.reasoning import (
    DEFAULT_TAGS,
    TAGS,
    ReasoningSplitter,
    ReasoningTags,
    answer_in,
    ends_inside,
    split_reasoning,
)
from foreal_local.method.roles import Role
from foreal_local.method.sentences import SentenceDetector
from foreal_local.runtime.chat_template import ChatTemplate
from foreal_local.runtime.pair_tokens import PairTokens
from foreal_local.runtime.tags import own_tags, unknown_tag

MAGISTRAL, SEED = TAGS[1], TAGS[2]
NAMES = [tags.opening for tags in TAGS]


# ---------------------------------------------------------------- the split
@pytest.mark.parametrize("tags", TAGS, ids=NAMES)
@pytest.mark.parametrize("opened", [True, False])
def test_each_pair_of_tags_is_split_whole_and_in_pieces(tags: ReasoningTags, opened: bool) -> None:
    """Guards reasoning in other tags than <think>, which was shown and graded as the answer."""
    tags = ReasoningTags(tags.opening, tags.closing, opened)
    other = SEED if tags.opening != SEED.opening else MAGISTRAL
    text = f"{'' if opened else tags.opening}\nIt is {other.closing} a < b.\n{tags.closing}\n\nThe tag {tags.closing}"
    expected = (f"It is {other.closing} a < b.", f"The tag {tags.closing}")
    assert split_reasoning(text, tags) == expected
    assert not ends_inside(text, *expected)
    same = f"{tags.opening}42{tags.closing}42"
    assert not ends_inside(same, *split_reasoning(same, tags))
    rng = random.Random(1)
    for _ in range(30):
        splitter, parts, rest = ReasoningSplitter(tags), [], text
        while rest:
            size = rng.randrange(1, 6)
            parts += splitter.feed(rest[:size])
            rest = rest[size:]
        parts += splitter.rest()
        found = tuple("".join(t for thinking, t in parts if thinking is wanted).strip() for wanted in (True, False))
        assert found == expected
    unclosed = text.partition(tags.closing)[0]
    assert ends_inside(unclosed, *split_reasoning(unclosed, tags))


def test_the_answer_of_a_text_whose_tags_are_not_known() -> None:
    """Guards a box in the reasoning that is graded, and an answer that speaks of the tag and is cut there."""
    for tags in TAGS:
        assert answer_in(f"{tags.opening}5{tags.closing}6 {tags.closing}") == f"6 {tags.closing}"
        assert answer_in(f"5{tags.closing}6") == "6"
    assert answer_in("<think>[/THINK] 5</think>6") == "6"
    assert answer_in("<think>5") == ""  # cut off inside its reasoning
    assert answer_in("5 < 6") == "5 < 6"


# ---------------------------------------------------------------- which tags
def named_in(source: str | None, vocabulary: FakeRoleVocabulary) -> ReasoningTags | None:
    return own_tags(None if source is None else ChatTemplate(source, "", "", "model.gguf"), vocabulary)


@pytest.mark.parametrize("tags", TAGS, ids=NAMES)
def test_the_template_or_the_vocabulary_tells_the_tags(tags: ReasoningTags) -> None:
    plain = FakeRoleVocabulary()
    assert named_in(f"... {tags.opening} ... {tags.closing} ...", plain) == tags
    assert named_in(f"... split('{tags.closing}') ...", plain) == tags
    assert named_in("{{ messages }}", FakeRoleVocabulary([tags.opening, tags.closing])) == tags
    assert named_in(None, FakeRoleVocabulary([tags.opening, tags.closing])) == tags
    assert named_in("{{ messages }}", plain) is None
    assert named_in(None, plain) is None


def test_of_several_tags_those_are_chosen_that_are_named_whole() -> None:
    """Guards a tag that a template only speaks of, taken for the one that it uses."""
    vocabulary = FakeRoleVocabulary(["[THINK]", "[/THINK]"])
    assert named_in("never write <thinking>; <think>\n ... </think>", vocabulary) == DEFAULT_TAGS
    assert named_in("<think></think> ... [THINK][/THINK]", vocabulary) == MAGISTRAL
    assert named_in("<think></think> ... <seed:think></seed:think>", FakeRoleVocabulary()) == SEED


OF_THE_FAKES = [tags for tags in TAGS if "|" not in tags.opening and tags.opening.isascii()]
"""Fake templates are split at |, and fake vocabularies are ASCII."""


@pytest.mark.parametrize("tags", OF_THE_FAKES, ids=lambda tags: tags.opening)
@pytest.mark.parametrize("space", ["", "\n", " \n\n"])
def test_any_known_tag_at_the_end_opens_the_reasoning_for_both(tags: ReasoningTags, space: str) -> None:
    """Guards a draft that answers while the leader reasons in tags other than <think>."""
    for templates in (
        {LEADER: f"|[|]{tags.opening}{space}", DRAFT: "|(|)"},
        {LEADER: "|[|]", DRAFT: f"|(|){tags.opening}{space}"},
    ):
        texts, prompt = encoded("Hi", dict(templates))
        assert all(text.endswith(f"{tags.opening}{space}") for text in texts.values())
        assert prompt.tags == ReasoningTags(tags.opening, tags.closing, opened=True)


@pytest.mark.parametrize("tags", TAGS, ids=NAMES)
def test_a_continued_answer_goes_on_where_it_stands(tags: ReasoningTags) -> None:
    """Guards the rest of a reasoning that is taken for the answer, and an answer that speaks of a tag."""

    def tags_behind(answer: str) -> ReasoningTags:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
        return encoded(messages, {LEADER: "|[|]", DRAFT: "|(|)"})[1].tags

    assert tags_behind(f"{tags.opening}\nSo") == ReasoningTags(tags.opening, tags.closing, opened=True)
    for answer in (f"{tags.opening}So{tags.closing}6", f"The tag {tags.opening}", f"6{tags.closing}"):
        assert not tags_behind(answer).opened


def test_a_tag_in_the_users_text_opens_nothing() -> None:
    for tag in ("<think>", "[THINK]", "</think>"):
        texts, prompt = encoded(f"What is {tag}", {LEADER: "|[|]", DRAFT: "|(|)"})
        assert prompt.tags == DEFAULT_TAGS
        assert texts[DRAFT].endswith(f"{tag}\n)")


# ---------------------------------------------------------------- leader and draft with different tags
def mixed() -> dict[Role, FakeRoleVocabulary]:
    return {LEADER: FakeRoleVocabulary(["[THINK]", "[/THINK]"]), DRAFT: FakeRoleVocabulary(["<think>", "</think>"])}


@pytest.mark.parametrize(
    ("endings", "opened"),
    [(("[THINK]\n", ""), True), (("", "<think>\n"), True), (("[THINK]\n", "<think>\n"), True), (("", ""), False)],
)
def test_each_model_reads_its_own_tag_and_the_response_has_the_leaders(endings: tuple[str, str], opened: bool) -> None:
    """Guards a draft that never closes the reasoning, because it was opened in words that it does not know."""
    vocabularies = mixed()
    templates = {LEADER: chat(f"|[|]{endings[0]}"), DRAFT: chat(f"|(|){endings[1]}")}
    prompt = prompt_of("Hi", Prompting(), vocabularies, templates)
    texts = {role: vocabulary.decode(prompt.ids[role]) for role, vocabulary in vocabularies.items()}
    assert prompt.tags == ReasoningTags("[THINK]", "[/THINK]", opened)
    assert texts[LEADER].endswith("][THINK]\n" if opened else "]")
    assert texts[DRAFT].endswith(")<think>\n" if opened else ")")


def test_each_model_reads_earlier_answers_in_its_own_tags() -> None:
    """Guards a reasoning that the draft's template cannot leave out, since its tags are the leader's."""
    vocabularies, last = mixed(), "{% if add_generation_prompt %}]{% endif %}"
    cut = "{% for m in messages %}{{ m.content.split('CLOSING')[-1] }};{% endfor %}" + last
    templates = {LEADER: chat(cut.replace("CLOSING", "[/THINK]")), DRAFT: chat(cut.replace("CLOSING", "</think>"))}
    asked = {"role": "user", "content": "Is [/THINK] or </think> it?"}
    earlier = {"role": "assistant", "content": "[THINK]\nSo\n[/THINK]\n6"}
    prompt = prompt_of([earlier, asked], Prompting(), vocabularies, templates)
    for role, vocabulary in vocabularies.items():
        assert vocabulary.decode(prompt.ids[role]).startswith("\n6;")
    answer = {"role": "assistant", "content": "[THINK]\nSo"}
    prompt = prompt_of([asked, answer], Prompting(), vocabularies, templates)
    assert prompt.tags == ReasoningTags("[THINK]", "[/THINK]", opened=True)
    texts = {role: vocabulary.decode(prompt.ids[role]) for role, vocabulary in vocabularies.items()}
    assert texts[LEADER].endswith("[THINK]\nSo")
    assert texts[DRAFT].endswith("<think>\nSo")


@pytest.mark.parametrize("tags", TAGS[1:], ids=NAMES[1:])
def test_a_continued_answer_in_the_tags_of_other_models_is_text(tags: ReasoningTags) -> None:
    """Guards an answer that is all taken for reasoning, since the pair closes it with its own tag."""
    vocabularies = {role: FakeRoleVocabulary(["<think>", "</think>"]) for role in Role}
    templates = {role: chat("|[|]") for role in Role}
    for answer in (f"{tags.opening}\nSo", f"{tags.opening} is a tag"):
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
        prompt = prompt_of(messages, Prompting(), vocabularies, templates)
        assert prompt.tags == DEFAULT_TAGS
        if answer.isascii():
            assert vocabularies[LEADER].decode(prompt.ids[LEADER]).endswith(answer)


def test_a_continued_answer_in_the_drafts_tags_goes_on_in_the_leaders() -> None:
    """Guards a reasoning that the leader cannot close, opened in the tag of the draft."""
    vocabularies = mixed()
    templates = {LEADER: chat("|[|]"), DRAFT: chat("|(|)")}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>\nSo"}]
    prompt = prompt_of(messages, Prompting(), vocabularies, templates)
    assert prompt.tags == ReasoningTags("[THINK]", "[/THINK]", opened=True)
    assert vocabularies[LEADER].decode(prompt.ids[LEADER]).endswith("[THINK]\nSo")
    assert vocabularies[DRAFT].decode(prompt.ids[DRAFT]).endswith("<think>\nSo")


def test_a_tag_is_read_as_the_readers_own_and_shown_as_the_leaders() -> None:
    """Guards a closing tag of the draft's that the leader reads as letters, and that ends no reasoning."""
    vocabularies = mixed()
    own = {role: own_tags(None, vocabulary) for role, vocabulary in vocabularies.items()}
    pair = PairTokens(dict(vocabularies), own)
    n = vocabularies[LEADER].n_tokens
    for token, shown in ((n - 2, b"[THINK]"), (n - 1, b"[/THINK]")):
        for author in Role:
            assert pair.translate(author, token, author.other) == (token,)
            assert pair.piece(author, token) == shown
        assert pair.encode(DRAFT, shown.decode()) == [token]
    assert pair.n_different == 0
    without = PairTokens(dict(vocabularies))
    assert without.n_different == 2
    assert len(without.translate(LEADER, n - 1, DRAFT)) == len("[/THINK]")


def test_a_tag_that_is_no_token_is_still_read_as_the_readers_own() -> None:
    spelled, token = FakeRoleVocabulary(["<s>", "</s>"]), FakeRoleVocabulary(["[THINK]", "[/THINK]"])
    pair = PairTokens({LEADER: token, DRAFT: spelled}, {LEADER: MAGISTRAL, DRAFT: DEFAULT_TAGS})
    assert spelled.decode(list(pair.translate(LEADER, token.n_tokens - 1, DRAFT))) == "</think>"
    assert spelled.decode(pair.encode(DRAFT, "\n[/THINK]\n")) == "\n</think>\n"


# ---------------------------------------------------------------- sentences
@pytest.mark.parametrize("tags", TAGS, ids=NAMES)
def test_a_block_that_is_left_open_ends_with_the_reasoning(tags: ReasoningTags) -> None:
    """Guards a fence left open in the reasoning that swallows every sentence of the answer."""
    text = f"So\n```\nx = 1 {tags.closing} We add them. Then"
    for pieces in ([text], list(text)):
        detector = SentenceDetector("robust", tags.closing)
        for piece in pieces:
            detector.feed(piece)
        assert detector.block[0] == ""
    unchanged = SentenceDetector("robust", MAGISTRAL.closing)
    unchanged.feed("So\n```\nx = 1 </think> We add them.")
    assert unchanged.block[0] == "```"


# ---------------------------------------------------------------- unknown tags
def template_of(ending: str, before_answers: str = "<|assistant|>", first: str = "") -> ChatTemplate:
    """A template by what stands before answers, and what prompts end with."""
    start = f"{{{{ {before_answers!r} if m.role == 'assistant' else '<|user|>' }}}}"
    body = f"{{% for m in messages %}}{start}{{{{ m.content + '\\n' }}}}{{% endfor %}}"
    return ChatTemplate(f"{first}{body}{{{{ {ending!r} }}}}", "", "", "model.gguf")


@pytest.mark.parametrize(
    ("ending", "before_answers", "found"),
    [
        ("<|assistant|>\n<deliberate>\n", "<|assistant|>\n", "<deliberate>"),
        ("<|assistant|>[REASON]", "<|assistant|>", "[REASON]"),
        ("<|assistant|><|scratch|>\n", "<|assistant|>", "<|scratch|>"),
        ("<|assistant|>\n", "<|assistant|>\n", None),  # the marks of roles are no reasoning
        ("[/INST]", "[/INST] ", None),
        ("<|im_start|>assistant\n", "<|im_start|>assistant\n", None),
        ("<|assistant|>\n<think>\n", "<|assistant|>\n", None),
        ("<|assistant|>\n<think>\n\n</think>\n\n", "<|assistant|>\n", None),
        ("<|assistant|>\n[THINK]", "<|assistant|>\n", None),
        ("<role>ASSISTANT</role>", "<role>ASSISTANT</role>", None),
    ],
)
def test_a_template_that_opens_an_unknown_tag_is_told(ending: str, before_answers: str, found: str | None) -> None:
    """Guards reasoning in tags that nobody knows, passed on as the answer without a word."""
    assert unknown_tag(template_of(ending, before_answers), Prompting()) == found


def test_the_end_of_a_turn_is_no_tag_of_the_reasoning() -> None:
    """Guards a warning of unknown tags for a template that opens no turn for the answer."""
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    assert unknown_tag(ChatTemplate(source, "", "", "model.gguf"), Prompting()) is None


def test_channels_are_told_and_a_template_that_refuses_is_not() -> None:
    refusing = "{% if messages | length > 1 %}{{ raise_exception('roles must alternate') }}{% endif %}"
    assert unknown_tag(template_of("<|start|>", first="{# <|channel|>analysis #}"), Prompting()) == "<|channel|>"
    assert unknown_tag(template_of("<deliberate>"), Prompting()) == "<deliberate>"
    assert unknown_tag(template_of("<deliberate>", first=refusing), Prompting()) is None
