"""A gate and a mode of one's own: two rows of the tables are enough for the decoder, every command and the chat."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import extensions
import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import DRAFT, LEADER, FakePair
from real.models import Files
from runs import AHEAD, new_sequence, outcome, run_all

from foreal_local.cli.bench import main as bench
from foreal_local.cli.chat import main as chat
from foreal_local.cli.gen import main as gen
from foreal_local.method.sequence import Sequence
from foreal_local.storage.saved_sequence import as_dict, from_dict


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        extensions.install(patch)
        yield


GATED: dict[str, Any] = {"gate": "entropy-test", "p": 1.0, "n": 2, "k": 2}
REWRITING: dict[str, Any] = {"mode": "proofread", "n": 2}
NEW = [GATED, {**GATED, "temp": 0.8}, {"mode": "cue", "gate": "entropy-test", "p": 0.9}, REWRITING]
NEW += [{**REWRITING, "temp": 0.8}, {**REWRITING, "n": 1, "temp": 0.6, "stop": ("sum of", "x?")}]


# ---------------------------------------------------------------- the laws hold for them
@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("settings", NEW, ids=str)
def test_batched_equals_alone(settings: dict[str, Any], truncation: str) -> None:
    """Guards an opinion of another sequence or place given to a gate, and a cache that holds what was taken back."""
    outcomes = []
    for n_slots, n_batch in ((1, 512), (4, 3), (8, 32)):
        sequences = [new_sequence(i, seed=i % 3, **settings) for i in range(9)]
        pair = FakePair(n_slots=n_slots, n_batch=n_batch, truncation=truncation, different=True)
        run_all(pair.scheduler(), sequences)
        outcomes.append([outcome(sequence) for sequence in sequences])
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("truncation", ["remove", "clear"])
@pytest.mark.parametrize("settings", NEW, ids=str)
def test_stopped_anywhere_and_restored_equals_uninterrupted(settings: dict[str, Any], truncation: str) -> None:
    """Guards answers that are inferred from the tokens, not recorded: a rewritten token does not tell its story."""
    rng = random.Random(str(settings))
    for index in range(3):
        sequence, scheduler = new_sequence(index, seed=3, **settings), FakePair(1, truncation=truncation).scheduler()
        scheduler.add(sequence)
        points = []
        while not scheduler.idle:
            scheduler.step()
            if not sequence.finished:
                points.append((json.dumps(as_dict(sequence)), scheduler.save(sequence)))
        for values, states in rng.sample(points, min(15, len(points))):
            for with_states in (False, True):
                saved = from_dict(json.loads(values))
                assert json.dumps(as_dict(saved)) == values
                again = FakePair(2, truncation=truncation).scheduler()
                again.add(saved, states if with_states else None)
                while not again.idle:
                    again.step()
                    again.check()
                assert outcome(saved) == outcome(sequence)
                assert saved.taken_back == sequence.taken_back


# ---------------------------------------------------------------- the gate
def test_the_gate_sees_the_drafts_opinion_of_the_sentences_first_token() -> None:
    """Guards a gate that is asked before its role has evaluated the sentence's beginning, or with another's logits."""
    seen = {True: 0, False: 0}
    for i in range(20):
        pair = FakePair(truncation="remove")
        sequence = new_sequence(i, **GATED)
        run_all(pair.scheduler(), [sequence])
        view = sequence.views[DRAFT]
        for at, token in enumerate(sequence.tokens):
            if at and token.sentence == sequence.tokens[at - 1].sentence:
                continue
            logits = np.sort(pair.models[DRAFT].logits(view.ids[: view.starts[at]]).astype(np.float64))[-20:]
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            assert token.led == (-(weights * np.log(weights)).sum() >= GATED["p"])
            seen[token.led] += 1
    assert min(seen.values()) > 10


# ---------------------------------------------------------------- the mode
def proofread_by_hand(pair: FakePair, sequence: Sequence, n: int) -> list[int]:
    """What greedy proofreading should write, by the definition: each sentence's every n-th token is looked at."""
    ids, written, count, last = list(sequence.views[DRAFT].ids[: sequence.views[DRAFT].n_prompt]), [], 0, -1
    for token in sequence.tokens:
        count = 1 if token.sentence != last else count + 1
        last = token.sentence
        best = {role: int(np.argmax(pair.models[role].logits(ids))) for role in (LEADER, DRAFT)}
        written.append(best[DRAFT])
        is_last = token is sequence.tokens[-1] or sequence.tokens[len(written)].sentence != token.sentence
        if token.author is LEADER:
            assert count % n == 0
            assert best[LEADER] != best[DRAFT]
            written[-1] = best[LEADER]
        elif count % n == 0 and not is_last:
            assert best[LEADER] == best[DRAFT]
        ids.append(token.id)
    return written


