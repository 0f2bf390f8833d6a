"""What models say along written responses, and the figures made of it: fakes, and flags whose figures are known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import DRAFT, DRAFT_PIECES, END, ID, LEADER, PIECES, SPECIAL, FakeModel, FakePair, FakeVocabulary, ids_of
from hypothesis import given
from hypothesis import strategies as st
from runs import SETTINGS, new_sequence, prompt_of, run_all

from foreal_local.config import COMPARE, HITS_FROM, Method
from foreal_local.evaluation.analysis.handoffs import GRID, handoff
from foreal_local.evaluation.analysis.judging import (
    END_OF_TEXT,
    Judgement,
    LeaderReading,
    Predictions,
    predict,
    predict_along,
    sentences_of,
    texts_of,
    view_of,
)
from foreal_local.evaluation.analysis.misalignment import Meter, Misalignment, direction, sign_flip
from foreal_local.evaluation.analysis.rewrites import TAUS
from foreal_local.evaluation.analysis.words import misaligned_words, piece_word, word_at
from foreal_local.evaluation.statistics import Estimate
from foreal_local.method.flows import lead
from foreal_local.method.requests import Judge, Write, Written
from foreal_local.method.roles import Role
from foreal_local.method.sentences import Boundaries
from foreal_local.method.sequence import Sequence as Stream

N_SLOTS = 3


def silent(_n: int) -> None:
    pass


def predictions_of(
    model: FakeModel,
    prompts: list[list[int]],
    texts: list[list[int]],
    vocabulary: FakeVocabulary,
    drafts: list[Predictions] | None = None,
):
    """A fake's predictions along responses in the leader's ids, and how it reads those. `drafts`: it is asked about."""

    def translate(token: int) -> tuple[int, ...]:
        return vocabulary.translate(LEADER, token, model.role)

    asked = [wanted(draft, vocabulary) for draft in drafts] if drafts else [None] * len(texts)
    views = [view_of(prompt, text, translate, each) for prompt, text, each in zip(prompts, texts, asked, strict=True)]
    found = predict_along(model, views, silent, lambda token: vocabulary.piece(model.role, token))
    return list(found), translate, views


def wanted(draft: Predictions, vocabulary: FakeVocabulary) -> list[list[int]]:
    """At each position the first of the leader's ids for the draft's top-1."""
    return [list(vocabulary.translate(DRAFT, token, LEADER))[:1] for token in draft.top1.tolist()]


def judged(
    texts: list[list[int]], draft: FakeModel, vocabulary: FakeVocabulary | None = None, rule: Boundaries = "robust"
) -> list[Judgement]:
    """A fake leader's and a fake draft's judgement of responses to prompts of their own."""
    vocabulary = vocabulary or FakeVocabulary()
    prompts = [prompt_of(i) for i in range(len(texts))]
    drafts, translate, _ = predictions_of(draft, prompts, texts, vocabulary)
    leader, _, _ = predictions_of(FakeModel(LEADER, n_slots=N_SLOTS), prompts, texts, vocabulary, drafts)
    judgements = []
    for i, (text, ours, theirs) in enumerate(zip(texts, leader, drafts, strict=True)):
        pieces = texts_of(vocabulary.piece(LEADER, token) or b"" for token in text)
        reading = LeaderReading(str(i), text, pieces, sentences_of(pieces, rule), ours)
        judgements.append(Judgement.of(reading, theirs, translate))
    return judgements


def written(n: int, mode: str = "leader", /, **options: object) -> list[Stream]:
    """Responses of the fake pair, without their end."""
    sequences = [new_sequence(i, mode=mode, **options) for i in range(n)]  # type: ignore[arg-type]
    run_all(FakePair(agreement=0.8).scheduler(), sequences)
    return sequences


def tokens_of(stream: Stream) -> list[int]:
    view = stream.views[LEADER]
    return view.ids[view.n_prompt :]


def made(flags: Sequence[Sequence[Sequence[bool]]], texts: Sequence[Sequence[str]] | None = None) -> list[Judgement]:
    """Judgements from hand-made flags: responses of sentences of positions, True where misaligned.

    The leader gives the draft's token a twentieth of its own token's probability there.
    """
    judgements = []
    for i, response in enumerate(flags):
        missed = np.array([flag for sentence in response for flag in sentence], np.bool_)
        numbers = [number for number, sentence in enumerate(response) for _ in sentence]
        words = list(texts[i]) if texts else [" a"] * missed.size
        top1, relative, none = np.ones(missed.size, np.int64), np.where(missed, 0.05, 1.0), np.zeros((missed.size, 0))
        ours = Predictions(top1, missed * 2.0, np.where(missed, 0.5, 0.9), words, relative[:, None])
        theirs = Predictions(top1 + missed, missed * 4.0, np.where(missed, 0.1, 0.8), [" b"] * missed.size, none)
        reading = LeaderReading(str(i), [1] * missed.size, words, numbers, ours)
        judgements.append(Judgement(reading, theirs, ~missed, ~missed, relative))
    return judgements


def measured(flags: Sequence[Sequence[Sequence[bool]]], width: int = 4, **method: object) -> Misalignment:
    return Meter(Method(**method), width, n_draws=400).measure(made(flags))  # type: ignore[arg-type]


# ---------------------------------------------------------------- one model along responses
@pytest.mark.parametrize("different", [False, True], ids=["one vocabulary", "special tokens differ"])
def test_a_prediction_is_about_the_token_that_comes_next(different: bool) -> None:
    """Guards positions that are off by one, a slot that keeps another response, and logits kept as a view."""
    vocabulary = FakeVocabulary(different)
    texts = [[SPECIAL, *ids_of("So we get 4.")], ids_of(" the sum"), [*ids_of("Wait,"), SPECIAL], [ID[b"."]]]
    prompts = [prompt_of(i) for i in range(4)]
    for role, pieces in ((LEADER, PIECES), (DRAFT, DRAFT_PIECES if different else PIECES)):
        model = FakeModel(role, n_slots=N_SLOTS, n_batch=5, agreement=0.5, pieces=pieces)
        found, translate, views = predictions_of(model, prompts, texts, vocabulary)
        assert all(model.cached(slot) == 0 for slot in range(N_SLOTS))
        for prompt, text, said, view in zip(prompts, texts, found, views, strict=True):
            prefix = list(prompt)
            assert len(said.top1) == len(text)
            for i, token in enumerate(text):
                logits = model.logits(prefix).astype(np.float64)
                chances = np.exp(logits - logits.max())
                chances /= chances.sum()
                read = translate(token)
                assert said.top1[i] == logits.argmax()
                assert said.chance[i] == pytest.approx(chances[read[0]], rel=1e-4)
                assert said.entropy[i] == pytest.approx(-(chances * np.log(chances)).sum(), rel=1e-4)
                prefix += read
            assert prefix == view.ids


def test_a_prediction_of_masked_and_of_certain_logits() -> None:
    """Guards 0 x infinity, and an entropy below zero."""
    sure = predict(np.array([0, 50, -np.inf], np.float32), 2)
    assert (sure.top1, sure.chance) == (1, pytest.approx(0, abs=1e-30))
    assert 0 <= sure.entropy < 1e-12
    even = predict(np.zeros(8, np.float32), 3)
    assert (even.top1, even.chance, even.entropy) == (0, 0.125, pytest.approx(math.log(8)))


def test_a_row_that_fails_is_an_error_and_frees_every_slot() -> None:
    """Guards a response that is silently left out, and slots that are lost with it."""
    model = FakeModel(LEADER, n_slots=2)
    model.fails = lambda _model, row: row.slot == 1
    views = [view_of([2, 3], [4, 5], lambda token: (token,))] * 2
    with pytest.raises(Exception, match="no room"):
        list(predict_along(model, views, silent, lambda _token: b""))
    assert [model.cached(slot) for slot in range(2)] == [0, 0]


def test_a_response_without_numbers_is_left_out_alone() -> None:
    """Guards NaN taken for predictions: of the response itself, and of those that are read beside it and after it."""
    texts = [[2, 3, 4], [5, 6, 7], [8, 9, 2], [3, 3, 3]]
    views = [view_of([2, 3], text, lambda token: (token,)) for text in texts]
    healthy = list(predict_along(FakeModel(LEADER, n_slots=1), views, silent, lambda _token: b""))
    model = FakeModel(LEADER, n_slots=3)
    model.nan_tokens = frozenset({6})
    found = list(predict_along(model, views, silent, lambda _token: b""))
    assert found[1] is None
    for i in (0, 2, 3):
        assert found[i].chance.tolist() == healthy[i].chance.tolist()


# ---------------------------------------------------------------- sentences
@pytest.mark.parametrize("rule", ["robust", "simple"])
def test_sentences_are_cut_as_the_decoder_cuts_them(rule: Boundaries) -> None:
    """Guards a MAYBE that is not confirmed by the next token, and half characters that change a cut."""
    n_cut = 0
    for stream in written(40, boundaries=rule, temp=0.8, max_tokens=120):
        tokens = [token for token in stream.tokens if token.id != END]
        pieces = [FakeVocabulary().piece(LEADER, token.id) or b"" for token in tokens]
        assert sentences_of(texts_of(pieces), rule) == [token.sentence for token in tokens]
        n_cut += tokens[-1].sentence if tokens else 0
    assert n_cut > 100


def test_places_are_counted_from_each_sentences_first_token() -> None:
    """Guards a first token that is number 0, or that counts with the sentence before."""
    (one,) = made([[[False] * 3, [False], [False] * 2]])
    assert one.reading.places.tolist() == [1, 2, 3, 1, 1, 2]


# ---------------------------------------------------------------- leader and draft
def test_a_draft_that_is_the_leader_is_never_misaligned() -> None:
    """Guards a comparison of different positions: every long sentence must be handed over after n + k tokens."""
    texts = [tokens_of(stream) for stream in written(20, temp=0.9, max_tokens=150)]
    one = Meter(Method(n=2, k=3), n_draws=50).measure(judged(texts, FakeModel(DRAFT, n_slots=N_SLOTS)))
    assert (one.overall.value, set(one.along_response.share), one.words) == (0, {0.0}, [])
    assert (one.misaligned.n, one.aligned.n) == (0, one.n_tokens)
    assert one.own.value < 1, "sampled: else this says little"
    assert one.handoffs.at == [5]
    assert 20 < sum(one.handoffs.counts) < one.n_sentences
    assert [h.at for h in one.grid] == [[n + k] for n, k in GRID]
    assert one.rebounds is None


def test_hits_are_those_of_the_decoder() -> None:
    """Guards another comparison, another numbering or another handoff rule than the running decoder's."""
    n_hits = n_handed = 0
    for method in SETTINGS:
        if "mode" in method or "stop" in method:
            continue
        rule = method.get("boundaries", "robust")
        streams = written(12, "foreal", **method)
        draft = FakeModel(DRAFT, n_slots=N_SLOTS, agreement=0.8)
        settings = streams[0].settings.method
        for stream, one in zip(streams, judged([tokens_of(s) for s in streams], draft, rule=rule), strict=True):
            hits = one.agrees if settings.compare == "sampled" else one.aligned
            tokens = [token for token in stream.tokens if token.id != END]
            for token, hit in zip(tokens, hits.tolist(), strict=True):
                assert token.hit in (None, hit)
                n_hits += token.hit is not None
            for number in range(stream.n_sentences):
                mine = [i for i, token in enumerate(tokens) if token.sentence == number]
                if mine and tokens[mine[0]].led and mine[-1] != len(tokens) - 1:
                    n_led = sum(tokens[i].author is LEADER for i in mine)
                    found = handoff(hits[mine].tolist(), settings)
                    assert found == (n_led if n_led < len(mine) else None)
                    n_handed += found is not None
    assert n_hits > 500
    assert n_handed > 100


