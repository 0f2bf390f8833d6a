"""The replay accepts honest traces of every architecture, and reports whatever is wrong with others.

Honest traces come from reference.py; wrong ones are honest ones edited, or written by a decoder that is one
off. Traces of what goes beyond the paper come from the package itself, whose every decision they guard.
"""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from foreal_local.batch.trace import trace_header, trace_lines
from foreal_local.results import Result

from . import replay, tiny_gguf
from .engines import ask, pair_of, settings
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


# --- Beyond the paper -------------------------------------------------------------------------------

WAYS: dict[str, Line] = {
    "exact": {"gate": "never", "review": "exact"},
    "ratio": {"gate": "never", "review": "ratio", "tau": 0.5},
    "fly": {"gate": "never", "review": "fly", "fly_theta": 0.8, "fly_window": 1},
    "typical": {"gate": "never", "review": "typical", "typical_eps": 0.3, "typical_delta": 0.9},
    "call-back": {"call_back": 1.5},
    "entropy": {"gate": "entropy", "gate_entropy": 2.0},
    "share": {"gate": "entropy", "gate_entropy": 2.0, "lead_share": 0.4},
    "all": {
        "gate": "entropy", "gate_entropy": 1.5, "lead_share": 0.4, "call_back": 2.0, "review": "ratio", "tau": 0.9,
        "review_every": 3, "rewrite_n": 2, "rewrite_k": 1,
    },
}  # fmt: skip
"""Settings of mode foreal that are not the paper's."""
HOLDING = (" is let", " of number", " ten number")
"""Prompts with places where the leader's own token shows that the sentence had ended before what it takes back."""


def texts_of(prompts: Any = PROMPTS) -> list[str]:
    return ["".join(words) for words in prompts]


def lines_of(results: list[Result]) -> list[Line]:
    header = trace_header(results[0].sequence.settings, "", "")
    return [json.loads(line) for line in "".join([header, *map(trace_lines, results)]).splitlines()]


def written(pair: Pair, way: str, *, temp: float = 0.0, prompts: Any = None, **method: Any) -> list[Line]:
    """The trace of the package's answers, written in one of WAYS."""
    generation = settings(temp=temp, **{**WAYS[way], **method})
    return lines_of(ask(pair_of(*pair), prompts or texts_of(), generation, n_slots=2))


def taken_back(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["type"] == "taken_back"]


def rewritten(lines: list[Line]) -> list[Line]:
    """The tokens that were written instead of what was taken back."""
    return [lines[i + 1] for i, line in enumerate(lines) if line["type"] == "taken_back"]


def called_back(lines: list[Line]) -> list[Line]:
    """Tokens with which the leader goes on behind the draft."""
    found = []
    for before, line in itertools.pairwise(tokens(lines)):
        if (before["sentence"], before["author"], line["author"]) == (line["sentence"], "draft", "leader"):
            found.append(line)
    return found


def claim(**changes: Any) -> Callable[[list[Line]], None]:
    """An edit: the trace says that it was written with other settings."""

    def edit(lines: list[Line]) -> None:
        for line in lines:
            if line["type"] in ("header", "prompt"):
                line |= changes

    edit.__name__ = " ".join(f"{name} {value}" for name, value in changes.items())
    return edit


@pytest.fixture(scope="module")
def honest_ways(pair: Pair) -> dict[str, list[Line]]:
    return {way: written(pair, way) for way in WAYS}


@pytest.mark.parametrize("hits_from", ["lead", "sentence"])
@pytest.mark.parametrize("proposals", [0, 4])
@pytest.mark.parametrize("way", WAYS)
def test_what_the_package_writes_is_accepted(
    way: str, proposals: int, hits_from: str, pair: Pair, tmp_path: Path
) -> None:
    """Guards decisions of the package that are not the rule's, and proposals that change what is written."""
    lines = written(pair, way, proposals=proposals, hits_from=hits_from)
    report = examine(lines, pair, tmp_path)
    assert report.violations == []
    assert report.n_answers == len(PROMPTS)
    assert report.n_near_ties < 0.05 * report.n_tokens
    reviewed, calls = WAYS[way].get("review"), WAYS[way].get("call_back")
    assert (report.n_taken_back >= 3) == bool(reviewed)
    assert (report.n_call_backs >= 5) == bool(calls)
    assert len({line["led"] for line in tokens(lines)}) == (1 if WAYS[way].get("gate") == "never" else 2)


@pytest.mark.parametrize("architecture", ["gemma3", "lfm2", "mamba"])
def test_other_memories_are_accepted(architecture: str, folder: Path, tmp_path: Path) -> None:
    """Guards caches that keep what was taken back: a window's, a recurrent state's. (Of a mixture of experts another
    rounding may ask another expert, which is no near tie.)"""
    pair = make_pair(folder, architecture, tiny_gguf.plain().with_emphasis("<|im_end|>", 0.1))
    report = examine(written(pair, "all", proposals=4), pair, tmp_path)
    assert report.violations == []
    assert report.n_taken_back >= 3


