/** Keeps the end of the page in view, but only while the reader is there. */
const NEAR = 8; // pixels

export class Follow {
  /** @param {HTMLButtonElement} button goes to the end; shown while the reader is elsewhere */
  constructor(button) {
    this.button = button;
    this.atEnd = true;
    window.addEventListener("scroll", () => this.look(), { passive: true });
    window.addEventListener("resize", () => this.follow());
    button.addEventListener("click", () => this.toEnd());
  }

  look() {
    const root = document.documentElement;
    this.atEnd = root.scrollHeight - root.clientHeight - root.scrollTop <= NEAR;
    this.button.hidden = this.atEnd;
  }

  /** The page has grown. */
  follow() {
    if (this.atEnd) this.toEnd();
    else this.look();
  }

  toEnd() {
    this.atEnd = true;
    this.button.hidden = true;
    window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  }
}