def test_ids_that_differ_are_compared_as_the_draft_reads_them() -> None:
    """Guards a special token of the leader that is taken for the draft's token of the same id."""
    vocabulary, prompt = FakeVocabulary(different=True), prompt_of(0)
    leader, draft = FakeModel(LEADER, n_slots=1), FakeModel(DRAFT, n_slots=1, pieces=DRAFT_PIECES)
    leader.script(prompt, [SPECIAL, SPECIAL])
    draft.script(prompt, [ID[b"<"], ID[b"a>"], SPECIAL])
    text = [SPECIAL, SPECIAL]
    theirs, translate, _ = predictions_of(draft, [prompt], [text], vocabulary)
    ours, _, _ = predictions_of(leader, [prompt], [text], vocabulary, theirs)
    one = Judgement.of(LeaderReading("0", text, ["<a>"] * 2, [0, 0], ours[0]), theirs[0], translate)
    assert one.aligned.tolist() == one.agrees.tolist() == [True, False]
    assert theirs[0].words == ["<", "<b>"]


def test_the_end_of_generation_has_a_name_among_words() -> None:
    """Guards a word that is empty, or a crash, where a model would rather end."""
    model, prompt = FakeModel(DRAFT, n_slots=1), prompt_of(0)
    model.script(prompt, [END])
    ((said,), _, _) = predictions_of(model, [prompt], [[ID[b"So"]]], FakeVocabulary())
    assert said.words == [END_OF_TEXT]


