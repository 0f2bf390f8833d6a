"""Reasoning in other tags than <think>, in real GGUF files: records, budgets, warnings, pairs with different tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foreal_local.chat.conversation import Conversation
from foreal_local.config import Pair
from foreal_local.method.reasoning import TAGS, ReasoningTags
from foreal_local.results import Result

from . import tiny_gguf
from .engines import DRAFT, LEADER, open_engine, pair_of, settings

THINK, MAGISTRAL, SEED = TAGS[:3]


def model(path: Path, tags: ReasoningTags, seed: int, opening: str | None = None) -> Path:
    """A model with these tags as tokens, whose template opens the reasoning, and that often closes it."""
    words = tiny_gguf.plain()
    renamed = {THINK.opening: tags.opening, THINK.closing: tags.closing}
    specials = tuple(replace(each, text=renamed.get(each.text, each.text)) for each in words.specials)
    words = replace(words, specials=specials).with_emphasis(tags.closing, 1.15)
    template = tiny_gguf.CHATML.replace("assistant\n{% endif", f"assistant\n{opening or tags.opening}{{% endif")
    return tiny_gguf.write_llama(path, seed=seed, chat_template=template, vocabulary=words)


def pair(folder: Path, leader: ReasoningTags, draft: ReasoningTags) -> Pair:
    return pair_of(model(folder / "leader.gguf", leader, 1), model(folder / "draft.gguf", draft, 2))


@pytest.mark.parametrize("draft", [THINK, MAGISTRAL, SEED], ids=lambda tags: tags.opening)
@pytest.mark.parametrize("leader", [THINK, MAGISTRAL, SEED], ids=lambda tags: tags.opening)
def test_the_tags_change_nothing_but_their_spelling(
    leader: ReasoningTags, draft: ReasoningTags, tmp_path: Path
) -> None:
    """Guards reasoning that is taken for the answer, and a tag of one model that the other reads as letters."""
    generation = settings(n=2, k=1, p=0.5, max_tokens=120)
    questions = ["wait", "Hi", "now add"]
    (tmp_path / "same").mkdir()
    with open_engine(pair(tmp_path / "same", THINK, THINK)) as engine:
        expected = engine.generate(questions, generation)
    with open_engine(pair(tmp_path, leader, draft)) as engine:
        results = engine.generate(questions, generation)
        assert engine.warnings == []
    assert any(result.answer and result.reasoning for result in expected)
    for result, same in zip(results, expected, strict=True):
        assert result.reasoning == same.reasoning
        assert result.answer == same.answer.replace(THINK.closing, leader.closing)
        assert result.text == same.text.replace(THINK.closing, leader.closing).replace(THINK.opening, leader.opening)
        assert [(t.id, t.author) for t in result.tokens] == [(t.id, t.author) for t in same.tokens]
        views, like = result.sequence.views, same.sequence.views
        assert (views[LEADER].ids, views[DRAFT].ids) == (like[LEADER].ids, like[DRAFT].ids)


def test_a_budget_closes_the_reasoning_with_the_models_own_tag(tmp_path: Path) -> None:
    """Guards --think-budget that does nothing for other tags, /think last and an exported conversation."""
    with open_engine(pair(tmp_path, MAGISTRAL, SEED)) as engine:
        conversation = Conversation(engine, settings(max_tokens=40), think_budget=2)
        *_, result = conversation.ask("Hi")
        assert isinstance(result, Result)
        closings = {engine.loaded.tokens.encode(role, MAGISTRAL.closing)[0] for role in (LEADER, DRAFT)}
        assert MAGISTRAL.closing in result.text
        assert any(token.id in closings for token in result.tokens[:8])
        saved = tmp_path / "chat.session"
        conversation.save(saved)
        again = Conversation(engine)
        again.load(saved)
        for message in (conversation.messages[-1], again.messages[-1]):
            assert message.parts == (result.reasoning, result.answer)
            assert message.content.startswith(f"{MAGISTRAL.opening}\n")


def test_an_unknown_tag_is_told_once(tmp_path: Path) -> None:
    """Guards reasoning that is passed on as the answer without a word."""
    files = [model(tmp_path / f"{seed}.gguf", THINK, seed, "<deliberate>\n") for seed in (1, 2)]
    with open_engine(pair_of(*files)) as engine:
        assert [warning for warning in engine.warnings if "<deliberate>" in warning and "1.gguf" in warning]
        assert len(engine.warnings) == 1
        assert not engine.generate("Hi", settings(max_tokens=5)).starts_thinking
