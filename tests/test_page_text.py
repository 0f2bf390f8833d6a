"""The page's texts: Markdown, code and formulas, their authors' marks, and nothing that could be active."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from browser import ask, expect, leader_words
from page_server import ScriptedServer

WORDS = """w1 **w2 w3** *w4 **w5** w6* w7

# w8 w9 #

- w10 `w11 w12` w13
  - w14 [w15 w16](https://example.org/w "w") w17
    w18

  w19
- ~~w20 w21~~ &amp; w22 \\* w23

> w24 *w25
> w26* w27 &lt;w28

| w29 | **w30** w31 |
|:--|--:|
| w32 | w33 \\| w34 |

1. w35

   ```python
   w36 w37
       w38(w39)
   ```
2. w40

    w41 w42
\tw43

w44 w45
===

w46 \\(x_1\\) w47 __w48__ w49  \nw50 <w51> w52 a*w53 ***w54 w55*** w56 !w57 ![w58](x.png) 3 < w59

~~~
w60

w61
"""
TORTURE = """Intro with a #hashtag
#nothashtag and [ref] text

para
#
#tag

- one
- two

  more of two
      code in two

- three
text that is lazy

para
---
| a | b |
|---|---|
| 1 | $x|y$ |
not a row

$$
a
= b
$$

\\[
x - y
- z
\\]

\\[ never closed

1. a
1) b
10. c

***

``` not `a fence
```js
const a = 1; // **no** $x$

#
```
> quote
lazy
> - in it

Cost $5 and $10, but $a+b$ and $$c$$ and \\(d\\).

[ref]: https://example.org
End with [ref]
"""


def shown(page: Any) -> list[tuple[str, str]]:
    """Every word w1, w2 ... that the answer shows, with the author that it is marked with."""
    return page.evaluate(
        """() => {
          const walk = document.createTreeWalker(document.querySelector("article > .prose"), NodeFilter.SHOW_TEXT);
          const found = [];
          while (walk.nextNode()) {
            const author = walk.currentNode.parentElement.closest(".leader") ? "leader" : "draft";
            for (const word of walk.currentNode.data.match(/w\\d+/g) ?? []) found.push([word, author]);
          }
          return found;
        }"""
    )


@pytest.mark.parametrize("seed", range(3))
def test_authors_are_those_of_each_word_whatever_markdown_makes_of_it(
    seed: int, window: Any, scripted: ScriptedServer
) -> None:
    """Guards marks that slip: by markup that is not shown, escapes, entities, tables, indentation."""
    chance, page, answer = random.Random(seed), window.tab(), scripted.answer()
    authors: dict[str, str] = {}
    for piece in re.split(r"(w\d+)", WORDS):
        author = chance.choice(("leader", "draft"))
        if re.fullmatch(r"w\d+", piece):
            authors[piece] = author
        answer.write(author, piece)
    answer.end()
    ask(page, "mark them")
    expect(page.locator(".figures")).to_be_visible()
    assert dict(shown(page)) == authors | {"w58": dict(shown(page))["w58"]}  # an image is a link, and shows its source


def test_a_word_may_have_two_authors_and_characters_any_width(window: Any, scripted: ScriptedServer) -> None:
    """Guards offsets that count characters where JavaScript counts UTF-16 units, and marks that round to words."""
    page, answer = window.tab(), scripted.answer()
    answer.write("draft", "🍎🍎 hal").write("leader", "ves, naïve 🍐").write("draft", "🍐 **be").write(
        "leader", "low**"
    )
    answer.end()
    ask(page, "apples")
    expect(page.locator(".figures")).to_be_visible()
    assert leader_words(page) == ["ves, naïve 🍐", "low"]
    assert page.locator("article > .prose").inner_text() == "🍎🍎 halves, naïve 🍐🍐 below"


def test_a_text_that_grows_is_drawn_as_one_that_is_there_at_once(window: Any) -> None:
    """Guards blocks that are settled too early, and stay what they looked like when half of them was there."""
    page = window.tab()
    grown, whole = page.evaluate(
        """async (text) => {
          const { GrowingText } = await import("/js/text.js");
          const { Authors } = await import("/js/authors.js");
          const drawn = (pieces) => {
            const box = document.createElement("div");
            const growing = new GrowingText(box, new Authors([["leader", 0, 40], ["draft", 40, 5000]]));
            for (const piece of pieces) { growing.add(piece); growing.drawNow(); }
            growing.finish();
            return box.innerHTML;
          };
          return [drawn([...text]), drawn([text])];
        }""",
        TORTURE,
    )
    assert grown == whole


def test_finished_blocks_are_not_drawn_again(window: Any, scripted: ScriptedServer) -> None:
    """Guards a long answer that takes longer with each word."""
    page, answer = window.tab(), scripted.answer()
    ask(page, "go on")
    answer.write("leader", "The first.\n\nThe second.\n\n")
    expect(page.locator("article > .prose p")).to_have_count(2)
    page.evaluate("document.querySelector('article > .prose p').mine = true")
    for i in range(800):
        answer.write("draft" if i % 2 else "leader", f"Sentence {i} goes on for some ten tokens or so.\n\n")
    answer.write("draft", "Last.").end()
    expect(page.locator(".figures")).to_be_visible()
    assert page.locator("article > .prose p").count() == 803
    assert page.evaluate("document.querySelector('article > .prose p').mine") is True


ATTACKS = """<img src=x onerror="window.hacked=1"> <script>window.hacked=1</script>

<svg onload="window.hacked=1">

[a](javascript:window.hacked=1) [b](JaVaScRiPt:window.hacked=1) [c](data:text/html,<script>window.hacked=1</script>)
[d](vbscript:x) [e](//evil.example/x) [f](/v1/models) <javascript:window.hacked=1> ![g](https://evil.example/track.png)
![h](data:image/png;base64,AAAA) [i](https://good.example/) [j](&#106;avascript:window.hacked=1) [k](blob:x)

```"><img src=x onerror="window.hacked=1">
<img src=x onerror="window.hacked=1">
```

$\\href{javascript:window.hacked=1}{x}$ $\\includegraphics{https://evil.example/x.png}$ $\\style{color:red}{y}$

| <img src=x onerror="window.hacked=1"> | a |
|---|---|
| [l](javascript:x) | b |
"""


def test_nothing_that_a_model_writes_is_active(window: Any, scripted: ScriptedServer) -> None:
    """Guards scripts, addresses that run one, and images that tell another server what was asked."""
    page, answer = window.tab(), scripted.answer()
    outside: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(scripted.url) else outside.append(request.url))
    answer.reason("draft", ATTACKS).write("leader", ATTACKS).end()
    ask(page, ATTACKS)
    expect(page.locator(".figures")).to_be_visible()
    assert (
        page.locator("article").locator("script, img, svg, iframe, object, form, style, [onerror], [onload]").count()
        == 0
    )
    addresses = page.locator("article a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert set(addresses) == {"https://good.example/", "https://evil.example/track.png"}
    assert page.evaluate("window.hacked") is None
    assert outside == []
    assert page.locator("article > .prose").get_by_text("<script>").count() >= 1


def test_formulas_are_mathml_and_prices_are_prices(window: Any, scripted: ScriptedServer) -> None:
    """Guards TeX as Markdown (a_1 in italics), prices as formulas, and formulas that vanish when they are wrong."""
    page, answer = window.tab(), scripted.answer()
    ask(page, "sum")
    answer.write("leader", "$$\n\\sum_{i=1}^n a_i\n= ")
    expect(page.locator("pre.tex")).to_have_text("$$\n\\sum_{i=1}^n a_i\n= ")
    answer.write("draft", "b\n$$\n\n").write("leader", "It is \\(a_1 * b * c\\), $\\frac{1}{2}$ ")
    answer.write("draft", "and not $5 or $6, nor $\\frac{$.\n\n\\[ x \\]\n").write("draft", "\n\\boxed{1{5}}").end()
    expect(page.locator(".figures")).to_be_visible()
    assert page.locator("article math").count() == 5
    assert page.locator("article :is(em, pre)").count() == 0
    assert page.locator("article code").all_inner_texts() == ["$\\frac{$"]
    assert page.locator("article").get_by_text("and not $5 or $6, nor").count() == 1
    kinds = page.locator(".formula").evaluate_all("all => all.map((each) => each.className)")
    assert kinds == ["formula display wide both", *2 * ["formula leader"], "formula", "formula display wide", "formula"]


def test_code_is_copied_without_what_is_around_it(window: Any, scripted: ScriptedServer) -> None:
    """Guards copies with marks, buttons or an empty line."""
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, answer = window.tab(), scripted.answer()
    text = "Look:\n\n```py\ndef f():\n\n    return '<b>'\n```\n"
    answer.write("leader", text[:20]).write("draft", text[20:]).end()
    ask(page, "code")
    page.click("text=Copy code")
    expect(page.locator("figcaption button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "def f():\n\n    return '<b>'"
    page.click("[data-action=copy-answer]")
    expect(page.locator(".tools")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == text
    expect(page.locator("figcaption button")).to_have_text("Copy code")


def test_the_marks_can_be_switched_off(window: Any, scripted: ScriptedServer) -> None:
    """Guards marks that nobody gets rid of, and a switch that is forgotten."""
    page, answer = window.tab(), scripted.answer()
    answer.write("leader", "Mine. ").write("draft", "Yours.").end()
    ask(page, "whose")
    word = page.locator("article > .prose .leader")
    expect(word).to_have_css("text-decoration-line", "underline")
    expect(word).to_have_css("color", "rgb(0, 95, 175)")
    page.uncheck("#authors")
    expect(word).to_have_css("text-decoration-line", "none")
    page.reload()
    expect(page.locator("#authors")).not_to_be_checked()
    expect(word).to_have_css("color", "rgb(29, 31, 33)")