# ---------------------------------------------------------------- the handoff rule
def handoff_by_definition(hits: list[bool], method: Method) -> int | None:
    """method.md's rule, read off the flags: the first m > n whose trailing run of hits is k or longer.

    Hits count from token n + 1, or from the sentence's start. After the last token there is nothing to hand over.
    """
    first = method.n if method.hits_from == "lead" else 0
    for m in range(method.n + 1, len(hits)):
        if m - first >= method.k and all(hits[m - method.k : m]):
            return m
    return None


@given(
    hits=st.lists(st.booleans(), min_size=1, max_size=40),
    n=st.integers(0, 12),
    k=st.integers(0, 6),
    hits_from=st.sampled_from(HITS_FROM),
)
def test_a_sentence_is_handed_over_where_the_flow_hands_it_over(
    hits: list[bool], n: int, k: int, hits_from: str
) -> None:
    """Guards a rule that is written twice, differently: held against flows.lead and against the definition."""
    method = Method(n=n, k=k, hits_from=hits_from, proposals=0)  # type: ignore[arg-type]
    flow = lead(method, n, k)
    wanted, n_written, request = None, 0, next(flow)
    try:
        while True:
            if isinstance(request, Judge):
                request = flow.send(tuple(hits[n_written - request.n_tokens : n_written]))
            else:
                assert request == Write(Role.LEADER)
                n_written += 1
                request = flow.send(Written(ends_sentence=n_written == len(hits)))
    except StopIteration as stop:
        wanted = None if stop.value else n_written
    assert handoff(hits, method) == wanted
    assert handoff_by_definition(hits, method) == wanted


