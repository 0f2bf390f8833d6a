"""An answer's seconds and work against the leader alone: what is compared, and with what."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import environment, run
from fakes import SHAPES, FakePair
from runs import new_sequence, run_all
from terminal import Terminal, terminal_environment

from foreal_local.alone import LeaderAlone
from foreal_local.method.ledger import flops_in_words
from foreal_local.method.plan import UNMEASURED_PLAN, Plan, Speed
from foreal_local.method.roles import Role
from foreal_local.results import Prompt, Result, Submission

PENS = "Leo has 8 pens. Kate has twice as many pens as Leo. How many pens does Kate have?"
APPLES = "Tom has 12 apples. Anna has 3 more apples than Tom. How many apples does Anna have?"
SHORT = ("--temp", "0", "--seed", "1", "--max-tokens", "60")
PLAN = Plan({Role.LEADER: Speed({1: 0.5, 2: 0.6}), Role.DRAFT: Speed({1: 0.1})})


def answered(mode: str, seconds: float, **costs: Any) -> Result:
    """A response of fakes that took so many seconds; `costs` of the leader, with all its evaluations at no time."""
    sequence = new_sequence(1, mode=mode, prompt=[2, 3], max_tokens=60)
    run_all(FakePair().scheduler(), [sequence])
    for cost in sequence.cost.values():
        cost.seconds = cost.prompt_seconds = cost.decode_seconds = 0.0
    leader = sequence.cost[Role.LEADER]
    for name, value in costs.items():
        setattr(leader, name, value)
    leader.seconds = seconds if costs else 0.0
    sequence.seconds = seconds
    return Result.of(Submission(Prompt("so"), "", 512), sequence, SHAPES)


# ---------------------------------------------------------------- what is known
def test_nothing_is_said_of_what_is_not_known() -> None:
    """Guards a comparison that is a guess, and one of the leader alone with itself."""
    alone = LeaderAlone()
    few = answered("foreal", 3.0, decode_tokens=15, decode_seconds=1.5)
    alone.add(few)
    assert alone.of(few, UNMEASURED_PLAN) is None
    own, draft = answered("leader", 3.0), answered("draft", 3.0)
    assert alone.of(own, PLAN) is None
    assert alone.of(draft, PLAN) is None
    alone.add(draft)
    assert alone.of_all(PLAN) is None
    assert LeaderAlone().of_all(PLAN) is None


def test_what_was_measured_goes_before_what_is_predicted() -> None:
    """Guards a prediction where the leader has written here, and a prompt that is forgotten."""
    result = answered("foreal", 9.0, prompt_seconds=2.0, decode_tokens=20, decode_seconds=5.0)
    n_tokens = len(result.tokens)
    alone = LeaderAlone()
    found = alone.of(result, PLAN)
    assert found is not None
    assert (found.seconds, found.how) == (pytest.approx(2.0 + 0.5 * n_tokens), "predicted")  # by the plan's times
    alone.add(result)
    found = alone.of(result, PLAN)
    assert found is not None
    assert (found.seconds, found.how) == (pytest.approx(2.0 + 0.25 * n_tokens), "predicted")  # by its own
    own = answered("leader", 13.0, prompt_seconds=1.0)
    alone.add(own)
    found = alone.of(result, PLAN)
    assert found is not None
    pace = 12.0 / len(own.tokens)
    assert (found.seconds, found.how) == (pytest.approx(2.0 + pace * n_tokens), "measured")
    assert found.share(found.seconds / 2) == "50% of the leader alone (measured)"
    assert alone.of_all(PLAN) == (9.0, found)


def test_a_prompt_that_a_cache_held_is_nobodys_work() -> None:
    """Guards a conversation's later answers, which look cheap beside a leader that reads everything again."""
    pair = FakePair(truncation="remove")
    scheduler = pair.scheduler()
    first = new_sequence(1, mode="leader", prompt=[2, 3] * 20, max_tokens=3)
    scheduler.add(first, reuse=True)
    while not first.finished:
        scheduler.step()
    second = new_sequence(2, mode="leader", prompt=[*[2, 3] * 20, 4, 5], max_tokens=3)
    scheduler.add(second, reuse=True)
    while not second.finished:
        scheduler.step()
    flops = Result.of(Submission(Prompt("so"), "", 512), second, SHAPES).flops
    assert second.cost[Role.LEADER].n_prompt_read < 5
    assert flops.total == flops.leader_only
    assert flops.leader_only_generation < flops.leader_only < 2 * flops.leader_only_generation


@pytest.mark.parametrize(
    ("flops", "words"),
    [
        (0, "0 FLOPs"), (999_400, "999,400 FLOPs"), (1.11e12, "1.11 TFLOPs"), (999.6e9, "1 TFLOPs"),
        (999.4e9, "999 GFLOPs"), (12.34e9, "12.3 GFLOPs"), (100e6, "100 MFLOPs"), (1234e15, "1,234 PFLOPs"),
    ],
)  # fmt: skip
def test_flops_are_never_in_exponents(flops: float, words: str) -> None:
    """Guards "1.11e+03 GFLOPs"."""
    assert flops_in_words(flops) == words


# ---------------------------------------------------------------- as users see it
def test_a_summary_begins_with_seconds(tmp_path: Path) -> None:
    """Guards a summary that leads with the figure that looks best, and one that guesses for a batch."""
    env = environment(None, tmp_path, FOREAL_CTX_SIZE="512")
    both = ("--prompt", PENS, "--prompt", APPLES, *SHORT)
    lines = [line for line in run(*both, env=env).stderr.splitlines() if line and "ended by" not in line]
    assert re.fullmatch(r"done  +\d+\.\d s, \d+% of the leader alone \(predicted\)", lines[0])
    assert re.fullmatch(r"FLOPs, written  +[\d.]+ [MGT]FLOPs, \d+% of the leader alone", lines[1])
    assert re.fullmatch(r"FLOPs, all evaluated  +[\d.]+ [MGT]FLOPs, \d+% of the leader alone", lines[2])
    for more in (("--parallel", "2"), ("--mode", "leader")):
        summary = run(*both, *more, env=env).stderr
        assert re.search(r"done  +\d+\.\d s\n", summary), more
    never = run(*both, "-p", "0", env=env).stderr
    assert re.search(r"\nsentences  +\d+, 0 led \(0%\), 0 handoffs\n", never)


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals there")
def test_each_answer_begins_with_seconds(tmp_path: Path) -> None:
    """Guards a line that tells the work of writing alone, and is silent where no sentence was led."""
    with Terminal(*SHORT, env=terminal_environment(None, tmp_path) | {"FOREAL_THREADS": "1"}) as chat:
        say: Callable[[str], str] = lambda text: " ".join(chat.say(text).split("\n"))  # noqa: E731
        shown = say(PENS)
        work = r"FLOPs \d+% written, \d+% all evaluated \(leader alone 100%\)"
        assert re.search(rf"\d\.\d\d s, \d+% of the leader alone \(predicted\) · {work} · 60 tokens · ", shown), shown
        chat.say("/mode leader")
        shown = say(APPLES)
        work = r"FLOPs 100% written, 100% all evaluated \(leader alone 100%\)"
        assert re.search(rf"\d\.\d\d s · {work} · \d+ tokens · ", shown), shown
        chat.say("/mode foreal")
        chat.say("/set p 0")
        shown = say(PENS)
        assert "of the leader alone (measured)" in shown or "leader 0%" in shown
        assert re.search(r" · 0 of \d+ sentences? led, 0 handoffs · ", shown), shown
