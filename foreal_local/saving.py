"""Unfinished responses of a run into checkpoints, and back: what a lane has evaluated of a ticket.

Knows tickets and lanes; not which prompts there are, nor who drives the lanes.
"""

from __future__ import annotations

from contextlib import suppress

from .errors import WorkerError
from .lane import Lane, Ticket
from .method.tokens import FinishReason
from .runtime.loaded import LoadedPair
from .runtime.scheduler import States
from .storage.checkpoints import Checkpoints


class Saving:
    """The checkpoints of tickets that one pair answers.

    checkpoints: where they are
    loaded: the models that they are of
    """

    def __init__(self, checkpoints: Checkpoints, loaded: LoadedPair) -> None:
        self._checkpoints, self._loaded = checkpoints, loaded

    def resume(self, ticket: Ticket) -> States:
        """Give a ticket what was saved of its response, if anything was; the states of both models' caches."""
        digest = ticket.submission.settings_hash
        session = self._checkpoints.load(ticket.sequence.id, digest, self._loaded.identity)
        if session is None:
            return {}
        session.sequence.belong_to(ticket.submission.prompt.index or 0, ticket.sequence.tags.opened)
        ticket.sequence = session.sequence
        return session.states

    def due(self, ticket: Ticket) -> bool:
        """Whether enough tokens were written since it was last saved."""
        return not ticket.finished and self._checkpoints.due(ticket.sequence)

    def save(self, lane: Lane, ticket: Ticket, states: bool = True) -> None:
        """Save a response, a finished one too: its result may never reach its reader.

        states: with what the models have evaluated
        """
        if ticket.sequence.finish_reason is FinishReason.ERROR:
            return
        found: States = {}
        if states:
            with suppress(WorkerError):  # the text is kept; what a lost worker had of it is evaluated again
                found = lane.save(ticket)
        self._checkpoints.save(ticket.sequence, ticket.submission.settings_hash, found, self._loaded.identity)