def test_what_the_draft_would_write() -> None:
    """Guards shares of sentences in place of tokens, and a p that is forgotten or turned round."""
    good, bad = [False] * 10, [False, False, True] * 3
    found = measured([[good, bad], [good, good]], n=2, k=3, p=0.5).handoffs
    assert (found.n_sentences, found.at, found.counts, found.median) == (4, [5], [3], 5.0)
    assert found.handed.value == 0.75
    assert found.written.value == pytest.approx(15 / 39)
    assert found.expected.value == pytest.approx(0.5 + 0.5 * 15 / 39)
    assert [found.handed_by(token) for token in (4, 5, 9)] == [0.0, 0.75, 0.75]


def test_what_is_compared_decides_the_handoff() -> None:
    """Guards compare=sampled that is forgotten: then a hit is a draft that wants the token written."""
    (one,) = made([[[True] * 10]])
    other = replace(one, agrees=~one.agrees)
    meters = {compare: Meter(Method(n=2, k=3, compare=compare), n_draws=50) for compare in COMPARE}
    assert {name: meter.measure([other]).handoffs.at for name, meter in meters.items()} == {"top1": [], "sampled": [5]}


# ---------------------------------------------------------------- rewrites
def relatives_of(relatives: Sequence[Sequence[Sequence[float]]]) -> list[Judgement]:
    """Judgements from the leader's relative probabilities: responses of sentences of positions."""
    judgements = made([[[value < 1 for value in sentence] for sentence in response] for response in relatives])
    flat = [np.array([value for sentence in response for value in sentence]) for response in relatives]
    return [replace(one, relative=values) for one, values in zip(judgements, flat, strict=True)]


