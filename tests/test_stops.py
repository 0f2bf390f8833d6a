"""Stop texts, reasoning and answer: which ones count where, what is held back meanwhile, what records say of it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from fakes import DRAFT, LEADER, SHAPES, FakePair, ids_of
from reference import first_stop
from runs import OPENED, new_sequence, run_all

from foreal_local.batch.trace import trace_lines
from foreal_local.config import Generation, Prompting
from foreal_local.digest import settings_hash
from foreal_local.evaluation.reports.bench_table import stop_line
from foreal_local.method.reasoning import TAGS, ReasoningTags
from foreal_local.method.stops import StopTexts
from foreal_local.method.tokens import FinishReason
from foreal_local.results import Prompt, Result, Submission
from foreal_local.storage.saved_sequence import as_dict, from_dict, settings_from_dict

INSIDE, CLOSED = ReasoningTags(opened=True), ReasoningTags()


def ended(text: str, stops: tuple[str, ...], tags: ReasoningTags, in_reasoning: bool = False) -> tuple[str, str | None]:
    """The text up to its stop text, and which one it is."""
    search = StopTexts(stops, tags, in_reasoning)
    search.feed(text)
    found = search.found_at_end
    return (text[: found.at], found.text) if found else (text, None)


# ---------------------------------------------------------------- which ones count
@pytest.mark.parametrize(
    ("text", "stops", "tags", "left"),
    [
        ("So 1. Then 2.</think>It is 3. Yes", (".",), INSIDE, "So 1. Then 2.</think>It is 3"),
        ("<think>So 1.</think>It is 3. Yes", (".",), CLOSED, "<think>So 1.</think>It is 3"),
        (" \n<think>So 1. Then", (".", "<", "\n"), CLOSED, " \n<think>So 1. Then"),
        ("It is 3. Yes", (".",), CLOSED, "It is 3"),  # no reasoning
        ("It <think> 3. Yes", (".", "<"), CLOSED, "It "),  # spoken of only
        ("a\n\nb</think>\n\nIt\n\nis", ("\n\n",), INSIDE, "a\n\nb</think>\n\nIt"),  # the gap is nobody's
        ("a</think>\n\nIt is", ("\n\nIt",), INSIDE, "a</think>"),
        ("a</think>\n\nIt is", ("</think>",), INSIDE, "a"),  # meant for the reasoning
        ("a</think>\n\nIt is", ("a</think>\n",), INSIDE, ""),  # spans the tag
        ("<think>a</think>It", ("<think>",), CLOSED, ""),
        ("a</think>b</think>c", (">", "b"), INSIDE, "a</think>"),
        ("\nIt", ("\n",), CLOSED, ""),  # as it was where there is no reasoning
        ("\n", ("\n",), CLOSED, ""),
        ("<thi", ("t",), CLOSED, "<"),
        ("</think>Q", ("Q",), INSIDE, "</think>"),
        ("<think>Q</think>AQ", ("Q",), INSIDE, "<think>Q</think>A"),  # the opened tag comes again
    ],
)
def test_stop_texts_end_the_answer_and_not_the_reasoning(
    text: str, stops: tuple[str, ...], tags: ReasoningTags, left: str
) -> None:
    """Guards a stop text in the reasoning that leaves an empty answer; however the text is cut into pieces."""
    assert ended(text, stops, tags)[0] == left
    expected = first_stop(text, Generation(stop=stops), tags, ended=True)
    assert (expected[0] if expected else len(text)) == len(left)
    in_pieces = StopTexts(stops, tags, False)
    for n, char in enumerate(text, 1):
        in_pieces.feed(char)
        if in_pieces.found:
            assert text[: in_pieces.found.at] == left
            break
        assert n - in_pieces.n_held <= max(len(left), 0 if n < len(text) else n), "shown, and then cut off"
    else:
        found = in_pieces.found_at_end
        assert text[: found.at if found else None] == left


@pytest.mark.parametrize("tags", TAGS, ids=[tags.opening for tags in TAGS])
def test_they_sleep_in_any_tags_unless_asked_for(tags: ReasoningTags) -> None:
    text = f"{tags.opening}So 1. Then{tags.closing}It is 3. Yes"
    opened = replace(tags, opened=True)
    for this in (tags, opened):
        assert ended(text, (".",), this) == (text[: text.rindex(".")], ".")
        assert ended(text, (".",), this, in_reasoning=True) == (f"{tags.opening}So 1", ".")
    assert ended(f"So 1.{tags.closing}It", (tags.closing,), opened) == ("So 1.", tags.closing)


def test_only_what_could_be_cut_is_held_back() -> None:
    """Guards a stream that stands still in the reasoning, at every letter that begins a stop text."""
    search = StopTexts(("Question:", "\n\n", "</think>!"), INSIDE, False)
    held = []
    for piece in ("Quest", "ion:\n", "\n a <", "/think>", "\n", "\n", "Que", "ue", "\n"):
        search.feed(piece)
        held.append(search.n_held)
    assert held == [0, 0, 1, 8, 0, 0, 3, 0, 1]
    assert search.found is None


def test_random_texts_are_cut_where_the_definition_says() -> None:
    rng = random.Random(5)
    parts = ["<t>", "</t>", "<", "t", ">", "ab", "a", "b", "\n", " ", "</"]
    for _ in range(3000):
        text = "".join(rng.choice(parts) for _ in range(rng.randrange(12)))
        stops = tuple(
            "".join(rng.choice(parts) for _ in range(rng.randrange(1, 4))) for _ in range(rng.randrange(1, 4))
        )
        tags = ReasoningTags("<t>", "</t>", rng.random() < 0.5)
        in_reasoning, at, shown = rng.random() < 0.2, 0, ""
        search = StopTexts(stops, tags, in_reasoning)
        while at < len(text) and not search.found:
            size = rng.randrange(1, 4)
            search.feed(text[at : at + size])
            at = min(len(text), at + size)
            shown = max(shown, text[: at - search.n_held], key=len)
        found, settings = search.found_at_end, Generation(stop=stops, stop_in_reasoning=in_reasoning)
        expected = first_stop(text[:at], settings, tags, ended=True)
        assert found == expected
        assert len(shown) <= (found.at if found else len(text)), "shown, and then cut off"


# ---------------------------------------------------------------- responses
def written(text: str, **settings: Any) -> tuple[Result, str]:
    """The draft writes this text after a prompt that opens the reasoning; its result, and what was shown."""
    pair = FakePair(truncation="remove")
    pair.models[DRAFT].script([2], ids_of(text))
    sequence = new_sequence(0, prompt=[2], mode="draft", tags=OPENED, **settings)
    shown = run_all(pair.scheduler(), [sequence])["0"]
    return Result.of(Submission(Prompt("Why?"), "", 512), sequence, SHAPES), shown


def test_records_and_traces_say_which_text_stopped_a_response() -> None:
    """Guards an end that cannot be told from the models' own."""
    result, shown = written("So x. So get x.\n", stop=("?", "."))
    assert (result.reasoning, result.answer, result.stopped_by) == ("So x. So", "x", ".")
    assert shown == result.text == "So x. So get x"
    assert result.as_dict()["stopped_by"] == "."
    assert json.loads(trace_lines(result).splitlines()[-1])["stopped_by"] == "."
    assert not result.ends_inside_reasoning
    result, _ = written("So x. So get x.\n", stop=("?", "."), stop_in_reasoning=True)
    assert (result.reasoning, result.answer, result.stopped_by) == ("So x", "", ".")
    assert result.ends_inside_reasoning
    result, _ = written("So x. So get x.\n", stop=("?",), max_tokens=4)
    assert (result.finish_reason, result.stopped_by) == (FinishReason.LENGTH, None)
    assert result.as_dict()["stopped_by"] is None


