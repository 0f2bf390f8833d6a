"""The replay accepts honest traces of every architecture, and reports whatever is wrong with others.

Honest traces come from reference.py; wrong ones are honest ones edited, or written by a decoder that is one
off.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import replay, tiny_gguf
from .reference import reference_foreal

Line = dict[str, Any]

PROMPTS = ((" the", " number", " is"), (" wait", ","), (" so", " half", " of", " ten"))
WRITERS = {
    "llama": tiny_gguf.write_llama,
    "moe": tiny_gguf.write_moe,
    "gemma3": tiny_gguf.write_gemma3,
    "lfm2": tiny_gguf.write_lfm2,
    "mamba": tiny_gguf.write_mamba,
}
N, K = 4, 2


class Pair(NamedTuple):
    leader: Path
    draft: Path


def make_pair(folder: Path, architecture: str, vocabulary: tiny_gguf.Vocabulary) -> Pair:
    leader = WRITERS[architecture](folder / f"{architecture}-leader.gguf", seed=2, vocabulary=vocabulary)
    return Pair(leader, tiny_gguf.perturbed(leader, folder / f"{architecture}-draft.gguf", seed=3))


@pytest.fixture(scope="module", autouse=True)
def silent() -> None:
    replay.silence_llama_cpp()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    """Answers of this pair go on until max_tokens."""
    return make_pair(folder, "llama", tiny_gguf.plain().with_emphasis("<|im_end|>", 0.1))


@pytest.fixture(scope="module")
def honest(pair: Pair) -> list[Line]:
    return decode(pair)


@pytest.fixture(scope="module")
def stopped(folder: Path) -> tuple[Pair, list[Line]]:
    """A pair that ends its answers soon, and an answer that ends with an end-of-generation token."""
    (folder / "stopping").mkdir()
    pair = make_pair(folder / "stopping", "llama", tiny_gguf.plain().with_emphasis("<|im_end|>", 1.4))
    for prompt in PROMPTS:
        lines = decode(pair, prompts=[prompt])
        if lines[-1]["finish_reason"] == "stop":
            return pair, lines
    raise AssertionError("no answer ended by itself: raise the emphasis of the end-of-generation token")


def decode(
    pair: Pair, n: int = N, k: int = K, hits_from: str = "lead", prompts: Any = PROMPTS, max_tokens: int = 60
) -> list[Line]:
    """An honest trace, one answer per prompt; every second sentence is the draft's."""
    lines: list[Line] = []
    for i, texts in enumerate(prompts):
        ids = tiny_gguf.plain().ids_of(*texts)
        header, *answer = reference_foreal(
            *pair, ids, n, 0.6, k, hits_from, lambda s: s % 2 == 0, max_tokens, prompt_id=str(i)
        )
        lines += [*answer] if lines else [header, *answer]
    return lines


def examine(lines: list[Line], pair: Pair, folder: Path, **options: Any) -> replay.Report:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return replay.examine(path, *pair, **options)


def tokens(lines: list[Line], prompt: str | None = None) -> list[Line]:
    return [line for line in lines if line["type"] == "token" and prompt in (None, line["id"])]


def recount(lines: list[Line]) -> None:
    """Sets every counter to what the flags say."""
    before: Line = {}
    for line in tokens(lines):
        same = (line["id"], line["sentence"]) == (before.get("id"), before.get("sentence"))
        hits = before["hits"] if same else 0
        line["hits"] = hits if line["hit"] is None else (hits + 1) * line["hit"]
        before = line


# --- Honest traces ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "hits_from"), [(4, 2, "lead"), (3, 0, "lead"), (4, 3, "sentence")])
@pytest.mark.parametrize("architecture", WRITERS)
def test_honest_trace_is_accepted(
    architecture: str, n: int, k: int, hits_from: str, folder: Path, tmp_path: Path
) -> None:
    """Guards against a replay that objects to the method itself, and models that repeat themselves."""
    pair = make_pair(folder, architecture, tiny_gguf.plain())
    lines = decode(pair, n, k, hits_from, PROMPTS[:2])
    report = examine(lines, pair, tmp_path)
    assert report.violations == []
    assert report.n_answers == 2
    assert report.n_near_ties < 0.05 * report.n_tokens
    assert len({line["token"] for line in tokens(lines)}) > 0.2 * len(tokens(lines))


