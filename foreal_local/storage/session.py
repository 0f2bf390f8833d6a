"""Sessions on disk: a stopped sequence, or a conversation, and what each model had evaluated of it, in one file.

    frame (magic, version, size and digest of the header) | header | states | header again | frame again

The header (compressed JSON) has the text and all that cannot be computed again. It is there twice, so that a file
that is torn or has a bad byte still gives the text. Each state has a digest of its own. A damaged state is left out,
and its tokens are evaluated again. Knows files and values, no models.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import SessionError
from ..method.roles import Role
from ..method.sequence import Sequence
from ..runtime.model import Identity, Snapshot
from .files import replace_file
from .saved_sequence import as_dict, from_dict

VERSION = 2
_READABLE = (1, 2)
_MAGIC = b"FOREALST"
_FRAME = struct.Struct("<8sII16s")  # magic, version, size of the header, digest of version and header


@dataclass
class Stored:
    """What was read from a file.

    content: the values that were saved
    states: what can be restored of the models' states
    notes: why others cannot be restored, for the user
    other_models: roles whose model is not the one that the file was written with
    """

    content: dict[str, Any]
    states: dict[Role, Snapshot] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    other_models: list[str] = field(default_factory=list)


@dataclass
class Session:
    """A stopped sequence that was read from a file.

    sequence: to be resumed
    states, notes: as in Stored
    """

    sequence: Sequence
    states: dict[Role, Snapshot]
    notes: list[str]


# ---------------------------------------------------------------- sequences
def write_session(path: Path, sequence: Sequence, states: dict[Role, Snapshot], identity: Identity) -> None:
    """Save an unfinished sequence in a file."""
    write_stored(path, "sequence", as_dict(sequence), states, identity, is_stored)


def read_session(path: Path, identity: Identity) -> Session:
    """The sequence of a file and the states that belong to it.

    SessionError as for read_stored, and where the sequence is of other models; then the error's `text` is the
    response so far.
    """
    stored = read_stored(path, "sequence", identity)
    try:
        sequence = from_dict(stored.content)
        for role, (n_tokens, top1) in stored.content.get("frontier_top1", {}).items():  # of version 1
            state = stored.states.get(role)
            if state is not None and state.n_tokens == n_tokens:
                stored.states[Role(role)] = replace(state, top1=top1)
    except Exception as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no sequence of this version ({error!r}): remove it") from None
    needed = [role for role in sequence.views if role in stored.other_models]
    if needed:
        raise SessionError(f"{path} is a session of another {needed[0]} model", sequence.text)
    return Session(sequence, stored.states, stored.notes)


# ---------------------------------------------------------------- writing
def write_stored(
    path: Path,
    kind: str,
    content: dict[str, Any],
    states: dict[Role, Snapshot],
    identity: Identity,
    is_own: Callable[[Path], bool] | None = None,
    mode: int = 0o666,
) -> Path | None:
    """Write a file of this kind, so that at any moment the path has the whole old file or the whole new one.

    is_own: whether a file that stands there may go; another is kept, and its numbered name is returned. None: it may
    mode: of a new file
    """
    table: dict[str, dict[str, Any]] = {}
    offset = 0
    for role, state in states.items():
        size = len(memoryview(state.data))
        entry = {"n_tokens": state.n_tokens, "offset": offset, "size": size, "digest": _digest_of_state(state.data)}
        table[str(role)] = entry | {"top1": state.top1}
        offset += size
    values = {"kind": kind, kind: content, "states": table, "models": identity.models, "contexts": identity.contexts}
    header = zlib.compress(json.dumps(values, separators=(",", ":")).encode("utf-8", "surrogatepass"), 9)
    frame = _FRAME.pack(_MAGIC, VERSION, len(header), _digest(VERSION, header))
    parts = [frame, header, *(state.data for state in states.values()), header, frame]
    return replace_file(path, parts, is_own=is_own, mode=mode)


def is_stored(path: Path) -> bool:
    """Whether a file is of this program's, by its first or its last bytes: one that is torn is, too."""
    with open(path, "rb") as file:
        begin = file.read(len(_MAGIC))
        file.seek(-min(_FRAME.size, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return _MAGIC in (begin, file.read(len(_MAGIC)))


def _digest(version: int, header: bytes) -> bytes:
    return hashlib.blake2b(struct.pack("<I", version) + header, digest_size=16).digest()


def _digest_of_state(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


# ---------------------------------------------------------------- reading
def read_stored(path: Path, kind: str, identity: Identity) -> Stored:
    """The content of a file of this kind, and the states that can be restored.

    States of other models or context settings, and torn ones, are left out with a note. SessionError where nothing
    can be used: a file that is torn twice, or of another version or kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return _stored_in(path, data, kind, identity)
    except SessionError:
        raise
    except Exception as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no session of this version ({error!r}): remove it") from None


def read_content(path: Path, kind: str) -> dict[str, Any]:
    """The content of a file of this kind, without the states, which are not read; SessionError as for read_stored."""
    try:
        with open(path, "rb") as file:
            if not file.seek(0, os.SEEK_END):
                raise SessionError(f"{path} is not a session file: it is empty; remove it")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _values_of(path, data, kind)[0][kind]  # type: ignore[no-any-return]
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror or error}") from None
    except SessionError:
        raise
    except Exception as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no session of this version ({error!r}): remove it") from None


def _values_of(path: Path, data: Any, kind: str) -> tuple[dict[str, Any], int, list[str]]:
    """As _read_header; SessionError where the file is of another kind."""
    values, begin, notes = _read_header(path, data)
    if values["kind"] != kind:
        raise SessionError(f"{path} is a saved {values['kind']}, not a {kind}")
    values[kind].keys()  # an object
    return values, begin, notes


def _stored_in(path: Path, data: bytes, kind: str, identity: Identity) -> Stored:
    """What the bytes of a file hold; any exception where another program wrote them."""
    values, begin, notes = _values_of(path, data, kind)
    content, models, contexts, table = values[kind], values["models"], values["contexts"], values["states"]
    other_models = [role for role in models if models[role] != identity.models.get(role)]
    stored = Stored(content, {}, notes, other_models)
    for role, entry in table.items():
        state = _read_state(data, begin, entry)
        if role in other_models:
            notes.append(f"the {role} is another model: what it had evaluated is evaluated again")
        elif contexts.get(role) != identity.contexts.get(role):
            notes.append(f"the {role}'s state is of other settings ({contexts.get(role)}), and is evaluated again")
        elif state is None:
            notes.append(f"the {role}'s state is torn, and is evaluated again")
        else:
            stored.states[Role(role)] = state
    return stored


def _read_header(path: Path, data: Any) -> tuple[dict[str, Any], int, list[str]]:
    """The header's values, where the states begin, and notes. Where the first copy is torn, the last one is read."""
    first = _whole_header(data, at_end=False)
    whole = first or _whole_header(data, at_end=True)
    if whole is None:
        torn = data[:4] == _MAGIC[:4] or data[-_FRAME.size :][:4] == _MAGIC[:4]
        raise SessionError(
            f"{path} is {'torn' if torn else 'not a session file'}: nothing in it can be used; remove it"
        )
    version, header = whole
    if version not in _READABLE:
        raise SessionError(f"{path} is a session of version {version}, but this program reads 1 and 2")
    values = json.loads(zlib.decompress(header).decode("utf-8", "surrogatepass"))
    return values, _FRAME.size + len(header), [] if first else ["its beginning is torn, its end is whole"]


def _whole_header(data: Any, at_end: bool) -> tuple[int, bytes] | None:
    """The version and the bytes of the header's copy at the file's beginning or end; None where it is torn."""
    if len(data) < _FRAME.size:
        return None
    magic, version, size, digest = _FRAME.unpack_from(data, len(data) - _FRAME.size if at_end else 0)
    begin = len(data) - _FRAME.size - size if at_end else _FRAME.size
    header = data[begin : begin + size] if begin >= 0 else b""
    return (version, header) if magic == _MAGIC and _digest(version, header) == digest else None


def _read_state(data: bytes, begin: int, entry: dict[str, Any]) -> Snapshot | None:
    """A model's state; None where it is torn."""
    begin += entry["offset"]
    state = memoryview(data)[begin : begin + entry["size"]]
    if _digest_of_state(state) != entry["digest"]:
        return None
    n_tokens, top1 = entry["n_tokens"], entry.get("top1")
    return Snapshot(int(n_tokens), state, None if top1 is None else int(top1))
