/** Whether the server is there: asked again and again once it is not, and not while it is. */
import { health } from "./api.js";

const FIRST = 500; // milliseconds
const LONGEST = 5000;

export class Connection {
  /** @param {(state: "ready"|"loading"|"gone") => void} changed told of each change */
  constructor(changed) {
    this.changed = changed;
    this.state = "ready";
    this.timer = 0;
    this.wait = FIRST;
    const now = () => {
      if (this.timer) this.look();
    };
    window.addEventListener("online", now);
    document.addEventListener("visibilitychange", now);
  }

  /** The server could not be reached, or is not ready: look for it until it is. */
  lost(state = "gone") {
    this.wait = FIRST;
    this.tell(state);
    this.again();
  }

  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), this.wait);
    this.wait = Math.min(LONGEST, 1.5 * this.wait);
  }

  async look() {
    clearTimeout(this.timer);
    const state = await health();
    this.timer = 0;
    if (state !== "ready") this.again();
    this.tell(state);
  }

  tell(state) {
    if (state === this.state) return;
    this.state = state;
    this.changed(state);
  }
}