@pytest.mark.parametrize("way", WAYS)
def test_sampled_answers_are_judged_by_what_is_certain(way: str, pair: Pair, tmp_path: Path) -> None:
    """Guards a replay that calls a leader's draw wrong, and gates and call-backs that hang on the temperature."""
    report = examine(written(pair, way, temp=0.8, compare="sampled"), pair, tmp_path)
    assert report.violations == []
    assert report.n_taken_back or not WAYS[way].get("review")


@pytest.mark.parametrize("gate", ["never", "always"])
def test_an_end_that_the_leader_shows_is_accepted(gate: str, pair: Pair, tmp_path: Path) -> None:
    """Guards what is taken back behind a sentence's last token against being held against the next sentence: the
    leader's own token showed that the sentence had ended, so that it was not written there."""
    lines = written(pair, "exact", prompts=list(HOLDING), gate=gate)
    assert examine(lines, pair, tmp_path).violations == []
    numbers = {(line["id"], line["i"]): line for line in tokens(lines)}
    places = [(line["id"], line["i"]) for line in taken_back(lines) if line["i"] > 0]
    begins = [at for at in places if numbers[at]["sentence"] != numbers[at[0], at[1] - 1]["sentence"]]
    assert any(numbers[at]["led"] for at in begins) if gate == "always" else len(begins) > len(set(begins))


def test_an_answers_own_settings_hold(pair: Pair, tmp_path: Path) -> None:
    """Guards the header's settings against being read into a prompt line that leaves out what has its old meaning."""
    ways = [{"review": "exact", "gate": "never"}, {}, {"call_back": 1.5, "gate": "always"}, {"n": 1, "k": 3}]
    lines: list[Line] = []
    for number, way in enumerate(ways):
        header, *answer = lines_of(ask(pair_of(*pair), texts_of(PROMPTS[:1]), settings(**way)))
        lines += [*([] if lines else [header]), *({**line, "id": str(number)} for line in answer)]
    report = examine(lines, pair, tmp_path)
    assert (report.violations, report.n_answers) == ([], len(ways))
    assert report.n_taken_back
    assert report.n_call_backs


# --- Forgeries of it --------------------------------------------------------------------------------


def other_token_taken_back(lines: list[Line]) -> None:
    taken_back(lines)[0]["tokens"][0] = 0


def later_token_taken_back(lines: list[Line]) -> None:
    next(line for line in taken_back(lines) if len(line["tokens"]) > 1)["tokens"][1] = 0


def leaders_token_taken_back(lines: list[Line]) -> None:
    taken_back(lines)[0]["authors"][-1] = "leader"


def nothing_taken_back(lines: list[Line]) -> None:
    taken_back(lines)[0].update(tokens=[], pieces=[], authors=[])


def no_reason(lines: list[Line]) -> None:
    taken_back(lines)[0]["reason"] = ""


def no_line_of_it(lines: list[Line]) -> None:
    lines.remove(taken_back(lines)[0])


def line_of_another_place(lines: list[Line]) -> None:
    taken_back(lines)[0]["i"] += 1


def line_without_authors(lines: list[Line]) -> None:
    del taken_back(lines)[0]["authors"]


def taken_back_twice(lines: list[Line]) -> None:
    line = next(line for line in taken_back(lines) if line["i"] > 0)
    lines.insert(lines.index(line), copy.deepcopy(line))


def taken_back_in_the_leaders_part(lines: list[Line]) -> None:
    of_leader = next(line for line in tokens(lines) if line["hits"] == 1 and line["author"] == "leader")
    gone = {"tokens": [of_leader["token"]], "pieces": [of_leader["piece"]], "authors": ["draft"], "reason": "forged"}
    lines.insert(lines.index(of_leader), {"type": "taken_back", "id": of_leader["id"], "i": of_leader["i"], **gone})


def nothing_instead(lines: list[Line]) -> None:
    last = taken_back(lines)[-1]
    del lines[lines.index(last) + 1 :]
    lines.append({"type": "end", "id": last["id"], "finish_reason": "length"})


def same_token_again(lines: list[Line]) -> None:
    rewritten(lines)[0]["token"] = taken_back(lines)[0]["tokens"][0]


def rewritten_by_the_draft(lines: list[Line]) -> None:
    rewritten(lines)[0]["author"] = "draft"


def rewritten_token_is_a_hit(lines: list[Line]) -> None:
    rewritten(lines)[0].update(hit=False)


def hits_go_on_at_a_rewritten_token(lines: list[Line]) -> None:
    rewritten(lines)[-1]["hits"] = 1


