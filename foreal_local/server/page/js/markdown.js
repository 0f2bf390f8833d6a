/**
 * Markdown to tokens that know where in the source their text stands.
 *
 * markdown-it says of blocks which lines they are, and of what is inside a line nothing. Here each token of a line gets
 * `from`, the offset in its block's content at which its text begins, so that authors can be marked exactly, whatever
 * Markdown makes of the text. Knows no authors and no screen.
 */
import MarkdownIt from "../vendor/markdown-it/markdown-it.js";
import { blockMaths, boxedResult, inlineMaths } from "./maths.js";

const md = new MarkdownIt("default", { html: false, linkify: false, typographer: false });

/** Notes where each token begins: rules push tokens, or add plain text to `pending`. */
class LocatedState extends md.inline.State {
  constructor(...given) {
    super(...given);
    this.ruleFrom = 0; // where the rule that runs now began
    this.pendingFrom = 0;
    this.last = null; // the last token that a rule pushed, and where that rule began
    this.lastRuleFrom = -1;
  }

  pushPending() {
    const token = super.pushPending();
    token.from = this.pendingFrom;
    return token;
  }

  push(type, tag, nesting) {
    const token = super.push(type, tag, nesting);
    const sameRule = this.lastRuleFrom === this.ruleFrom && nesting >= 0;
    token.from = sameRule ? this.last.from + this.last.content.length : this.ruleFrom;
    this.last = token;
    this.lastRuleFrom = this.ruleFrom;
    return token;
  }
}

md.inline.State = LocatedState;
md.inline.ruler.before("text", "located", (state, silent) => {
  if (!silent) {
    state.ruleFrom = state.pos;
    if (!state.pending) state.pendingFrom = state.pos;
  }
  return false;
});
// Both join neighbouring texts, whose places would be lost.
md.inline.ruler2.disable("fragments_join");
md.core.ruler.disable("text_join");
md.inline.ruler.before("escape", "maths", inlineMaths);
md.inline.ruler.before("escape", "boxed", boxedResult);
md.block.ruler.before("fence", "maths", blockMaths, { alt: ["paragraph", "reference", "blockquote", "list"] });

/** Tokens of a text; `env` keeps link definitions from one part of an answer to the next. */
export function parse(source, env) {
  return md.parse(source, env);
}

/** The tokens in groups, one for each outermost block. */
export function outermost(tokens) {
  const groups = [];
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) groups.push([]);
    groups[groups.length - 1].push(token);
    depth += token.nesting;
  }
  return groups;
}
