"""A conversation as a file: its messages and settings, and what both models have evaluated of it.

`save` and `load` have all of it in one file. A session has it in two: the text, which is small and written at every
change, and the states, which can be made again (session.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Prompting, from_older
from ..errors import SequenceError, SessionError
from ..method.ledger import Cost
from ..method.roles import Role
from ..runtime.model import Snapshot
from ..runtime.scheduler import States
from ..storage.saved_sequence import settings_as_dict, settings_from_dict
from ..storage.session import Stored, read_stored, write_stored
from ..tally import Tally
from .message import Message, with_question

if TYPE_CHECKING:
    from .conversation import Conversation

KIND, STATES = "conversation", "prefix"
_MODE = 0o600  # a conversation is its user's own


def content_of(conversation: Conversation) -> dict[str, Any]:
    """Messages and settings as plain values."""
    return {
        "messages": [asdict(message) for message in conversation.messages],
        "settings": settings_as_dict(conversation.settings),
        "prompting": asdict(conversation.prompting),
        "think_budget": conversation.think_budget,
        "held": {},
        "cost": {str(role): asdict(cost) for role, cost in conversation.cost.items()},
        "tally": asdict(conversation.tally),
    }


def save(conversation: Conversation, path: Path, is_own: Callable[[Path], bool] | None = None) -> Path | None:
    """Save all of it in one file.

    is_own: whether a file that stands there may go; another is kept, and its numbered name is returned. None: it may
    """
    states, held = _states_of(conversation)
    content = content_of(conversation) | {"held": held}
    return write_stored(path, KIND, content, states, conversation.engine.loaded.identity, is_own, _MODE)


def save_text(conversation: Conversation, path: Path, content: dict[str, Any]) -> None:
    """Save what `content_of` gave, and what the caller has added to it."""
    write_stored(path, KIND, content, {}, conversation.engine.loaded.identity, mode=_MODE)


def save_states(conversation: Conversation, path: Path) -> None:
    """Save what both models have evaluated; the file goes where that is nothing."""
    states, held = _states_of(conversation)
    if states:
        write_stored(path, STATES, {"held": held}, states, conversation.engine.loaded.identity, mode=_MODE)
    else:
        path.unlink(missing_ok=True)


def _states_of(conversation: Conversation) -> tuple[States, dict[str, list[int]]]:
    """Each model's state at the place where the next turn begins, and the tokens that it stands for."""
    if not conversation.messages:
        return {}, {}
    coming = conversation.engine.loaded.encode(with_question(conversation.messages), conversation.prompting).ids
    states = conversation.engine.save_prefix(coming)
    return states, {str(role): coming[role][: state.n_tokens] for role, state in states.items()}


def load(conversation: Conversation, path: Path) -> Stored:
    """Load a saved conversation; where a model's state cannot be restored, its `notes` say why.

    Such a model evaluates the text again.
    """
    stored = read_stored(path, KIND, conversation.engine.loaded.identity)
    content = stored.content
    try:
        messages = [Message.of(each) for each in content["messages"]]
        settings = settings_from_dict(content["settings"])
        prompting = Prompting(**from_older(content["prompting"], Prompting))
        cost = {role: Cost(**_numbers(content["cost"][str(role)])) for role in Role}
        tally = Tally(**_numbers(content.get("tally", {})))  # version 0.1.0 has none
        think_budget = None if content["think_budget"] is None else int(content["think_budget"])
        held = _held(content)
    except Exception as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no conversation of this version ({error!r})") from None
    conversation.messages, conversation.cost, conversation.tally = messages, cost, tally
    conversation.settings, conversation.prompting, conversation.think_budget = settings, prompting, think_budget
    conversation.notes = stored.notes
    _restore(conversation, held, stored.states)
    return stored


def load_states(conversation: Conversation, path: Path) -> None:
    """Restore what both models had evaluated; where they are others than before, or the file is torn, nothing."""
    try:
        stored = read_stored(path, STATES, conversation.engine.loaded.identity)
        held = _held(stored.content)
    except (SessionError, ValueError, KeyError, TypeError, AttributeError):
        conversation.notes.append(f"{path} cannot be used: the conversation is evaluated again")
        return
    conversation.notes += stored.notes
    _restore(conversation, held, stored.states)


def _held(content: Mapping[str, Any]) -> dict[Role, list[int]]:
    return {Role(role): [int(id) for id in ids] for role, ids in content["held"].items()}


def _restore(conversation: Conversation, held: dict[Role, list[int]], states: Mapping[Role, Snapshot]) -> None:
    for role, state in states.items():
        ids = held.get(role, [])
        if state.n_tokens > conversation.engine.ctx_size or state.n_tokens != len(ids):
            continue
        try:
            conversation.engine.restore_prefix(role, ids, state)
        except SequenceError as error:
            conversation.notes.append(f"the {role}: {error}; its text is evaluated again")


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The values; TypeError where one is no number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} is {value!r}")
    return values
