/** A question and its answer on the page. Knows what they look like, no server. */
import { Authors } from "./authors.js";
import { element } from "./draw.js";
import { drawFigures } from "./figures.js";
import { GrowingText } from "./text.js";

const TROUBLE = { stopped: "Stopped.", "cut off": "The page was left while this was written." };

function button(words, action) {
  const made = element("button", "quiet", words);
  made.type = "button";
  made.dataset.action = action;
  return made;
}

export class TurnView {
  /** @param {{onDrawn, onSettled}} told as in text.js */
  constructor(turn, number, told) {
    this.turn = turn;
    this.told = told;
    this.question = element("div", "question");
    this.question.dir = "auto";
    this.reasoned = element("details", "reasoning");
    this.answer = element("div", "prose");
    this.answer.dir = "auto";
    this.waiting = element("p", "waiting");
    this.waiting.setAttribute("aria-hidden", "true");
    this.trouble = element("p", "trouble");
    this.under = element("footer", "under");
    this.edit = button("Edit", "edit");
    this.asked = element("div", "asked", this.question, this.edit);
    const headings = ["Question", "Answer"].map((word) => element("h2", "unseen", `${word} ${number}`));
    this.root = element(
      "article",
      "turn",
      headings[0],
      this.asked,
      headings[1],
      this.reasoned,
      this.answer,
      this.waiting,
      this.trouble,
      this.under,
    );
    this.root.view = this;
    this.show();
  }

  /** Draw the whole turn, as it is kept. */
  show() {
    this.question.textContent = this.turn.question;
    this.begin();
    const { reasoning, content } = this.turn.answer;
    if (reasoning) this.grow("reasoning", reasoning);
    if (content) this.grow("content", content);
    for (const text of Object.values(this.texts)) text.drawNow();
    this.end();
  }

  /** Make the answer empty; what turn.answer gets from now on is drawn by `grow`. */
  begin() {
    for (const text of Object.values(this.texts ?? {})) text.cancel();
    const { by, reasonedBy } = this.turn.answer;
    this.texts = {};
    this.authors = { content: new Authors(by), reasoning: new Authors(reasonedBy) };
    this.answer.replaceChildren();
    this.reasoned.replaceChildren();
    this.reasoned.hidden = true;
    this.reasoned.open = false;
    this.under.replaceChildren();
    this.trouble.replaceChildren();
  }

  /** The answer is asked for: an earlier one stays until this one's first word. */
  wait() {
    this.root.classList.add("writing");
    this.root.setAttribute("aria-busy", "true");
    this.waiting.textContent = "reading the question";
    this.trouble.replaceChildren();
    this.under.replaceChildren();
  }

  /** More of the answer's "content" or "reasoning". */
  grow(part, text) {
    this.waiting.textContent = part === "reasoning" ? "thinking" : "writing";
    if (!this.texts[part]) this.texts[part] = this.opened(part);
    this.texts[part].add(text);
  }

  opened(part) {
    if (part === "content") {
      this.reasoned.open = false; // folded when the answer begins
      return new GrowingText(this.answer, this.authors.content, this.told);
    }
    const box = element("div", "prose");
    this.reasoned.replaceChildren(element("summary", "", "Reasoning"), box);
    this.reasoned.hidden = false;
    this.reasoned.open = this.turn.answer.state === "writing";
    return new GrowingText(box, this.authors.reasoning, { onDrawn: this.told.onDrawn });
  }

  /** The answer has its end, whatever it was. */
  end() {
    for (const text of Object.values(this.texts)) text.finish();
    const { content, reasoning, state, error, figures } = this.turn.answer;
    this.root.classList.remove("writing");
    this.root.removeAttribute("aria-busy");
    this.waiting.textContent = "";
    this.trouble.replaceChildren(
      ...(error ? [element("span", "error", error)] : TROUBLE[state] ? [TROUBLE[state]] : []),
    );
    this.trouble.classList.toggle("bad", Boolean(error));
    const failed = state !== "done" && state !== "stopped";
    const tools = element("div", "tools");
    if (content || reasoning) tools.append(button("Copy", "copy-answer"));
    tools.append(button(failed ? "Retry" : "Regenerate", "again"));
    this.under.replaceChildren(...(figures ? [drawFigures(figures)] : []), tools);
    this.told.onDrawn();
  }

  /** The question as a text to change; `done` gets the new one, or null. */
  change(done) {
    const area = element("textarea");
    area.value = this.turn.question;
    area.rows = Math.min(12, this.turn.question.split("\n").length + 1);
    area.setAttribute("aria-label", "Change the question");
    const send = element("button", "", "Ask again");
    send.type = "submit";
    const form = element(
      "form",
      "asked changing",
      area,
      element("div", "row", button("Cancel", "cancel-edit"), send),
    );
    const close = (text) => {
      form.replaceWith(this.asked);
      done(text);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (area.value.trim()) close(area.value.trim());
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close(null);
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === area) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    form.querySelector("[data-action=cancel-edit]").addEventListener("click", () => close(null));
    this.asked.replaceWith(form);
    area.focus();
  }
}
