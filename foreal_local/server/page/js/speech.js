/** What a screen reader is told: an answer block by block as each is finished, not token by token. */
export class Speech {
  /** @param {HTMLElement} region an aria-live region that nobody sees */
  constructor(region) {
    this.region = region;
  }

  begin() {
    this.region.replaceChildren();
    this.say("Answering.");
  }

  say(text) {
    if (!text.trim()) return;
    const line = document.createElement("p");
    line.textContent = text;
    this.region.append(line);
  }

  end({ state, error }) {
    const words = { done: "End of the answer.", stopped: "Stopped." };
    this.say(error ?? words[state] ?? "");
  }
}
