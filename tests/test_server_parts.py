"""What a stream's pieces join to is what the whole response says, however its tokens are cut."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from foreal_local.method.reasoning import ReasoningTags, split_reasoning
from foreal_local.method.roles import Role
from foreal_local.method.tokens import Token
from foreal_local.server.parts import Parts, Piece

_PIECES = st.sampled_from(
    ["<think>", "</think>", "<", "think", ">", "</", " ", "\n", "a", "b c", "\u3000", "<thin", ""]
)


@dataclass
class Ended:
    """A result, as far as it is looked at."""

    stopped_by: str | None = None


def tokens_of(texts: list[tuple[str, Role]]) -> list[Token]:
    return [Token(0, author, text, 0, False, 0) for text, author in texts]


@given(st.lists(st.tuples(_PIECES, st.sampled_from(Role)), max_size=12), st.booleans())
def test_the_pieces_join_to_the_whole(texts: list[tuple[str, Role]], opened: bool) -> None:
    """Guards white space, and beginnings of tags, that a stream has and the whole response has not."""
    tags = ReasoningTags(opened=opened)
    parts, pieces = Parts(tags), list[Piece]()
    for token in tokens_of(texts):
        pieces += parts.feed([token])
    pieces += parts.end(Ended())  # type: ignore[arg-type]
    reasoning = "".join(piece.text for piece in pieces if piece.is_reasoning)
    answer = "".join(piece.text for piece in pieces if not piece.is_reasoning)
    assert (reasoning, answer) == split_reasoning("".join(text for text, _ in texts), tags)
    for is_reasoning, text in ((True, reasoning), (False, answer)):
        told = [span["author"] for span in parts.spans(is_reasoning) for _ in range(span["from"], span["to"])]
        authors = [str(p.author) for p in pieces if p.is_reasoning == is_reasoning for _ in p.text]
        assert told == authors
        assert len(told) == len(text)


def test_each_character_is_its_authors() -> None:
    """Guards a "<" of one model that is given to the other, because it might have begun a tag."""
    written = [("<think>", Role.LEADER), ("a ", Role.LEADER), ("<", Role.LEADER), (" b", Role.DRAFT)]
    parts = Parts(ReasoningTags())
    parts.feed(tokens_of(written))
    assert [(span["author"], span["to"]) for span in parts.spans(True)] == [("leader", 3), ("draft", 5)]
