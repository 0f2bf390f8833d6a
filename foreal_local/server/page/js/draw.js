/**
 * Tokens of Markdown to elements, with the leader's words marked.
 *
 * Nothing a model writes is ever parsed as HTML: every element is made here, by name, and every text is a text node.
 */
import { drawMaths } from "./maths.js";

const MAX_HEADING = 6;
const HEADINGS_BELOW = 2; // the page's own headings are of levels 1 and 2
const ELEMENTS = new Set([
  "p",
  "blockquote",
  "ul",
  "ol",
  "li",
  "hr",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
  "strong",
  "em",
  "s",
]);

/** An element with a class and what is inside it. */
export function element(tag, className = "", ...inside) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

/** The address, where it is one that a reader may open; else null. */
export function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address ?? "")) return null;
  try {
    return new URL(address).href;
  } catch {
    return null;
  }
}

/** Where the block ends that begins at a place of a list of tokens. */
function closingOf(tokens, start) {
  let depth = 0;
  for (let i = start; ; i++) {
    depth += tokens[i].nesting;
    if (depth === 0) return i;
  }
}

export class Drawing {
  /**
   * @param {string} source the text that was parsed
   * @param {number} base its offset in the whole text, which the authors are of
   * @param {Map<string, Element>} items of lists, as an earlier drawing of the same text made them; those that are as
   *   they were are used again
   */
  constructor(source, base, authors, items = new Map()) {
    this.base = base;
    this.authors = authors;
    this.earlier = items;
    this.items = new Map();
    this.lines = source.split("\n");
    this.starts = [0];
    for (const line of this.lines) this.starts.push(this.starts[this.starts.length - 1] + line.length + 1);
    this.row = { line: 0, from: 0 }; // of a table: the line that its cells are in, and how far they have come
  }

