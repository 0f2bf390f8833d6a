"""Pairs that share their words but not their special tokens, as Qwen2.5 and R1-Distill-Qwen do."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from foreal_local.config import ModelSettings, Pair, Prompting
from foreal_local.engine import Engine
from foreal_local.method.roles import Role
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Result

from .engines import DRAFT, LEADER, RAW, PairMaker, ask, open_engine, pair_of, settings
from .models import TinyModels
from .replay import TIE, Model, Step, opinions
from .tiny_gguf import ALPHABET, OTHER, byte_level, plain, qwen_like, r1_like

PROMPTS = (" the number is", " wait", " so half of ten", " now add", " let me check")
END_THINK = r1_like().id_of("</think>")


@pytest.fixture(scope="module")
def mixed(tiny: TinyModels) -> Pair:
    """An R1-like leader that often writes `</think>`, and an instruct draft."""
    return pair_of(tiny.model("llama", "r1_closing"), tiny.model("llama", "qwen_like", seed=5))


def swapped(pair: Pair) -> Pair:
    return Pair(pair.draft, pair.leader)


def read_by(engine: Engine, result: Result, role: Role) -> str:
    """The response as this role's vocabulary spells its view."""
    view, vocabulary = result.sequence.views[role], engine.loaded._vocabularies[role]
    return b"".join(vocabulary.piece(token) for token in view.ids[view.n_prompt :]).decode("utf-8", "replace")


@pytest.mark.parametrize("turned", [False, True], ids=["r1 leads", "qwen leads"])
@pytest.mark.parametrize("temp", [0.0, 1.2])
def test_both_views_spell_the_response(mixed: Pair, turned: bool, temp: float) -> None:
    """Guards a special token that the other model reads under its own id: another text, or another meaning."""
    r1 = DRAFT if turned else LEADER
    with open_engine(swapped(mixed) if turned else mixed) as engine:
        results = engine.generate(PROMPTS, settings(n=2, k=1, temp=temp, max_tokens=80), RAW)
        assert any("differ" in warning for warning in engine.warnings)
        spelled = engine.loaded._vocabularies[r1.other].encode("</think>")
        closings = 0
        for result in results:
            assert result.error is None
            assert read_by(engine, result, LEADER) == read_by(engine, result, DRAFT) == result.text
            for i, token in enumerate(result.tokens):
                if (token.author, token.id) == (r1, END_THINK):
                    closings += 1
                    for role, wanted in ((r1, [END_THINK]), (r1.other, spelled)):
                        view = result.sequence.views[role]
                        assert view.ids[view.starts[i] :][: len(wanted)] == wanted
    assert len(spelled) > 1, "one token in the other model as well: this test says nothing"
    assert closings >= 1, "nobody wrote the token that this test is about"


@pytest.mark.parametrize("turned", [False, True], ids=["r1 leads", "qwen leads"])
def test_each_author_decides_under_its_own_view(mixed: Pair, turned: bool) -> None:
    """Guards positions after a token that is several tokens for the other: every choice and hit is judged again."""
    pair = swapped(mixed) if turned else mixed
    results = ask(pair, PROMPTS[:3], settings(n=2, k=1, p=0.8, max_tokens=80))
    n_compared = 0
    for result in results:
        tops: dict[Role, list[Any]] = {}
        for role, model_settings in ((LEADER, pair.leader), (DRAFT, pair.draft)):
            view = result.sequence.views[role]
            prompt, response = view.ids[: view.n_prompt], view.ids[view.n_prompt :]
            with closing(Model(model_settings.path, len(view.ids) + 1)) as model:
                every = opinions(model, prompt, [*response, 0], TIE)
            tops[role] = [every[start - view.n_prompt] for start in view.starts]
        for i, token in enumerate(result.tokens):
            assert token.id in tops[token.author][i].near
            if token.hit is not None and token.top1 < len(plain().ordinary):
                n_compared += 1
                step = Step({}, tops[LEADER][i], tops[DRAFT][i])
                assert token.hit == step.aligned or step.can_be(token.hit)
    assert n_compared > 20


@pytest.mark.parametrize(
    ("leader", "draft", "author"),
    [("r1_short", "qwen_like", LEADER), ("r1_like", "qwen_short", DRAFT), ("qwen_short", "r1_like", LEADER)],
)
def test_the_end_of_generation_of_either_ends_the_response(
    leader: str, draft: str, author: Role, tiny: TinyModels, make: PairMaker
) -> None:
    """Guards an end-of-generation token that only the leader's vocabulary is asked about."""
    pair = pair_of(tiny.model("llama", leader), tiny.model("llama", draft, seed=5))
    with open_engine(pair) as engine:
        results = engine.generate(PROMPTS * 2, settings(n=1, k=0, p=0.5, max_tokens=150), RAW)
        ended = [result for result in results if result.finish_reason is FinishReason.STOP]
        assert author in {result.tokens[-1].author for result in ended}
        for result in results:
            ends = [i for i, t in enumerate(result.tokens) if engine.loaded._vocabularies[t.author].is_end(t.id)]
            assert ends == ([len(result.tokens) - 1] if result in ended else [])
            if ends:
                assert result.tokens[-1].text == ""
                assert read_by(engine, result, LEADER) == read_by(engine, result, DRAFT) == result.text


def test_each_role_has_the_prompt_of_its_own_template(mixed: Pair) -> None:
    """Guards one rendered prompt for both: the markers of one are text for the other."""
    with open_engine(mixed) as engine:
        encoded = engine.encode("wait", Prompting(system="ten"))
    assert encoded.starts_thinking
    r1, qwen = encoded.ids[LEADER], encoded.ids[DRAFT]
    assert r1[0] == r1_like().id_of("<｜begin▁of▁sentence｜>")
    assert r1_like().id_of("<｜User｜>") in r1
    assert r1.count(r1_like().id_of("<｜begin▁of▁sentence｜>")) == 1
    assert qwen[0] == qwen_like().id_of("<|im_start|>")
    end = bytes(ALPHABET.index(letter) for token in qwen[-8:] for letter in qwen_like().texts[token])
    assert end == b"<think>\n", "the tag that the leader's template opens is missing for the draft"


def test_models_that_do_not_share_their_words_are_told(tiny: TinyModels) -> None:
    """Guards two vocabularies of one size and type that differ in one word, which are taken for one: every later word
    would be another."""
    token = plain().id_of(OTHER[0])
    with open_engine(pair_of(tiny.model("llama", "plain"), tiny.model("llama", "other"))) as engine:
        [told] = engine.warnings
        assert str(token) in engine.loaded.tokens.why_not_shared
    for part in (str(token), *(byte_level(text) for text in OTHER), "reads what the other wrote as text"):
        assert part in told


def test_one_vocabulary_needs_no_warning_and_no_translation(tiny: TinyModels) -> None:
    """Guards a warning for every pair, and a draft with its own copy of the same words."""
    pair = Pair(ModelSettings(tiny.model("llama", "plain")), ModelSettings(tiny.model("lfm2", "plain")))
    with open_engine(pair) as engine:
        assert (engine.warnings, engine.loaded.tokens.n_different) == ([], 0)
        (result,) = engine.generate([PROMPTS[0]], settings(), RAW)
    assert result.sequence.views[LEADER].ids == result.sequence.views[DRAFT].ids
