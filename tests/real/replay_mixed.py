"""Replays a trace of a pair with two vocabularies: each model reads the other's text as its own tokens.

An independent evaluator, as replay.py is, whose checks it shares; it imports nothing of the package under test. It
makes both models' views of the answer itself, token by token, by method.md's "Two vocabularies", and evaluates each
model behind its own view. Hits compare characters, and a review looks at the leader's own tokens.

When the draft judged a hit is not in a trace, and its reading of the last word may have changed by then: a hit is right
where one of its views until then says so.

    python tests/real/replay_mixed.py TRACE LEADER DRAFT
"""

from __future__ import annotations

import ctypes
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from real import replay
from real.replay import Answer, Decision, Dropped, Judge, Line, Look, Model, Opinion, Report, Step, Walk, all_of, any_of

MOST_REREAD = 8
"""Ids at a view's end that may be read anew."""

LATEST_JUDGED = 24
"""Tokens after which a hit is judged at the latest."""


NO_HIT = Decision(False)


class Words:
    """One model's vocabulary: the bytes of its ids, and the ids of bytes."""

    def __init__(self, model: Model) -> None:
        self.vocab, self.n_vocab, self.ends = model.vocab, model.n_vocab, model.ends_generation
        self.known: dict[int, bytes] = {}

    def bytes_of(self, token: int) -> bytes:
        """Special tokens are spelled out; an end of generation has none."""
        if token not in self.known:
            buffer = ctypes.create_string_buffer(512)
            n = llama.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
            self.known[token] = b"" if self.ends(token) else buffer.raw[: max(n, 0)]
        return self.known[token]

    def length(self, ids: Sequence[int]) -> int:
        return sum(len(self.bytes_of(token)) for token in ids)

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        data = text.encode()
        ids = (llama.llama_token * (len(data) + 8))()
        return list(ids[: llama.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, special)])

    @cached_property
    def tags(self) -> dict[str, int]:
        """The tags of reasoning that are one token."""
        found = {tag: self.tokenize(tag, special=True) for tag in ("<think>", "</think>")}
        return {tag: ids[0] for tag, ids in found.items() if len(ids) == 1}

    def is_control(self, token: int) -> bool:
        attributes = llama.llama_vocab_get_attr(self.vocab, token)
        return bool(attributes & llama.LLAMA_TOKEN_ATTR_CONTROL) and token not in self.tags.values()

    def ids_of(self, text: str, special: bool = False) -> list[int]:
        """Of a text that another stands before: tags are these, other control tokens are letters."""
        ids: list[int] = []
        for part in filter(None, re.split("(</?think>)", text)):
            ids += [self.tags[part]] if part in self.tags else self.inside(part, special)
        return ids

    def inside(self, text: str, special: bool) -> list[int]:
        """Without the blank that some vocabularies begin every text with."""
        line_end = self.tokenize("\n")
        if not self.bytes_of(line_end[0]).startswith(b" "):
            return self.tokenize(text, special)
        return self.tokenize("\n" + text, special)[len(line_end) :]

    @cached_property
    def single_bytes(self) -> dict[int, int]:
        pieces = ((self.bytes_of(token), token) for token in range(self.n_vocab))
        return {piece[0]: token for piece, token in pieces if len(piece) == 1 and piece[0] >= 0x80}