def test_honest_trace_has_everything_to_get_wrong(pair: Pair, honest: list[Line], tmp_path: Path) -> None:
    """The tests below mean something: there are hits and misses, handoffs, open and closed gates."""
    assert {line["hit"] for line in tokens(honest)} == {True, False, None}
    assert {line["led"] for line in tokens(honest)} == {True, False}
    report = examine(honest, pair, tmp_path)
    assert report.violations == []
    assert report.n_handoffs >= 3


def test_answer_that_stops_is_accepted(stopped: tuple[Pair, list[Line]], tmp_path: Path) -> None:
    pair, lines = stopped
    assert lines[-2]["piece"] == ""
    assert examine(lines, pair, tmp_path).violations == []


def test_stop_string_needs_no_end_of_generation_token(pair: Pair, honest: list[Line], tmp_path: Path) -> None:
    lines = copy.deepcopy(honest)
    lines[-1]["finish_reason"] = "stop"
    assert examine(lines, pair, tmp_path, stop=[lines[-2]["piece"]]).violations == []


# --- Edited traces ----------------------------------------------------------------------------------


def wrong_token(lines: list[Line]) -> None:
    tokens(lines)[-1]["token"] = 0


def wrong_author(lines: list[Line]) -> None:
    next(line for line in tokens(lines) if not line["led"])["author"] = "leader"


def author_switches_back(lines: list[Line]) -> None:
    handed_off = [line for line in tokens(lines) if line["led"] and line["author"] == "draft"]
    handed_off[-1]["author"] = "leader"


