"""JSON schemas as grammars, by llguidance, which masks a whole vocabulary in some ten microseconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ...method.grammar import Ids, Mask

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from .vocabulary import Vocabulary

_OPTIONS: dict[str, Any] = {
    "whitespace_pattern": r" ?|\n{1,2}[ \t]{0,20}",  # as llama.cpp has it: no model writes blanks without end
    "coerce_one_of": True,  # as anyOf
    "lenient": True,  # what it does not know it warns of
}


class JsonGrammar:
    """A JSON schema after some tokens.

    notes: what of the schema is not enforced
    """

    def __init__(self, matcher: LLMatcher, n_tokens: int, notes: tuple[str, ...] = ()) -> None:
        self._matcher, self._n_tokens, self.notes = matcher, n_tokens, notes
        self._mask: Mask | None = None

    def allowed(self, ids: Ids) -> Mask:
        """Which of these tokens may come next."""
        if self._mask is None:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._mask = np.unpackbits(bits, count=self._n_tokens, bitorder="little").astype(np.bool_)
        mask: Mask = self._mask[ids]
        return mask

    def after(self, token: int) -> JsonGrammar | None:
        """The state after one more token; None where it may not come."""
        if self._matcher.validate_tokens([token]) != 1:
            return None
        after = self._matcher.deep_copy()
        after.consume_token(token)
        return JsonGrammar(after, self._n_tokens)


class _Tokens:
    """A vocabulary as llguidance asks for it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        ids = range(vocabulary.n_tokens)
        self.tokens = [vocabulary.piece(token) for token in ids]
        self.special_token_ids = [token for token in ids if not vocabulary.is_ordinary(token)]
        self.ends = [token for token in self.special_token_ids if vocabulary.is_end(token)]
        self.eos_token_id, self.bos_token_id = (self.ends or [0])[0], None
        self._encode = vocabulary.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"), False)


def tokens_for_schemas(vocabulary: Vocabulary) -> LLTokenizer:
    """A vocabulary for `read_schema`; takes a second for 150,000 tokens."""
    from llguidance import LLTokenizer, TokenizerWrapper

    tokens = _Tokens(vocabulary)
    return LLTokenizer(TokenizerWrapper(tokens), vocabulary.n_tokens, tokens.ends or None)


def read_schema(tokens: LLTokenizer, schema: str) -> JsonGrammar:
    """The grammar of the JSON texts that a schema describes; UsageError where it is no schema."""
    from llguidance import LLMatcher

    try:
        limited = _limited(json.loads(schema))
        grammar = LLMatcher.grammar_from_json_schema(limited, defaults=_OPTIONS)  # type: ignore[arg-type]
    except RecursionError:
        raise UsageError("the JSON schema cannot be used: it is nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"the JSON schema cannot be used: {error}") from None
    is_error, messages = LLMatcher.validate_grammar_with_warnings(grammar, tokens)
    if is_error:
        raise UsageError(f"the JSON schema cannot be used: {' '.join(messages).strip()}")
    notes = tuple(f"not all of the JSON schema can be enforced: {message}" for message in messages)
    matcher = LLMatcher(tokens, grammar, log_level=0)
    first = JsonGrammar(matcher, tokens.vocab_size).allowed(np.arange(tokens.vocab_size))
    if not set(np.flatnonzero(first).tolist()) - {tokens.eos_token, *tokens.eos_tokens}:
        raise UsageError("the JSON schema cannot be used: no JSON text keeps to it (does it only refer to itself?)")
    return JsonGrammar(matcher, tokens.vocab_size, notes)


_MAPS = {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}  # of names to schemas
_DATA = {"const", "default", "enum", "examples"}
_OF_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"}
_LARGEST = 10**16
_JOINED = {"$ref", "allOf", "anyOf", "oneOf", "additionalProperties", "patternProperties", "unevaluatedProperties"}


def _limited(schema: Any) -> Any:
    """The schema with an end to what a small model would write on and on, as llama.cpp reads schemas: objects have the
    properties that it names, whole numbers 16 digits at most, where it says nothing else.

    What `allOf` joins is left as it is.
    """
    if isinstance(schema, list):
        return [_limited(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            found[key] = {name: _limited(each) for name, each in value.items()}
        else:
            found[key] = value if key in _DATA or key == "allOf" else _limited(value)
    if isinstance(schema.get("properties"), dict) and not _JOINED & set(schema):
        found = {"type": "object", **found, "additionalProperties": False}
    kind = schema.get("type")
    types = kind if isinstance(kind, list) else [kind]
    if "integer" in types and "number" not in types and not _OF_NUMBERS & set(schema):
        found |= {"minimum": 1 - _LARGEST, "maximum": _LARGEST - 1}
    return found