@dataclass
class Reading:
    """An answer as one model reads it.

    ids: its prompt and the answer
    written: bytes of the answer, which may end in half a character that no id stands for
    """

    words: Words
    n_prompt: int
    ids: list[int]
    written: int = 0
    waits: bytes = b""

    def write(self, token: int) -> None:
        """A token of its own."""
        if not self.words.ends(token):
            self.ids.append(token)
            self.written, self.waits = self.written + len(self.words.bytes_of(token)), b""

    def read(self, new: bytes, is_control: bool = False) -> None:
        """Bytes of the other's: the last word is tokenised anew, but for the name of a control token."""
        first = len(self.ids)
        while first > self.n_prompt and len(self.ids) - first < MOST_REREAD and not is_control:
            if self.words.is_control(self.ids[first - 1]):
                break
            first -= 1
            if self.words.bytes_of(self.ids[first])[:1].isspace():
                break
        while first < len(self.ids) and 0x80 <= self.words.bytes_of(self.ids[first])[:1].ljust(1)[0] < 0xC0:
            first += 1
        data = b"".join(map(self.words.bytes_of, self.ids[first:])) + self.waits + new
        self.written += len(new)
        del self.ids[first:]
        self.waits = b""
        for text, broken, at_end in characters(data):
            self.ids += self.words.ids_of(text, is_control)
            single = [self.words.single_bytes[byte] for byte in broken if byte in self.words.single_bytes]
            if len(single) == len(broken):
                self.ids += single
            elif at_end:
                self.waits = broken
            else:
                self.ids += self.words.ids_of(broken.decode("utf-8", "replace"))

    def place_of(self, offset: int) -> int:
        """How many ids stand wholly before this byte of the answer."""
        ends = accumulate(len(self.words.bytes_of(token)) for token in self.ids[self.n_prompt :])
        return self.n_prompt + bisect_right(list(ends), offset)

    def begin_of(self, place: int) -> int:
        """The byte of the answer at which the id of this place begins."""
        return self.words.length(self.ids[self.n_prompt : place])

    def cut(self, offset: int) -> None:
        """Back to the first bytes of the answer; an id that ends behind them is read anew."""
        place = self.place_of(offset)
        rest = (b"".join(map(self.words.bytes_of, self.ids[place:])) + self.waits)[: offset - self.begin_of(place)]
        del self.ids[place:]
        self.written, self.waits = self.begin_of(place), b""
        if rest:
            self.read(rest)