def test_an_answer_that_is_cut_at_once_is_not_inside_the_reasoning() -> None:
    result, _ = written("So x. get x.\n", stop=("x",))
    assert (result.reasoning, result.answer, result.stopped_by) == ("So x.", "", "x")
    assert not result.ends_inside_reasoning


def test_the_benchmark_tells_what_was_stopped_and_where() -> None:
    """Guards an accuracy of nothing that comes from a stop text, without a word."""
    answered, _ = written("So x. So get x.\n", stop=(".",))
    inside, _ = written("So x. So get x.\n", stop=(".",), stop_in_reasoning=True)
    free, _ = written("So x.\n", max_tokens=3)
    records = [each.as_dict() for each in (answered, free)]
    assert stop_line(records) == "1 of 2 responses ended at a stop text ('.'), none of them inside the reasoning"
    line = stop_line([*records, inside.as_dict()])
    assert line == "2 of 3 responses ended at a stop text ('.'), 1 of them inside the reasoning, without an answer"
    assert stop_line([free.as_dict(), {}]) is None
    assert stop_line([free.as_dict() | {"stop": ["."]}]) == "no response ended at a stop text"


# ---------------------------------------------------------------- older files
def test_what_was_written_before_stops_in_the_reasoning() -> None:
    """Guards outputs with stop texts that go on under another rule, and those without that are made again."""

    def hash_of(**values: Any) -> str:
        return settings_hash("p", Generation(seed=1, **values), Prompting(), {LEADER: "l", DRAFT: "d"})

    assert hash_of(stop_in_reasoning=True) == hash_of()
    assert hash_of(stop=(".",)) != hash_of(stop=(".",), stop_in_reasoning=True)
    values = json.loads(json.dumps(as_dict(new_sequence(0, stop=(".",)))))
    del values["settings"]["stop_in_reasoning"], values["tags"], values["stopped_by"]
    assert settings_from_dict(values["settings"]).stop_in_reasoning
    assert not settings_from_dict({**values["settings"], "stop": []}).stop_in_reasoning, "for one that is set later"
    assert from_dict(values).tags == ReasoningTags()
