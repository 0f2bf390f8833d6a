"""Conversations of many turns on tiny models: what a turn evaluates, and that no cache changes an answer."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from foreal_local.chat.conversation import Conversation, Message
from foreal_local.chat.input import LineEditor
from foreal_local.chat.loop import Chat
from foreal_local.chat.screen import Screen
from foreal_local.chat.view import AnswerView
from foreal_local.config import MODES, Pair, Prompting
from foreal_local.engine import Engine
from foreal_local.errors import ContextFullError, SessionError, UsageError
from foreal_local.method.roles import Role
from foreal_local.method.tokens import FinishReason
from foreal_local.method.view import n_common
from foreal_local.results import Chunk, Prompt, PromptProgress, Result
from foreal_local.runtime.model import Identity
from foreal_local.storage.session import write_stored

from . import tiny_gguf
from .engines import LEADER, PairMaker, assert_same_up_to_near_ties, ids, open_engine, pair_of, settings

KINDS = ("llama", "lfm2", "mamba", "gemma3", "lfm2+llama", "llama+mamba")
"""Attention, states that cannot be rewound, windows, and pairs whose caches differ in kind."""
QUESTIONS = (
    "wait now so",
    "let me check",
    "one two ten",
    "add the number",
    "is it right?",
    "hmm",
    "数 half é",
    "less than",
)
_VISIBLE = "{{ m['content'].split('</think>')[-1].lstrip('\\n') }}"
FORGETFUL = tiny_gguf.R1_TEMPLATE.replace("<｜Assistant｜>{{ m['content'] }}", f"<｜Assistant｜>{_VISIBLE}")
"""As the templates of reasoning models: the reasoning of earlier answers is dropped."""
N_TOKENS = 40


def thinking_pair(make: PairMaker, kind: str) -> Pair:
    """Models that open the reasoning, close it by themselves now and then, and forget it in the next turn."""
    return make(kind, "r1_closing", chat=FORGETFUL)


def converse(engine: Engine, **options: Any) -> Conversation:
    generation = settings(**{"max_tokens": N_TOKENS, **options})
    return Conversation(engine, generation)


def last(events: Iterator[Any]) -> Result:
    """The end of an answer."""
    *_, result = events
    assert isinstance(result, Result)
    return result


def ask(conversation: Conversation, text: str) -> Result:
    return last(conversation.ask(text))


def stop_after(n: int, events: Iterator[Any]) -> list[Any]:
    """Take the iterator's first n events, and close it."""
    taken = []
    with closing(events) as open_events:
        for event in open_events:
            taken.append(event)
            if len(taken) == n:
                break
    return taken


def prompt_ids(conversation: Conversation, messages: list[Message]) -> dict[Role, list[int]]:
    return conversation.engine.encode(dicts(messages), conversation.prompting).ids


def answer_begins(conversation: Conversation) -> dict[Role, int]:
    """Where the last answer begins in a later prompt that has dropped its reasoning: all before it is in both."""
    *before, _ = conversation.messages
    prompt = prompt_ids(conversation, before)
    later = prompt_ids(conversation, [*before, Message("assistant", "."), Message("user", "hmm")])
    return {role: n_common(prompt[role], later[role]) for role in Role}


