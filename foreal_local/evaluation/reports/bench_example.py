"""The response of a benchmark that its report shows token by token: chosen, and written once more.

Knows records, as foreal-gen writes them, and the engine. Knows no options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...config import Generation, Method, Pair, Prompting, Runtime, Sampling, from_older, generation_of
from ...results import Prompt, Result
from ..measures import Response
from .example import example_html
from .report import Example


def bench_example(
    responses: Sequence[Response], recommended: str | None, pair: Pair, runtime: Runtime, prompting: Prompting
) -> Example | None:
    """foreal's first response, of the recommended setting if there is one."""
    tried = [r for r in responses if r.record and r.record["mode"] == "foreal" and not r.record["error"]]
    tried.sort(key=lambda r: r.setting != recommended)
    if not tried:
        return None
    first = tried[0]
    again = answered_again(first.record, pair, runtime, prompting)
    note = f"The answer is {first.grade}." if again.text == first.text else ""
    note += "" if note else "Written again for this page, it is not the response that was measured: rounding differs."
    title = f"An example: {first.setting}, problem {first.problem}"
    return Example(title, first.record["prompt"], example_html(again.tokens), note)


def answered_again(record: dict[str, Any], pair: Pair, runtime: Runtime, prompting: Prompting) -> Result:
    """The response of a record once more, with its tokens: prompt, settings, seed and index are the record's."""
    from ...engine import Engine

    settings = generation_of(from_older(record, Method) | from_older(record, Sampling) | from_older(record, Generation))
    prompt = Prompt(record["prompt"], record["id"], settings, record["index"])
    with Engine(pair, runtime=runtime) as engine:
        return engine.generate([prompt], settings, prompting)[0]
