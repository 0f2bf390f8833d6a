"""A conversation of many turns: messages, answered by an engine whose slots keep what they have evaluated.

A turn evaluates only what is new. Chat templates drop the reasoning of earlier answers, so the next prompt is the same
up to where the last answer began, and different from there on. Each prompt is therefore evaluated up to that place
first: a model whose cache cannot be truncated makes a restore point there, and can be rewound to it.
Knows an engine, which may answer others at the same time; nothing of screens.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..alone import LeaderAlone
from ..config import MODES, Generation, Prompting
from ..engine import Engine
from ..errors import ContextFullError, UsageError, WorkerError
from ..lane import BITE, Ticket
from ..method.ledger import Cost
from ..method.roles import Role
from ..method.tokens import FinishReason
from ..results import Chunk, Event, Prompt, PromptProgress, Result
from ..tally import Tally
from . import saved
from .loops import LoopGuard, ThinkingMeter
from .message import Message as Message
from .message import as_dicts, with_question

_ROOM = 16  # tokens that must be left for an answer


class Conversation:
    """Owns the messages. The engine owns what the models have evaluated of them.

    engine: answers the messages
    settings, prompting: of the next answers
    think_budget: tokens of reasoning after which it is closed, so that the answer begins; None: no limit
    messages: questions and answers in turn
    result: of the last answer, whole or stopped
    notes: lines for the user, until somebody shows and clears them
    cost: the work of all answers
    tally: other sums over them
    alone: how long the leader alone takes, as far as the answers of this engine show it
    on_draft: hears what of an answer is written behind its last Chunk and may still be taken back, after each step that
        tells nothing else; only in modes that take tokens back
    """

    def __init__(
        self,
        engine: Engine,
        settings: Generation | None = None,
        prompting: Prompting | None = None,
        think_budget: int | None = None,
    ) -> None:
        self.engine, self.think_budget = engine, think_budget
        self.settings, self.prompting = settings or engine.settings, prompting or engine.prompting
        self.messages: list[Message] = []
        self.cost = {role: Cost() for role in Role}
        self.tally = Tally()
        self.alone = LeaderAlone()
        self.on_draft: Callable[[Chunk], None] | None = None
        self.notes: list[str] = []
        self.result: Result | None = None

    # ---------------------------------------------------------------- messages
    def ask(self, text: str) -> Iterator[Event]:
        """Add a message of the user and answer it.

        Yields how far a long prompt is read, then tokens as they are written, then the Result. Closing the iterator,
        or Ctrl-C in it, stops the answer: what is written becomes a message with finish_reason "cancelled".
        Raises ContextFullError where there is no room for an answer; nothing is changed then.
        """
        messages = [*self.messages, Message("user", text)]
        self._require_room(messages)
        return self._answer(messages)

    def regenerate(self, seed: int | None = None) -> Iterator[Event]:
        """Answer the last question again, with this seed or a new one."""
        if not self.messages or self.messages[-1].role != "assistant":
            raise UsageError("there is no answer to write again")
        return self._answer(self.messages[:-1], secrets.randbits(31) if seed is None else seed)

    def undo_answer(self) -> bool:
        """Remove the last message if it is an answer; whether it was."""
        if self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()
            return True
        return False

    def undo(self) -> str | None:
        """Remove the last question and its answer; the question's text."""
        self.undo_answer()
        return self.messages.pop().content if self.messages else None

    def set_system(self, text: str | None) -> None:
        """Change the system message; UsageError, and no change, where a chat template refuses it."""
        prompting = replace(self.prompting, system=text)
        self.engine.loaded.encode([{"role": "user", "content": "."}], prompting)
        self.prompting = prompting

    def place_of_system(self) -> str:
        """Where models whose chat template has no place for the system message read it; "" where all have one."""
        return self.engine.loaded.place_of_system(self.prompting) if self.prompting.system else ""

    def set_thinking(self, on: bool) -> None:
        """Switch reasoning on or off, where the chat template knows `enable_thinking`."""
        args = {**self.prompting.template_args, "enable_thinking": on}
        self.prompting = replace(self.prompting, template_args=args)

    @property
    def thinking(self) -> bool | None:
        """Whether reasoning is switched on or off; None: as the chat template does by itself."""
        return self.prompting.template_args.get("enable_thinking")

    def clear(self) -> None:
        """Remove all messages; what another conversation costs is counted from nothing."""
        self.messages.clear()
        self.cost = {role: Cost() for role in Role}
        self.tally = Tally()

    def drop_oldest(self) -> bool:
        """Remove the first question and its answer; False where there are none."""
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
        coming = self.engine.loaded.encode(with_question(messages), self.prompting)
        return max(len(ids) for ids in coming.ids.values())

    def _require_room(self, messages: list[Message]) -> None:
        n_prompt, n_ctx = self.n_prompt(messages), self.engine.ctx_size
        if n_prompt + _ROOM > n_ctx:
            raise ContextFullError(f"the conversation has {n_prompt} tokens with this message, the context {n_ctx}")

    # ---------------------------------------------------------------- answering
    def _answer(self, messages: list[Message], seed: int | None = None) -> Iterator[Event]:
        settings = self.settings if seed is None else replace(self.settings, seed=seed)
        prompt = Prompt(as_dicts(messages), index=len(messages))
        events: deque[Event] = deque()
        with self.engine.interruptible():  # until the answer is noted: a second Ctrl-C must not lose it
            ticket = self.engine.submit(
                prompt,
                settings,
                self.prompting,
                deliver=events.append,
                reads=self._reads(messages),
                bite=BITE,
            )
            try:
                yield from self._events(ticket, events)
            except WorkerError as error:
                ticket.sequence.finish(FinishReason.ERROR, str(error))
            finally:
                self.engine.cancel(ticket)
                self._note_answer(ticket, messages)
        assert self.result is not None
        yield self.result

    def _events(self, ticket: Ticket, events: deque[Event]) -> Iterator[Event]:
        """The events of the answer but its Result. An answer that repeats itself is stopped."""
        guard, thinking = LoopGuard(), ThinkingMeter(ticket.sequence.tags)
        while not ticket.finished or events:
            if not events:
                self.engine.step()
                if not events:
                    self._tell_draft(ticket)
            while events:
                event = events.popleft()
                if isinstance(event, PromptProgress) and event.n_all > BITE:
                    yield event
                if not isinstance(event, Chunk):
                    continue
                yield event
                thinking.feed(event.tokens)
                if not ticket.finished and guard.feed(event.tokens):
                    self.notes.append(f"stopped: it wrote {guard.repeated!r} again and again")
                    self.engine.cancel(ticket)
                elif self.think_budget is not None and thinking.n_tokens >= self.think_budget:
                    self.engine.insert(ticket, f"\n{ticket.sequence.tags.closing}\n\n")
                    thinking.n_tokens = 0

    def _tell_draft(self, ticket: Ticket) -> None:
        sequence = ticket.sequence
        if self.on_draft is not None and sequence.rewrites:
            tokens = sequence.tokens[sequence.n_shown :] if sequence.n_settled < len(sequence.tokens) else []
            self.on_draft(Chunk(sequence.index, sequence.id, tokens, sequence.tags))

    def _reads(self, messages: list[Message]) -> dict[Role, int]:
        """How many of the prompt's tokens each role reads first: those that the next turn's prompt begins with, too."""
        n_kept = self.engine.loaded.n_kept(as_dicts(messages), self.prompting)
        return {role: n_kept[role] for role in MODES[self.settings.mode].roles if role in n_kept}

    def _note_answer(self, ticket: Ticket, messages: list[Message]) -> None:
        """Make messages of the question and its answer, whole or stopped. Not of an answer that failed: it would make
        those that follow fail as well."""
        sequence, submission = ticket.sequence, ticket.submission
        sequence.finish(FinishReason.CANCELLED)
        for role in Role:
            self.cost[role].add(sequence.cost[role])
        self.tally.add(sequence)
        spans: list[tuple[str, int]] = []
        for token in sequence.tokens:
            author, n = str(token.author), len(token.text)
            if spans and spans[-1][0] == author:
                n += spans.pop()[1]
            spans.append((author, n))
        tags = sequence.tags
        content = (f"{tags.opening}\n" if tags.opened else "") + sequence.text
        if sequence.finish_reason is not FinishReason.ERROR:
            message = Message("assistant", content, spans, str(sequence.finish_reason), replace(tags, opened=False))
            self.messages = [*messages, message]
        self.result = Result.of(submission, sequence, self.engine.loaded.shapes)
        self.alone.add(self.result)

    # ---------------------------------------------------------------- on disk
    def save(self, path: Path, is_own: Callable[[Path], bool] | None = None) -> Path | None:
        """Save the messages, the settings, and the state of each model at the place where the next turn begins.

        is_own: whether a file that stands there may go; another is kept, and its numbered name is returned. None: it
            may
        """
        return saved.save(self, path, is_own)

    def load(self, path: Path) -> None:
        """Load a saved conversation; where a model's state cannot be restored, `notes` say why.

        Such a model evaluates the text again.
        """
        saved.load(self, path)