  /** The elements of a list of tokens. */
  draw(tokens) {
    const root = document.createDocumentFragment();
    const open = [root];
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i];
      const at = open[open.length - 1];
      if (token.nesting < 0) {
        open.pop();
      } else if (token.type === "list_item_open" && open.length === 2) {
        const end = closingOf(tokens, i);
        at.append(this.item(tokens.slice(i, end + 1)));
        i = end;
      } else if (token.nesting > 0) {
        const made = token.hidden ? at : this.opened(token);
        if (made !== at) at.append(token.type === "table_open" ? element("div", "wide", made) : made);
        open.push(made);
      } else {
        at.append(...this.leaf(token));
      }
    }
    return root;
  }

  /** An item of an outermost list; texts only grow, so that one of the same place and length is the same. */
  item(tokens) {
    const [first, last] = tokens[0].map.map((line) => this.base + this.starts[line]);
    const isTight = tokens.some((token) => token.hidden && token.level === tokens[0].level + 1);
    const key = `${first} ${last} ${isTight}`;
    let made = this.earlier.get(key);
    if (!made) {
      made = this.opened(tokens[0]);
      made.append(this.draw(tokens.slice(1, -1)));
    }
    this.items.set(key, made);
    return made;
  }

  opened(token) {
    if (token.type === "heading_open") {
      return element(`h${Math.min(MAX_HEADING, Number(token.tag[1]) + HEADINGS_BELOW)}`);
    }
    if (token.type === "link_open") return this.link(token.attrGet("href"), token.attrGet("title"));
    if (token.type === "tr_open") this.row = { line: token.map[0], from: 0 };
    const made = element(ELEMENTS.has(token.tag) ? token.tag : "span");
    if (token.tag === "ol" && token.attrGet("start") !== null) made.start = Number(token.attrGet("start"));
    const side = /text-align:(\w+)/.exec(token.attrGet("style") ?? "");
    if (side) made.className = `to-${side[1]}`;
    return made;
  }

  link(address, title) {
    const href = safeAddress(address);
    if (!href) return element("span");
    const made = element("a");
    made.href = href;
    made.target = "_blank";
    made.rel = "noopener noreferrer nofollow";
    if (title) made.title = title;
    return made;
  }

  leaf(token) {
    if (token.type === "inline") return [this.inline(token)];
    if (token.type === "fence" || token.type === "code_block") return [this.code(token)];
    if (token.type === "maths_block") return [this.formulaBlock(token)];
    return token.tag === "hr" ? [element("hr")] : [document.createTextNode(token.content)];
  }

  // ---------------------------------------------------------------- places
  /** For each line of a block's content, where it begins in the source. */
  places(content, map) {
    const lines = content.split("\n");
    const first = map[1] - lines.length; // counted from the end: link definitions before a paragraph are left out
    let offset = 0;
    return lines.map((text, i) => {
      const line = Math.max(first + i, map[0]);
      const place = { offset, from: this.starts[line] + this.column(text, line), length: text.length };
      offset += text.length + 1;
      return place;
    });
  }

  /** Where a text stands in a line; indentation may have been cut, or tabs in it widened. */
  column(text, line) {
    const found = (this.lines[line] ?? "").lastIndexOf(text);
    if (found >= 0) return found;
    const bare = text.trimStart();
    return Math.max(0, (this.lines[line] ?? "").lastIndexOf(bare) - (text.length - bare.length));
  }

  /** Whether a line is there, whole and empty. */
  isEmpty(line) {
    return line < this.lines.length - 1 && !this.lines[line].trim();
  }

  /**
   * A cell of a table has no lines of its own: it is searched for in its row, after the cell before it. A bar in it was
   * escaped, and so is one character longer in the source.
   */
  cell(content) {
    const raw = content.replaceAll("|", "\\|");
    const found = (this.lines[this.row.line] ?? "").indexOf(raw, this.row.from);
    let column = found >= 0 ? found : this.row.from;
    this.row.from = column + raw.length;
    let offset = 0;
    return content.split("|").map(({ length }) => {
      const place = { offset, from: this.starts[this.row.line] + column, length };
      offset += length + 1;
      column += length + 2;
      return place;
    });
  }

  // ---------------------------------------------------------------- inside a block
  inline(token) {
    const places = token.map ? this.places(token.content, token.map) : this.cell(token.content);
    const root = document.createDocumentFragment();
    const open = [root];
    for (const child of token.children) {
      const at = open[open.length - 1];
      if (child.nesting < 0) open.pop();
      else if (child.nesting > 0) {
        const made = this.opened(child);
        at.append(made);
        open.push(made);
      } else at.append(...this.inlineLeaf(child, token.content, places));
    }
    return root;
  }

  inlineLeaf(token, content, places) {
    if (token.type === "softbreak" || token.type === "hardbreak") return [element("br")];
    if (token.type === "maths") return [this.formula(token, places)];
    if (token.type === "image") return [this.image(token)];
    if (token.type === "text_special") return this.marked(token.content, places, token.from, token.markup.length);
    if (token.type === "code_inline") {
      const from = token.from + token.markup.length;
      const padded = content[from] === " " && token.content[0] !== " ";
      return [element("code", "", ...this.marked(token.content, places, from + (padded ? 1 : 0)))];
    }
    return this.marked(token.content, places, token.from);
  }

  /** An image would be fetched from elsewhere: a link to it stands in its place. */
  image(token) {
    const link = this.link(token.attrGet("src"), null);
    link.append(`[image: ${token.content || token.attrGet("src")}]`);
    return link;
  }

  formula(token, places) {
    const display = token.markup === "$$" || token.markup === "\\[";
    const made = drawMaths(token.content, { display, open: token.markup });
    const from = this.place(places, token.from);
    this.markAll(made, from, from + token.content.length + 2 * token.markup.length);
    return made;
  }

  formulaBlock(token) {
    const made =
      token.info === "open"
        ? element("pre", "tex", token.markup + token.content)
        : drawMaths(token.content, { display: true, open: token.markup });
    this.markAll(made, this.base + this.starts[token.map[0]], this.base + this.starts[token.map[1]] - 1);
    return made;
  }

  code(token) {
    const text = token.content.replace(/\n$/, "");
    const lines = text.split("\n");
    const first = token.map[0] + (token.type === "fence" ? 1 : 0);
    const made = element("code");
    lines.forEach((line, i) => {
      const from = this.starts[first + i] + this.column(line, first + i);
      made.append(
        ...this.marked(
          line + (i < lines.length - 1 ? "\n" : ""),
          [{ offset: 0, from, length: line.length + 1 }],
          0,
        ),
      );
    });
    const copy = element("button", "quiet", "Copy code");
    copy.type = "button";
    copy.dataset.action = "copy-code";
    const name = element("span", "", token.info.trim().split(/\s+/)[0]);
    return element("figure", "code", element("figcaption", "", name, copy), element("pre", "", made));
  }

  // ---------------------------------------------------------------- authors
  placeAt(places, offset) {
    return places.findLast((place) => place.offset <= offset) ?? places[0];
  }

  /** Where an offset in a block's content is in the whole text. */
  place(places, offset) {
    const at = this.placeAt(places, offset);
    return this.base + at.from + (offset - at.offset);
  }

  /**
   * Text as nodes, the leader's in spans.
   * @param {number|null} width characters of the source that the text stands for, where they are not its own
   */
  marked(text, places, offset, width = null) {
    if (width !== null) {
      const from = this.place(places, offset);
      return text ? [this.by(this.authors.of(from, from + width) === "leader" ? "leader" : "draft", text)] : [];
    }
    const nodes = [];
    for (let at = 0; at < text.length;) {
      const place = this.placeAt(places, offset + at);
      const rest = Math.max(1, Math.min(text.length - at, place.offset + place.length + 1 - (offset + at)));
      const from = this.base + place.from + (offset + at - place.offset);
      let done = 0;
      for (const run of this.authors.within(from, from + rest)) {
        nodes.push(this.by(run.author, text.slice(at + run.from - from, at + run.to - from)));
        done = run.to - from;
      }
      if (done < rest) nodes.push(this.by("draft", text.slice(at + done, at + rest)));
      at += rest;
    }
    return nodes;
  }

  /** The leader's words in a span, without the white space around them, which would be underlined. */
  by(author, text) {
    const words = author === "leader" ? text.trim() : "";
    if (!words) return document.createTextNode(text);
    const made = document.createDocumentFragment();
    const start = text.indexOf(words);
    made.append(text.slice(0, start), element("span", "leader", words), text.slice(start + words.length));
    return made;
  }

  /** A formula is drawn as a whole: it is marked as the leader's, or as written by both. */
  markAll(made, from, to) {
    const author = this.authors.of(from, to);
    if (author === "leader" || author === "both") made.classList.add(author);
    if (author === "both") made.title = "Written by both";
  }
}
