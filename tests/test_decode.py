"""The method's flows, played by hand: requests out, answers in, no model anywhere."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from foreal_local.config import Generation, Method
from foreal_local.method.flows import Flow, alone, cued, foreal, lead, speculative
from foreal_local.method.modes import flow_of
from foreal_local.method.requests import NOT_CERTAIN, Judge, OpenSentence, Request, Write, WriteCue, Written
from foreal_local.method.review import Review
from foreal_local.method.roles import Role
from foreal_local.method.speculation import Propose, ReadAhead

LEADER, DRAFT = Role.LEADER, Role.DRAFT
Hit = Callable[[int], bool]


def always(_position: int) -> bool:
    return True


class Player:
    """Plays the scheduler's part for one flow; `log` has L and D for tokens, ("judge", m), "open" and "cue".

    `hit(i)`: whether the sentence's token i (from 1) is a hit; `ends`: lengths of the sentences to come, then
    none ends. Owns the count of the sentence's tokens.
    """

    def __init__(self, flow: Flow, led: bool = True, hit: Hit = always, ends: tuple[int, ...] = ()) -> None:
        self.flow, self.led, self.hit = flow, led, hit
        self.ends = iter(ends)
        self.log: list[object] = []
        self.n_written = 0
        self.end: int | None = None
        self.request = next(flow)

    def play(self, n_tokens: int) -> list[object]:
        """Until the response has n_tokens more."""
        n_left = n_tokens
        while n_left:
            n_left -= self._answer()
        return self.log

    def _answer(self) -> int:
        request = self.request
        if isinstance(request, OpenSentence):
            self.log.append("open")
            self.n_written, self.end = 0, next(self.ends, None)
            self.request = self.flow.send(self.led)
            return 0
        if isinstance(request, Judge):
            assert request.role is DRAFT
            self.log.append(("judge", request.n_tokens))
            first = self.n_written - request.n_tokens + 1
            self.request = self.flow.send(tuple(self.hit(i) for i in range(first, self.n_written + 1)))
            return 0
        if isinstance(request, Propose):  # the leader's next token is known, or none pays
            self.request = self.flow.send(False)
            return 0
        self.n_written += 1
        self.log.append("cue" if isinstance(request, WriteCue) else "L" if request.role is LEADER else "D")
        self.request = self.flow.send(Written(ends_sentence=self.n_written == self.end))
        return 1


def lead_length(method: Method, hit: Hit, at_most: int = 60) -> int | None:
    """After how many tokens the flow hands over; None when it has not."""
    player = Player(foreal(method), hit=hit)
    log = player.play(at_most + 1)
    return log.count("L") if "D" in log else None


@pytest.mark.parametrize("n", [0, 1, 5, 15])
@pytest.mark.parametrize("k", [0, 1, 2, 5, 9])
def test_perfect_draft_takes_over_after_n_plus_k_tokens(n: int, k: int) -> None:
    """Guards the off-by-one: counted from the lead, never before n + k tokens, and n + 1 for k = 0."""
    assert lead_length(Method(n=n, k=k), always) == max(n + k, n + 1)


@pytest.mark.parametrize("n", [0, 1, 5, 15])
@pytest.mark.parametrize("k", [0, 1, 2, 5, 9])
def test_perfect_draft_takes_over_right_after_n_when_hits_count_from_the_start(n: int, k: int) -> None:
    """Guards hits_from="sentence": the first n tokens count too, but lambda must still exceed n."""
    assert lead_length(Method(n=n, k=k, hits_from="sentence"), always) == max(n + 1, k)


def test_without_hits_the_leader_writes_the_whole_sentence() -> None:
    """Guards a handoff that comes by length alone."""
    assert lead_length(Method(n=3, k=2), lambda _i: False) is None


def test_a_miss_resets_the_counter() -> None:
    """Guards counting hits in total: with n = 2 and k = 3 a miss at token 4 makes 5, 6, 7 the run."""
    assert lead_length(Method(n=2, k=3), lambda i: i != 4) == 7
    assert lead_length(Method(n=2, k=3), lambda i: i != 5) == 8


def test_hits_within_the_first_n_tokens_do_not_count_from_the_lead() -> None:
    """Guards an early handoff: ten hits before n, then misses."""
    assert lead_length(Method(n=10, k=2), lambda i: i <= 10) is None
    assert lead_length(Method(n=10, k=2, hits_from="sentence"), lambda i: i <= 11) == 11


def first_handoff(method: Method, hits: list[bool]) -> int | None:
    """By definition: the first m > n whose trailing run of counted hits is k or longer."""
    run = 0
    for m, hit in enumerate(hits, start=1):
        counts = method.hits_from == "sentence" or m > method.n
        run = run + 1 if hit and counts else 0
        if m > method.n and run >= method.k:
            return m
    return None


def test_batched_checks_decide_as_single_ones() -> None:
    """Guards the shortcut of judging k - h tokens together: any pattern of hits, against the definition."""
    rng = random.Random(1)
    for n, k, hits_from in itertools.product((0, 1, 2, 7), (0, 1, 2, 3, 6), ("lead", "sentence")):
        method = Method(n=n, k=k, hits_from=hits_from)
        for _ in range(60):
            share = rng.random()
            hits = [rng.random() < share for _ in range(60)]
            found = lead_length(method, lambda i, hits=hits: hits[i - 1])
            assert found == first_handoff(method, hits), (method, hits)


def test_the_draft_is_asked_only_when_the_counter_can_have_reached_k() -> None:
    """Guards wasted checks: first k tokens after n, then as many as the counter still lacks."""
    log = Player(foreal(Method(n=3, k=3)), hit=lambda i: i != 5).play(9)
    assert log == ["open", *"LLLLLL", ("judge", 3), *"LL", ("judge", 2), "D"]


def test_from_the_sentence_start_all_its_tokens_are_judged_first() -> None:
    log = Player(foreal(Method(n=4, k=2, hits_from="sentence")), hit=lambda i: i != 5).play(8)
    assert log == ["open", *"LLLLL", ("judge", 5), *"LL", ("judge", 2), "D"]


def test_without_k_nobody_is_asked() -> None:
    """Guards a useless evaluation by the draft with k = 0."""
    assert Player(foreal(Method(n=2, k=0))).play(4) == ["open", *"LLLD"]
    assert Player(foreal(Method(n=0, k=0))).play(2) == ["open", *"LD"]


def test_n_0_and_k_1_asks_after_each_token() -> None:
    log = Player(foreal(Method(n=0, k=1)), hit=lambda i: i == 3).play(4)
    assert log == ["open", "L", ("judge", 1), "L", ("judge", 1), "L", ("judge", 1), "D"]


def test_a_sentence_that_ends_while_the_leader_leads_opens_the_next_without_a_check() -> None:
    """Guards a check (or a handoff) that outlives its sentence: also when it ends exactly at n + k."""
    log = Player(foreal(Method(n=2, k=1)), ends=(2, 3, 4)).play(10)
    assert log == ["open", *"LL", "open", *"LLL", "open", *"LLL", ("judge", 1), "D", "open", "L"]


def test_the_counter_does_not_survive_the_sentence() -> None:
    """Guards a hit counter kept between sentences: hits at the end of one are worth nothing in the next."""
    hits = iter([True, False, True, True, False, False])
    log = Player(foreal(Method(n=0, k=2)), hit=lambda _i: next(hits), ends=(3,)).play(7)
    assert log == ["open", *"LL", ("judge", 2), "L", "open", *"LL", ("judge", 2), "D", "D"]


def test_a_sentence_that_is_not_led_is_the_drafts() -> None:
    assert Player(foreal(Method(n=2, k=1)), led=False, ends=(2,)).play(4) == ["open", *"DD", "open", *"DD"]


@pytest.mark.parametrize("n_before", [0, 1, 2, 3, 5])
def test_an_end_seen_at_the_next_token_opens_a_sentence_and_counts_nothing(n_before: int) -> None:
    """Guards the peek (added = False): the flow opens a sentence, and starts counting from nothing."""
    flow = foreal(Method(n=2, k=1, proposals=0))
    player = Player(flow)
    while player.n_written < n_before:
        player._answer()
    while isinstance(player.request, (OpenSentence, Judge)):
        player._answer()
    assert isinstance(player.request, Write)
    assert isinstance(flow.send(Written(ends_sentence=True, added=False)), OpenSentence)
    assert flow.send(True) == Write(LEADER)
    fresh = Player(foreal(Method(n=2, k=1)))
    fresh._answer()
    player.request, player.log, player.n_written = Write(LEADER), ["open"], 0
    assert player.play(5) == fresh.play(5)


@pytest.mark.parametrize("role", [LEADER, DRAFT])
def test_alone_writes_everything_and_asks_nobody(role: Role) -> None:
    letter = "L" if role is LEADER else "D"
    log = Player(alone(role), led=role is LEADER, ends=(1, 2)).play(6)
    assert log == ["open", letter, "open", letter, letter, "open", letter, letter, letter]


# ---------------------------------------------------------------- the cue
def test_a_cue_begins_a_led_sentence_and_the_draft_goes_on() -> None:
    """Guards a cue in the middle of a sentence or twice in it, and a leader who is asked for anything."""
    log = Player(cued(), ends=(3, 2, 4)).play(10)
    assert log == ["open", "cue", *"DD", "open", "cue", "D", "open", "cue", *"DDD", "open", "cue"]


def test_without_a_cue_the_sentence_is_the_drafts() -> None:
    """Guards a cue for a gate that is closed."""
    flow = cued()
    player = Player(flow, led=False, ends=(2, 1))
    assert player.play(3) == ["open", *"DD", "open", "D"]
    player.led = True
    assert player.play(2)[5:] == ["open", "cue", "D"]


def test_a_cue_that_is_a_sentence_asks_the_gate_again() -> None:
    """Guards a sentence of the draft's that follows a cue without a gate of its own."""
    assert Player(cued(), ends=(1, 1, 2)).play(4) == ["open", "cue", "open", "cue", "open", "cue", "D"]