def misses_as_hits(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["hit"] = line["hit"] is not None or None
    recount(lines)


def hits_as_misses(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["hit"] = None if line["hit"] is None else False
    recount(lines)


def missing_hits(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["hit"] = None
    recount(lines)


def wrong_counter(lines: list[Line]) -> None:
    next(line for line in tokens(lines) if line["hit"])["hits"] += 1


def counter_not_reset(lines: list[Line]) -> None:
    next(line for line in tokens(lines) if line["hit"] is False)["hits"] = 1


def gate_said_open(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["led"] = True


def gate_said_closed(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["led"] = False


def led_changes(lines: list[Line]) -> None:
    sentence = [line for line in tokens(lines, "0") if line["sentence"] == 0]
    assert len(sentence) > 1
    sentence[-1]["led"] = not sentence[-1]["led"]


def token_left_out(lines: list[Line]) -> None:
    del lines[lines.index(tokens(lines)[5])]


def sentence_left_out(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["sentence"] += line["sentence"] > 0


def sentences_from_one(lines: list[Line]) -> None:
    for line in tokens(lines):
        line["sentence"] += 1


def missing_end(lines: list[Line]) -> None:
    lines.remove(next(line for line in lines if line["type"] == "end"))


def missing_header(lines: list[Line]) -> None:
    del lines[0]


def missing_field(lines: list[Line]) -> None:
    del tokens(lines)[3]["author"]


def token_after_the_end(lines: list[Line]) -> None:
    lines.append(tokens(lines)[-1])


def stop_for_no_reason(lines: list[Line]) -> None:
    lines[-1]["finish_reason"] = "stop"


def gate_open_at_p_0(lines: list[Line]) -> None:
    lines[0]["p"] = 0.0


def gate_closed_at_p_1(lines: list[Line]) -> None:
    lines[0]["p"] = 1.0


def draft_in_leader_mode(lines: list[Line]) -> None:
    lines[0]["mode"] = "leader"


def leader_in_draft_mode(lines: list[Line]) -> None:
    lines[0]["mode"] = "draft"


@pytest.mark.parametrize(
    ("edit", "objection"),
    [
        (wrong_token, "writes 0, its top-1 is"),
        (wrong_author, "written by the leader, expected the draft"),
        (author_switches_back, "written by the leader, expected the draft"),
        (misses_as_hits, "hit is True"),
        (hits_as_misses, "hit is False"),
        (missing_hits, "was not compared"),
        (wrong_counter, "hits is"),
        (counter_not_reset, "hits is 1, expected 0"),
        (gate_said_open, "not due yet"),
        (gate_said_closed, "written by the leader, expected the draft"),
        (led_changes, "led changes inside sentence 0"),
        (token_left_out, "i is 6, expected 5"),
        (sentence_left_out, "sentence 2 follows sentence 0"),
        (sentences_from_one, "sentence 1 follows sentence -1"),
        (missing_end, "no end line"),
        (missing_header, "no header line"),
        (missing_field, "a token line without author"),
        (token_after_the_end, "a token line out of place"),
        (stop_for_no_reason, "'stop' without"),
        (gate_open_at_p_0, "led is True although p is 0"),
        (gate_closed_at_p_1, "led is False although p is 1"),
        (draft_in_leader_mode, "written by the draft, expected the leader"),
        (leader_in_draft_mode, "written by the leader, expected the draft"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_edited_trace_is_reported(
    edit: Callable[[list[Line]], None], objection: str, pair: Pair, honest: list[Line], tmp_path: Path
) -> None:
    lines = copy.deepcopy(honest)
    edit(lines)
    violations = examine(lines, pair, tmp_path).violations
    assert any(objection in violation for violation in violations), violations


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"finish_reason": "length"}, "an end-of-generation token, and finish_reason is 'length'"),
        ({"piece": "<|im_end|>"}, "the end-of-generation token has the piece '<|im_end|>'"),
    ],
)
def test_wrong_ending_is_reported(
    changes: Line, objection: str, stopped: tuple[Pair, list[Line]], tmp_path: Path
) -> None:
    pair, lines = stopped
    edited = [{**line, **{k: v for k, v in changes.items() if k in line}} for line in lines[-2:]]
    violations = examine([*lines[:-2], *edited], pair, tmp_path).violations
    assert len(violations) == 1
    assert objection in violations[0]


def test_going_on_after_the_end_of_generation_is_reported(stopped: tuple[Pair, list[Line]], tmp_path: Path) -> None:
    pair, lines = stopped
    last = lines[-2]
    more = {**last, "i": last["i"] + 1}
    violations = examine([*lines[:-1], more, lines[-1]], pair, tmp_path).violations
    assert any("and the answer goes on" in violation for violation in violations)


# --- Decoders that are one off ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actual", "objection"),
    [
        ({"k": K - 1}, "not due yet"),
        ({"k": K + 1}, "the leader writes on"),
        ({"n": N - 1}, "not due yet"),
        ({"n": N + 1}, "the leader writes on"),
        ({"hits_from": "sentence"}, "not due yet"),
    ],
    ids=str,
)
def test_handoff_one_off_is_reported(actual: Line, objection: str, pair: Pair, tmp_path: Path) -> None:
    """The decoder follows `actual`, its header says otherwise: a handoff a token early or late."""
    lines = decode(pair, **actual)
    lines[0] |= {"n": N, "k": K, "hits_from": "lead"}
    violations = examine(lines, pair, tmp_path).violations
    assert any(objection in violation for violation in violations), violations


def test_hits_counted_from_the_lead_are_reported(pair: Pair, tmp_path: Path) -> None:
    """The header promises counting from the sentence's start; the handoffs come later than that."""
    lines = decode(pair)
    lines[0]["hits_from"] = "sentence"
    violations = examine(lines, pair, tmp_path).violations
    assert any("the leader writes on" in violation for violation in violations), violations


def test_swapped_models_are_reported(pair: Pair, honest: list[Line], tmp_path: Path) -> None:
    """A replay that judged both authors by one model would not notice."""
    assert len(examine(honest, Pair(pair.draft, pair.leader), tmp_path).violations) > 10


# --- Near ties and the command line -----------------------------------------------------------------


def test_near_ties_are_counted_and_no_violations(pair: Pair, honest: list[Line], tmp_path: Path) -> None:
    """With a tolerance of the logits' whole range every token and every flag is a near tie."""
    lines = copy.deepcopy(honest)
    wrong_token(lines)
    assert examine(lines, pair, tmp_path, tie=0.0).violations
    report = examine(lines, pair, tmp_path, tie=1.0)
    assert report.violations == []
    assert report.n_near_ties >= 1


def test_command_line(pair: Pair, honest: list[Line], tmp_path: Path) -> None:
    """It runs as a script, and its exit code is for scripts."""
    examine(honest, pair, tmp_path)
    command = [sys.executable, replay.__file__, str(tmp_path / "trace.jsonl")]
    good = subprocess.run([*command, *map(str, pair)], capture_output=True, text=True)
    assert (good.returncode, good.stdout.split(" in ")[0]) == (0, "0 violations")
    bad = subprocess.run([*command, str(pair.draft), str(pair.leader)], capture_output=True, text=True)
    assert bad.returncode == 1
    assert "its top-1 is" in bad.stdout
