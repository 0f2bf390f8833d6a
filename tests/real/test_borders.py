"""Pairs of real GGUF files with different words: each model reads the other's text as its own tokens."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import records, run

from foreal_local.config import Pair
from foreal_local.method.roles import Role
from foreal_local.results import Result

from . import replay_mixed, tiny_gguf
from .engines import DRAFT, LEADER, RAW, open_engine, pair_of, replayed, settings
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
@pytest.mark.parametrize("temp", [0.0, 0.9])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_character_is_lost_or_doubled(
    leader: tuple[str, str], draft: tuple[str, str], mode: dict[str, Any], temp: float, tiny: TinyModels, tmp_path: Path
) -> None:
    """Guards borders inside words and characters, with every kind of memory; these models write all kinds of bytes.
    Each decision is what both models say, too."""
    pair = pair_of(tiny.model(*leader), tiny.model(*draft))
    with open_engine(pair, n_slots=2) as engine:
        results = engine.generate(["wait", "so the sum", "now"], settings(max_tokens=80, temp=temp, **mode), RAW)
        for result in results:
            assert result.error is None
            written = b"".join(engine.piece(token.author, token.id) for token in result.tokens)
            for role, view in result.sequence.views.items():
                assert bytes_in(engine.piece, role, view.ids[view.n_prompt :]) + view.pending == written
    assert replayed(results, pair, tmp_path, replay_mixed.examine).violations == []


def bytes_in(piece: Any, role: Role, ids: list[int]) -> bytes:
    return b"".join(piece(role, token) for token in ids)


def test_the_command_line_tells_it(numbered: Pair, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a pair that is refused, or that is answered without a word about what it costs."""
    models = ("-l", str(numbered.of(LEADER).path), "-d", str(numbered.of(DRAFT).path))
    done = run(*models, "--prompt", PROBLEMS[0], "--temp", "0", "-o", str(tmp_path / "o.jsonl"), env=env)
    assert done.returncode == 0, done.stderr
    assert "each model reads what the other wrote as text" in done.stderr
    assert records((tmp_path / "o.jsonl").read_text("utf-8"))[0]["finish_reason"] in ("stop", "length", "context")


@pytest.fixture(scope="module")
def honest(numbered: Pair, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trace of a pair with two vocabularies: led parts, hits, reviews."""
    out = tmp_path_factory.mktemp("trace")
    (out / "prompts.jsonl").write_text("".join(json.dumps({"prompt": each}) + "\n" for each in PROBLEMS[:2]), "utf-8")
    command = [sys.executable, "-m", "foreal_local", "gen", "-l", str(numbered.of(LEADER).path)]
    command += ["-d", str(numbered.of(DRAFT).path), "-f", str(out / "prompts.jsonl"), "--temp", "0", "-c", "512", "-q"]
    command += ["--max-tokens", "80", "--review", "ratio", "--lead-tokens", "3", "--hits", "2", "--seed", "1"]
    subprocess.run([*command, "--trace", str(out / "t.jsonl")], check=True, capture_output=True, timeout=100)
    return [json.loads(line) for line in (out / "t.jsonl").read_text("utf-8").splitlines()]


def token_with(lines: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return next(line for line in lines if line["type"] == "token" and fields.items() <= line.items())


def another_token(lines: list[dict[str, Any]]) -> None:
    token_with(lines, author="draft")["token"] += 1


def another_author(lines: list[dict[str, Any]]) -> None:
    token_with(lines, author="leader")["author"] = "draft"


def no_hit(lines: list[dict[str, Any]]) -> None:
    token_with(lines, hit=True).update(hit=False, hits=0)


def a_rewrite_without_cause(lines: list[dict[str, Any]]) -> None:
    """What was taken back is what stands: the rule would have let it."""
    at = next(i for i, line in enumerate(lines) if line["type"] == "token" and line["author"] == "draft")
    line = lines[at]
    taken = {"type": "taken_back", "id": line["id"], "i": line["i"], "tokens": [line["token"]]}
    lines.insert(at, taken | {"pieces": [line["piece"]], "authors": ["draft"], "reason": "review ratio"})


def a_lost_blank(lines: list[dict[str, Any]]) -> None:
    line = next(line for line in lines if line["type"] == "token" and line["piece"].startswith(" "))
    line["piece"] = line["piece"][1:]


@pytest.mark.parametrize(
    "wrong",
    [None, another_token, another_author, no_hit, a_rewrite_without_cause, a_lost_blank],
    ids=lambda wrong: wrong.__name__ if wrong else "honest",
)
def test_the_replay_reports_what_is_wrong(
    wrong: Callable[[list[dict[str, Any]]], None] | None, honest: list[dict[str, Any]], numbered: Pair, tmp_path: Path
) -> None:
    """Guards a replay that finds nothing, whatever stands in the trace."""
    lines = copy.deepcopy(honest)
    if wrong is not None:
        wrong(lines)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    models = numbered.of(LEADER).path, numbered.of(DRAFT).path
    report = replay_mixed.examine(tmp_path / "t.jsonl", *models)
    assert bool(report.violations) == (wrong is not None)
    assert report.n_compared > 0
