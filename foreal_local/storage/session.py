"""Sessions on disk: a stopped sequence, or a conversation, and what each model had evaluated of it, in one file.

    frame (magic, version, size and digest of the header) | header | states | header again | frame again

The header (compressed JSON) holds all that cannot be made again, so it is there twice: a file that is torn or
has a bad byte still gives the text. Each state has a digest of its own; a bad one is left out, and its tokens
are evaluated again. Knows files and values, no models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import threading
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import SessionError
from ..method.roles import Role
from ..method.sequence import Sequence
from ..runtime.model import Identity, Snapshot
from .saved_sequence import as_dict, from_dict

VERSION = 2
_READABLE = (1, 2)
_MAGIC = b"FOREALST"
_FRAME = struct.Struct("<8sII16s")  # magic, version, size of the header, digest of version and header


@dataclass
class Stored:
    """What a file gave: the content, the states that can be put back, and why others cannot (`notes`).

    `strangers`: roles whose model is another one than the file's.
    """

    content: dict[str, Any]
    states: dict[Role, Snapshot] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


@dataclass
class Session:
    """A stopped sequence, and as for Stored."""

    sequence: Sequence
    states: dict[Role, Snapshot]
    notes: list[str]


# ---------------------------------------------------------------- sequences
def write_session(path: Path, sequence: Sequence, states: dict[Role, Snapshot], identity: Identity) -> None:
    """Keep an unfinished sequence in a file."""
    write_stored(path, "sequence", as_dict(sequence), states, identity)


def read_session(path: Path, identity: Identity) -> Session:
    """The sequence of a file and the states that belong to it.

    SessionError as for read_stored, and where it is a sequence of other models (then `text` of the error is the
    response that was in it).
    """
    stored = read_stored(path, "sequence", identity)
    try:
        sequence = from_dict(stored.content)
        for role, (at, top1) in stored.content.get("frontier_top1", {}).items():  # of version 1
            state = stored.states.get(role)
            if state is not None and state.n_tokens == at:
                stored.states[Role(role)] = replace(state, top1=top1)
    except Exception as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no sequence of this version ({error!r}): remove it") from None
    other = [role for role in sequence.views if role in stored.strangers]
    if other:
        raise SessionError(f"{path} is a session of another {other[0]} model", sequence.text)
    return Session(sequence, stored.states, stored.notes)


# ---------------------------------------------------------------- writing
def write_stored(
    path: Path, kind: str, content: dict[str, Any], states: dict[Role, Snapshot], identity: Identity
) -> None:
    """Write beside, fsync, rename: at any moment the path has the whole old file or the whole new one."""
    table, offset = {}, 0
    for role, state in states.items():
        size = len(memoryview(state.data))
        digest = hashlib.blake2b(state.data, digest_size=16).hexdigest()
        table[str(role)] = {"n_tokens": state.n_tokens, "offset": offset, "size": size, "digest": digest}
        table[str(role)]["top1"] = state.top1
        offset += size
    values = {"kind": kind, kind: content, "states": table, "models": identity.models, "contexts": identity.contexts}
    header = zlib.compress(json.dumps(values, separators=(",", ":")).encode("utf-8", "surrogatepass"), 9)
    frame = _FRAME.pack(_MAGIC, VERSION, len(header), _digest(VERSION, header))
    write_beside(path, [frame, header, *(state.data for state in states.values()), header, frame])


def write_beside(path: Path, parts: list[Any], like: Path | None = None) -> None:
    """Replace a file (what a link names) by these bytes, whole or not at all; OSError leaves the old one.

    Its mode stays, or is that of `like`.
    """
    path = Path(os.path.realpath(path))
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(scratch, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(like or path, scratch)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename last; not every system can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(version: int, header: bytes) -> bytes:
    return hashlib.blake2b(struct.pack("<I", version) + header, digest_size=16).digest()


# ---------------------------------------------------------------- reading
def read_stored(path: Path, kind: str, identity: Identity) -> Stored:
    """The content of a file of this kind, and the states that belong to it.

    SessionError where nothing can be used: torn beyond recovery, of another version or kind. States of other
    models or context settings, and torn ones, are left out with a note.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror or error}") from None
    values, begin, notes = _header(path, data)
    try:
        if values["kind"] != kind:
            raise SessionError(f"{path} is a saved {values['kind']}, not a {kind}")
        content, models, contexts, table = values[kind], values["models"], values["contexts"], values["states"]
    except (KeyError, TypeError) as error:  # the digest was right: another program wrote this
        raise SessionError(f"{path} holds no session of this version ({error!r}): remove it") from None
    strangers = [role for role in models if models[role] != identity.models.get(role)]
    stored = Stored(content, {}, notes, strangers)
    for role, entry in table.items():
        state = _state(data, begin, entry)
        if role in strangers:
            notes.append(f"the {role} is another model: what it had evaluated is evaluated again")
        elif contexts.get(role) != identity.contexts.get(role):
            notes.append(f"the {role}'s state is of other settings ({contexts.get(role)}), and is evaluated again")
        elif state is None:
            notes.append(f"the {role}'s state is torn, and is evaluated again")
        else:
            stored.states[Role(role)] = state
    return stored


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], int, list[str]]:
    """The header, where the states begin, and notes; the header is read at the file's end if not at its beginning."""
    for at_end in (False, True):
        at = len(data) - _FRAME.size if at_end else 0
        if at < 0 or len(data) < _FRAME.size:
            break
        magic, version, n_header, digest = _FRAME.unpack_from(data, at)
        begin = at - n_header if at_end else _FRAME.size
        header = data[begin : begin + n_header] if begin >= 0 else b""
        if magic != _MAGIC or _digest(version, header) != digest:
            continue
        if version not in _READABLE:
            raise SessionError(f"{path} is a session of version {version}, but this program reads 1 and 2")
        values = json.loads(zlib.decompress(header).decode("utf-8", "surrogatepass"))
        return values, _FRAME.size + n_header, ["its beginning is torn, its end is whole"] if at_end else []
    torn = data[:4] == _MAGIC[:4] or data[-_FRAME.size :][:4] == _MAGIC[:4]
    raise SessionError(f"{path} is {'torn' if torn else 'not a session file'}: nothing in it can be used; remove it")


def _state(data: bytes, begin: int, entry: dict[str, Any]) -> Snapshot | None:
    begin += entry["offset"]
    state = memoryview(data)[begin : begin + entry["size"]]
    if hashlib.blake2b(state, digest_size=16).hexdigest() != entry["digest"]:
        return None
    return Snapshot(entry["n_tokens"], state, entry.get("top1"))
