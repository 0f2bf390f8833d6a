/**
 * Mathematics in Markdown: $...$, $$...$$, \(...\), \[...\] and a bare \boxed{...}, drawn as MathML by temml.
 *
 * What temml cannot read, and what is still being written, stands there as TeX. Knows no authors.
 */
const CLOSING = { "": "", $: "$", $$: "$$", "\\(": "\\)", "\\[": "\\]" };

/** Where the closing mark of a formula stands that was opened before `at`; -1: nowhere. */
function closingAt(source, close, at, max) {
  let pos = source.indexOf(close, at);
  while (pos > 0 && source[pos - 1] === "\\" && close[0] === "$") pos = source.indexOf(close, pos + 1);
  if (pos < 0 || pos + close.length > max) return -1;
  // As pandoc: no space before a closing dollar, no digit after it; so that prices stay prices.
  const isPrice = close === "$" && (/\s/.test(source[pos - 1]) || /[0-9$]/.test(source[pos + 1] ?? ""));
  return isPrice ? -1 : pos;
}

function openingAt(source, pos) {
  const two = source.slice(pos, pos + 2);
  if (two in CLOSING) return two;
  return source[pos] === "$" && !/[\s$]/.test(source[pos + 1] ?? " ") ? "$" : null;
}

/** markdown-it's rule for formulas inside a line. */
export function inlineMaths(state, silent) {
  const open = openingAt(state.src, state.pos);
  if (!open) return false;
  const start = state.pos + open.length;
  const end = closingAt(state.src, CLOSING[open], start, state.posMax);
  if (end < 0 || !state.src.slice(start, end).trim()) return false;
  if (!silent) {
    const token = state.push("maths", "", 0);
    token.content = state.src.slice(start, end);
    token.markup = open;
  }
  state.pos = end + CLOSING[open].length;
  return true;
}

/** markdown-it's rule for \boxed{...} that nothing encloses, as models that were trained on problems end with. */
export function boxedResult(state, silent) {
  if (!state.src.startsWith("\\boxed{", state.pos)) return false;
  let depth = 0;
  for (let pos = state.pos + "\\boxed".length; pos < state.posMax; pos++) {
    if (state.src[pos] === "{") depth += 1;
    if (state.src[pos] === "}") depth -= 1;
    if (depth > 0) continue;
    if (!silent) state.push("maths", "", 0).content = state.src.slice(state.pos, pos + 1);
    state.pos = pos + 1;
    return true;
  }
  return false;
}

/** markdown-it's rule for formulas that stand alone, on any number of lines without an empty one. */
export function blockMaths(state, startLine, endLine, silent) {
  const start = state.bMarks[startLine] + state.tShift[startLine];
  const open = state.src.slice(start, start + 2);
  if ((open !== "$$" && open !== "\\[") || state.sCount[startLine] - state.blkIndent >= 4) return false;
  const close = CLOSING[open];
  let line = startLine;
  let text = state.src.slice(start + 2, state.eMarks[line]);
  while (!text.includes(close)) {
    line += 1;
    const ends = line >= endLine;
    if (ends && state.src.length > state.eMarks[line - 1] + 1) return false; // more text follows: it is no formula
    if (ends) break;
    if (state.isEmpty(line) || state.sCount[line] < state.blkIndent) return false;
    text += "\n" + state.getLines(line, line + 1, state.blkIndent, false);
  }
  const [content, after] = text.split(close);
  if (after?.trim() || text.split(close).length > 2) return false; // it goes on as a line with a formula in it
  if (silent) return true;
  const token = state.push("maths_block", "", 0);
  token.content = content;
  token.markup = open;
  token.info = after === undefined ? "open" : "";
  token.map = [startLine, Math.min(line + 1, endLine)];
  state.line = token.map[1];
  return true;
}

const MOST_DRAWN = 500;
const drawn = new Map(); // formulas that were drawn already: a block that grows is drawn again and again

/** The element of a formula: MathML, or its TeX where that cannot be read. */
export function drawMaths(tex, { display, open }) {
  const key = open + tex;
  if (!drawn.has(key)) {
    if (drawn.size >= MOST_DRAWN) drawn.clear();
    drawn.set(key, newFormula(tex, display, open));
  }
  return drawn.get(key).cloneNode(true);
}

function newFormula(tex, display, open) {
  const box = document.createElement("span");
  box.className = display ? "formula display wide" : "formula";
  const options = { displayMode: display, throwOnError: true, trust: false, maxSize: [60, 60], maxExpand: 500 };
  try {
    window.temml.render(tex, box, options);
  } catch {
    const code = document.createElement("code");
    code.className = "tex";
    code.textContent = open + tex + CLOSING[open];
    box.replaceChildren(code);
  }
  return box;
}
