/**
 * The conversation: questions and their answers, kept in this tab's sessionStorage. Knows no server and no screen.
 *
 * A turn is {question, answer}; an answer is
 *   content, reasoning: the texts
 *   by, reasonedBy: who wrote them, as runs of authors.js
 *   state: "writing", "done", "stopped", "failed" or "cut off" (the page was left while it was written)
 *   error: what went wrong, or null
 *   figures: what the server's last chunks say of it, or null
 */
const KEY = "foreal.conversation";

export function newAnswer() {
  return { content: "", reasoning: "", by: [], reasonedBy: [], state: "writing", error: null, figures: null };
}

export class Conversation {
  constructor() {
    this.turns = [];
    this.timer = 0;
    try {
      this.turns = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    } catch {
      sessionStorage.removeItem(KEY);
    }
    for (const { answer } of this.turns) if (answer.state === "writing") answer.state = "cut off";
    this.isLeft = false; // an answer breaks off when the page is left, which is not to be kept as a failure
    window.addEventListener("pagehide", () => {
      this.save();
      this.isLeft = true;
    });
    window.addEventListener("pageshow", () => (this.isLeft = false));
  }

  get last() {
    return this.turns[this.turns.length - 1] ?? null;
  }

  ask(question) {
    this.turns.push({ question, answer: newAnswer() });
    return this.last;
  }

  clear() {
    this.turns = [];
    this.save();
  }

  /** The messages up to the last question, as the API wants them. */
  messages(system) {
    const messages = system ? [{ role: "system", content: system }] : [];
    this.turns.forEach(({ question, answer }, i) => {
      messages.push({ role: "user", content: question });
      if (i < this.turns.length - 1) messages.push({ role: "assistant", content: answer.content });
    });
    return messages;
  }

  /** Returns whether it could be kept. */
  save() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.isLeft) return true;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.turns));
      return true;
    } catch {
      return false; // the browser's storage is full, or switched off
    }
  }

  /** Save within a second, however often it is asked for. */
  saveSoon() {
    if (!this.timer) this.timer = setTimeout(() => this.save(), 1000);
  }
}