def test_rewrites_of_probabilities_that_are_known() -> None:
    """Guards a token refused at its very tau, refused tokens counted for sentences, and a sentence's first review."""
    judgements = relatives_of([[[1, 0.5, 0.02], [1, 1], [0.3, 0.3]], [[0.001], [1, 1, 1, 0.59]]])
    found = {each.tau: each for each in Meter(Method(), n_draws=50).measure(judgements).rewrites}
    assert list(found) == list(TAUS)
    refused = {0.01: (1, 1), 0.03: (2, 2), 0.1: (2, 2), 0.3: (2, 2), 0.6: (6, 4), 1.0: (6, 4)}
    for tau, (n_tokens, n_sentences) in refused.items():
        assert found[tau].refused.value == pytest.approx(n_tokens / 12)
        assert found[tau].sentences.value == pytest.approx(n_sentences / 5)
        assert found[tau].calls_by_sentence.value == pytest.approx((5 + n_tokens) / 12)
        n_calls = {0.01: 3, 0.03: 4, 0.1: 4, 0.3: 4, 0.6: 6, 1.0: 6}[tau]
        assert found[tau].calls.value == pytest.approx(n_calls / 12)
        for estimate in (found[tau].refused, found[tau].sentences, found[tau].calls):
            assert estimate.low <= estimate.value <= estimate.high


def test_a_tau_of_ones_own_is_foretold_among_the_others() -> None:
    """Guards --tau that is forgotten, or that stands twice; 0 refuses nothing, and certainty has an interval."""
    judgements = relatives_of([[[0.2, 0.0]]])
    found = Meter(Method(tau=0.2), n_draws=50).measure(judgements).rewrites
    assert [each.tau for each in found] == [0.01, 0.03, 0.1, 0.2, 0.3, 0.6, 1.0]
    assert [each.refused.value for each in found] == [0.5] * 4 + [1.0] * 3
    assert found[-1].calls.value == 1
    assert found[-1].calls_by_sentence.value == 1.5, "one sentence, two tokens: more than the leader alone has"
    assert (found[-1].refused.low < 1.0, found[-1].refused.high) == (True, 1.0)
    (never, *_) = Meter(Method(tau=0), n_draws=50).measure(judgements).rewrites
    assert (never.tau, never.refused.value, never.calls.value) == (0.0, 0.0, 0.5)


@pytest.mark.parametrize("different", [False, True], ids=["one vocabulary", "special tokens differ"])
def test_the_leader_is_asked_about_the_drafts_token_at_its_own_position(different: bool) -> None:
    """Guards a neighbour's probability, one of all tokens in place of the best one's, and the draft's id as it is."""
    vocabulary = FakeVocabulary(different)
    texts, leader, n_special = [tokens_of(stream) for stream in written(20, max_tokens=60)], FakeModel(LEADER), 0
    draft = FakeModel(DRAFT, n_slots=N_SLOTS, agreement=0.5, pieces=DRAFT_PIECES if different else PIECES)
    for i, one in enumerate(judged(texts, draft, vocabulary)):
        for at, (token, relative) in enumerate(zip(one.draft.top1.tolist(), one.relative.tolist(), strict=True)):
            logits = leader.logits([*prompt_of(i), *texts[i][:at]]).astype(np.float64)
            asked = ID[b"<"] if different and token == SPECIAL else token
            assert relative == pytest.approx(np.exp(logits[asked] - logits.max()), rel=1e-5)
            n_special += token == SPECIAL
    assert n_special > 5


def test_what_is_foretold_of_an_exact_review_is_what_it_rewrites() -> None:
    """Guards positions, comparisons or a rule other than review's: at tau 1 its text is the leader's own."""
    n = 30
    texts = [tokens_of(stream) for stream in written(n, max_tokens=80)]
    settings = {"gate": "never", "review": "ratio", "tau": 1.0, "rewrite_k": 0, "max_tokens": 80}
    streams = [new_sequence(i, **settings) for i in range(n)]  # type: ignore[arg-type]
    run_all(FakePair(agreement=0.8, truncation="remove").scheduler(), streams)
    n_refused = n_tokens = 0
    for stream, text, one in zip(streams, texts, judged(texts, FakeModel(DRAFT, agreement=0.8)), strict=True):
        tokens = [token for token in stream.tokens if token.id != END]
        assert tokens_of(stream)[: len(text)] == text
        assert [token.author is LEADER for token in tokens] == (one.relative < 1).tolist()
        n_refused += int((one.relative < 1).sum())
        n_tokens += len(tokens)
    assert n_tokens / 10 < n_refused < n_tokens / 2


