"""A conversation of many turns: messages, and caches that stay filled from turn to turn.

A turn evaluates only what is new. Templates drop the reasoning of earlier answers, so the next prompt leaves the
stream where the answer began: before it begins, a mark is made there, to which every kind of memory can go back.
Knows an engine with one sequence; nothing of screens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from ..config import Generation, Prompting
from ..engine import Engine
from ..errors import ContextFullError, SequenceError, SessionError, UsageError
from ..method.ledger import Cost
from ..method.reasoning import END_THINK, THINK
from ..method.sequence import FinishReason, Role, Sequence, n_common
from ..results import Asked, Prompt, Result, Written, roles_of, with_seed
from ..runtime.interrupt import watching_interrupts
from ..runtime.model import Model, Row
from ..runtime.scheduler import Scheduler
from ..runtime.text import Messages
from ..storage.saved_sequence import settings_as_dict, settings_from_dict
from ..storage.session import read_stored, write_stored
from .loops import LoopGuard, ThinkingMeter

KIND = "conversation"
OPENING, CLOSING = f"{THINK}\n", f"\n{END_THINK}\n\n"
_ROOM = 16  # tokens that must be left for an answer
_BITE = 256  # tokens of a prompt that are evaluated between two looks at the clock


@dataclass
class Message:
    """One message. Of an answer: who wrote which part (`spans`: author, characters) and how it ended."""

    role: str
    content: str
    spans: list[tuple[str, int]] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass(frozen=True)
class Reading:
    """How far the prompt is evaluated, in tokens of both models."""

    n_done: int
    n_all: int


Event = Reading | Written | Result


class Conversation:
    """Owner of the messages and of what each model holds of them (ids in the engine's slot 0).

    `result` is the last answer's, also of one that was stopped; `notes` what the user should know.
    `think_budget`: tokens of reasoning after which it is closed and the answer asked for.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        think_budget: int | None = None,
    ) -> None:
        assert engine.n_slots == 1, "a conversation has one sequence"
        self.engine, self.think_budget = engine, think_budget
        self.settings, self.prompting = settings or Generation(), prompting or Prompting()
        self.messages: list[Message] = []
        self.cost = {role: Cost() for role in Role}
        self.notes: list[str] = []
        self.result: Result | None = None
        self._reading = False
        self._held: dict[Role, list[int]] = {role: [] for role in engine.roles}

    # ---------------------------------------------------------------- asking
    def ask(self, text: str) -> Iterator[Event]:
        """Add a message of the user and answer it: how far it is read, tokens as they are written, the Result.

        ContextFullError, before anything is changed, where there is no room for an answer. Closing the iterator,
        or Ctrl-C in it, stops the answer: what is written stays, marked as stopped.
        """
        messages = [*self.messages, Message("user", text)]
        self._require_room(messages)
        return self._answer(messages)

    def regenerate(self, seed: int | None = None) -> Iterator[Event]:
        """Answer the last question again, with this seed or a new one."""
        if not self.messages or self.messages[-1].role != "assistant":
            raise UsageError("there is no answer to write again")
        return self._answer(self.messages[:-1], seed)

    def undo_answer(self) -> bool:
        """Take back the last answer, if the last message is one."""
        if self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()
            return True
        return False

    def undo(self) -> str | None:
        """Take back the last question and its answer; the question."""
        self.undo_answer()
        return self.messages.pop().content if self.messages else None

    def set_system(self, text: str | None) -> None:
        """UsageError, and no change, where a template has no place for it."""
        prompting = replace(self.prompting, system=text)
        self.engine.encode([{"role": "user", "content": "."}], prompting)
        self.prompting = prompting

    def set_thinking(self, on: bool) -> None:
        """Ask the chat template for reasoning or none, where it knows `enable_thinking`."""
        args = {**self.prompting.template_args, "enable_thinking": on}
        self.prompting = replace(self.prompting, template_args=args)

    @property
    def thinking(self) -> bool | None:
        """What the chat template is asked for; None: its own default."""
        return self.prompting.template_args.get("enable_thinking")

    def clear(self) -> None:
        self.messages.clear()

    def drop_oldest(self) -> bool:
        """Forget the first question and its answer."""
        if len(self.messages) < 2:
            return False
        del self.messages[:2]
        return True

    # ---------------------------------------------------------------- room
    def n_prompt(self, messages: list[Message] | None = None) -> int:
        """Tokens of the prompt that these messages make, in the role that needs more."""
        messages = self.messages if messages is None else messages
        if not messages:
            return 0
        return max(len(ids) for ids in self.engine.encode(_as_dicts(messages), self.prompting).ids.values())

    @property
    def n_held(self) -> int:
        """Tokens in the fuller cache."""
        return max(map(len, self._held.values()), default=0)

    def _require_room(self, messages: list[Message]) -> None:
        n_prompt, n_ctx = self.n_prompt(messages), self.engine.ctx_size
        if n_prompt + _ROOM > n_ctx:
            raise ContextFullError(f"the conversation has {n_prompt} tokens with this message, the context {n_ctx}")

    # ---------------------------------------------------------------- answering
    def _answer(self, messages: list[Message], seed: int | None = None) -> Iterator[Event]:
        settings = with_seed(self.settings if seed is None else replace(self.settings, seed=seed))
        encoded = self.engine.encode(_as_dicts(messages), self.prompting)
        ids = {role: encoded.ids[role] for role in roles_of(settings.mode)}
        sequence = Sequence(str(len(messages)), len(messages), settings, ids)
        asked = Asked(Prompt(_as_dicts(messages)), "", self.engine.ctx_size, encoded.starts_thinking)
        scheduler = self.engine.scheduler(keep=True)
        self._reading = True
        try:
            with watching_interrupts(self.engine.abort):  # to the end: a second Ctrl-C must not lose the answer
                try:
                    yield from self._read(sequence, messages)
                    yield from self._write(scheduler, sequence, asked.starts_thinking)
                finally:
                    scheduler.close()
                    self._note_answer(sequence, asked, messages)
        finally:
            self.engine.abort.clear()  # when the thread that watches for Ctrl-C has ended, too
        assert self.result is not None
        yield self.result

    def _write(self, scheduler: Scheduler, sequence: Sequence, starts_thinking: bool) -> Iterator[Written]:
        guard, thinking = LoopGuard(), ThinkingMeter(starts_thinking)
        self._reading = False
        scheduler.add(sequence)
        while not scheduler.idle:
            for _, tokens, _ in self.engine.uninterrupted(scheduler.step):
                if tokens:
                    yield Written(sequence.index, sequence.id, tokens, starts_thinking)
                thinking.feed(tokens)
                if not sequence.finished and guard.feed(tokens):
                    self.notes.append(f"stopped: it wrote {guard.found!r} again and again")
                    scheduler.cancel(sequence)
                elif self.think_budget is not None and thinking.n_tokens >= self.think_budget:
                    self._close_thinking(scheduler, sequence)
                    thinking.n_tokens = 0

    def _close_thinking(self, scheduler: Scheduler, sequence: Sequence) -> None:
        if not sequence.finished:
            scheduler.withdraw(sequence)
            sequence.close_with(self.engine.tokens_of(CLOSING, sequence))
            if not sequence.finished:
                scheduler.add(sequence)

    def _note_answer(self, sequence: Sequence, asked: Asked, messages: list[Message]) -> None:
        """The question and its answer, whole or stopped, become messages; the caches hold what they hold now."""
        sequence.finish(FinishReason.CANCELLED)
        for role, view in sequence.views.items():
            # Stopped while it was read: the caches may still be those of the turn before, or cleared.
            known = self._held[role] if self._reading else view.ids
            self._held[role] = known[: self._model(role).cached(0)]
            self.cost[role].add(sequence.cost[role])
        spans: list[tuple[str, int]] = []
        for token in sequence.tokens:
            author, n = str(token.author), len(token.text)
            if spans and spans[-1][0] == author:
                n += spans.pop()[1]
            spans.append((author, n))
        content = (OPENING if asked.starts_thinking else "") + sequence.text
        self.messages = [*messages, Message("assistant", content, spans, str(sequence.finish_reason))]
        self.result = Result.of(asked, sequence, self.engine.shapes)

    def _read(self, sequence: Sequence, messages: list[Message]) -> Iterator[Reading]:
        """Evaluate the prompt up to where the next turn will leave this one, and mark that place."""
        probe = [*messages, Message("assistant", "."), Message("user", ".")]
        after = self.engine.encode(_as_dicts(probe), self.prompting).ids
        todo: list[tuple[Role, int]] = []
        for role, view in sequence.views.items():
            self.engine.uninterrupted(partial(self._keep_prefix, role, view.ids))
            todo.append((role, min(n_common(view.ids, after[role]), len(view.ids) - 1)))
        n_all = sum(max(0, end - len(self._held[role])) for role, end in todo)
        n_done = 0
        for role, end in todo:
            ids, held = sequence.views[role].ids, self._held[role]
            while len(held) < end:
                bite = ids[len(held) : min(end, len(held) + _BITE)]
                self.engine.uninterrupted(partial(self._evaluate, sequence, role, bite))
                n_done += len(bite)
                if n_all > _BITE:
                    yield Reading(n_done, n_all)
            if len(held) == end:
                self._model(role).mark(0)

    def _evaluate(self, sequence: Sequence, role: Role, ids: list[int]) -> None:
        model, before = self._model(role), len(self._held[role])
        n_calls, seconds = model.n_calls, model.seconds
        for output in model.evaluate([Row(0, ids, 1)]):
            if output.logits is None:
                raise SequenceError(str(output.failure))
        self._held[role] += ids
        flops = self.engine.shapes[role].flops(len(ids), before)
        work = (len(ids), False, model.n_calls - n_calls, model.seconds - seconds, flops)
        sequence.cost[role].count(*work)

    def _keep_prefix(self, role: Role, ids: list[int]) -> None:
        """Take the cache back to what it has in common with these ids."""
        held = self._held[role]
        n_kept = self._model(role).truncate(0, n_common(held, ids))
        del held[n_kept:]

    def _model(self, role: Role) -> Model:
        return self.engine.models[role]

    # ---------------------------------------------------------------- on disk
    def save(self, path: Path) -> None:
        """Write the messages, the settings and both states, as the next turn will need them."""
        if self.messages:
            probe = [*self.messages, Message("user", ".")] if self.messages[-1].role == "assistant" else self.messages
            coming = self.engine.encode(_as_dicts(probe), self.prompting).ids
            for role in self._held:
                self._keep_prefix(role, coming[role])
        content = {
            "messages": [asdict(message) for message in self.messages],
            "settings": settings_as_dict(self.settings),
            "prompting": asdict(self.prompting),
            "think_budget": self.think_budget,
            "held": {str(role): ids for role, ids in self._held.items()},
            "cost": {str(role): asdict(cost) for role, cost in self.cost.items()},
        }
        states = {role: self._model(role).save(0) for role, ids in self._held.items() if ids}
        write_stored(path, KIND, content, states, self.engine.identity)

    def load(self, path: Path) -> None:
        """The conversation of a file; where its states cannot be put back (`notes` say why), its text is evaluated."""
        stored = read_stored(path, KIND, self.engine.identity)
        content = stored.content
        try:
            messages = [Message(**{**m, "spans": [tuple(span) for span in m["spans"]]}) for m in content["messages"]]
            settings, prompting = settings_from_dict(content["settings"]), Prompting(**content["prompting"])
            cost = {Role(role): Cost(**cost) for role, cost in content["cost"].items()}
            think_budget, held = content["think_budget"], {Role(r): list(ids) for r, ids in content["held"].items()}
        except Exception as error:  # the digest was right: another program wrote this
            raise SessionError(f"{path} holds no conversation of this version ({error!r})") from None
        self.messages, self.cost = messages, cost
        self.settings, self.prompting, self.think_budget = settings, prompting, think_budget
        self.notes = stored.notes
        for role in self._held:
            self._model(role).release(0)
            self._held[role] = []
            state = stored.states.get(role)
            if state is None or state.n_tokens > self.engine.ctx_size:
                continue
            try:
                self._model(role).restore(0, state)
            except SequenceError as error:
                self.notes.append(f"the {role}: {error}; its text is evaluated again")
                continue
            self._held[role] = held.get(role, [])[: state.n_tokens]


def _as_dicts(messages: list[Message]) -> Messages:
    return [{"role": message.role, "content": message.content} for message in messages]
