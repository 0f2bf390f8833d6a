"""One response as HTML: every token by its author, the gates that opened, hits, misses and handoffs.

Knows tokens (sequence.Token, or anything with the same fields) and HTML; no files and no figures. The marks are drawn
by report.css after or before a token, so that copied text is the response's own.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Protocol

from ...method.roles import Role

MOST_TOKENS = 1500  # shown of a response: the page stays small

LEGEND = """<p class="legend"><span class="leader">written by the leader</span> <span class="draft">by the draft</span>
<span><i class="gate"></i> gate opened: the leader begins the sentence</span>
<span><span class="leader hit">hit</span> the draft's most likely token is the same</span>
<span><span class="leader miss">miss</span> it is another</span>
<span><i class="handoff"></i> handoff: the draft goes on</span></p>
"""


class TokenLike(Protocol):
    @property
    def author(self) -> Role: ...
    @property
    def text(self) -> str: ...
    @property
    def sentence(self) -> int: ...
    @property
    def led(self) -> bool: ...
    @property
    def hit(self) -> bool | None: ...
    @property
    def hits(self) -> int: ...


def escaped(text: str) -> str:
    """Text for HTML, quotes included; control characters as their pictures, halves of surrogate pairs as U+FFFD."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), text)
    text = re.sub(r"[\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    return html.escape(text)


def example_html(tokens: Sequence[TokenLike]) -> str:
    """The tokens as spans of classes leader or draft, hit or miss; `i.gate` and `i.handoff` stand before theirs."""
    parts, place = [], 0
    before: TokenLike | None = None
    for token in tokens[:MOST_TOKENS]:
        opens = before is None or before.sentence != token.sentence
        place = 1 if opens else place + 1
        if opens and token.led:
            parts.append('<i class="gate" title="gate opened: the leader begins this sentence"></i>')
        elif not opens and before is not None and hands_over(before, token):
            parts.append(f'<i class="handoff" title="handoff: {before.hits} hits in a row"></i>')
        parts.append(_span(token, place))
        before = token
    left = len(tokens) - MOST_TOKENS
    more = f'<p class="note">{left} more tokens are not shown.</p>\n' if left > 0 else ""
    return f'{LEGEND}<div class="example">{"".join(parts)}</div>\n{more}'


def hands_over(before: TokenLike, token: TokenLike) -> bool:
    """Whether the sentence that both are in goes from the leader to the draft between them."""
    return token.led and before.author is Role.LEADER and token.author is Role.DRAFT


def _span(token: TokenLike, place: int) -> str:
    classes, says = [str(token.author)], [f"{token.author}, sentence {token.sentence + 1}, token {place}"]
    if token.hit is not None:
        classes.append("hit" if token.hit else "miss")
        says.append(f"hit, {token.hits} in a row" if token.hit else "miss")
    if not token.text:
        classes.append("empty")
        says.append("no characters of its own")
    return f'<span class="{" ".join(classes)}" title="{"; ".join(says)}">{escaped(token.text)}</span>'
