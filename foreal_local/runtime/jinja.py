"""Jinja as chat templates are written for it: in a sandbox and within limits, because anybody may have made the file.

What a template finds there is what Transformers gives it. Knows nothing of models, roles or tokens.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_SECONDS = 1.0  # of computing; long conversations take milliseconds
_LONGEST = 10_000_000  # characters or elements of any value
_TICK, _JOIN = "__tick", "__join"


class TemplateLimitError(Exception):
    """A template that does not end, or whose values grow without bound."""


class _Generation(jinja2.ext.Extension):
    """`generation` blocks mark what models are trained on: their content stands as it is."""

    tags = {"generation"}  # noqa: RUF012  (as in Jinja's own class)

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


class _Watched(NodeTransformer):
    """Makes whatever may be repeated ask whether there is time left, and joined texts look at their length."""

    def _ticking(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)))
        return node

    visit_For = visit_Macro = visit_CallBlock = visit_Block = _ticking

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Call(nodes.Name(_JOIN, "load"), node.nodes, [], None, None)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on what an operator, a function or a filter may make."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # no constant is computed outside of the bounds
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        del self.globals["lipsum"]  # may take minutes
        self.filters = {name: _bounded_results(each) for name, each in self.filters.items()}
        self.filters["tojson"] = _to_json

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            size = _size(left) * _size(right)
            if size > _LONGEST and not (isinstance(left, float) or isinstance(right, float)):
                raise TemplateLimitError("a product grows without bound")
        elif operator == "**" and _size(right) > 64:
            raise TemplateLimitError("a power grows without bound")
        return _bounded(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, *args: Any, **named: Any) -> Any:
        _require_small([*args, *named.values()])
        return _bounded(super().call(context, function, *args, **named))


def _size(value: Any) -> int:
    if isinstance(value, (int, float)):
        return int(abs(value)) if abs(value) <= _LONGEST else 2 * _LONGEST
    return max(1, len(value)) if isinstance(value, (str, list, tuple)) else 1


def _bounded(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)) and len(value) > _LONGEST:
        raise TemplateLimitError(f"it makes a value of {len(value)} characters or elements")
    return value


def _require_small(values: list[Any]) -> None:
    """No widths and counts that no memory holds."""
    if any(isinstance(value, int) and abs(value) > _LONGEST for value in values):
        raise TemplateLimitError("it asks for a value that no memory holds")


def _bounded_results(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # with the marks that say whether it wants the context
    def bounded(*args: Any, **named: Any) -> Any:
        _require_small([*args[1:], *named.values()])
        return _bounded(function(*args, **named))

    return bounded


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: object) -> None:
    raise ValueError(message)


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    environment = _Environment()
    return environment.from_string(_Watched().visit(environment.parse(source)))


def render(source: str, variables: dict[str, Any], now: datetime) -> str:
    """The text of a template.

    now: the time that `strftime_now` tells

    Raises whatever the template does (a syntax error, an undefined value, its own raise_exception), and
    TemplateLimitError where it does not end or has no bounds.
    """
    until = time.thread_time() + _SECONDS

    def tick() -> None:
        if time.thread_time() > until:
            raise TemplateLimitError(f"it does not end within {_SECONDS:g} s of computing")

    own = {
        "raise_exception": _raise_exception,
        "strftime_now": now.strftime,
        _TICK: tick,
        _JOIN: lambda *texts: _bounded("".join(map(str, texts))),
    }
    nothing = dict.fromkeys(("tools", "functions", "function_call", "tool_choice"))
    pieces, size = [], 0
    for piece in _compiled(source).generate({**nothing, **variables, **own}):
        tick()
        pieces.append(piece)
        size += len(piece)
        if size > _LONGEST:
            raise TemplateLimitError(f"it writes more than {_LONGEST} characters")
    return "".join(pieces)
