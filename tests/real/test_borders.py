"""Pairs of real GGUF files with different words: each model reads the other's text as its own tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import records, run

from foreal_local.config import Pair
from foreal_local.method.roles import Role
from foreal_local.results import Result

from . import tiny_gguf
from .engines import DRAFT, LEADER, RAW, open_engine, pair_of, settings
from .models import TinyModels

MODELS = Path(__file__).parents[2] / "models"
MODES: list[dict[str, Any]] = [
    {"n": 3, "k": 2, "p": 0.7},
    {"n": 3, "k": 2, "p": 0.7, "proposals": 4},
    {"gate": "never", "review": "ratio", "tau": 0.4, "review_every": 12},
    {"gate": "entropy", "call_back": 1.5, "k": 1},
    {"mode": "speculative", "proposals": 4},
    {"mode": "leader"},
]
PROBLEMS = [json.loads(line)["prompt"] for line in (MODELS / "heldout.jsonl").read_text("utf-8").splitlines()[:6]]


def told(result: Result) -> list[Any]:
    """All that does not hang on numbers of words."""
    fields = [(t.author, t.text, t.sentence, t.led, t.hit, t.hits) for t in result.tokens]
    return [fields, result.finish_reason, result.sequence.n_handoffs, result.sequence.n_rewritten]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The bundled pair, the draft's words under other numbers."""
    draft = tiny_gguf.renumbered(
        MODELS / "tiny-draft.gguf", tmp_path_factory.mktemp("renumbered") / "draft.gguf", seed=5
    )
    return pair_of(MODELS / "tiny-leader.gguf", draft)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_other_numbers_for_the_same_words_change_nothing(numbered: Pair, mode: dict[str, Any]) -> None:
    """Guards ids that are taken for the other model's, where a trained model would make another sentence of them."""
    chosen = settings(max_tokens=120, temp=0.0, **mode)
    with open_engine(numbered, n_slots=3, ctx_size=1024) as engine:
        assert not engine.loaded.tokens.is_shared
        found = engine.generate(PROBLEMS, chosen)
    with open_engine(pair_of(MODELS / "tiny-leader.gguf", MODELS / "tiny-draft.gguf"), n_slots=3, ctx_size=1024) as own:
        wanted = own.generate(PROBLEMS, chosen)
    for one, other in zip(found, wanted, strict=True):
        assert told(one) == told(other)


@pytest.mark.parametrize(
    ("leader", "draft"),
    [(("llama", "plain"), ("llama", "other")), (("lfm2", "other"), ("mamba", "plain")),
     (("gemma3", "other"), ("lfm2", "plain"))],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_character_is_lost_or_doubled(
    leader: tuple[str, str], draft: tuple[str, str], mode: dict[str, Any], tiny: TinyModels
) -> None:
    """Guards borders inside words and characters, with every kind of memory; these models write all kinds of bytes."""
    pair = pair_of(tiny.model(*leader), tiny.model(*draft))
    with open_engine(pair, n_slots=2) as engine:
        results = engine.generate(["wait", "so the sum", "now"], settings(max_tokens=80, temp=0.9, **mode), RAW)
        for result in results:
            assert result.error is None
            written = b"".join(engine.piece(token.author, token.id) for token in result.tokens)
            for role, view in result.sequence.views.items():
                assert bytes_in(engine.piece, role, view.ids[view.n_prompt :]) + view.pending == written


def bytes_in(piece: Any, role: Role, ids: list[int]) -> bytes:
    return b"".join(piece(role, token) for token in ids)


def test_the_command_line_tells_it(numbered: Pair, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a pair that is refused, or that is answered without a word about what it costs."""
    models = ("-l", str(numbered.of(LEADER).path), "-d", str(numbered.of(DRAFT).path))
    done = run(*models, "--prompt", PROBLEMS[0], "--temp", "0", "-o", str(tmp_path / "o.jsonl"), env=env)
    assert done.returncode == 0, done.stderr
    assert "each model reads what the other wrote as text" in done.stderr
    assert records((tmp_path / "o.jsonl").read_text("utf-8"))[0]["finish_reason"] in ("stop", "length", "context")