@pytest.mark.parametrize("n", [1, 2, 5])
def test_what_is_taken_back_is_written_again_by_the_leader(n: int) -> None:
    """Guards logits of the dropped token's place, and a count that the dropped token confuses."""
    n_rewritten = 0
    for i in range(8):
        pair = FakePair(truncation="remove")
        sequence = new_sequence(i, mode="proofread", n=n)
        run_all(pair.scheduler(), [sequence])
        assert [token.id for token in sequence.tokens] == proofread_by_hand(pair, sequence, n)
        for dropped in sequence.taken_back:
            (old,) = dropped.tokens
            new = sequence.tokens[dropped.at]
            assert old.author is DRAFT
            if new.sentence == old.sentence:  # else the leader's token has shown that the sentence had ended before it
                assert (new.author, old.top1 != new.top1) == (LEADER, True)
                n_rewritten += 1
    assert n_rewritten > 15


def test_a_rewritten_place_draws_the_same_random_number() -> None:
    """Guards draws that depend on what was taken back: each place has one number, whoever writes there."""
    n_rewritten = 0
    for i in range(10):
        sequence = new_sequence(i, temp=0.9, **REWRITING)
        run_all(FakePair(truncation="remove").scheduler(), [sequence])
        rng = np.random.default_rng(np.random.SeedSequence([1, i], spawn_key=(1,)))
        rng.random(sequence.n_drawn)
        assert sequence.token_rng.bit_generator.state == rng.bit_generator.state
        for dropped in sequence.taken_back:
            if sequence.tokens[dropped.at].author is LEADER:
                assert dropped.tokens[0].n_drawn == sequence.tokens[dropped.at].n_drawn
                n_rewritten += 1
    assert n_rewritten > 10


@pytest.mark.parametrize(
    "settings", [REWRITING, {**REWRITING, "temp": 0.8, "stop": ("sum of", "x?")}, *AHEAD[3:8]], ids=str
)
def test_what_is_shown_is_never_taken_back(settings: dict[str, Any]) -> None:
    """Guards a stream that shows text before it is settled."""
    for i in range(8):
        sequence, scheduler = new_sequence(i, **settings), FakePair(truncation="remove").scheduler()
        scheduler.add(sequence)
        shown = ""
        while not scheduler.idle:
            for update in scheduler.step():
                shown += "".join(token.text for token in update.tokens)
            if not sequence.finished:
                settled = "".join(token.text for token in sequence.tokens[: sequence.n_settled])
                assert settled.startswith(shown)
        assert shown == sequence.text


def test_a_caller_may_take_back_what_is_not_settled() -> None:
    """Guards a flow that goes on from text that is not there any more: its answers go back with it."""
    for i in range(6):
        expected = new_sequence(i, temp=0.8, **REWRITING)
        run_all(FakePair(truncation="remove").scheduler(), [expected])
        sequence, scheduler = new_sequence(i, temp=0.8, **REWRITING), FakePair(truncation="remove").scheduler()
        scheduler.add(sequence)
        while len(sequence.open_tokens()) < 3 or sequence.taken_back:
            scheduler.step()
            if sequence.finished:
                break
        if sequence.finished:
            continue
        scheduler.withdraw(sequence)
        changed = copy.deepcopy(sequence)
        changed.rewind(len(changed.tokens) - 2, "for a test")
        run_all(FakePair(truncation="remove").scheduler(), [changed])
        assert outcome(changed) == outcome(expected)


