"""Tickets for prompts that are being answered, and lanes: each one scheduler over one context for each role."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .config import Generation, Prompting
from .digest import settings_hash
from .errors import ForealError, UsageError
from .method.ledger import Shape
from .method.modes import gate_of, roles_of
from .method.plan import Plan
from .method.roles import Role
from .method.sequence import Sequence
from .method.tokens import FinishReason, Spelled
from .results import Chunk, Event, Prompt, PromptProgress, Result, Submission
from .runtime.llama import Abort
from .runtime.loaded import LoadedPair
from .runtime.scheduler import Scheduler, States, Update

BITE = 256
"""Tokens of a long prompt in one evaluation, where others go on, or a user looks on, between two."""


@dataclass(eq=False)
class Ticket:
    """A submitted prompt, to be cancelled or asked about.

    submission: what was asked
    sequence: its response, as far as it is written
    deliver: where its events go
    """

    submission: Submission
    sequence: Sequence
    deliver: Callable[[Event], None] = field(repr=False)

    @property
    def finished(self) -> bool:
        return self.sequence.finished


def encoded_ticket(
    loaded: LoadedPair,
    plan: Plan,
    prompt: Prompt,
    settings: Generation,
    prompting: Prompting,
    deliver: Callable[[Event], None],
) -> Ticket:
    """A ticket for a prompt that has an index; finished with an error where the prompt cannot be answered.

    plan: what the result says of how it was written
    settings: with a seed
    """
    assert prompt.index is not None
    name = str(prompt.index) if prompt.id is None else prompt.id
    prompting = loaded.at_its_time(prompting)
    digest = settings_hash(prompt.content, settings, prompting, loaded.fingerprints)
    submission = Submission(prompt, digest, loaded.ctx_size, plan=plan, now=prompting.now)
    try:
        loaded.require_grammar(settings)
        encoded = loaded.encode(prompt.content, prompting)
        needed = roles_of(settings.mode)
        missing = [str(role) for role in needed if role not in loaded.roles]
        if missing:
            raise UsageError(f"mode {settings.mode} needs the {' and the '.join(missing)}, not loaded in this run")
        asked = gate_of(settings).role
        if asked is not None and asked not in needed:
            raise UsageError(f"gate {settings.method.gate} asks the {asked}, which has no part in mode {settings.mode}")
        ids = {role: encoded.ids[role] for role in needed}
        return Ticket(submission, Sequence(name, prompt.index, settings, ids, encoded.tags), deliver)
    except ForealError as error:
        sequence = Sequence(name, prompt.index, settings, {})
        sequence.finish(FinishReason.ERROR, str(error))
        return Ticket(submission, sequence, deliver)


class Lane:
    """A scheduler and the tickets in it. One thread at a time drives it."""

    def __init__(self, scheduler: Scheduler, shapes: dict[Role, Shape], abort: Abort) -> None:
        self.scheduler, self._shapes, self._abort = scheduler, shapes, abort
        self._tickets: dict[Sequence, Ticket] = {}
        self._finished: deque[Ticket] = (
            deque()
        )  # and not told yet: those that never had a slot, or that an insertion has filled up

    @property
    def idle(self) -> bool:
        return self.scheduler.idle and not self._finished

    @property
    def n_open(self) -> int:
        return self.scheduler.n_open

    def n_reusable(self, ticket: Ticket) -> int:
        """How many tokens of a prompt its slots hold."""
        return self.scheduler.slots.n_reusable({role: view.ids for role, view in ticket.sequence.views.items()})

    def fit(self, ticket: Ticket) -> tuple[int, bool, int]:
        """How well a prompt would find itself here, to be compared: what is evaluated of it already, whether no other
        conversation loses its cache, and how few others there are."""
        return self.n_reusable(ticket), self.scheduler.slots.has_empty, -self.n_open

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.sequence in self._tickets

    def submit(self, ticket: Ticket, states: States | None = None, **options: Any) -> None:
        """Queue a ticket's sequence; `options` as in scheduler.Waiting."""
        if ticket.finished:
            self._finished.append(ticket)
            return
        self._tickets[ticket.sequence] = ticket
        self.scheduler.add(ticket.sequence, states, **options)

    def step(self, report_every: float = 0.0) -> None:
        """Take one turn, or as many as fit into so many seconds, and deliver what happened."""
        while self._finished:
            self._deliver_rest(self._finished.popleft())
        for sequence, tokens, finished, read in self._turns(report_every):
            ticket = self._tickets.get(sequence)
            if ticket is None:
                continue
            if read is not None:
                ticket.deliver(PromptProgress(sequence.index, sequence.id, *read))
            if tokens:
                ticket.deliver(Chunk(sequence.index, sequence.id, tokens, sequence.tags))
            if finished:
                del self._tickets[sequence]
                self._deliver_result(ticket)

    def _turns(self, report_every: float) -> list[Update]:
        """A step of the scheduler. Ctrl-C ends its evaluation and is raised before the next one, so that between two
        steps everything is whole."""
        abort = self._abort
        if abort.requested:
            raise KeyboardInterrupt
        abort.busy = True
        try:
            return self.scheduler.step(report_every)
        finally:
            abort.busy = False

    def close(self) -> None:
        """End everything that is open, with a Result for each, and empty the caches."""
        self.scheduler.close()
        for ticket in list(self._tickets.values()):
            self._deliver_rest(ticket)
        self._tickets.clear()

    def _deliver_rest(self, ticket: Ticket) -> None:
        """The tokens that were held back, and the Result of a response that was ended from outside."""
        sequence, tokens = ticket.sequence, ticket.sequence.take_ready()
        if tokens:
            ticket.deliver(Chunk(sequence.index, sequence.id, tokens, sequence.tags))
        self._deliver_result(ticket)

    def _deliver_result(self, ticket: Ticket) -> None:
        ticket.deliver(Result.of(ticket.submission, ticket.sequence, self._shapes))

    def cancel(self, ticket: Ticket) -> None:
        """End its response now; what it has written stays, and its Result is delivered."""
        if self._tickets.pop(ticket.sequence, None) is not None:
            self.scheduler.cancel(ticket.sequence)
            self._deliver_rest(ticket)

    def insert(self, ticket: Ticket, tokens: list[Spelled]) -> None:
        """Close the open sentence with tokens that neither model chose, and go on behind them."""
        sequence = ticket.sequence
        if sequence.finished:
            return
        self.scheduler.withdraw(sequence)
        sequence.close_with(tokens)
        if sequence.finished:
            del self._tickets[sequence]
            self._finished.append(ticket)
        else:
            self.scheduler.add(sequence, reuse=True)

    def save(self, ticket: Ticket) -> States:
        """What each model has evaluated of it."""
        return self.scheduler.save(ticket.sequence)