def hits_go_on_at_a_call_back(lines: list[Line]) -> None:
    line = next(line for line in called_back(lines) if line["hit"])
    line["hits"] += 1


def never_called_back(lines: list[Line]) -> None:
    called_back(lines)[0]["author"] = "draft"


def other_led(lines: list[Line]) -> None:
    for line in tokens(lines, "0"):
        line["led"] = not line["led"]


def missing_hit_before_a_call_back(lines: list[Line]) -> None:
    called_back(lines)[0]["hit"] = None


@pytest.mark.parametrize(
    ("way", "edit", "objection"),
    [
        ("ratio", claim(review="exact"), "stands, rule exact refuses it"),
        ("ratio", claim(tau=0.95), "stands, rule ratio refuses it"),
        ("ratio", claim(tau=0.1), "is taken back, rule ratio accepts it"),
        ("exact", claim(review="ratio", tau=0.3), "is taken back, rule ratio accepts it"),
        ("fly", claim(fly_theta=1.1), "stands, rule fly refuses it"),
        ("fly", claim(fly_window=6), "stands, rule fly refuses it"),
        ("fly", claim(fly_window=0), "is taken back, rule fly accepts it"),
        ("fly", claim(fly_theta=0.1), "is taken back, rule fly accepts it"),
        ("fly", claim(review_every=2), "stands, rule fly refuses it"),
        ("typical", claim(typical_eps=1.0, typical_delta=9.0), "stands, rule typical refuses it"),
        ("typical", claim(typical_eps=0.01), "is taken back, rule typical accepts it"),
        ("typical", claim(typical_delta=0.01), "is taken back, rule typical accepts it"),
        ("exact", claim(review="off"), "although nothing is reviewed"),
        ("exact", claim(mode="draft"), "tokens are taken back in mode draft"),
        ("exact", claim(review_every=3), "tokens before they were reviewed"),
        ("exact", claim(rewrite_k=3), "not due yet"),
        ("exact", claim(rewrite_k=1), "the leader writes on"),
        ("exact", claim(rewrite_n=4), "not due yet"),
        ("all", claim(rewrite_n=0), "the leader writes on"),
        ("exact", other_token_taken_back, "the draft writes 0, its top-1 is"),
        ("exact", later_token_taken_back, "the draft writes 0, its top-1 is"),
        ("exact", leaders_token_taken_back, "the leader's token was taken back"),
        ("exact", nothing_taken_back, "nothing was taken back"),
        ("exact", no_reason, "for no reason"),
        ("exact", no_line_of_it, "written by the leader, expected the draft"),
        ("exact", line_of_another_place, "a taken_back line out of place"),
        ("exact", line_without_authors, "a taken_back line without authors"),
        ("exact", taken_back_twice, "taken back twice"),
        ("exact", taken_back_in_the_leaders_part, "although it was not the draft's turn"),
        ("exact", nothing_instead, "nothing is written instead"),
        ("exact", same_token_again, "is taken back, and written again"),
        ("exact", rewritten_by_the_draft, "rewritten by the draft, expected the leader"),
        ("exact", rewritten_token_is_a_hit, "a rewritten token is no hit and no miss"),
        ("exact", hits_go_on_at_a_rewritten_token, "hits is 1, expected 0"),
        ("call-back", claim(call_back=1.0), "the draft writes although its entropy is"),
        ("call-back", claim(call_back=2.5), "the leader"),
        ("call-back", claim(call_back=None), "written by the leader, expected the draft"),
        ("all", claim(call_back=1.0), "the draft writes although its entropy is"),
        ("call-back", claim(k=K + 1), "not due yet"),
        ("call-back", claim(k=K - 1), "the leader writes on"),
        ("call-back", never_called_back, "the draft writes although its entropy is"),
        ("call-back", hits_go_on_at_a_call_back, "hits is 2, expected 1"),
        ("call-back", missing_hit_before_a_call_back, "was not compared"),
        ("entropy", claim(gate_entropy=2.6), "led is True, the draft's entropy"),
        ("entropy", claim(gate_entropy=1.0), "led is False, the draft's entropy"),
        ("entropy", claim(lead_share=0.4), "the draft's entropy"),
        ("entropy", other_led, "the draft's entropy"),
        ("entropy", claim(gate="always"), "led is False, the gate is always"),
        ("entropy", claim(gate="never"), "led is True, the gate is never"),
        ("share", claim(lead_share=None), "the draft's entropy"),
        ("share", claim(lead_share=0.9), "led is False, the draft's entropy"),
        ("share", claim(gate_entropy=1.0), "led is False, the draft's entropy"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "" if " " in value else value,
)
def test_a_forgery_is_found(
    way: str,
    edit: Callable[[list[Line]], None],
    objection: str,
    honest_ways: dict[str, list[Line]],
    pair: Pair,
    tmp_path: Path,
) -> None:
    """Guards a replay that does not look: at a rule's knob, at whose turn it is, at a line of what was taken back."""
    lines = copy.deepcopy(honest_ways[way])
    edit(lines)
    violations = examine(lines, pair, tmp_path).violations
    assert any(objection in violation for violation in violations), violations


@pytest.mark.parametrize(
    ("way", "edit", "objection"),
    [
        ("ratio", claim(tau=0.0), "is taken back, rule ratio accepts it"),
        ("typical", claim(typical_eps=0.0), "is taken back, rule typical accepts it"),
        ("fly", claim(fly_theta=0.0, fly_window=0), "is taken back, rule fly accepts it"),
        ("exact", same_token_again, "is taken back, and written again"),
        ("call-back", claim(call_back=1.0), "the draft writes although its entropy is"),
        ("share", claim(lead_share=0.9), "led is False, the draft's entropy"),
        ("ratio", claim(tau=1.0), None),
        ("ratio", other_token_taken_back, None),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_forgery_of_a_sampled_answer_is_found_where_it_is_certain(
    way: str, edit: Callable[[list[Line]], None], objection: str | None, pair: Pair, tmp_path: Path
) -> None:
    """Guards a replay that judges nothing of sampled answers, or what hangs on draws that it does not know."""
    lines = written(pair, way, temp=0.8)
    edit(lines)
    violations = examine(lines, pair, tmp_path).violations
    if objection is None:
        assert violations == []
    assert objection is None or any(objection in violation for violation in violations), violations


# --- Thresholds -------------------------------------------------------------------------------------

KNOBS = {"tau": 0.2, "fly_theta": 0.5, "typical_eps": 0.09, "typical_delta": 0.3}
LOOKS: dict[str, replay.Look] = {
    "uncertainty": replay.uncertainty,
    **{rule: make({**KNOBS}) for rule, make in replay.RULES.items()},
    "typical by eps": replay.typical({**KNOBS, "typical_eps": 1e-6}),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_margin_is_what_moved_logits_can_do(name: str) -> None:
    """Guards margins too small (roundings are violations) or too large (violations are near ties): each logit moved by
    itself, and the changes added up."""
    look, shift = LOOKS[name], 1e-3
    row = np.random.default_rng(4).normal(0, 2, 40).astype(np.float64)
    token = int(np.argsort(row)[-3])
    changes = []
    for i in range(len(row)):
        up, down = row.copy(), row.copy()
        up[i] += shift
        down[i] -= shift
        changes.append(abs(look(up, token, shift).value - look(down, token, shift).value) / 2)
    assert look(row, token, shift).margin == pytest.approx(sum(changes), rel=1e-2)


def test_figures_are_those_of_the_formulas() -> None:
    """Guards entropies in bits, of other tokens or not made to add up to 1, and thresholds turned over."""
    row = np.log(np.array([0.4, 0.4, 0.1, *[0.1 / 97] * 97]))
    top = np.array([0.4, 0.4, 0.1, *[0.1 / 97] * 17])
    top /= top.sum()
    assert replay.uncertainty(row, 0, 0.0).value == pytest.approx(-(top * np.log(top)).sum())
    assert LOOKS["ratio"](row, 2, 0.0).value == pytest.approx(np.log(0.25 / 0.2))
    of_three = -(0.8 * np.log(0.4) + 0.1 * np.log(0.1))
    assert LOOKS["fly"](row, 2, 0.0).value == pytest.approx(of_three - 0.5)
    entropy = of_three - 0.1 * np.log(0.1 / 97)
    assert LOOKS["typical"](row, 2, 0.0).value == pytest.approx(np.log(0.1) - np.log(0.3 * np.exp(-entropy)))
    assert LOOKS["typical by eps"](row, 2, 0.0).value == pytest.approx(np.log(0.1) - np.log(1e-6))


def test_a_threshold_that_is_just_missed_is_a_near_tie(
    honest_ways: dict[str, list[Line]], pair: Pair, tmp_path: Path
) -> None:
    """Guards roundings of an entropy that are called violations: the threshold stands a little above one."""
    lines = copy.deepcopy(honest_ways["entropy"])
    claim(gate_entropy=9.0)(lines)
    violation = next(v for v in examine(lines, pair, tmp_path).violations if "led is True" in v)
    place, entropy = violation.split(":")[0], float(violation.split("entropy ")[1].split(",")[0])
    reports = []
    for tie in (None, 1e-9):
        claim(gate_entropy=entropy + 1e-3)(lines)
        reports.append(examine(lines, pair, tmp_path, tie=tie))
    assert [any(v.startswith(place) for v in report.violations) for report in reports] == [False, True]
    assert reports[0].n_near_ties > reports[1].n_near_ties


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