# ---------------------------------------------------------------- curves
def test_curves_of_flags_that_are_known() -> None:
    """Guards bins and places that are shifted, a short response that counts where it has no tokens, and n."""
    first, later = [True, False, False], [True, True, False, False, False]
    one = measured([[first, later], [first]], width=4)
    assert (one.n_responses, one.n_tokens, one.n_sentences) == (2, 11, 3)
    assert one.overall.value == pytest.approx(4 / 11)
    assert one.along_response.places == [1, 5]
    assert one.along_response.n == [7, 4]
    assert one.along_response.share == [pytest.approx(3 / 7), pytest.approx(1 / 4)]
    assert one.along_sentence.places == [1, 2, 3, 4, 5]
    assert one.along_sentence.n == [3, 3, 3, 1, 1]
    assert one.along_sentence.share == [1.0, pytest.approx(1 / 3), 0.0, 0.0, 0.0]
    for curve in (one.along_response, one.along_sentence):
        assert all(low <= share <= high for low, share, high in zip(curve.low, curve.share, curve.high, strict=True))


def test_the_fall_from_token_1_to_token_10() -> None:
    """Guards a ninth or eleventh token, and short sentences in the one figure but not in the other."""
    long, longer = [True] + [False] * 9, [True] + [False] * 8 + [True]
    assert measured([[long, longer, [False]]] * 6).factor.value == 2.0
    never = measured([[long] * 5] * 6).factor
    assert (never.value, never.high) == (math.inf, math.inf)
    assert 5 < never.low < 20, "30 sentences without a miss are no proof that there is none"
    assert math.isnan(measured([[[True, False]]] * 6).factor.value)


def rates(shares: Sequence[float], n: int, length: int = 40) -> list[list[list[bool]]]:
    """n responses of one sentence, whose chance of a misalignment goes through these shares."""
    rng = np.random.default_rng(5)
    chance = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(shares)), shares)
    return [[(rng.random(length) < chance).tolist()] for _ in range(n)]


@pytest.mark.parametrize(
    ("shares", "n", "wanted", "rebounds"),
    [
        ([0.1, 0.5], 60, "grows", True),
        ([0.3, 0.3], 400, "stays", True),
        ([0.5, 0.1], 60, "falls", False),
        ([0.3, 0.3], 8, "unknown", None),
        ([0.5, 0.1], 4, "unknown", None),
    ],
)
def test_where_a_curve_goes(shares: list[float], n: int, wanted: str, rebounds: bool | None) -> None:
    """Guards a verdict without evidence, and a rebound that only a rise would count for."""
    one = measured(rates(shares, n), width=8)
    assert (one.along_response.direction, one.rebounds) == (wanted, rebounds)
    assert one.along_response.change.value == pytest.approx(shares[-1] - shares[0], abs=0.15)
    assert (one.along_response.p_value < 0.01) == (wanted in ("grows", "falls"))


def test_responses_that_go_on_longer_are_no_rise() -> None:
    """Guards survivors: hard responses are long, so the late bins are theirs, but nothing grows inside of any."""
    one = measured([*rates([0.1, 0.1], 150, 40), *rates([0.5, 0.5], 150, 120)], width=8)
    assert one.along_response.share[0] < 0.4 < one.along_response.share[-1]
    assert one.along_response.direction == "stays"


def test_sentences_that_go_on_longer_are_no_rise() -> None:
    """Guards the same inside of responses: long sentences may be the hard ones, and a change is one inside of each."""
    easy, hard = rates([0.1, 0.1], 300, 8), rates([0.5, 0.5], 300, 20)
    one = measured([[*mild, *wild] for mild, wild in zip(easy, hard, strict=True)])
    assert one.along_sentence.share[0] < 0.4 < one.along_sentence.share[-1]
    assert one.along_sentence.direction == "stays"
    assert abs(one.along_sentence.change.value) < 0.05