def test_an_end_seen_at_the_token_after_the_cue_opens_a_sentence() -> None:
    """Guards the peek (added = False) right after a cue such as "Wait."."""
    flow = cued()
    assert isinstance(next(flow), OpenSentence)
    assert isinstance(flow.send(True), WriteCue)
    assert flow.send(Written(ends_sentence=False)) == Write(DRAFT)
    assert isinstance(flow.send(Written(ends_sentence=True, added=False)), OpenSentence)
    assert flow.send(False) == Write(DRAFT)


# ---------------------------------------------------------------- proposals
@pytest.mark.parametrize("n_proposals", [0, 1, 7])
def test_the_draft_proposes_until_it_is_told_to_stop_and_then_the_leader_writes(n_proposals: int) -> None:
    """Guards a proposal too many or too few, also before the second token, and after a sentence's end."""
    flow = speculative(Method())
    assert isinstance(next(flow), OpenSentence)
    request = flow.send(True)
    for ends_sentence in (False, True, False):
        for _ in range(n_proposals):
            assert request == Propose(DRAFT)
            request = flow.send(True)
        assert request == Propose(DRAFT)
        assert flow.send(False) == Write(LEADER)
        request = flow.send(Written(ends_sentence))
        if ends_sentence:
            assert isinstance(request, OpenSentence)
            request = flow.send(True)


