"""A leader, a draft and their vocabulary without weights.

A fake's logits are a pure function of what its cache really holds in the slot (a hash of the cached texts and
the role's own deviations), not of what the caller believes: a skipped, doubled or misplaced token shows as
another next token. Knows the model protocol and nothing of the scheduler's inside.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foreal_local.errors import SequenceError
from foreal_local.method.ledger import Shape
from foreal_local.method.reasoning import DEFAULT_TAGS
from foreal_local.method.roles import Role
from foreal_local.method.vocabulary import Logits
from foreal_local.runtime.model import Output, Row, Snapshot
from foreal_local.runtime.scheduler import Scheduler

LEADER, DRAFT = Role.LEADER, Role.DRAFT

# ---------------------------------------------------------------- words
# Pieces and how often they come up. About every tenth token can end a sentence, every hundredth the response.
_COMMON: dict[bytes, float] = {
    b" the": 8, b" we": 8, b" get": 7, b" x": 7, b" is": 7, b" sum": 6, b" of": 6, b" then": 5, b" two": 5,
    b" and": 5, b"So": 3, b"Wait": 3, b",": 3, b"1": 3, b"2": 3, b"3": 3, b" 4": 2, b" e.g": 1.5, b"\xc3": 1,
    b"\xa9": 0.3, b"\xf0\x9f": 0.7, b"\x98\x80": 0.2, b'"': 1, b"<": 0.7, b"a>": 0.7, b"b>": 0.7,
    b".": 6, b"?": 1, b"!": 0.7, b"\n": 1.5, b".\n": 1, b". So": 0.8, b"\n\n": 0.5, b"...": 0.5,
}  # fmt: skip
END = 0
SPECIAL = 1  # in the pair of different vocabularies its text is another one for each role
PIECES: tuple[bytes, ...] = (b"", b"<a>", *_COMMON)
DRAFT_PIECES: tuple[bytes, ...] = (b"", b"<b>", *_COMMON)
ID = {piece: token for token, piece in enumerate(PIECES)}
N_VOCAB = len(PIECES)
_WEIGHTS = np.array([0.8, 1.5, *_COMMON.values()])
_FOLLOWERS = ((b"\xc3", b"\xa9", 6), (b"\xf0\x9f", b"\x98\x80", 6), (b" e.g", b".", 4), (b"3", b".", 2))

_N_ROWS = 4096
_rng = np.random.default_rng(7)
_LOGITS = (np.log(_WEIGHTS) + _rng.gumbel(size=(_N_ROWS, N_VOCAB))).astype(np.float32)
_BONUS = np.zeros((N_VOCAB, N_VOCAB), np.float32)
for _first, _second, _value in _FOLLOWERS:
    _BONUS[ID[_first], ID[_second]] = _value


def ids_of(text: str, without: frozenset[bytes] = frozenset()) -> list[int]:
    """Ids of a text, the longest piece first; some pieces may be left out."""
    data, ids = text.encode(), []
    while data:
        piece = max((piece for piece in ID if piece and data.startswith(piece) and piece not in without), key=len)
        ids.append(ID[piece])
        data = data[len(piece) :]
    return ids


# ---------------------------------------------------------------- the model
@dataclass(frozen=True)
class Evaluated:
    """One row as the model was asked to evaluate it: after `before` cached tokens."""

    slot: int
    before: int
    tokens: tuple[int, ...]
    n_outputs: int
    decode: bool


class FakeModel:
    """The model protocol without a model. Owns its slots, and a record of every evaluation asked for.

    `agreement`: the share of prefixes at which it wants what the shared hash wants; at the others it goes its
    own way, so two fakes of agreement 1.0 are the same model. `truncation`: "remove" takes tokens back,
    "clear" forgets all (recurrent memory), "refuse" proves that nobody asks. `raise_at`: what to raise at
    which call; `fails`: whether a row cannot be evaluated. `script` makes it want given tokens. `nan_tokens`: those
    that make all its logits NaN, its neighbours' too, until its cache is cleared. `order`: the usual ids in the order
    of its own, which has other numbers for the same words; `banned`: words that it never wants.
    """

    clock = 0.0
    """Seconds that the calls of all fakes have taken."""

    def __init__(
        self,
        role: Role,
        *,
        n_slots: int = 4,
        n_ctx: int = 512,
        n_batch: int = 32,
        agreement: float = 1.0,
        truncation: str = "refuse",
        pieces: tuple[bytes, ...] = PIECES,
        order: tuple[int, ...] | None = None,
        banned: frozenset[bytes] = frozenset(),
    ) -> None:
        self._order = None if order is None else np.array(order)
        self._banned = [token for token, piece in enumerate(pieces) if piece in banned]
        self.role, self.agreement, self.truncation, self.pieces = role, agreement, truncation, pieces
        self._n_slots, self._n_ctx, self._n_batch = n_slots, n_ctx, n_batch
        self._n_calls = 0
        self.row_calls: list[int] = []
        self.has_prefix_slot, self.needs_marks, self.runs_beside = True, False, False
        self._tokens: list[list[int]] = [[] for _ in range(n_slots + 1)]
        self._hashes: list[list[int]] = [[] for _ in range(n_slots + 1)]
        self._buffer = np.empty(N_VOCAB, np.float32)
        self._scripted: dict[int, int] = {}
        self.records: list[list[Evaluated]] = []
        self.n_truncated = 0
        self.n_released = 0
        self.refuses_states = False
        self.nan_tokens: frozenset[int] = frozenset()
        self._gives_nan = False
        self.n_cleared = 0
        self.raise_at: dict[int, BaseException] = {}
        self.fails: Callable[[FakeModel, Row], bool] = lambda _model, _row: False

    @property
    def n_slots(self) -> int:
        return self._n_slots

    @property
    def n_ctx(self) -> int:
        return self._n_ctx

    @property
    def n_calls(self) -> int:
        return self._n_calls

    @property
    def seconds(self) -> float:
        """A second for each call."""
        return float(self._n_calls)

    def cached(self, slot: int) -> int:
        return len(self._tokens[slot])

    def held(self, slot: int) -> list[int]:
        """What the slot really holds."""
        return list(self._tokens[slot])

    def script(self, prompt: Iterable[int], ids: Iterable[int]) -> None:
        """After this prompt and any number of these ids, want the next of them."""
        state = 0
        for token in prompt:
            state = zlib.crc32(self.pieces[token], state)
        for token in ids:
            self._scripted[state] = token
            state = zlib.crc32(self.pieces[token], state)

    def logits(self, ids: Iterable[int]) -> Logits:
        """The logits after a whole prefix, computed from nothing."""
        state, last = 0, END
        for token in ids:
            state, last = zlib.crc32(self.pieces[token], state), token
        return self._logits_at(state, last)

    def _logits_at(self, state: int, last: int) -> Logits:
        if self._order is not None:
            last = int(self._order[last])
        logits = self._base_logits_at(state, last)
        logits = logits if self._order is None else logits[self._order]
        if self._banned:
            logits[self._banned] = -30
        return logits

    def _base_logits_at(self, state: int, last: int) -> Logits:
        if state in self._scripted:
            return np.where(np.arange(N_VOCAB) == self._scripted[state], 20, -20).astype(np.float32)
        mixed = state * 0x9E3779B1 & 0xFFFFFFFF
        deviates = (state * 0xC2B2AE3D & 0xFFFFFFFF) >> 12 >= self.agreement * 2**20
        if deviates:
            mixed = (state * 0x85EBCA77 + zlib.crc32(self.role.value.encode())) & 0xFFFFFFFF
        return _LOGITS[mixed >> 20] + _BONUS[last]

    # ------------------------------------------------------------ evaluating
    def evaluate(self, rows: list[Row]) -> Iterator[Output]:
        assert len({row.slot for row in rows}) == len(rows), "a slot is in the batch twice"
        self.records.append(
            [Evaluated(r.slot, self.cached(r.slot), tuple(r.tokens), r.n_outputs, r.decode) for r in rows]
        )
        for row in rows:
            assert row.tokens, "an empty row"
            assert 1 <= row.n_outputs <= len(row.tokens), "logits wanted where nothing is evaluated"
            assert self.cached(row.slot) + len(row.tokens) <= self.n_ctx, "more than the context holds"
            assert all(0 < token < N_VOCAB for token in row.tokens), "a token the vocabulary does not have"
        failed: set[int] = set()
        self.row_calls = [0] * len(rows)
        for parts in self._chunks(rows):
            self._n_calls += 1
            for index, _, _ in parts:
                self.row_calls[index] += 1
            FakeModel.clock += 1.0
            if error := self.raise_at.pop(self._n_calls, None):
                for index, _, _ in parts:
                    self._abort(rows[index].slot)
                raise error
            first_of = []
            for index, begin, end in parts:
                row = rows[index]
                if index in failed or self.fails(self, row):
                    failed.add(index)
                else:
                    self._extend(row.slot, row.tokens[begin:end])
                first_of.append(self.cached(row.slot) - (end - begin))
            for (index, begin, end), first in zip(parts, first_of, strict=True):
                if index in failed:
                    yield Output(index, 0, None, SequenceError(f"no room for {end - begin} more tokens"))
                    continue
                row = rows[index]
                for i in range(max(begin, len(row.tokens) - row.n_outputs), end):
                    at = first + i - begin
                    self._buffer[:] = self._logits_at(self._hashes[row.slot][at], self._tokens[row.slot][at])
                    if self._gives_nan:
                        self._buffer[3] = np.nan
                    yield Output(index, i, self._buffer)
                    self._buffer.fill(np.nan)  # a view is not valid for longer

    def _chunks(self, rows: list[Row]) -> Iterator[list[tuple[int, int, int]]]:
        """Parts (row, begin, end) that fill one call each."""
        parts: list[tuple[int, int, int]] = []
        room = self._n_batch
        for index, row in enumerate(rows):
            begin = 0
            while begin < len(row.tokens):
                end = min(len(row.tokens), begin + room)
                parts.append((index, begin, end))
                room -= end - begin
                begin = end
                if not room:
                    yield parts
                    parts, room = [], self._n_batch
        if parts:
            yield parts

    def _extend(self, slot: int, tokens: list[int]) -> None:
        self._gives_nan = self._gives_nan or not self.nan_tokens.isdisjoint(tokens)
        hashes = self._hashes[slot]
        for token in tokens:
            hashes.append(zlib.crc32(self.pieces[token], hashes[-1] if hashes else 0))
        self._tokens[slot].extend(tokens)

    def _abort(self, slot: int) -> None:
        """A call was stopped half-way: what it had added is removed; some memories can only be cleared."""
        if self.truncation == "clear":
            self.release(slot)

    # ------------------------------------------------------------ slots
    def truncate(self, slot: int, n_tokens: int) -> int:
        assert self.truncation != "refuse", "a token is taken back in plain generation"
        self.n_truncated += 1
        if n_tokens >= self.cached(slot):
            return self.cached(slot)
        keep = n_tokens if self.truncation == "remove" else 0
        del self._tokens[slot][keep:], self._hashes[slot][keep:]
        return keep

    def mark(self, slot: int) -> None:
        pass

    def save(self, slot: int) -> Snapshot:
        return Snapshot(self.cached(slot), np.array(self._tokens[slot], np.int32).tobytes())

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        self.release(slot)
        if self.refuses_states:
            raise SequenceError("another model's state")
        self._extend(slot, np.frombuffer(snapshot.data, np.int32).tolist())

    def copy(self, source: int, target: int) -> None:
        assert not self._tokens[target], "what the slot holds would be lost"
        self._tokens[target], self._hashes[target] = list(self._tokens[source]), list(self._hashes[source])

    def release(self, slot: int) -> None:
        self.n_released += 1
        self._tokens[slot].clear()
        self._hashes[slot].clear()

    def clear(self) -> None:
        self._gives_nan = False
        self.n_cleared += 1
        for tokens, hashes in zip(self._tokens, self._hashes, strict=True):
            tokens.clear()
            hashes.clear()


def follows(before: int, after: int) -> bool:
    """Whether a fake grammar lets one byte follow another: four of five."""
    return (before * 7 + after * 13) % 5 != 0


@dataclass(frozen=True)
class FakeGrammar:
    """A grammar of bytes that may follow each other; a response may end behind every third kind of byte."""

    pieces: tuple[bytes, ...]
    last: int = 0

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._allows(int(token)) for token in ids], np.bool_)

    def _allows(self, token: int) -> bool:
        if token == END:
            return self.last % 3 == 0
        piece = bytes([self.last]) + self.pieces[token]
        return all(follows(*two) for two in itertools.pairwise(piece))

    def after(self, token: int) -> FakeGrammar | None:
        return FakeGrammar(self.pieces, self.pieces[token][-1]) if token != END and self._allows(token) else None


class FakeVocabulary:
    """Both roles' tokens. `different`: SPECIAL has another text for each role, two ids for the reader."""

    is_shared = True
    without: frozenset[bytes] = frozenset()

    def __init__(self, different: bool = False) -> None:
        self._pieces = {LEADER: PIECES, DRAFT: DRAFT_PIECES if different else PIECES}
        self._foreign = {LEADER: (ID[b"<"], ID[b"a>"]), DRAFT: (ID[b"<"], ID[b"b>"])} if different else {}

    def piece(self, role: Role, token: int) -> bytes | None:
        return None if token == END else self._pieces[role][token]

    def byte(self, role: Role, byte: int) -> int | None:
        return next((token for token, piece in enumerate(self._pieces[role]) if piece == bytes([byte])), None)

    def is_end(self, role: Role, token: int) -> bool:
        return token == END

    def is_control(self, role: Role, token: int) -> bool:
        return False

    def encode(self, role: Role, text: str, parse_special: bool = False) -> list[int]:
        """The ids of a text; a space before a word that no piece has is left out. None for a tag of other words."""
        if text == DEFAULT_TAGS.opening:
            return []
        begins = text.encode()[:2]
        return ids_of(text if any(piece.startswith(begins) for piece in ID) else text.removeprefix(" "), self.without)

    def grammar(self, role: Role, gbnf: str | None, json_schema: str | None) -> FakeGrammar:
        return FakeGrammar(self._pieces[role])

    def translate(self, author: Role, token: int, reader: Role) -> tuple[int, ...]:
        if token == SPECIAL and author is not reader and self._foreign:
            return self._foreign[author]
        return (token,)


