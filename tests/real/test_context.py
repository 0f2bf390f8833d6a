"""The folder that talks to llama.cpp: saved states, chunks of a batch, and how much memory is used."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from foreal_local.config import Pair, Runtime
from foreal_local.engine import Engine
from foreal_local.errors import SequenceError
from foreal_local.runtime import llama
from foreal_local.runtime.hardware import AttentionPlan, auto_cache_type, plan_attention
from foreal_local.runtime.llama import Context, open_context
from foreal_local.runtime.model import Row, Snapshot

from . import tiny_gguf
from .engines import DRAFT, GPU, LEADER, PairMaker, ask, ids, open_engine, pair_of, settings

KINDS = ("llama", "moe", "gemma3", "lfm2", "mamba")
SAME = 0.1 if GPU else 0.01
"""Logits whose standard deviation is 4 and that differ by less are the same, but for rounding."""


def logits_after(context: Context, slot: int, tokens: list[int], n_outputs: int = 1) -> np.ndarray:
    """Copies of the logits (n_outputs, n_vocab) after the last of these tokens."""
    rows = [Row(slot, tokens, n_outputs)]
    found = [output.logits.copy() for output in context.evaluate(rows) if output.logits is not None]
    assert len(found) == n_outputs
    return np.array(found)


def some_tokens(n: int) -> list[int]:
    words = [tiny_gguf.plain().id_of(" " + word) for word in tiny_gguf.WORDS.split()]
    return np.random.default_rng(n).choice(words, n).tolist()


@pytest.fixture(params=[False, True], ids=["one buffer", "separate caches"])
def lanes(request: pytest.FixtureRequest) -> int:
    """In how many contexts the slots are: in one, they share a buffer; in two, each slot has a buffer of its own."""
    return 2 if request.param else 1


def leader_of(engine: Engine) -> Context:
    return engine.loaded.lanes[0][LEADER]


# ---------------------------------------------------------------- token by token
@pytest.mark.parametrize(("kind", "rollback"), [("llama", 0), ("lfm2", 0), ("lfm2", 8), ("mamba", 8)])
def test_an_abort_between_two_tokens_leaves_what_was_evaluated(kind: str, rollback: int, make: PairMaker) -> None:
    """Guards Ctrl-C that is not seen between two tokens, and a cache that is wrong after it."""
    before = some_tokens(20)
    with open_engine(make(kind), rollback=rollback) as engine:
        context, taken = leader_of(engine), [int(some_tokens(1)[0])]
        logits_after(context, 0, before)

        def write_on() -> None:
            for n in range(100):
                taken.append(int(logits_after(context, 0, [taken[-1]])[0].argmax()))
                if n == 6:
                    engine.loaded.abort.set()

        with pytest.raises(KeyboardInterrupt), engine.loaded.abort.held():
            write_on()
        engine.loaded.abort.clear()
        held = context.cached(0)
        assert held in (27, 0)  # a recurrent memory may have to forget all
        again = logits_after(context, 0, [*before, *taken][held:])[0]
        context.release(0)
        np.testing.assert_allclose(again, logits_after(context, 0, [*before, *taken])[0], atol=SAME)


@pytest.mark.parametrize("n_left", [36, 37])
def test_a_restored_state_has_no_earlier_ones_to_go_back_to(n_left: int, make: PairMaker) -> None:
    """Guards a cache that goes back to a state of the text that its slot had before."""
    text = some_tokens(38)
    with open_engine(make("lfm2"), rollback=8) as engine:
        context = leader_of(engine)
        logits_after(context, 0, text)
        snapshot = context.save(0)
        context.release(0)
        logits_after(context, 0, some_tokens(20))
        context.restore(0, snapshot)
        held = context.truncate(0, n_left)
        again = logits_after(context, 0, text[held:])[0]
        context.release(0)
        np.testing.assert_allclose(again, logits_after(context, 0, text)[0], atol=SAME)


# ---------------------------------------------------------------- evaluations that are filled up
@pytest.mark.skipif(GPU, reason="there all models are filled up")
@pytest.mark.parametrize("kind", ["llama", "moe"])
def test_filling_up_changes_no_logits_and_takes_no_room(
    kind: str, make: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards tokens of nobody that are left in the cache or seen by others, and an output that is another token's."""
    before, rows, n_ctx = some_tokens(20), some_tokens(44), 64
    found: list[list[np.ndarray]] = []
    for fewest in (0, 1 << 40):
        monkeypatch.setattr("foreal_local.runtime.llama.weights._FEWEST_BYTES_PADDED", fewest)
        with open_engine(make(kind), ctx_size=n_ctx, n_slots=2) as engine:
            context = leader_of(engine)
            assert context._plan.has_padding_slot == (fewest == 0)
            logits_after(context, 1, before)
            own = [logits_after(context, 0, before)]
            own += [logits_after(context, 0, rows[:13], 13), logits_after(context, 0, rows[13:20])]
            assert (context.cached(0), context._n_last) == (40, 8 if fewest == 0 else 7)
            assert context.truncate(0, 35) == 35
            own.append(logits_after(context, 0, rows[15:44], 3))  # the last place of the context is taken
            assert context.cached(0) == n_ctx
            own.append(logits_after(context, 1, rows[:7], 7))
            found.append(own)
    for padded, plain in zip(*found, strict=True):
        np.testing.assert_allclose(padded, plain, atol=SAME)


