/** What a screen reader is told: an answer block by block as each is finished, not token by token. */
const MOST_LINES = 5; // that are kept: what is spoken stands on the page, too, where searching shall find it once
const KEPT = 20_000; // milliseconds

export class Speech {
  /** @param {HTMLElement} region an aria-live region that nobody sees */
  constructor(region) {
    this.region = region;
    this.timer = 0;
  }

  begin() {
    clearTimeout(this.timer);
    this.region.replaceChildren();
    this.say("Answering.");
  }

  say(text) {
    if (!text.trim()) return;
    const line = document.createElement("p");
    line.textContent = text;
    this.region.append(line);
    if (this.region.children.length > MOST_LINES) this.region.firstChild.remove();
  }

  end({ state, error }) {
    const words = { done: "End of the answer.", stopped: "Stopped." };
    this.say(error ?? words[state] ?? "");
    this.timer = setTimeout(() => this.region.replaceChildren(), KEPT);
  }
}