FOREIGN_ORDER = (0, *(int(token) for token in np.random.default_rng(11).permutation(np.arange(1, N_VOCAB))))
FOREIGN_PIECES = tuple(PIECES[token] for token in FOREIGN_ORDER)


class ForeignVocabulary(FakeVocabulary):
    """The same words with other numbers in the draft, which nobody knows: texts alone tell."""

    is_shared = False

    def __init__(self, without: frozenset[bytes]) -> None:
        super().__init__()
        self.without = without
        self._pieces = {LEADER: PIECES, DRAFT: FOREIGN_PIECES}
        self._own = {LEADER: range(N_VOCAB), DRAFT: [FOREIGN_ORDER.index(token) for token in range(N_VOCAB)]}

    def encode(self, role: Role, text: str, parse_special: bool = False) -> list[int]:
        return [self._own[role][token] for token in super().encode(role, text)]

    def translate(self, author: Role, token: int, reader: Role) -> tuple[int, ...]:
        assert author is reader, "an id of the other's is taken for one's own"
        return (token,)


# ---------------------------------------------------------------- a pair
SHAPES = {LEADER: Shape(n_weights=1000, n_layers=3, width=8), DRAFT: Shape(n_weights=90, n_layers=2, width=4)}


@dataclass
class FakePair:
    """A leader and a draft that agree on most prefixes, and schedulers over them.

    foreign: they have other numbers for the same words, so that each reads the other's text
    banned: words that neither wants
    """

    n_slots: int = 4
    n_ctx: int = 512
    n_batch: int = 32
    agreement: float = 0.8
    truncation: str = "refuse"
    different: bool = False
    foreign: bool = False
    banned: frozenset[bytes] = frozenset()
    models: dict[Role, FakeModel] = field(init=False)
    vocabulary: FakeVocabulary = field(init=False)

    def __post_init__(self) -> None:
        shared: dict[str, Any] = {"n_slots": self.n_slots, "n_ctx": self.n_ctx, "n_batch": self.n_batch}
        shared["truncation"] = self.truncation
        shared["banned"] = self.banned
        pieces = DRAFT_PIECES if self.different else FOREIGN_PIECES if self.foreign else PIECES
        self.vocabulary = ForeignVocabulary(self.banned) if self.foreign else FakeVocabulary(self.different)
        order = FOREIGN_ORDER if self.foreign else None
        self.models = {
            LEADER: FakeModel(LEADER, **shared),
            DRAFT: FakeModel(DRAFT, agreement=self.agreement, pieces=pieces, order=order, **shared),
        }

    def scheduler(self, **options: Any) -> Scheduler:
        return Scheduler(dict(self.models), self.vocabulary, SHAPES, **options)

    @property
    def n_held(self) -> int:
        """Tokens in all caches."""
        return sum(model.cached(slot) for model in self.models.values() for slot in range(model.n_slots + 1))