# ---------------------------------------------------------------- the commands
@pytest.fixture
def call(chat_pair: Files, tmp_path: Path) -> Any:
    """Call a command in this process, where the rows are, on a pair of tiny models."""

    def call(command: Any, *arguments: str | Path, stdin: str = "") -> Result:
        common = ["-l", *map(str, chat_pair[:1]), "-d", str(chat_pair[1]), "-c", "256", "-t", "1", "-q"]
        variables = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "FOREAL_LINES": "1"}
        result = CliRunner().invoke(command, [*common, *map(str, arguments)], input=stdin, env=variables)
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
        return result

    return call


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_gen_takes_them_as_options_and_for_single_prompts(call: Any, tmp_path: Path) -> None:
    """Guards a list of names that was copied from a table when the program was written."""
    prompts, out, trace = tmp_path / "p.jsonl", tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    own: list[dict[str, Any]] = [{}, {"gate": "entropy-test", "p": 0.5}, {"mode": "proofread", "n": 1}]
    prompts.write_text("".join(json.dumps({"prompt": "So we get", **more}) + "\n" for more in own))
    done = call(
        gen, "--file", prompts, "-o", out, "--trace", trace, "--gate", "always", "--temp", 0, "--max-tokens", 40
    )
    assert done.exit_code == 0, done.output
    records = {record["index"]: record for record in lines_of(out)}
    assert [(records[i]["mode"], records[i].get("gate")) for i in range(3)] == [
        ("foreal", "always"), ("foreal", "entropy-test"), ("proofread", None),
    ]  # fmt: skip
    assert records[0]["sentences"]["led"] == records[0]["sentences"]["total"]
    traced = lines_of(trace)
    assert traced[0]["gate"] == "always"
    (line,) = [entry for entry in traced if entry["type"] == "prompt" and entry["id"] == "1"]
    assert line["gate"] == "entropy-test"
    assert (line["hits_from"], line["boundaries"], line["compare"]) == ("lead", "robust", "top1")
    rewritten = [entry for entry in traced if entry["type"] == "taken_back"]
    assert rewritten
    for entry in rewritten:
        tokens = [t for t in traced if t["type"] == "token" and t["id"] == entry["id"]]
        assert (entry["id"], entry["reason"]) == ("2", "the leader had another token")
        assert (entry["authors"], tokens[entry["i"]]["author"]) == (["draft"], "leader")
    done = call(gen, "--prompt", "So", "--mode", "proofread", "-n", "3", "--temp", 0, "--max-tokens", 20)
    assert done.exit_code == 0, done.output


def test_a_gate_may_only_ask_a_role_that_takes_part(call: Any) -> None:
    """Guards a KeyError in the midst of a run."""
    done = call(gen, "--prompt", "So", "--mode", "cue", "--gate", "leader-test", "--max-tokens", 5)
    assert done.exit_code == 1
    assert "gate leader-test asks the leader, which has no part in mode cue" in done.output


def test_a_wrong_name_is_refused_with_all_that_there_are(call: Any) -> None:
    """Guards a message that knows only the names that the package came with."""
    done = call(gen, "--prompt", "So", "--gate", "entropy-tests")
    assert done.exit_code == 2
    assert "entropy-test" in done.output


def test_bench_has_them_as_modes_and_axes(call: Any, tmp_path: Path) -> None:
    """Guards a grid or an order that must be told of each mode."""
    problems, out = tmp_path / "problems.jsonl", tmp_path / "out.jsonl"
    problems.write_text("".join(json.dumps({"id": str(i), "question": "So?", "answer": "2"}) + "\n" for i in range(2)))
    grid = "n=1,3;gate=random,entropy-test"
    done = call(bench, "--problems", problems, "--modes", "leader,foreal,proofread", "--grid", grid, "-o", out,
                "--max-tokens", 20, "--temp", 0)  # fmt: skip
    assert done.exit_code == 0, done.output
    names = {record["id"].split("|")[1] for record in lines_of(out)}
    assert names == {
        "leader",
        *(f"proofread n={n}" for n in (1, 3)),
        *(f"foreal n={n} p=0.6 k=5 gate={gate}" for n in (1, 3) for gate in ("random", "entropy-test")),
    }
    assert all(name in done.output for name in names)


def test_a_chat_can_set_them(call: Any) -> None:
    """Guards settings that /set does not know."""
    lines = ["/set gate entropy-test", "/set max-tokens 12", "So we get", "/set mode proofread", "/set n 1", "And then"]
    done = call(chat, "--temp", 0, stdin="".join(f"{line}\n" for line in lines))
    assert done.exit_code == 0, done.output
    assert "gate=entropy-test" in done.output
    assert "proofread n=1" in done.output