def dicts(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


class Judge:
    """An engine without a past: answers each whole prompt again, and says whether the conversation's answer is that."""

    def __init__(self, pair: Pair, engine: Engine, folder: Path) -> None:
        self._pair, self._engine, self._folder = pair, engine, folder

    def agrees(self, conversation: Conversation) -> None:
        """Hold the last answer, or as much of it as was not stopped, against one that no cache has touched."""
        *before, answer = conversation.messages
        result = conversation.result
        assert answer.role == "assistant"
        assert result is not None
        prompt = Prompt(dicts(before), index=len(before))
        (fresh,) = self._engine.generate([prompt], conversation.settings, conversation.prompting)
        got, wanted = ids(result), ids(fresh)
        if result.finish_reason is FinishReason.CANCELLED:
            wanted = wanted[: len(got)]
        else:
            assert got != wanted or result.finish_reason is fresh.finish_reason
        assert_same_up_to_near_ties(got, wanted, result, self._pair, self._folder)


@contextmanager
def judged(pair: Pair, folder: Path, **runtime: Any) -> Iterator[tuple[Engine, Judge]]:
    """An engine for a conversation, and one that judges it."""
    with open_engine(pair, ctx_size=1024, **runtime) as engine, open_engine(pair, ctx_size=1024) as other:
        yield engine, Judge(pair, other, folder)


# ---------------------------------------------------------------- what a turn evaluates
@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_evaluates_only_what_is_new(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a conversation that is read from its beginning in each turn, or again from any earlier place than where
    the last answer began; and answers that follow from a cache that holds something else."""
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine)
        begins = dict.fromkeys(Role, 0)
        for turn in range(10):
            result = ask(conversation, QUESTIONS[turn % len(QUESTIONS)])
            judge.agrees(conversation)
            prompt = prompt_ids(conversation, conversation.messages[:-1])
            for role, view in result.sequence.views.items():
                assert view.ids[: view.n_prompt] == prompt[role]
                n_new = len(prompt[role]) - begins[role]
                assert result.cost[role].tokens <= n_new + len(view.ids) - view.n_prompt, (turn, role)
                assert result.cost[role].tokens <= engine.loaded.lanes[0][role].cached(0) - begins[role], (turn, role)
            begins = answer_begins(conversation)
        assert [message.role for message in conversation.messages] == ["user", "assistant"] * 10
        n_closed = sum("</think>" in message.content for message in conversation.messages)
        assert n_closed > 1, "the models never closed their reasoning: nothing was dropped"
        for role in Role:
            assert conversation.cost[role].tokens > 0


@pytest.mark.parametrize("kind", KINDS)
def test_writing_the_last_answer_again_reads_nothing_again(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards /regen that evaluates the conversation anew, keeps the old answer in it, or ignores the seed."""
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine)
        for question in QUESTIONS[:3]:
            first = ask(conversation, question)
        again = last(conversation.regenerate(seed=1))
        judge.agrees(conversation)
        assert again.text == first.text
        assert len(conversation.messages) == 6
        for role, begin in answer_begins(conversation).items():
            assert again.cost[role].tokens <= len(again.sequence.views[role].ids) - begin, role
        conversation.settings = settings(temp=1.0, max_tokens=N_TOKENS)
        other, same = (last(conversation.regenerate(seed)).text for seed in (5, 5))
        assert other == same != first.text
        assert conversation.settings.seed == 1


# ---------------------------------------------------------------- any order of things
@pytest.mark.parametrize("kind", KINDS)
def test_no_order_of_commands_leaves_a_wrong_cache(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a cache that is taken for what another order of turns, stops, undoings and files would have left."""
    rng = random.Random(kind)
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine)
        for _ in range(25):
            n_before = len(conversation.messages)
            action = rng.choice(
                ["ask", "ask", "ask", "stop", "stop", "regenerate", "undo", "clear", "drop", "system", "mode", "file"]
            )
            if action == "ask":
                ask(conversation, rng.choice(QUESTIONS))
            elif action == "stop":
                stop_after(rng.randrange(1, 30), conversation.ask(rng.choice(QUESTIONS)))
            elif action == "regenerate" and n_before:
                last(conversation.regenerate(1))
            elif action == "undo" and n_before:
                question = conversation.messages[-2].content
                assert conversation.undo() == question
                assert len(conversation.messages) == n_before - 2
                continue
            elif action == "clear" and rng.random() < 0.3:
                conversation.clear()
                assert conversation.messages == []
                continue
            elif action == "drop":
                rest = conversation.messages[2:]
                if conversation.drop_oldest():
                    assert conversation.messages == rest
                continue
            elif action == "system":
                conversation.set_system(rng.choice([None, "so wait", "check"]))
                continue
            elif action == "mode":
                conversation.settings = settings(rng.choice(list(MODES)), max_tokens=N_TOKENS)
                continue
            elif action == "file":
                conversation.save(tmp_path / "s")
                before, conversation = conversation, Conversation(engine)
                conversation.load(tmp_path / "s")
                assert (conversation.messages, conversation.notes) == (before.messages, [])
                assert (conversation.settings, conversation.prompting) == (before.settings, before.prompting)
                assert conversation.cost == before.cost
                continue
            else:
                continue
            judge.agrees(conversation)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_answer_stays_and_the_next_one_is_right(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a stop that loses what was written, or leaves the caches ahead of it or behind it."""
    rng, n_stopped = random.Random(kind), 0
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine)
        for question in QUESTIONS:
            events = stop_after(rng.randrange(1, 20), conversation.ask(question))
            shown = "".join(token.text for event in events if isinstance(event, Chunk) for token in event.tokens)
            answer, result = conversation.messages[-1], conversation.result
            assert result is not None
            assert answer.finish_reason == str(result.finish_reason)
            assert answer.content == f"<think>\n{result.text}"
            assert result.text.startswith(shown)
            assert sum(n for _, n in answer.spans) == len(result.text)
            n_stopped += result.finish_reason is FinishReason.CANCELLED
            judge.agrees(conversation)
            ask(conversation, "so")
            judge.agrees(conversation)
    assert n_stopped >= 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_before_anything_is_read_leaves_the_caches_right(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards Ctrl-C right after Enter: the caches then still hold the end of the answer before."""
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine)
        for _ in range(2):
            ask(conversation, "wait now so")
        answer = conversation.ask("let me check " * 20)
        engine.loaded.abort.set()
        with pytest.raises(KeyboardInterrupt):
            next(answer)
        assert conversation.messages[-1].finish_reason == "cancelled"
        ask(conversation, "one two ten")
        judge.agrees(conversation)


class Typed(LineEditor):
    """A user who asks the same again and again, and leaves."""

    def __init__(self, n: int) -> None:
        self._lines = ["wait now so"] * n

    def read(self, prompt: str = "", default: str = "") -> str:
        if not self._lines:
            raise EOFError
        return self._lines.pop()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


PRODUCT = tuple(
    f"foreal_local/{name}.py"
    for name in ("chat/loop", "chat/screen", "chat/view", "chat/conversation", "runtime/interrupt")
)


@contextmanager
def two_interrupts(n_lines: int, stop: Callable[[], None]) -> Iterator[None]:
    """`stop` when the first token has come to the screen, and SIGINT n_lines lines of the product's code later."""
    lines_left: list[int] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith(PRODUCT):
            return None
        if lines_left and event == "line":
            lines_left[0] -= 1
            if lines_left[0] == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    def feed(view: AnswerView, written: Chunk) -> None:
        show(view, written)
        if not lines_left:
            lines_left.append(n_lines)
            stop()

    show, before = AnswerView.feed, sys.gettrace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerView, "feed", feed)
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


def interrupt(engine: Engine, evaluating: bool) -> None:
    """Ctrl-C, while C code runs or not."""
    engine.loaded.abort.busy = evaluating
    signal.raise_signal(signal.SIGINT)
    engine.loaded.abort.busy = False


def interrupted_twice(pair: Pair, evaluating: bool) -> dict[str, list[int]]:
    """What goes wrong in a chat with two interrupts, and at which distances of the two."""
    wrong: dict[str, list[int]] = {}
    with open_engine(pair, ctx_size=1024) as engine:
        for n_lines in range(1, 450, 5):
            conversation = converse(engine, max_tokens=6)
            chat = Chat(conversation, Screen(out=Terminal()), lambda *_: conversation, None, [])  # noqa: B023
            stop = partial(interrupt, engine, evaluating)
            found = ""
            try:
                with two_interrupts(n_lines, stop):
                    code = chat.run(Typed(4))
            except BaseException as error:
                found = f"the chat ended with {error!r}"
            else:
                roles = [message.role for message in conversation.messages]
                if roles not in (["user", "assistant"] * 4, ["user", "assistant"] * 3):  # 3: stopped before it began
                    found = "a question has no answer"
                elif conversation.messages[-1].finish_reason == "cancelled":
                    found = "the last answer was stopped"
                elif code:
                    found = f"the exit code is {code}"
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if signal.set_wakeup_fd(-1) != -1:
                found += ", a socket is left"
            engine.loaded.abort.clear()
            if found:
                wrong.setdefault(found, []).append(n_lines)
    return wrong


@pytest.mark.parametrize("evaluating", [False, True])
def test_ctrl_c_twice_is_as_good_as_once(evaluating: bool, make: PairMaker) -> None:
    """Guards a key that is held down, or pressed twice: a chat that ends, a question that stays without its answer, an
    answer that is stopped by the key of the one before, and a socket for signals that stays behind."""
    pair = thinking_pair(make, "llama")
    here = Path(__file__).parents[1]
    words = ["-m", "real.test_conversation", str(pair.leader.path), str(pair.draft.path), str(evaluating)]
    done = subprocess.run([sys.executable, *words], cwd=here, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {}


def test_a_request_to_stop_ends_with_its_answer(make: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards "0 tokens · stopped" for the question after one that was stopped."""

    def set_late() -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.2)
        set_now()

    with open_engine(thinking_pair(make, "llama")) as engine:
        conversation = converse(engine, max_tokens=6)
        set_now = engine.loaded.abort.set
        monkeypatch.setattr(engine.loaded.abort, "set", set_late)
        answer = conversation.ask("wait now so")
        next(answer)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        answer.close()  # type: ignore[attr-defined]
        assert conversation.messages[-1].finish_reason == "cancelled"
        try:
            assert ask(conversation, "so").finish_reason is FinishReason.LENGTH
        except KeyboardInterrupt:  # which would end pytest
            pytest.fail("the next answer was stopped")


@pytest.mark.parametrize("again", [False, True])
def test_an_answer_that_never_began_is_none(again: bool, make: PairMaker) -> None:
    """Guards two questions in a row, which strict templates refuse for ever, and an old answer that is lost."""
    with open_engine(thinking_pair(make, "llama")) as engine:
        conversation = converse(engine, max_tokens=5)
        ask(conversation, "so")
        answer = conversation.regenerate(1) if again else conversation.ask("let me check")
        answer.close()  # type: ignore[attr-defined]
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_a_template_that_refuses_changes_nothing(make: PairMaker) -> None:
    """Guards an answer that is gone although no other could be written."""
    refusing = "{% if 'brief' in messages[0]['content'] %}{{ raise_exception('no system here') }}{% endif %}"
    with open_engine(make("llama", "endless", chat=refusing + tiny_gguf.CHATML)) as engine:
        conversation = converse(engine, max_tokens=5)
        ask(conversation, "so")
        before = list(conversation.messages)
        with pytest.raises(UsageError, match="no system here"):
            conversation.set_system("Be brief.")
        assert conversation.prompting.system is None
        conversation.prompting = Prompting(system="Be brief.")  # as a session of other models may have it
        with pytest.raises(UsageError, match="no system here"):
            ask(conversation, "hmm")
        assert conversation.messages == before
        with pytest.raises(UsageError, match="no system here"):
            last(conversation.regenerate(1))
        assert conversation.messages == before


@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_a_long_prompt_tells_how_far_it_is_and_can_be_stopped(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a long file that is read without a word, counted wrongly, or evaluated twice after a stop."""
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine, max_tokens=4)
        text = "check the number and so " * 90
        events = stop_after(1, conversation.ask(text))
        assert isinstance(events[0], PromptProgress)
        assert 0 < events[0].n_done < events[0].n_all
        judge.agrees(conversation)
        assert conversation.undo() == text
        before = sum(cost.prefill_tokens for cost in engine.cost.values())
        events = list(conversation.ask(text))
        n_prefilled = sum(cost.prefill_tokens for cost in engine.cost.values()) - before
        reading = [event for event in events if isinstance(event, PromptProgress)]
        assert [event.n_done for event in reading] == sorted({event.n_done for event in reading})
        assert reading[-1].n_done == reading[-1].n_all
        assert {event.n_all for event in reading} == {reading[-1].n_all}
        first = next(i for i, event in enumerate(events) if isinstance(event, Chunk))
        assert all(isinstance(event, PromptProgress) for event in events[:first])
        judge.agrees(conversation)
        n_prompt = len(prompt_ids(conversation, conversation.messages[:-1])[LEADER])
        assert reading[-1].n_all <= n_prompt
        assert n_prefilled < 2 * n_prompt - 200, "what had been read before the stop was read again"
        assert not any(isinstance(event, PromptProgress) for event in conversation.ask("so"))


# ---------------------------------------------------------------- on disk
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_conversation_goes_on_as_if_never_left(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a session whose state is refused, is of another moment, or is read again although it is there."""
    pair, path = thinking_pair(make, kind), tmp_path / "a.session"
    with judged(pair, tmp_path) as (engine, judge):
        stayed = converse(engine)
        stayed.set_system("so wait")
        stayed.think_budget = 30
        for question in QUESTIONS[:3]:
            ask(stayed, question)
        stayed.save(path)
        stayed.think_budget = None
        with open_engine(pair, ctx_size=1024) as another:
            left = Conversation(another)
            left.load(path)
            assert left.notes == []
            assert left.think_budget == 30
            left.think_budget = None
            assert left.messages == stayed.messages
            for question in QUESTIONS[3:6]:
                here, there = ask(stayed, question), ask(left, question)
                judge.agrees(stayed)
                judge.agrees(left)
                assert_same_up_to_near_ties(ids(there), ids(here), here, pair, tmp_path)
                for role in Role:
                    assert there.cost[role].tokens <= here.cost[role].tokens
            left.save(path)
        stayed.load(path)
        ask(stayed, QUESTIONS[6])
        judge.agrees(stayed)


def test_another_pair_reads_the_text_again(make: PairMaker, tmp_path: Path) -> None:
    """Guards a conversation that other models cannot continue, or that they continue with a wrong state."""
    path = tmp_path / "a.session"
    with open_engine(thinking_pair(make, "llama"), ctx_size=1024) as engine:
        conversation = converse(engine)
        for question in QUESTIONS[:3]:
            ask(conversation, question)
        conversation.save(path)
    with judged(thinking_pair(make, "lfm2"), tmp_path) as (engine, judge):
        other = Conversation(engine)
        other.load(path)
        assert other.messages == conversation.messages
        assert len(other.notes) == 2
        for role in Role:
            assert any(str(role) in note and "another model" in note for note in other.notes), other.notes
        result = ask(other, "hmm")
        judge.agrees(other)
        for role, begin in answer_begins(other).items():
            assert result.cost[role].tokens >= begin


def test_a_smaller_context_reads_the_text_again(make: PairMaker, tmp_path: Path) -> None:
    """Guards a state that is put where it does not fit, and a conversation that then cannot be shortened."""
    pair, path = thinking_pair(make, "llama"), tmp_path / "a.session"
    with open_engine(pair, ctx_size=1024) as engine:
        conversation = converse(engine)
        for question in QUESTIONS[:4]:
            ask(conversation, question)
        n_prompt = conversation.n_prompt()
        conversation.save(path)
    with open_engine(pair, ctx_size=n_prompt) as small:
        other = Conversation(small)
        other.load(path)
        with pytest.raises(ContextFullError):
            other.ask("so")
        assert other.messages == conversation.messages
        for n_dropped in (2, 4):
            assert other.drop_oldest()
            assert other.messages == conversation.messages[n_dropped:]
        assert ask(other, "so").text


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_a_damaged_file_gives_the_text_or_an_error(kind: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a crash on a torn or changed file, a text that was changed, and a torn state that reaches llama.cpp."""
    rng, path = random.Random(1), tmp_path / "a.session"
    with judged(thinking_pair(make, kind), tmp_path) as (engine, judge):
        conversation = converse(engine, max_tokens=12)
        for question in QUESTIONS[:2]:
            ask(conversation, question)
        conversation.save(path)
        data = path.read_bytes()
        messages = list(conversation.messages)
        n_loaded = n_refused = 0
        cuts = [0, 1, 31, 32, 40, len(data) // 2, len(data) - 1]
        damaged = [data[:cut] for cut in cuts] + [data[1:], data[200:], data + b"x", bytes(len(data)), b"{}" * 40]
        for _ in range(40):
            begin, n = rng.randrange(len(data)), rng.choice([1, 1, 20, 300])
            damaged.append(data[:begin] + rng.randbytes(n) + data[begin + n :])
        for content in damaged:
            path.write_bytes(content)
            other = Conversation(engine)
            try:
                other.load(path)
            except SessionError:
                n_refused += 1
                continue
            assert other.messages == messages
            n_loaded += 1
            if n_loaded % 8 == 1:
                ask(other, "so")
                judge.agrees(other)
        assert min(n_loaded, n_refused) > 3


@pytest.mark.parametrize("missing", ["", "settings", "held", "messages"])
def test_a_file_of_another_version_is_a_session_error(missing: str, make: PairMaker, tmp_path: Path) -> None:
    """Guards a crash on a file that is whole, but was written by another version of the program."""
    path = tmp_path / "a.session"
    with open_engine(thinking_pair(make, "llama")) as engine:
        conversation = converse(engine, max_tokens=4)
        ask(conversation, "so")
        seen: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("foreal_local.chat.saved.write_stored", lambda *given: seen.update(content=given[2]))
            conversation.save(path)
        content = {name: value for name, value in seen["content"].items() if missing and name != missing}
        write_stored(path, "conversation", content, {}, engine.loaded.identity)
        before = list(conversation.messages)
        with pytest.raises(SessionError):
            conversation.load(path)
        assert conversation.messages == before


def test_other_files_are_refused(make: PairMaker, tmp_path: Path) -> None:
    """Guards a saved sequence of foreal-gen, a folder or nothing at all taken for a conversation."""
    write_stored(tmp_path / "sequence", "sequence", {}, {}, Identity({}, {}))
    with open_engine(thinking_pair(make, "llama")) as engine:
        conversation = converse(engine, max_tokens=4)
        ask(conversation, "so")
        before = list(conversation.messages)
        for path, words in (
            (tmp_path / "sequence", "sequence"),
            (tmp_path, "cannot read"),
            (tmp_path / "no", "cannot"),
        ):
            with pytest.raises(SessionError, match=words):
                conversation.load(path)
        assert conversation.messages == before
        with pytest.raises(OSError, match=r"."):
            conversation.save(tmp_path / "no" / "such" / "folder")
        ask(conversation, "hmm")


# ---------------------------------------------------------------- room
def test_a_message_without_room_changes_nothing(make: PairMaker, tmp_path: Path) -> None:
    """Guards a message that is half taken in before it is refused, and a cache that is emptied for it."""
    with (
        judged(thinking_pair(make, "llama"), tmp_path) as (_, judge),
        open_engine(thinking_pair(make, "llama"), ctx_size=128) as engine,
    ):
        conversation = converse(engine, max_tokens=8)
        ask(conversation, "wait now so")
        before, cached = list(conversation.messages), [engine.loaded.lanes[0][role].cached(0) for role in Role]
        with pytest.raises(ContextFullError, match="128"):
            conversation.ask("check the number " * 60)
        assert conversation.messages == before
        assert [engine.loaded.lanes[0][role].cached(0) for role in Role] == cached
        assert ask(conversation, "so").cost[LEADER].tokens < 60
        judge.agrees(conversation)


def test_an_answer_ends_where_the_context_does(make: PairMaker) -> None:
    """Guards an endless wait, or an error, where an answer fills the context; and no way to continue after it."""
    with open_engine(make("llama", chat=tiny_gguf.CHATML), ctx_size=96) as engine:
        conversation = converse(engine, max_tokens=None, temp=1.0)
        assert ask(conversation, "wait now so").finish_reason is FinishReason.CONTEXT
        with pytest.raises(ContextFullError):
            conversation.ask("so")
        conversation.clear()
        assert conversation.n_prompt() == 0
        assert ask(conversation, "so").tokens


def test_nothing_to_undo(make: PairMaker) -> None:
    """Guards an error, or an endless loop, where there is no question yet."""
    with open_engine(thinking_pair(make, "llama")) as engine:
        conversation = converse(engine)
        assert conversation.undo() is None
        assert not conversation.drop_oldest()
        with pytest.raises(UsageError):
            conversation.regenerate()


# ---------------------------------------------------------------- reasoning
@pytest.mark.parametrize("budget", [1, 7, 20])
@pytest.mark.parametrize("kind", ["llama", "lfm2", "mamba"])
def test_a_budget_closes_the_reasoning_once(kind: str, budget: int, make: PairMaker) -> None:
    """Guards reasoning beyond its budget, is closed twice, or an answer that ends with it."""
    template = tiny_gguf.THINKING_CHATML.replace("{{ m['content'] }}", _VISIBLE)
    with (
        open_engine(make(kind, "endless", chat=template)) as engine,
        open_engine(make(kind, "endless", chat=template)) as other,
    ):
        conversation = converse(engine)
        conversation.think_budget = budget
        for question in QUESTIONS[:3]:
            past = list(conversation.messages)
            result = ask(conversation, question)
            assert result.starts_thinking
            before, tag, after = result.text.partition("</think>")
            assert (tag, "</think>" in after) == ("</think>", False)
            assert before.endswith("\n")
            n_tokens, n_characters = 0, 0
            for token in result.tokens:
                n_characters += len(token.text)
                n_tokens += n_characters < len(before)
            assert budget <= n_tokens + 1 <= budget + 2, "closed too early or too late"
            assert after.startswith("\n\n")
            assert len(after) > 20
            assert len(result.tokens) == N_TOKENS
            assert conversation.messages[-1].content == f"<think>\n{result.text}"
            fresh = Conversation(other, conversation.settings, think_budget=budget)
            fresh.messages = past
            assert ask(fresh, question).text == result.text
        conversation.think_budget = None
        assert "</think>" not in ask(conversation, "so").text


def test_thinking_is_asked_of_the_template(make: PairMaker) -> None:
    """Guards a switch that does not reach the template, or keeps what was evaluated without it."""
    opening = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"
    template = tiny_gguf.CHATML.replace("assistant\n{% endif %}", f"assistant\n{opening}{{% endif %}}")
    with open_engine(make("llama", "endless", chat=template)) as engine:
        conversation = Conversation(engine, settings(max_tokens=5), Prompting(template_args={"other": 1}))
        for on in (True, False, True):
            conversation.set_thinking(on)
            assert ask(conversation, "so").starts_thinking == on
            assert conversation.messages[-1].content.startswith("<think>") == on
        assert conversation.prompting.template_args["other"] == 1


def test_an_answer_that_repeats_itself_is_stopped(make: PairMaker) -> None:
    """Guards an answer that says the same until the context is full, and a stop without a reason given."""
    with open_engine(make("lfm2", "endless", chat=tiny_gguf.CHATML), ctx_size=1024) as engine:
        conversation = converse(engine, max_tokens=None)
        for question in QUESTIONS[:4]:
            result = ask(conversation, question)
            if result.finish_reason is FinishReason.CANCELLED:
                break
            conversation.clear()
        assert result.finish_reason is FinishReason.CANCELLED
        assert len(result.tokens) < 900
        (note,) = conversation.notes
        assert "again and again" in note
        conversation.notes.clear()
        conversation.settings = settings(max_tokens=5)
        assert ask(conversation, "so").finish_reason is FinishReason.LENGTH
        assert conversation.notes == []


if __name__ == "__main__":
    print(json.dumps(interrupted_twice(pair_of(Path(sys.argv[1]), Path(sys.argv[2])), sys.argv[3] == "True")))
