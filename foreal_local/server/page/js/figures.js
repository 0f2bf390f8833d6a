/** The line of figures under an answer, from the server's last chunks. */
import { element } from "./draw.js";

const whole = new Intl.NumberFormat("en");
const FINISH = { length: "cut off: its most tokens, or a full context", content_filter: "cut off" };

function seconds(value) {
  return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`;
}

function count(n, one, many = `${one}s`) {
  return `${whole.format(n)} ${n === 1 ? one : many}`;
}

/** Both authors' tokens, with a bar of their shares. */
function byAuthor({ leader_tokens: leader, draft_tokens: draft }) {
  const all = leader + draft;
  if (!all) return null;
  const share = (100 * leader) / all;
  const bar = element("span", "share");
  bar.append(element("span", "share-leader"));
  bar.firstChild.style.width = `${share}%`;
  const words = `leader ${whole.format(leader)} (${share.toFixed(0)} %), draft ${whole.format(draft)}`;
  return element("span", "", bar, words);
}

function time(foreal) {
  if (typeof foreal.seconds !== "number") return null;
  const alone = foreal.leader_alone;
  if (!alone?.seconds) return seconds(foreal.seconds);
  const share = ((100 * foreal.seconds) / alone.seconds).toFixed(0);
  return `${seconds(foreal.seconds)}, ${share} % of the leader alone (${alone.how})`;
}

function work(foreal) {
  const parts = [];
  if (foreal.sentences && foreal.led && foreal.draft_tokens)
    parts.push(`${whole.format(foreal.led)} of ${count(foreal.sentences, "sentence")} led`);
  if (foreal.handoffs) parts.push(count(foreal.handoffs, "handoff"));
  if (foreal.reviewed)
    parts.push(`${whole.format(foreal.reviewed)} reviewed, ${whole.format(foreal.rewritten ?? 0)} rewritten`);
  if (foreal.calls_back) parts.push(count(foreal.calls_back, "call back", "calls back"));
  return parts;
}

/** @param {{finish, usage, timings, foreal}} figures what the last chunks said */
export function drawFigures({ finish, usage, timings, foreal }) {
  const tokens = usage?.completion_tokens ?? timings?.predicted_n;
  const parts = [FINISH[finish], foreal && time(foreal), tokens !== undefined && count(tokens, "token")];
  if (foreal) parts.push(byAuthor(foreal));
  if (timings?.predicted_ms > 0)
    parts.push(`${((1000 * timings.predicted_n) / timings.predicted_ms).toFixed(0)} tokens/s`);
  if (foreal) parts.push(...work(foreal));
  const list = element("ul", "figures");
  list.setAttribute("aria-label", "Figures of this answer");
  for (const part of parts) if (part) list.append(element("li", "", part));
  return list;
}
