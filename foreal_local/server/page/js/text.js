/**
 * One text that grows, drawn as Markdown while it does.
 *
 * Blocks that no further line can change are drawn once; only the last one is drawn again, at most once a frame, and
 * less often where drawing it takes long. Knows no server and no conversation.
 */
import { Drawing } from "./draw.js";
import { outermost, parse } from "./markdown.js";

const CLOSED_BY_EMPTY_LINE = new Set(["paragraph_open", "heading_open", "table_open", "hr"]);
const REST = 4; // of the time, at least three quarters stay free for everything else

/** What there is to read in a node: not its buttons. */
function wordsOf(node) {
  const copy = node.cloneNode(true);
  copy.querySelectorAll?.("button").forEach((button) => button.remove());
  return copy.textContent;
}

export class GrowingText {
  /**
   * @param {HTMLElement} box where it is drawn
   * @param {{onDrawn?: () => void, onSettled?: (text: string) => void}} told of drawings, of finished blocks
   */
  constructor(box, authors, { onDrawn = () => {}, onSettled = () => {} } = {}) {
    this.box = box;
    this.authors = authors;
    this.onDrawn = onDrawn;
    this.onSettled = onSettled;
    this.source = "";
    this.settled = 0; // up to here it is drawn once and for all
    this.env = {};
    this.live = []; // the nodes of what is not settled
    this.items = new Map(); // of the list among them, to be used again
    this.frame = 0; // what is asked for: a frame, or a timer
    this.timer = 0;
    this.free = 0; // when drawing may go on
  }

  /** More of the text; whoever wrote it is in the authors already. */
  add(text) {
    this.source += text.replaceAll("\r", " "); // of the same length, so that authors' places stay right
    this.later();
  }

  later() {
    if (this.frame || this.timer) return;
    // A hidden tab gets no frames, but its text is to be there when it is looked at.
    const wait = document.hidden ? 250 : this.free - performance.now();
    if (wait > 16) this.timer = setTimeout(() => this.drawNow(), wait);
    else this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.cancel();
    const start = performance.now();
    this.settle(this.source.lastIndexOf("\n") + 1);
    const tail = this.source.slice(this.settled);
    for (const node of this.live) node.remove();
    const drawing = new Drawing(tail, this.settled, this.authors, this.items);
    const drawn = drawing.draw(parse(tail, this.envOfLive()));
    this.items = drawing.items;
    this.live = [...drawn.childNodes];
    this.box.append(drawn);
    const end = performance.now();
    this.free = end + (end - start) * (REST - 1);
    this.onDrawn();
  }

  /** A line that is not whole may define a link that it does not define in the end. */
  envOfLive() {
    return this.env.references ? { references: { ...this.env.references } } : {};
  }

  /** Draw for good what no further line can change, of the whole lines up to `end`. */
  settle(end) {
    if (end <= this.settled) return;
    const text = this.source.slice(this.settled, end);
    const groups = outermost(parse(text, this.env));
    if (!groups.length) return;
    const drawing = new Drawing(text, this.settled, this.authors);
    const [last] = groups[groups.length - 1];
    const isClosed = CLOSED_BY_EMPTY_LINE.has(last.type) && drawing.isEmpty(last.map[1]);
    const done = isClosed ? groups : groups.slice(0, -1);
    if (!done.length) return;
    const drawn = drawing.draw(done.flat());
    this.onSettled([...drawn.childNodes].map(wordsOf).join("\n"));
    for (const node of this.live) node.remove();
    this.live = [];
    this.box.append(drawn);
    this.settled += isClosed ? end - this.settled : drawing.starts[last.map[0]];
  }

  /** The text has its end: draw what is still to be drawn, and all of it where a link was defined behind its use. */
  finish() {
    if (this.env.references && this.settled) {
      this.settled = 0;
      this.live = [];
      this.box.replaceChildren();
      this.drawNow();
    } else {
      if (this.frame || this.timer) this.drawNow();
      this.onSettled(this.live.map(wordsOf).join("\n"));
    }
  }

  cancel() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.frame = this.timer = 0;
  }
}