def test_directions_of_intervals() -> None:
    """Guards the margin: a fall that is sure but small, none at all, and nothing known."""
    assert direction(Estimate(-0.01, -0.015, -0.005), 0.1, 50) == "stays"
    assert direction(Estimate(-0.05, -0.06, -0.04), 0.1, 50) == "falls"
    assert direction(Estimate(0.0, 0.0, 0.0), 0.0, 50) == "unknown"
    assert direction(Estimate(math.nan, math.nan, math.nan), 0.1, 50) == "unknown"


def test_signs_flipped() -> None:
    """Guards a p-value of 0, and one that responses without a trend would get."""
    assert sign_flip([1.0] * 20, 1000) == pytest.approx(1 / 1001)
    assert sign_flip([1.0, -1.0] * 10, 1000) == 1.0
    assert sign_flip([1.0], 1000) == 1.0


def test_unsureness_is_told_apart_by_alignment() -> None:
    """Guards means over all positions, models that are swapped, and entropies that are averaged by response."""
    one = measured([[[True, False, False]], [[True]]])
    assert (one.misaligned.n, one.aligned.n) == (2, 2)
    found = [
        (u.leader_entropy, u.draft_entropy, u.leader_chance, u.draft_chance) for u in (one.misaligned, one.aligned)
    ]
    assert [[each.value for each in row] for row in found] == [[2, 4, 0.5, 0.1], [0, 0, 0.9, 0.8]]


def test_as_dict_is_json_whatever_is_unknown() -> None:
    """Guards NaN and Infinity, which are no JSON, and figures that are lost on the way."""
    for flags in ([[[True]]], [[[False] * 3]], [[[True] + [False] * 11]] * 5):
        record = json.loads(json.dumps(measured(flags).as_dict(), allow_nan=False))
        assert record["along_sentence"]["places"][0] == 1
        assert len(record["along_response"]["share"]) == len(record["along_response"]["places"])
        assert [(h["n"], h["k"]) for h in record["grid"]] == list(GRID)


# ---------------------------------------------------------------- words
def test_words_are_put_together_from_their_pieces() -> None:
    """Guards "Al" for "Alternatively", words glued together, and the middle of a word that passes for a word."""
    texts = ["Al", "tern", "atively", ",", " 5", "7", ".", "\n\n", " don", "'t", " x", "", "é", "(", "a"]
    before, words = "", []
    for i, text in enumerate(texts):
        words.append(word_at(texts, i, before))
        before = text[-1:] or before
    wanted = ["Alternatively", "…tern", "…atively", ",", "57", "…7", ".", r"'\n\n'", "don't", "…'t", "xé", "é", "…é"]
    assert words == [*wanted, "(", "a"]
    assert word_at(["数学", "很"], 0, "") == "数学"
    assert piece_word(" the", "x") == "the"


def test_misaligned_words_are_counted() -> None:
    """Guards counts of pieces for words, aligned uses that are left out, and sentence starts that are not told."""
    texts = ["Wa", "it", ",", " Wa", "it", " so", " Wa", "it"]
    flags = [[[True, False, False], [True, True, False], [False, False]]]
    found = {word.word: word for word in misaligned_words(made(flags, [texts]))}
    assert list(found) == ["Wait", "…it"]
    wait = found["Wait"]
    assert (wait.n, wait.n_seen, wait.n_first, wait.drafts) == (2, 3, 2, [("b", 2)])
    assert (found["…it"].n, found["…it"].n_seen, found["…it"].n_first) == (1, 3, 0)


def test_a_token_that_is_not_the_leaders_own_counts_as_the_leaders_word() -> None:
    """Guards the text's word where the leader wanted another: what is compared are both models' top-1."""
    (one,) = made([[[True, False]]], [[" x", " y"]])
    leader = replace(one.reading.leader, top1=np.array([7, 1]), words=[" Hmm", " y"])
    changed = LeaderReading("0", [1, 1], [" x", " y"], [0, 0], leader)
    assert changed.is_top1.tolist() == [False, True]
    (word,) = misaligned_words([replace(one, reading=changed)])
    assert (word.word, word.drafts) == ("Hmm", [("b", 1)])
