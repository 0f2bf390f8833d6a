"""A draft that has other words than the leader, held against the leader along a response."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from commands import MODULE, ROOT, run
from real.tiny_gguf import renumbered

from foreal_local.evaluation.analysis.foreign import ForeignReading, Places
from foreal_local.evaluation.analysis.judging import LeaderReading, Predictions

WORDS = ["", " mis", "aligned", " misaligned", " mi", "s", " and", " so", " sow", "é", "!"]
END = 0
PIECES: dict[int, bytes | None] = {i: word.encode() or None for i, word in enumerate(WORDS)}


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def predictions(top1: list[int], relative: list[float]) -> Predictions:
    n = len(top1)
    words = [WORDS[token] for token in top1]
    return Predictions(np.array(top1), np.ones(n), np.ones(n), words, np.array(relative, float).reshape(n, -1))


def judged(
    leader: list[str], top1: list[str], draft: list[str], drafts_top1: list[str]
) -> tuple[list[bool], list[int]]:
    """Where both agree, and what the leader is asked about; `top1`: the leader's own at each of its tokens."""
    places = Places.of([word.encode() for word in leader], [word.encode() for word in draft])
    own = predictions(ids(*drafts_top1), [0.0] * len(draft))
    reading = ForeignReading(ids(*draft), own, places, PIECES.get)
    asked = reading.asked(lambda text: [next(i for i, w in enumerate(WORDS) if w and text.startswith(w))], END)
    ours = predictions(ids(*top1), [0.5] * len(leader))
    response = LeaderReading("0", ids(*leader), leader, [0] * len(leader), ours)
    judgement = reading.judgement(response, PIECES.get, 0)
    assert judgement.agrees.tolist() == [reading.writes(i, PIECES[token]) for i, token in enumerate(ids(*leader))]
    return judgement.aligned.tolist(), asked


@pytest.mark.parametrize(
    ("leader", "draft", "drafts_top1", "aligned", "asked"),
    [
        # one word of the draft is two of the leader's, and the other way round
        ([" mis", "aligned"], [" misaligned"], [" misaligned"], [True, True], [" mis", "aligned"]),
        ([" misaligned"], [" mis", "aligned"], [" mis", "aligned"], [True], [" mis"]),
        ([" misaligned"], [" mis", "aligned"], [" mis", "s"], [False], [" mis"]),
        # it goes another way inside of a word: the second of the leader's tokens is none of its text
        ([" mis", "aligned"], [" misaligned"], [" and"], [False, False], [" and", ""]),
        ([" mis", "aligned"], [" mi", "s", "aligned"], [" mi", "s", "s"], [True, False], [" mi", "s"]),
        # what it would write is longer than the leader's token
        ([" so", "!"], [" so", "!"], [" sow", "!"], [True, True], [" so", "!"]),
        ([" and"], [" and"], [""], [False], [""]),
    ],
)
def test_characters_are_compared(
    leader: list[str], draft: list[str], drafts_top1: list[str], aligned: list[bool], asked: list[str]
) -> None:
    """Guards ids of one vocabulary that are compared with the other's, and borders inside of words."""
    found, ids_asked = judged(leader, leader, draft, drafts_top1)
    assert found == aligned
    assert [WORDS[token] for token in ids_asked] == asked


def test_an_end_is_an_end() -> None:
    """Guards two ends of other numbers, and an end that is taken for any text."""
    assert judged([" so"], [""], [" so"], [""])[0] == [True]
    assert judged([" so"], [""], [" so"], [" so"])[0] == [False]


def test_nothing_is_refused_where_the_draft_has_left_the_text() -> None:
    """Guards one refusal that is counted for each of the leader's tokens in a word of the draft's."""
    places = Places.of([b" mis", b"aligned"], [b" misaligned"])
    reading = ForeignReading(ids(" misaligned"), predictions(ids(" and"), [0.0]), places, PIECES.get)
    ours = predictions(ids(" mis", "aligned"), [0.01, 0.01])
    response = LeaderReading("0", ids(" mis", "aligned"), [" mis", "aligned"], [0, 0], ours)
    assert reading.judgement(response, PIECES.get, 0).relative.tolist() == [0.01, 1.0]


def test_every_split_has_its_place() -> None:
    """Guards a place behind the token, or one before the last that is possible."""
    text = b" misaligned and so"
    for cuts in itertools.combinations(range(1, len(text)), 2):
        draft = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
        leader = [text[i : i + 3] for i in range(0, len(text), 3)]
        places = Places.of(leader, draft)
        begins = [0, *cuts]
        for i, (at, missing) in enumerate(zip(places.at, places.missing, strict=True)):
            assert begins[at] == max(begin for begin in begins if begin <= 3 * i)
            assert missing == text[begins[at] : 3 * i]


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundled draft, and the same with its words under other numbers."""
    draft = ROOT / "models/tiny-draft.gguf"
    return draft, renumbered(draft, tmp_path_factory.mktemp("foreign") / "renumbered.gguf", seed=5)


@pytest.mark.parametrize("source", ["--prompts", "--responses", "--trace"])
def test_other_numbers_for_the_same_words_give_the_same_figures(
    source: str, drafts: tuple[Path, Path], env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a pair of two vocabularies that is refused, or judged by ids, from every source of responses."""
    leader = str(ROOT / "models/tiny-leader.gguf")
    questions = [json.loads(line)["prompt"] for line in (ROOT / "models/heldout.jsonl").read_text().splitlines()[:3]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": each}) + "\n" for each in questions))
    found = []
    for draft in drafts:
        models, given = ("-l", leader, "-d", draft), tmp_path / "p.jsonl"
        if source != "--prompts":
            out = (
                "-o",
                tmp_path / "r.jsonl",
                "--trace",
                tmp_path / "t.jsonl",
                "-c",
                "512",
                "--max-tokens",
                "60",
                "--seed",
                "1",
            )
            written = run(*models, "-f", given, *out, "--temp", "0", "-n", "3", "--hits", "2", "-q", env=env)
            assert written.returncode == 0, written.stderr
            given = tmp_path / ("r.jsonl" if source == "--responses" else "t.jsonl")
        asked = (*models, source, given, "--max-tokens", "60", "-o", tmp_path / "o.json", "-q")
        done = run(*asked, env=env, command=[*MODULE[:-1], "analyze"])
        assert done.returncode == 0, done.stderr
        assert ("reads what the other wrote as text" in done.stderr) == (draft == drafts[1])
        [figures] = json.loads((tmp_path / "o.json").read_text())["drafts"]
        found.append({key: value for key, value in figures.items() if key not in ("name", "fingerprint", "relative")})
        assert 0 < figures["flags"][0].count("1") < len(figures["flags"][0])
    assert found[0] == found[1]
