"""What a benchmark runs and what its responses amount to, without a model: settings, prompts, figures, advice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foreal_local.cli.recommended import config_of
from foreal_local.config import MODES, Generation, Method, Sampling, describe
from foreal_local.errors import UsageError
from foreal_local.evaluation.experiments import parts_of, prompts_for, settings_for
from foreal_local.evaluation.measures import Response, can_be_measured, measure
from foreal_local.evaluation.problems.datasets import Problem
from foreal_local.evaluation.problems.grading import Grade
from foreal_local.evaluation.recommendation import recommend
from foreal_local.evaluation.reports.bench_report import spread_of, sweeps_of

BASE = Generation(method=Method(n=9, p=0.5, k=3), sampling=Sampling(temp=0), seed=7)


# ---------------------------------------------------------------- settings
def test_each_mode_varies_what_it_has() -> None:
    """Guards a grid that runs a mode twice, or leaves a point out, and the leader not being first."""
    found = settings_for(BASE, list(MODES), "n=5,15;p=0.2,1;proposals=3,8")
    assert [setting.name for setting in found] == [
        "leader",
        "draft",
        "cue p=0.2",
        "cue p=1",
        "speculative proposals=3",
        "speculative proposals=8",
        "auto proposals=3",
        "auto proposals=8",
        *(f"foreal n={n} p={p} k=3 proposals={m}" for n in (5, 15) for p in ("0.2", "1") for m in (3, 8)),
    ]
    methods = {setting.name: setting.generation.method for setting in found}
    assert methods["foreal n=15 p=0.2 k=3 proposals=8"] == Method(n=15, p=0.2, k=3, proposals=8)
    assert methods["speculative proposals=8"] == Method(n=9, p=0.5, k=3, proposals=8)
    assert {setting.generation.mode for setting in found} == set(MODES)


def test_without_a_grid_each_mode_is_tried_once_with_the_options() -> None:
    names = [setting.name for setting in settings_for(BASE, ["speculative", "foreal", "leader"])]  # type: ignore[list-item]
    assert names == ["leader", "speculative proposals=auto", "foreal n=9 p=0.5 k=3"]
    assert [s.name for s in settings_for(BASE, ["foreal", "foreal"], "k=2,2")] == ["foreal n=9 p=0.5 k=2"]


def test_names_leave_out_what_means_nothing() -> None:
    """Guards an n, p and k that nobody uses in the tables, and points that differ in nothing else."""
    found = settings_for(BASE, ["foreal"], "gate=never,always,random;p=0.2,1;tau=0.1,0.3")
    assert [setting.name for setting in found] == [
        *(f"foreal gate=never tau={tau}" for tau in (0.1, 0.3)),
        *(f"foreal n=9 k=3 gate=always tau={tau}" for tau in (0.1, 0.3)),
        *(f"foreal n=9 p={p} k=3 gate=random tau={tau}" for p in ("0.2", "1") for tau in (0.1, 0.3)),
    ]
    called_back = replace(BASE, method=replace(BASE.method, gate="never", call_back=1.0))
    assert [setting.name for setting in settings_for(called_back, ["foreal"])] == ["foreal k=3 gate=never call_back=1"]
    reviewed = replace(BASE, method=replace(BASE.method, review="ratio", tau=0.3))
    assert [s.name for s in settings_for(reviewed, ["foreal"])] == ["foreal n=9 p=0.5 k=3 review=ratio tau=0.3"]
    assert describe(called_back).startswith("foreal k=3 gate=never call-back=1.0,")


@pytest.mark.parametrize(
    ("modes", "grid", "told"),
    [
        (["foreal"], "q=1", "q=1"),
        (["foreal"], "n", "n=5,15"),
        (["foreal"], "n=1;n=2", "n=2"),
        (["foreal"], "n=a", "'a'"),
        (["foreal"], "n=1.5", "'1.5'"),
        (["foreal"], "p=1.5", "1.5"),
        (["leader"], "proposals=3", "proposals"),
        (["leader", "speculative"], "k=3", "varies k"),
    ],
)
def test_a_wrong_grid_is_refused_with_what_is_wrong(modes: list[str], grid: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        settings_for(BASE, modes, grid)


def test_all_settings_answer_each_problem_in_turn() -> None:
    """Guards a setting that always comes first, seeds that are shared by samples, and ids that cannot be read back."""
    problems = [Problem(f"a|b-{i}", f"question {i}", str(i)) for i in range(3)]
    settings = settings_for(BASE, ["leader", "foreal"], "n=1,2")
    prompts = prompts_for(problems, settings, 2)
    assert len(prompts) == 3 * 3 * 2
    found = [parts_of(prompt.id or "") or ("", "", 0) for prompt in prompts]
    assert sorted(found) == sorted((p.id, s.name, i) for p in problems for s in settings for i in range(2))
    assert [problem for problem, _, _ in found] == sorted(problem for problem, _, _ in found)
    assert len({found[i][1] for i in (0, 6, 12)}) == 3
    for prompt, (_, name, sample) in zip(prompts, found, strict=True):
        assert prompt.settings is not None
        assert prompt.settings.seed == 7 + sample
        assert name.startswith(str(prompt.settings.mode))
    # What a problem's random numbers come from does not depend on the setting, nor on which others there are.
    drawn = {(problem, sample): {prompt.index} for prompt, (problem, _, sample) in zip(prompts, found, strict=True)}
    assert len(drawn) == len({index for indices in drawn.values() for index in indices}) == 6
    alone = prompts_for(problems, settings[:1], 2)
    assert {prompt.index for prompt in alone} == {prompt.index for prompt in prompts}


def test_ids_that_were_not_made_here_have_no_parts() -> None:
    """Guards a traceback for the responses of another tool."""
    assert parts_of("q1") is parts_of("a|b|c|d") is parts_of("q|foreal n=1|x") is None


# ---------------------------------------------------------------- figures
def response(
    setting: str, problem: int, right: bool, *, tokens: int = 10, seconds: float = 1.0, cost: Any = None
) -> Response:
    work = {"decode_tokens": tokens, "prefill_tokens": 4, "calls": 9, "seconds": seconds}
    record = {
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": tokens,
            "leader_tokens": tokens // 2,
            "draft_tokens": tokens - tokens // 2,
        },
        "cost": {"leader": cost or work, "draft": work, "flops_generation": 2.0 * tokens, "flops_total": 3.0 * tokens},
        "seconds": seconds,
        "seed": 0,
        "mode": setting.split()[0],
        **{"n": 15, "p": 0.6, "k": 5, "sentences": {"handoffs": 0}},
    }
    return Response(str(problem), setting, 0, Grade.CORRECT if right else Grade.WRONG, "", record)


def test_figures_are_means_and_ratios_of_the_same_problems() -> None:
    """Guards a ratio of all problems where the other setting has answered some, and a mean of the wrong quantity."""
    leader = [response("leader", i, i != 3, tokens=10 * (i + 1), seconds=2.0) for i in range(4)]
    foreal = [response("foreal n=1 p=1 k=1", i, i != 1, tokens=5 * (i + 1), seconds=1.0) for i in range(2)]
    one, other = measure(leader + foreal)
    assert (one.setting, one.n, one.accuracy.value, one.verdicts) == ("leader", 4, 0.75, {"correct": 3, "wrong": 1})
    assert one.means["length"] == 25
    assert one.means["decode_tokens"] == 50
    assert one.tokens_per_second == 12.5
    assert one.ratios == {}
    assert one.accuracy_difference is None
    assert other.ratios["length"].value == other.ratios["flops_total"].value == 0.5
    assert other.ratios["seconds"].value == 0.5
    assert other.accuracy_difference is not None
    assert other.accuracy_difference.value == other.ratios["accuracy"].value - 1 == -0.5


def test_texts_without_costs_are_graded_only() -> None:
    plain = [Response(str(i), "responses", 0, Grade.MISSING, "") for i in range(3)]
    (found,) = measure(plain)
    assert (found.accuracy.value, found.means, found.tokens_per_second) == (0.0, {}, 0.0)


# ---------------------------------------------------------------- advice
def trial(right: float, seconds: float, n: int = 15) -> list[Response]:
    return [response(f"foreal n={n} p=0.6 k=5", i, i < 40 * right, seconds=seconds) for i in range(40)]


LEADER = [response("leader", i, i < 36, seconds=2.0) for i in range(40)]


def advice(responses: list[Response], loss: float = 0.05) -> Any:
    return recommend(measure(responses), loss, [r.record for r in responses])


def test_the_fastest_setting_that_is_good_enough_is_recommended() -> None:
    """Guards the fastest of all, the best of all, and a setting that loses more than allowed."""
    tried = [*LEADER, *trial(0.9, 1.8, n=25), *trial(0.875, 1.5, n=15), *trial(0.7, 0.5, n=5)]
    found = advice(tried)
    assert found.setting == "foreal n=15 p=0.6 k=5"
    assert "0.75 of the time" in found.reason
    assert advice(tried, loss=0.5).setting == "foreal n=5 p=0.6 k=5"
    assert advice(tried, loss=0.0).setting == "foreal n=25 p=0.6 k=5"


def test_where_it_does_not_pay_the_reason_is_given() -> None:
    lossy, slow = advice([*LEADER, *trial(0.5, 1.0)]), advice([*LEADER, *trial(0.9, 3.0)])
    assert lossy.setting is slow.setting is None
    assert "50.0%" in lossy.reason
    assert "1.50 of the time" in slow.reason
    assert advice(LEADER).setting is None


def test_the_price_of_a_read_token_comes_out_of_the_times() -> None:
    """Guards a price that counts the prompt as written, and one that a few responses decide."""
    costs = [
        {"decode_tokens": n, "prefill_tokens": m, "calls": n, "seconds": 0.002 * n + 0.0005 * m}
        for n, m in [(300, 50), (310, 40), (290, 60), (100, 200), (120, 190), (90, 230)] * 5
    ]
    tried = [response("leader", i, True, seconds=2.0, cost=costs[i]) for i in range(15)]
    tried += [response("foreal n=15 p=0.6 k=5", i, True, cost=costs[15 + i]) for i in range(15)]
    assert "about 0.25 of the time" in advice(tried).reason
    assert "reads a token" not in advice(tried[10:20]).reason


# ---------------------------------------------------------------- what is not known
def test_samples_are_no_problems() -> None:
    """Guards a recommendation on two problems that were each answered five times, and an interval without width."""

    def tries(setting: str, seconds: float) -> list[Response]:
        return [response(setting, i % 2, i < 8, seconds=seconds) for i in range(10)]

    tried = [*tries("leader", 2.0), *tries("foreal n=15 p=0.6 k=5", 1.0)]
    leader, _ = measure(tried)
    assert (leader.n, leader.n_problems, leader.accuracy.value) == (10, 2, 0.8)
    assert leader.accuracy.low < 0.4 < 0.95 < leader.accuracy.high
    found = advice(tried)
    assert found.setting is None
    assert "2 problems, and at least 10 are needed" in found.reason


def test_a_failed_response_is_no_short_one() -> None:
    """Guards means that count a response of no tokens in no time, where there was none."""
    tried = [response("leader", 0, True, tokens=300, seconds=2.0), response("leader", 1, True, tokens=0, seconds=0.0)]
    tried[1] = Response("1", "leader", 0, Grade.FAILED, "", tried[1].record)
    (found,) = measure(tried)
    assert (found.means["length"], found.means["seconds"]) == (300, 2.0)
    assert (found.accuracy.value, found.verdicts) == (0.5, {"correct": 1, "failed": 1})


def test_problems_that_are_all_alike_are_no_certainty() -> None:
    """Guards an interval from 100 % to 100 % for three problems, and one of nothing for what was lost."""

    def tries(setting: str, right: bool) -> list[Response]:
        return [Response(str(i), setting, sample, _grade(right), "") for i in range(3) for sample in range(3)]

    leader, draft = measure([*tries("leader", True), *tries("draft", False)])
    assert (leader.accuracy.value, leader.accuracy.high) == (1.0, 1.0)
    assert leader.accuracy.low == pytest.approx(0.4385, abs=1e-3)  # Wilson's, of three problems
    assert draft.accuracy_difference is not None
    assert (draft.accuracy_difference.value, draft.accuracy_difference.high) == (-1.0, 0.0)


def _grade(right: bool) -> Grade:
    return Grade.CORRECT if right else Grade.WRONG


def test_nothing_is_recommended_from_next_to_nothing() -> None:
    few = [r for r in [*LEADER, *trial(0.9, 1.0)] if int(r.problem) < 9]
    none = [Response(r.problem, r.setting, 0, Grade.WRONG, "", r.record) for r in [*LEADER, *trial(0.9, 1.0)]]
    for tried in (few, none):
        assert advice(tried).setting is None
        assert "too little" in advice(tried).reason


@pytest.mark.parametrize(
    "record",
    [{}, {"usage": {}, "cost": {}, "seconds": 1}, {"usage": None, "cost": 3, "seconds": "1"}],
)
def test_records_of_other_tools_have_no_costs(record: dict[str, Any]) -> None:
    """Guards a KeyError in the midst of the figures."""
    assert not can_be_measured(record)
    assert can_be_measured(response("leader", 0, True).record)


@pytest.mark.parametrize("missing", ["seed", "mode", "k", "sentences"])
def test_records_without_settings_or_times_have_no_costs(missing: str) -> None:
    """Guards a traceback in a report, or in a recommendation, for records of another program."""
    record = response("leader", 0, True).record
    assert not can_be_measured({name: value for name, value in record.items() if name != missing})
    costs = {name: cost for name, cost in record["cost"]["leader"].items() if name != "seconds"}
    assert not can_be_measured(record | {"cost": record["cost"] | {"leader": costs}})


def test_a_recommendation_needs_problems_that_both_have_answered() -> None:
    """Guards a verdict on one problem where the leader has answered twenty, and both models ten others."""
    tried = [response("leader", i, True, seconds=2.0) for i in range(20)]
    tried += [response("foreal n=15 p=0.6 k=5", i, True) for i in range(19, 30)]
    found = advice(tried)
    assert found.setting is None
    assert "1 problem, and at least 10 are needed" in found.reason


def test_a_line_over_k_has_settings_that_differ_in_k_alone() -> None:
    """Guards a line that joins settings with other proposals."""
    names = [f"foreal n=15 p=0.6 k={k} proposals={m}" for k in (1, 5) for m in (3, 8)] + ["fast"]
    responses = [response(name, i, True) for name in names for i in range(2)]
    for each in responses:
        each.record.update(mode="foreal", k=int(each.setting.partition("k=")[2][:1] or 5))
    spreads = {m: spread_of([r for r in responses if r.setting == m]) for m in names}
    found = sweeps_of(responses, measure(responses), spreads)
    assert [(sweep.name, list(sweep.k)) for sweep in found] == [
        ("n=15 p=0.6 proposals=3", [1, 5]),
        ("n=15 p=0.6 proposals=8", [1, 5]),
    ]


def test_a_recommendation_is_toml_whatever_was_asked() -> None:
    """Guards texts beyond the first plane, which JSON escapes in halves, and quotes."""
    tomllib = pytest.importorskip("tomllib")
    responses = [*LEADER, *trial(0.9, 1.0)]
    method = {"n": 15, "p": 0.6, "k": 5, "hits_from": "lead", "boundaries": "simple", "compare": "top1"}
    sampling = {"temp": 0.0, "top_k": 0, "top_p": 0.95, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_last_n": 64}
    for one in responses:
        one.record.update(method | sampling | {"max_tokens": None, "stop": ["a\n"]})
    asked = dict.fromkeys(("pair", "leader", "draft", "ctx_size", "responses")) | {
        "problems": "a\nb = 1",
        "system": 'Say "ja" 😀',
        "template_arg": ("a=b",),
        "raw": False,
    }
    found = tomllib.loads(config_of(advice(responses), 1.5, responses, asked))
    assert found["system"] == asked["system"]
    assert found["measured"]["points-lost"] == 1.5
    assert (found["template-arg"], found["stop"], found["boundaries"]) == (["a=b"], ["a\n"], "simple")
