"""The scheduler's responses over the fakes, against the slow decoder of reference.py."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fakes import DRAFT, LEADER, FakePair, follows
from reference import Reference, Response
from runs import MAY_OPEN, OPENED, new_sequence, run_all

from foreal_local.config import Sampling
from foreal_local.method.reasoning import DEFAULT_TAGS, ReasoningTags
from foreal_local.method.sequence import Sequence

METHODS: list[dict[str, Any]] = [
    {"n": 15, "p": 0.6, "k": 5},
    {"n": 4, "p": 0.6, "k": 2},
    {"n": 4, "p": 0.9, "k": 3, "hits_from": "sentence"},
    {"n": 0, "p": 0.5, "k": 0},
    {"n": 0, "p": 0.8, "k": 1},
    {"n": 1, "p": 1.0, "k": 4, "hits_from": "sentence"},
    {"n": 2, "p": 0.3, "k": 0, "boundaries": "simple"},
    {"n": 3, "p": 1.0, "k": 3, "boundaries": "simple", "hits_from": "sentence"},
    {"n": 2, "p": 0.7, "k": 2, "compare": "sampled"},
    {"n": 4, "p": 0.0, "k": 2},
    {"n": 2, "k": 1, "gate": "entropy", "gate_entropy": 1.2},
    {"n": 0, "k": 2, "gate": "entropy", "lead_share": 0.3},
    {"n": 1, "p": 0.3, "k": 1, "call_back": 1.5},
    {"gate": "never", "review": "exact", "rewrite_k": 2},
    {"gate": "never", "review": "ratio", "tau": 0.3, "review_every": 4, "rewrite_n": 1, "rewrite_k": 1},
    {"n": 2, "p": 0.5, "k": 1, "review": "ratio", "tau": 0.6, "call_back": 1.9},
    {"n": 2, "p": 0.5, "k": 1, "review": "fly", "fly_theta": 0.5, "fly_window": 2, "boundaries": "simple"},
    {"gate": "never", "review": "typical", "typical_eps": 0.2, "typical_delta": 0.5, "rewrite_k": 0},
    {"gate": "entropy", "review": "ratio", "hits_from": "sentence", "compare": "sampled", "rewrite_n": 2},
]
SAMPLINGS = {
    "greedy": Sampling(0.0),
    "default": Sampling(),
    "hot": Sampling(1.5, top_k=12, top_p=0.9, min_p=0.05, repeat_penalty=1.3, repeat_last_n=8),
}


def assert_same(sequence: Sequence, expected: Response) -> None:
    """Tokens, authors, sentences, gates and text are the same, and so is every check that was made."""
    assert [(t.id, t.author, t.sentence, t.led, t.inserted) for t in sequence.tokens] == [
        (s.id, s.author, s.sentence, s.led, s.given) for s in expected.steps
    ]
    assert sequence.text == expected.text
    assert sequence.finish_reason == expected.finish_reason
    assert sequence.stopped_by == (expected.stop[1] if expected.stop else None)
    assert (sequence.n_sentences, sequence.n_led) == (expected.n_sentences, expected.n_led)
    method, k, mode = sequence.settings.method, sequence.settings.method.k, sequence.settings.mode
    several_parts = method.review != "off" or method.call_back is not None
    handed_over = {t.sentence for t in sequence.tokens if t.led and t.author is DRAFT}
    for token, step in zip(sequence.tokens, expected.steps, strict=True):
        if token.hit is not None:
            assert (token.hit, token.hits) == (step.hit, step.hits)
        elif step.hit is not None:  # a sentence that ended before its next checks were due
            assert k == 0 or mode != "foreal" or several_parts or token.sentence not in handed_over


def responses(settings: dict[str, Any], sampling: str, n: int = 8, **pair: Any) -> list[Sequence]:
    sequences = [
        new_sequence(i, seed=i // 2, sampling=SAMPLINGS[sampling], max_tokens=60, **settings) for i in range(n)
    ]
    run_all(FakePair(truncation="remove", **pair).scheduler(), sequences)
    for sequence in sequences:
        assert_same(sequence, Reference(FakePair(**pair), sequence).run())
    return sequences


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("proposals", [0, 4])
@pytest.mark.parametrize("settings", METHODS, ids=str)
def test_responses_equal_the_slow_decoders(settings: dict[str, Any], proposals: int, sampling: str) -> None:
    """Guards cache positions, batched checks, the peek, the gate's and the tokens' random streams; proposals change
    nothing of what the slow decoder writes."""
    responses({**settings, "proposals": proposals}, sampling)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("settings", [*METHODS[1:6:2], *({**each, "proposals": 3} for each in METHODS[9:])], ids=str)
def test_with_different_vocabularies_too(settings: dict[str, Any], sampling: str) -> None:
    """Guards positions taken from the wrong role's view: here the two views have different lengths."""
    sequences = responses(settings, sampling, different=True)
    lengths = [(len(s.views[LEADER].ids), len(s.views[DRAFT].ids)) for s in sequences]
    assert any(leader != draft for leader, draft in lengths)