# ---------------------------------------------------------------- saved states
@pytest.mark.parametrize("n", [1, 20, 400])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_state_goes_on_in_another_slot(kind: str, n: int, lanes: int, make: PairMaker) -> None:
    """Guards a state that lacks what is behind a window, the convolution's past, or the recurrent state."""
    before, after = some_tokens(n), some_tokens(9)
    with open_engine(make(kind), n_slots=3 * lanes, lanes=lanes) as engine:
        context = leader_of(engine)
        logits_after(context, 0, before)
        logits_after(context, 2, some_tokens(30))  # what restoring must replace
        snapshot = context.save(0)
        assert snapshot.n_tokens == n
        context.restore(2, snapshot)
        assert [context.cached(slot) for slot in range(3)] == [n, 0, n]
        for token in after:
            here, there = logits_after(context, 0, [token]), logits_after(context, 2, [token])
            np.testing.assert_allclose(there, here, atol=SAME)
        assert np.abs(here - logits_after(context, 1, after)).max() > 0.1, "the past makes no difference here"
        context.release(0)
        context.restore(0, snapshot)
        for token in after:
            last = logits_after(context, 0, [token])
        np.testing.assert_allclose(last, here, atol=SAME)


def test_a_state_of_another_model_is_refused(make: PairMaker) -> None:
    """Guards a slot that pretends to hold what it could not read."""
    with open_engine(make("lfm2+llama")) as engine:
        logits_after(engine.loaded.lanes[0][DRAFT], 0, some_tokens(20))
        snapshot = engine.loaded.lanes[0][DRAFT].save(0)
        for wrong in (snapshot, Snapshot(20, snapshot.data[: len(snapshot.data) // 2])):
            with pytest.raises(SequenceError):
                leader_of(engine).restore(0, wrong)
            assert leader_of(engine).cached(0) == 0
        first = logits_after(leader_of(engine), 0, some_tokens(5))
        leader_of(engine).release(0)
        np.testing.assert_allclose(logits_after(leader_of(engine), 0, some_tokens(5)), first, atol=SAME)


@pytest.mark.parametrize("kind", KINDS)
def test_taking_tokens_back_leaves_a_prefix_or_nothing(kind: str, lanes: int, make: PairMaker) -> None:
    """Guards a cache that says it went back, and goes on from a state that has seen more."""
    tokens = some_tokens(300)
    with open_engine(make(kind), n_slots=2 * lanes, lanes=lanes) as engine:
        context = leader_of(engine)
        for keep in (299, 40, 0):
            context.release(0)
            logits_after(context, 0, tokens)
            left = context.truncate(0, keep)
            assert left == context.cached(0)
            assert left in (0, keep)
            context.release(1)
            np.testing.assert_allclose(
                logits_after(context, 0, tokens[left:])[-1], logits_after(context, 1, tokens)[-1], atol=SAME
            )


@pytest.mark.parametrize("kind", KINDS)
def test_going_back_to_a_mark(kind: str, lanes: int, make: PairMaker) -> None:
    """Guards memories that cannot take tokens back: they must not evaluate a long past again for a short end."""
    tokens, other = some_tokens(330), some_tokens(25)
    with open_engine(make(kind), n_slots=2 * lanes, lanes=lanes) as engine:
        context = leader_of(engine)
        logits_after(context, 1, some_tokens(50))  # a neighbour that nothing may happen to
        expected = {}
        for begin, end in ((0, 290), (290, 310), (310, 320)):
            expected[end] = logits_after(context, 0, tokens[begin:end])[-1]
            context.mark(0)
        logits_after(context, 0, tokens[320:])
        neighbour = context.save(1)
        for keep, found in ((325, 320), (320, 320), (315, 310), (300, 290)):
            left = context.truncate(0, keep)
            assert left in ((keep, found) if kind in ("llama", "moe", "gemma3") else (found,))
            logits_after(context, 0, other)
            assert context.truncate(0, left) == left, "a mark holds for more than one way back"
            context.release(1)
            logits_after(context, 1, tokens[:left])
            again = logits_after(context, 0, other)[-1]
            np.testing.assert_allclose(again, logits_after(context, 1, other)[-1], atol=SAME)
            context.truncate(0, left)
        context.restore(1, neighbour)
        assert context.truncate(0, 100) in (0, 100)
        context.release(0)
        assert not context._marks[0]


def test_marks_cost_nothing_where_tokens_can_be_removed(make: PairMaker) -> None:
    """Guards states that are saved for nothing, and marks that add up without end."""
    for kind, most in (("llama", 0), ("mamba", 4)):
        with open_engine(make(kind)) as engine:
            context = leader_of(engine)
            for token in some_tokens(20):
                logits_after(context, 0, [token])
                context.mark(0)
                context.mark(0)
            assert len(context._marks[0]) == most


def test_a_hybrid_takes_back_as_many_tokens_as_it_keeps_states_for(lanes: int, make: PairMaker) -> None:
    """Guards the bound of a rollback that llama.cpp keeps on the device (LFM2 can, one step at a time)."""
    tokens = some_tokens(40)
    with open_engine(make("lfm2"), n_slots=2 * lanes, lanes=lanes, rollback=8) as engine:
        context = leader_of(engine)
        logits_after(context, 0, tokens)
        assert context.truncate(0, 35) == 35
        logits_after(context, 1, tokens[:35])
        for token in tokens[35:]:
            here, there = logits_after(context, 0, [token]), logits_after(context, 1, [token])
            np.testing.assert_allclose(here, there, atol=SAME)
        assert context.truncate(0, 20) == 0


@pytest.mark.parametrize("n_slots", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_in_the_spare_slot_is_copied(kind: str, n_slots: int, lanes: int, make: PairMaker) -> None:
    """Guards a copy that changes its source, or that lacks a window or a recurrent state."""
    prefix = some_tokens(300)
    with open_engine(make(kind), n_slots=n_slots * lanes, lanes=lanes, shared_prefix=True) as engine:
        context = leader_of(engine)
        assert context.has_prefix_slot
        logits_after(context, n_slots, prefix)
        for slot in range(n_slots):
            context.copy(n_slots, slot)
        found = [logits_after(context, slot, some_tokens(20 + slot))[-1] for slot in range(n_slots)]
        for slot in range(n_slots):
            context.release(slot)
        context.copy(n_slots, 0)
        assert context.cached(0) == context.cached(n_slots) == 300
        np.testing.assert_allclose(logits_after(context, 0, some_tokens(20))[-1], found[0], atol=SAME)
        context.release(0)
        context.release(n_slots)
        for slot in range(n_slots):
            context.release(slot)
            alone = logits_after(context, slot, prefix + some_tokens(20 + slot))[-1]
            np.testing.assert_allclose(alone, found[slot], atol=SAME)


def test_the_spare_slot_gives_way(make: PairMaker) -> None:
    """Guards sequences that fail for want of room that a shared prefix takes."""
    with open_engine(make("llama"), n_slots=2, ctx_size=256, shared_prefix=True) as engine:
        context = leader_of(engine)
        logits_after(context, 2, some_tokens(100))
        logits_after(context, 0, some_tokens(250))
        assert context.cached(2) == 100
        logits_after(context, 1, some_tokens(251))
        assert [context.cached(slot) for slot in range(3)] == [250, 251, 0]


# ---------------------------------------------------------------- threads
@pytest.mark.skipif(GPU, reason="it has threads of its own")
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(kind: str, lanes: int, make: PairMaker) -> None:
    """Guards results that hang on the moment when another lane was done and left its threads."""
    found = []
    for n_threads in (1, 2, 3):
        with open_engine(make(kind), n_slots=3 * lanes, lanes=lanes) as engine:
            context = leader_of(engine)
            logits = [logits_after(context, slot, some_tokens(30 + slot)) for slot in range(3)]
            context.use_threads(n_threads)
            for n in (1, 1, 5, 17, 1):
                rows = [Row(slot, some_tokens(n + slot % 2), 1) for slot in range(3)]
                logits += [output.logits.copy()[None] for output in context.evaluate(rows) if output.logits is not None]
            found.append(np.concatenate(logits))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


# ---------------------------------------------------------------- chunks
@pytest.mark.parametrize("batch_size", [4, 7, 64])
def test_rows_of_any_length_and_any_number_of_outputs_fit_any_batch(
    batch_size: int, lanes: int, make: PairMaker
) -> None:
    """Guards the cutting of rows into batches: a token left out, an output under another's index."""
    shapes = [(0, 50, 1), (1, 3, 3), (2, 120, 40), (3, 1, 1)]
    rows = [Row(slot, some_tokens(n), n_outputs) for slot, n, n_outputs in shapes]
    answers = []
    for size in (512, batch_size):
        with open_engine(make("lfm2"), n_slots=4 * lanes, lanes=lanes, batch_size=size) as engine:
            context = leader_of(engine)
            found = {(o.row, o.index): o.logits.copy() for o in context.evaluate(rows) if o.logits is not None}
            assert [context.cached(slot) for slot, *_ in shapes] == [n for _, n, _ in shapes]
        assert list(found) == [(i, at) for i, (_, n, m) in enumerate(shapes) for at in range(n - m, n)]
        answers.append(found)
    for key, logits in answers[0].items():
        np.testing.assert_allclose(answers[1][key], logits, atol=SAME)


def test_a_batch_size_changes_nothing(make: PairMaker) -> None:
    """Guards catch-up that goes wrong where it does not fit one batch."""
    pair = make("lfm2")
    wide, narrow = (ask(pair, [" two" * 40], settings(), batch_size=size) for size in (512, 3))
    assert ids(wide[0])[:20] == ids(narrow[0])[:20]


FEWER_THAN_SLOTS = """
import sys
from pathlib import Path
from foreal_local.config import Generation, ModelSettings, Pair, Prompting, Runtime
from foreal_local.engine import Engine

pair = Pair(*(ModelSettings(Path(path)) for path in sys.argv[1:3]))
with Engine(pair, runtime=Runtime(ctx_size=64, threads=1, batch_size=3), n_slots=4) as engine:
    results = engine.generate([" wait so now"] * 4, Generation(seed=1, max_tokens=3), Prompting(raw=True))
print([len(result.tokens) for result in results])
"""


def test_a_batch_smaller_than_the_number_of_slots_is_no_crash(make: PairMaker) -> None:
    """Guards llama.cpp, which aborts the process for a context with fewer batch tokens than sequences."""
    done = in_subprocess(FEWER_THAN_SLOTS, make("llama"))
    assert (done.returncode, done.stdout) == (0, "[3, 3, 3, 3]\n"), done.stderr[-500:]


def in_subprocess(code: str, pair: Pair, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(pair.leader.path), str(pair.draft.path)]
    command = [sys.executable, "-c", code, *paths, *arguments]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)


@pytest.mark.parametrize(("n_slots", "prefix_slot", "separate"), [(1, False, False), (3, True, False), (3, True, True)])
def test_a_context_is_made_as_planned(n_slots: int, prefix_slot: bool, separate: bool, make: PairMaker) -> None:
    """Guards sizes that are planned, and not handed on."""
    weights, asked = llama.Weights(make("llama").leader.path), Runtime(batch_size=100)
    with closing(weights):
        options = {"prefix_slot": prefix_slot, "separate_caches": separate}
        with closing(open_context(weights, n_slots, 512, 3, asked, llama.Abort(), **options)) as context:
            native, plan = context._context, context._plan
            assert (plan.n_batch, plan.n_sequences, plan.threads) == (100, n_slots + prefix_slot, 3)
            assert llama_cpp.llama_n_ctx(native) == plan.n_cells
            assert llama_cpp.llama_n_batch(native) == plan.n_batch
            assert llama_cpp.llama_n_ubatch(native) == plan.n_ubatch
            assert llama_cpp.llama_n_seq_max(native) == plan.n_sequences
            assert llama_cpp.llama_n_threads(native) == llama_cpp.llama_n_threads_batch(native) == plan.threads
            assert (context.n_slots, context.n_ctx, context.has_prefix_slot) == (n_slots, 512, prefix_slot)


# ---------------------------------------------------------------- memory
N_VOCABULARY, N_CTX = 32_000, 8192

MEASURE = """
import re, resource, sys
from pathlib import Path
from foreal_local.config import Generation, Method, ModelSettings, Pair, Prompting, Runtime
from foreal_local.engine import Engine
from foreal_local.method.sequence import Role

pair = Pair(*(ModelSettings(Path(path)) for path in sys.argv[1:3]))
with Engine(pair, runtime=Runtime(ctx_size=int(sys.argv[3]), threads=1)) as engine:
    settings = Generation(method=Method(n=8, p=0.8, k=3), seed=1, max_tokens=40)
    (result,) = engine.generate([" w7" * 700], settings, Prompting(raw=True))
    assert result.cost[Role.LEADER].tokens > 700 and result.cost[Role.DRAFT].tokens > 700, result.error
try:  # getrusage also counts what the process was forked from
    peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(peak * 1024)
"""


@pytest.fixture(scope="module")
def large_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    base = tiny_gguf.plain()
    more = N_VOCABULARY - len(base)
    words = tiny_gguf.Vocabulary(
        ordinary=(*base.ordinary, *(f"{i}#" for i in range(more))),
        emphasis=(*base.emphasis, *[0.2] * more),
        merges=base.merges,
        specials=base.specials,
        eos=base.eos,
        bos=base.bos,
    )
    folder = tmp_path_factory.mktemp("large")
    shape: dict[str, Any] = {"vocabulary": words, "n_context": N_CTX, "chat_template": ""}
    return pair_of(*(tiny_gguf.write_llama(folder / f"{i}.gguf", seed=i, **shape) for i in (1, 2)))


@pytest.mark.skipif(sys.platform == "win32", reason="no way to measure it there")
@pytest.mark.skipif(GPU, reason="the GPU's driver takes half a gigabyte of its own")
def test_no_logits_are_kept_for_a_whole_context(large_vocabulary: Pair) -> None:
    """Guards an array of context x vocabulary (1 GB here), and one of batch x vocabulary per context."""
    done = in_subprocess(MEASURE, large_vocabulary, str(N_CTX))
    assert done.returncode == 0, done.stderr
    files = sum(settings.path.stat().st_size for settings in (large_vocabulary.leader, large_vocabulary.draft))
    kv_cache = 2 * N_CTX * 2 * 2 * (2 * 16) * 2  # models, tokens, K and V, layers, 2 KV heads of 16, bytes
    assert int(done.stdout) < files + kv_cache + 150_000_000


@pytest.mark.parametrize(
    ("n_slots", "n_ctx", "asked", "found"),
    [
        (1, 1024, {}, ("off", 512)),
        (8, 1024, {}, ("off", 96)),
        (1, 100_000, {}, ("auto", 512)),
        (1, 1024, {"kv_type_v": "q8_0"}, ("auto", 512)),
        (8, 1024, {"flash_attention": "off"}, ("off", 512)),
        (1, 1024, {"flash_attention": "on"}, ("on", 512)),
    ],
)
def test_no_flash_attention_on_a_cpu_while_the_scores_are_small(
    n_slots: int, n_ctx: int, asked: dict[str, Any], found: tuple[str, int]
) -> None:
    """Guards the slower kernel, scores that outgrow the memory, and a choice of the user's that is overruled."""
    plan = plan_attention(Runtime(**asked), False, 8, n_slots * n_ctx)
    assert (plan.flash_attention, plan.n_ubatch) == found
    plan = plan_attention(Runtime(**asked), True, 8, n_slots * n_ctx)
    assert plan.flash_attention == asked.get("flash_attention", "auto")


@pytest.mark.parametrize(
    ("flash_attention", "head_size", "n_slots", "found"),
    [("off", 32, 1, "f32"), ("off", 64, 1, "f16"), ("off", 32, 2, "f16"), ("auto", 32, 1, "f16"), ("off", 0, 1, "f16")],
)
def test_the_cache_is_single_precision_only_where_that_is_faster(
    flash_attention: str, head_size: int, n_slots: int, found: str
) -> None:
    """Guards caches of twice the size for models that gain nothing, and small models slower than need be."""
    plan = AttentionPlan(flash_attention, 512)
    assert auto_cache_type(plan, False, head_size, n_slots) == found
    assert auto_cache_type(plan, True, head_size, n_slots) == "f16"