def test_without_proposals_none_are_asked_for() -> None:
    """Guards requests that only cost time."""
    for flow in (speculative(Method(proposals=0)), foreal(Method(proposals=0))):
        next(flow)
        request = flow.send(True)
        for _ in range(10):
            assert isinstance(request, Write)
            request = flow.send(Written(ends_sentence=False))


def test_the_leaders_part_asks_for_the_hits_that_it_will_judge_with_the_proposals() -> None:
    """Guards hits that cost an evaluation of their own, and opinions at places that nobody judges."""
    flow = lead(Method(), 2, 2)
    request, asked = next(flow), []
    for _ in range(4):
        assert isinstance(request, Propose)
        asked.append(request.n_unjudged)
        assert isinstance(flow.send(False), Write)
        request = flow.send(Written(ends_sentence=False))
    assert asked == [0, 0, 0, 1]
    assert request == Judge(DRAFT, 2, 0)
    assert flow.send((False, True)) == Propose(DRAFT)
    flow.send(False)
    assert flow.send(Written(ends_sentence=False)) == Judge(DRAFT, 1, 1)


# ---------------------------------------------------------------- review
def written(flow: Flow, n: int, ends: bool = False) -> Request:
    """The flow's next request after n tokens of the draft's, the last of which may end the sentence."""
    for i in range(n - 1):
        assert flow.send(Written(ends_sentence=False)) == Write(DRAFT), i
    return flow.send(Written(ends_sentence=ends))