STOPS: list[dict[str, Any]] = [
    {"stop": ("sum", "x"), "tags": OPENED},
    {"stop": ("sum", "x"), "tags": OPENED, "stop_in_reasoning": True},
    {"stop": (" ", "\n", "S"), "tags": MAY_OPEN},
    {"stop": (" get", " x get w"), "tags": OPENED},  # the closing tag, and a text that spans it
    {"stop": ("th", "of", "the", "e is"), "tags": MAY_OPEN},
    {"stop": ("sum", "x")},
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("method", [METHODS[1], METHODS[8], *METHODS[13:17], {"mode": "leader"}], ids=str)
@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_stop_texts_end_what_the_slow_decoder_ends(
    stops: dict[str, Any], method: dict[str, Any], sampling: str
) -> None:
    """Guards stop texts that end the reasoning, sleep in the answer, or end what the leader then takes back."""
    sequences = responses({**method, **stops}, sampling, n=6)
    assert any(sequence.stopped_by for sequence in sequences) or "review" in method


WAITS = ReasoningTags("Wait", " get")
"""The first is a single token, so that a response may open its reasoning with it, whatever the grammar says."""


@pytest.mark.parametrize("tags", [DEFAULT_TAGS, OPENED, WAITS], ids=["answer", "opened", "opens"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("settings", [*METHODS[1:4], *METHODS[8:], {"mode": "speculative"}], ids=str)
def test_a_grammar_limits_what_the_slow_decoder_limits(
    settings: dict[str, Any], sampling: str, tags: ReasoningTags
) -> None:
    """Guards a grammar that one author keeps to and the other does not, that hits, reviews or proposals know nothing
    of, and that stands at another place than the text."""
    for different in (False, True):
        sequences = responses(
            {**settings, "proposals": 4, "grammar": "any", "tags": tags}, sampling, different=different
        )
        for sequence in sequences if tags is DEFAULT_TAGS else []:
            assert all(follows(*two) for two in itertools.pairwise(b"\0" + sequence.text.encode()) if max(two) < 128)


@pytest.mark.parametrize("mode", ["leader", "draft", "speculative"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_role_alone(mode: str, sampling: str) -> None:
    """Guards also proposals that change what the leader writes: it is what the leader alone wants at each place."""
    responses({"mode": mode}, sampling)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    "settings",
    [
        {"p": 0.5},
        {"p": 1.0, "cue": "So two?"},
        {"p": 0.6, "cue": "Wait."},
        {"p": 0.6, "cue": "Wait!\n"},
        {"p": 0.4, "cue": "So", "boundaries": "simple"},
    ],
    ids=str,
)
def test_a_cue_is_followed_as_the_slow_decoder_follows_it(settings: dict[str, Any], sampling: str) -> None:
    """Guards a peeked token that is written though a cue came before it, a cue that draws random numbers, and cues
    that end their sentence or that the draft's next token shows to be its end."""
    sequences = responses({"mode": "cue", **settings}, sampling)
    assert sum(s.n_inserted for s in sequences) > 20


def test_different_prompts_for_each_role() -> None:
    """Guards one role's prompt evaluated by the other: templates differ, the response is shared."""
    pair = FakePair(truncation="remove")
    sequences = [new_sequence(i, draft_prompt=[5, 6, 7, 8, 9][: i + 1], k=1) for i in range(5)]
    run_all(pair.scheduler(), sequences)
    for sequence in sequences:
        assert_same(sequence, Reference(FakePair(), sequence).run())


@pytest.mark.parametrize("n_ctx", [25, 40, 41])
def test_a_full_context(n_ctx: int) -> None:
    """Guards the last position: the context's every place is used, and the token after it is written."""
    pair = FakePair(n_ctx=n_ctx, truncation="remove")
    sequences = [new_sequence(i, max_tokens=None) for i in range(12)]
    run_all(pair.scheduler(), sequences)
    for sequence in sequences:
        assert_same(sequence, Reference(pair, sequence).run())
    assert {str(s.finish_reason) for s in sequences} >= {"context"}


@pytest.mark.parametrize("agreement", [0.0, 0.5, 0.95, 1.0])
def test_drafts_of_any_quality(agreement: float) -> None:
    sequences = responses({"n": 3, "p": 0.8, "k": 2}, "greedy", agreement=agreement)
    checks = [token.hit for sequence in sequences for token in sequence.tokens if token.hit is not None]
    assert checks
    assert all(checks) or agreement < 1.0