def characters(data: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Texts, each with the bytes behind it that are no character, and whether these are only the beginning of one."""
    text, begin = "", 0
    while begin < len(data):
        for size in (1, 2, 3, 4):
            try:
                text += data[begin : begin + size].decode()
            except UnicodeDecodeError as error:
                broken = error
                continue
            break
        else:
            at_end = broken.reason == "unexpected end of data"
            size = len(data) - begin if at_end else max(broken.end, 1)
            yield text, data[begin : begin + size], at_end
            text = ""
        begin += size
    if text:
        yield text, b"", False


class Mind:
    """A model behind any of its views: what it holds of the last one is not evaluated again."""

    def __init__(self, model: Model) -> None:
        self.model, self.words = model, Words(model)
        self.held: list[int] = []

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """After all of these ids."""
        same = 0
        while same < min(len(ids) - 1, len(self.held)) and ids[same] == self.held[same]:
            same += 1
        memory = llama.llama_get_memory(self.model.context)
        if not llama.llama_memory_seq_rm(memory, 0, same, -1):
            llama.llama_memory_clear(memory, True)
            same = 0
        self.held = list(ids)
        for start in range(same, len(ids), replay.N_BATCH):
            part = ids[start : start + replay.N_BATCH]
            self.model.evaluate(part, start, len(part) - 1)
        row = llama.llama_get_logits_ith(self.model.context, -1)
        return np.ctypeslib.as_array(row, shape=(self.model.n_vocab,))

    def opinion(self, ids: Sequence[int], token: int | None, tie: float, look: Look | None = None) -> Opinion:
        row = self.logits(ids)
        band = tie * np.ptp(row)
        near = frozenset(np.flatnonzero(row >= row.max() - band).tolist())
        figure = look(row, token, band / 2) if look and token is not None else replay.NO_FIGURE
        return Opinion(int(row.argmax()), near, figure)


@dataclass(frozen=True)
class MixedStep(Step):
    """One token, and both models' views once it stands.

    begins: the byte of the answer at which it begins
    hit: whether the draft would have written its characters, by the views until it was judged
    """

    begins: int = 0
    views: dict[str, list[int]] = field(default_factory=dict)
    hit: Decision = NO_HIT

    @property
    def aligned(self) -> bool:
        return self.hit.yes

    def can_be(self, hit: bool) -> bool:
        return self.hit.can_be(hit)


@dataclass
class Reader:
    """Makes the steps of an answer, in the order in which they were written."""

    minds: dict[str, Mind]
    settings: Line
    answer: Answer
    looks: dict[str, Look | None]
    tie: float

    def __post_init__(self) -> None:
        self.readings = {}
        for role, mind in self.minds.items():
            if prompt := self.answer.prompt[f"{role}_tokens"]:
                self.readings[role] = Reading(mind.words, len(prompt), list(prompt))
        self.n_bytes = 0

    def steps(self) -> tuple[list[MixedStep], list[Dropped]]:
        steps: list[MixedStep] = []
        dropped = []
        for i in range(len(self.answer.tokens) + 1):
            for line in (each for each in self.answer.taken_back if each["i"] == i):
                dropped.append(self.dropped(line))
            if i < len(self.answer.tokens):
                steps.append(self.step(self.answer.tokens[i]))
        return [self.judged(steps, i) for i in range(len(steps))], dropped

    def dropped(self, line: Line) -> Dropped:
        begins, steps = self.n_bytes, []
        for j, (token, piece, author) in enumerate(zip(line["tokens"], line["pieces"], line["authors"], strict=True)):
            steps.append(self.step({"i": line["i"] + j, "token": token, "piece": piece, "author": author, "hit": None}))
        for reading in self.readings.values():
            reading.cut(begins)
        self.n_bytes = begins
        return Dropped(line, list(steps))

    def step(self, line: Line) -> MixedStep:
        said = {}
        for role, reading in self.readings.items():
            look = self.looks[role] if role == "draft" else None  # the leader's figure is asked for at its own places
            said[role] = self.minds[role].opinion(reading.ids, line["token"], self.tie, look)
        known = next(iter(said.values()))
        author, begins = line["author"], self.n_bytes
        data = self.minds[author].words.bytes_of(line["token"])
        for role, reading in self.readings.items():
            if role == author:
                reading.write(line["token"])
            elif data:
                reading.read(data, self.minds[author].words.is_control(line["token"]))
        self.n_bytes += len(data)
        views = {role: list(reading.ids) for role, reading in self.readings.items()}
        return MixedStep(line, said.get("leader", known), said.get("draft", known), False, begins, views)

    def judged(self, steps: list[MixedStep], i: int) -> MixedStep:
        step = steps[i]
        if step.line["hit"] is None:
            return step
        hit = Decision(False)
        for later in steps[i : i + LATEST_JUDGED]:
            hit = self.hit(step, later.views["draft"])
            if hit.can_be(step.line["hit"]):
                break
        return MixedStep(step.line, step.leader, step.draft, False, step.begins, step.views, hit)

    def hit(self, step: MixedStep, view: list[int]) -> Decision:
        """Whether the draft's most likely continuation begins with the leader's characters."""
        own, reading = self.minds["leader"].words, self.as_read("draft", view)
        place = reading.place_of(step.begins)
        behind = b"".join(map(reading.words.bytes_of, view[place:]))
        missing = behind[: step.begins - reading.begin_of(place)]
        best, compared = step.leader.best, step.leader.near
        if self.settings["compare"] == "sampled":
            best, compared = step.line["token"], frozenset([step.line["token"]])
        answers = {}
        for token in compared:
            if not own.ends(token):
                answers[token] = self.goes_on(view, place, missing + own.bytes_of(token))
            else:
                answers[token] = (False, {False}) if missing else self.goes_on(view, place, None)
        can_be = {answer for found in answers.values() for answer in found[1]}
        return Decision(answers[best][0], len(can_be) > 1)

    def goes_on(self, view: list[int], place: int, wanted: bytes | None) -> tuple[bool, set[bool]]:
        """Whether the draft's best ids from this place on begin with these bytes (None: with an end), as long as its
        view goes along; and the answers that ids as good as these would give."""
        words = self.minds["draft"].words
        said = self.minds["draft"].opinion(view[:place], None, self.tie)
        answers = {}
        for top in said.near:
            piece = words.bytes_of(top)
            found = words.ends(top) if wanted is None else bool(piece) and piece.startswith(wanted)
            answers[top] = found, {found}
            if (
                wanted is not None
                and piece
                and not found
                and wanted.startswith(piece)
                and view[place : place + 1] == [top]
            ):
                answers[top] = self.goes_on(view, place + 1, wanted[len(piece) :])
        return answers[said.best][0], {answer for _, found in answers.values() for answer in found}

    def as_read(self, role: str, view: list[int]) -> Reading:
        return Reading(self.minds[role].words, self.readings[role].n_prompt, view)


@dataclass
class MixedWalk(Walk):
    """A sentence whose reviews look at the leader's own tokens of the draft's text."""

    reader: Reader | None = None

    def is_the_same(self, dropped: Dropped, step: Step) -> bool:
        """Never: an id says nothing in the other vocabulary, and the leader may go as far as its own ids stood."""
        return False

    def stands(self, stretch: Sequence[Step], at: int, recorded: bool) -> Decision:
        """Whether the draft's token stands: all of the leader's ids that begin in it do."""
        last = stretch[-1]
        assert isinstance(last, MixedStep)
        view = last.views["leader"]
        places = self.places(stretch, view)
        asked = [number for number, (_, token) in enumerate(places) if token == at]
        rule, window = self.settings["review"], self.settings["fly_window"]
        found = []
        for number in asked:
            own, accepted = self.looked_at(view, places[number][0], recorded, last)
            if rule == "fly":
                after = [self.looked_at(view, place, recorded, last)[0] for place, _ in places[number + 1 :][:window]]
                accepted = all_of([accepted, Decision(len(after) == window), *after])
            found.append(any_of([own, accepted]))
        return all_of(found)

    def places(self, stretch: Sequence[Step], view: list[int]) -> list[tuple[int, int]]:
        """Where the leader looks, as ids before each, and which of the stretch's tokens its id begins in."""
        assert self.reader is not None
        reading, begins = self.reader.as_read("leader", view), [step.begins for step in stretch]  # type: ignore[attr-defined]
        first, last = reading.place_of(begins[0]), stretch[-1]
        ends = self.reader.minds[str(last.author)].words.ends(last.line["token"])
        places = range(first, max(len(view) + ends, first + 1))
        found = []
        for place in places:
            token = bisect_right(begins, reading.begin_of(place)) - 1
            found.append((place, min(max(token, 0), len(stretch) - 1)))
        return found

    def looked_at(self, view: list[int], place: int, recorded: bool, last: MixedStep) -> tuple[Decision, Decision]:
        """Whether the id at this place is the leader's own, and whether the rule accepts it."""
        assert self.reader is not None
        mind, look = self.reader.minds["leader"], self.reader.looks["leader"]
        token = view[place] if place < len(view) else None
        ends = mind.words.ends
        said = mind.opinion(view[:place], token, self.reader.tie, look)
        if token is None:  # the draft's end; any end of the leader's is one
            written = last.line["token"]
            best, same = ends(said.best), [ends(near) for near in said.near]
            if not best and ends(written):
                said = mind.opinion(view[:place], written, self.reader.tie, look)
        else:
            best, same = token == said.best, [near == token for near in said.near]
        own = Decision(best, any(same) and not all(same)) if self.judge.greedy else Decision(recorded, open=True)
        return own, said.figure.above(0) if look and not np.isnan(said.figure.value) else Decision(False)


@dataclass
class MixedJudge(Judge):
    reader: Reader | None = None

    def walk(self, sentence: list[Step], taken_back: dict[int, Dropped]) -> Walk:
        return MixedWalk(self, sentence, taken_back, reader=self.reader)


def judge_answer(
    header: Line, answer: Answer, models: dict[str, Model], tie: float, stop: Sequence[str], report: Report
) -> None:
    settings = replay.settings_of(header, answer.prompt)
    looks = replay.Witness(models, settings, answer.prompt, tie)
    minds = {role: Mind(model) for role, model in models.items()}
    reader = Reader(minds, settings, answer, {role: looks.look(role) for role in models}, tie)
    steps, dropped = reader.steps()
    MixedJudge(settings, answer, list(steps), dropped, models, report, reader).check(stop)
    text = "".join(line["piece"] for line in answer.tokens)
    for role, reading in reader.readings.items():
        own = b"".join(map(reading.words.bytes_of, reading.ids[reading.n_prompt :])).decode("utf-8", "replace")
        if own.rstrip("\ufffd") != text.rstrip("\ufffd"):
            report.violations.append(f"prompt {answer.prompt['id']}: the {role} reads {own!r}, the text is {text!r}")
    report.n_answers += 1
    report.n_tokens += len(answer.tokens)


def examine(trace: Path | str, leader: Path | str, draft: Path | str, **options: Any) -> Report:
    """As replay.examine, for a pair with two vocabularies."""
    return replay.examine(trace, leader, draft, judge=judge_answer, **options)


if __name__ == "__main__":
    replay.silence_llama_cpp()
    sys.exit(replay.main(judge=judge_answer))