def test_a_drafted_sentence_is_reviewed_at_its_end() -> None:
    """Guards a sentence that nobody reads, one that is read twice, and a gate that is drawn before it stands."""
    flow = foreal(Method(review="ratio", proposals=0))
    next(flow)
    for n in (1, 5, 64):
        assert flow.send(False) == Write(DRAFT)
        assert written(flow, n, ends=True) == Review(LEADER, n)
        assert isinstance(flow.send(True), OpenSentence)


def test_a_long_sentence_is_reviewed_after_so_many_tokens() -> None:
    """Guards a sentence of hundreds of tokens that is read when it is too late."""
    flow = foreal(Method(review="ratio", review_every=3, proposals=0))
    next(flow)
    assert flow.send(False) == Write(DRAFT)
    for _ in range(3):
        assert written(flow, 3) == Review(LEADER, 3)
        assert flow.send(True) == Write(DRAFT)
    assert written(flow, 2, ends=True) == Review(LEADER, 2)
    assert isinstance(flow.send(True), OpenSentence)


@pytest.mark.parametrize(("n", "k"), [(0, 0), (0, 2), (1, 1), (3, 0)])
def test_the_leader_rewrites_and_leads_until_its_own_hits(n: int, k: int) -> None:
    """Guards the gate's n and k taken for those after a rewritten token, which is the first of n and no hit."""
    flow = foreal(Method(review="ratio", rewrite_n=n, rewrite_k=k, proposals=0))
    next(flow)
    flow.send(False)
    assert written(flow, 4, ends=True) == Review(LEADER, 4)
    request = flow.send(False)
    n_led = 0
    while request == Write(LEADER) or (isinstance(request, Write) and request.begins_part):
        n_led += 1
        request = flow.send(Written(ends_sentence=False))
    assert n_led == max(n + 1, max(n, 1) + k)
    if k:
        assert request == Judge(DRAFT, k, 0)
        request = flow.send((True,) * k)
    assert request == Write(DRAFT)


def test_a_rewritten_token_may_end_the_sentence() -> None:
    """Guards a leader that goes on in a sentence that has ended."""
    flow = foreal(Method(review="exact", proposals=0))
    next(flow)
    flow.send(False)
    written(flow, 2, ends=True)
    assert flow.send(False) == Write(LEADER)
    assert isinstance(flow.send(Written(ends_sentence=True)), OpenSentence)


def test_the_leader_reads_ahead_of_the_draft() -> None:
    """Guards tokens that are written although one before them is known to fall."""
    propose, read = Propose(DRAFT, own_part=True), ReadAhead(LEADER)
    flow = foreal(Method(review="exact", rewrite_k=0))
    next(flow)
    assert flow.send(False) == propose
    assert flow.send(True) == propose
    assert flow.send(False) == read
    assert flow.send(True) == Write(DRAFT)
    assert flow.send(Written(ends_sentence=False)) == propose
    assert flow.send(False) == read
    assert flow.send(False) == Review(LEADER, 1)


def test_the_draft_calls_the_leader_back() -> None:
    """Guards a call-back that is taken for a sentence's end, what stands before it unread, and a lead without hits."""
    flow = foreal(Method(call_back=2.0, review="ratio", k=1, proposals=0))
    next(flow)
    uncertain = Write(DRAFT, most_entropy=2.0)
    assert flow.send(False) == uncertain
    assert flow.send(Written(ends_sentence=False)) == uncertain
    assert flow.send(NOT_CERTAIN) == Review(LEADER, 1)
    assert flow.send(True) == Write(LEADER, begins_part=True)
    assert flow.send(Written(ends_sentence=False)) == Judge(DRAFT, 1, 0)
    assert flow.send((True,)) == uncertain
    assert flow.send(NOT_CERTAIN) == Write(LEADER, begins_part=True)


def test_the_mode_names_the_flow() -> None:
    """Guards a mode that is taken for another, and numbers that do not reach their flow."""
    for mode, letters in (("leader", "L"), ("draft", "D"), ("foreal", "LLD")):
        settings = Generation(mode=mode, method=Method(n=1, k=0))
        log = Player(flow_of(settings)).play(9)
        assert log == ["open", *(letters + letters[-1] * 9)[:9]]
    assert Player(flow_of(Generation(mode="cue"))).play(3) == ["open", "cue", "D", "D"]
    flow = flow_of(Generation(mode="speculative", method=Method(proposals=2)))
    next(flow)
    assert [flow.send(True) for _ in range(2)] == [Propose(DRAFT), Propose(DRAFT)]
    assert flow.send(False) == Write(LEADER)
