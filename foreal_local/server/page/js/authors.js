/** Who wrote which characters of a text. Knows offsets (of JavaScript's strings), no text and no screen. */
export class Authors {
  /** @param {Array<[string, number, number]>} runs author, from, to, in the order of the text */
  constructor(runs = []) {
    this.runs = runs;
  }

  get length() {
    return this.runs.length ? this.runs[this.runs.length - 1][2] : 0;
  }

  /** The next `length` characters are this author's. */
  add(author, length) {
    if (!length) return;
    const last = this.runs[this.runs.length - 1];
    if (last && last[0] === author) last[2] += length;
    else this.runs.push([author, this.length, this.length + length]);
  }

  /** The runs of a range, cut to it: [{author, from, to}]. */
  within(from, to) {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.runs[middle][2] <= from) low = middle + 1;
      else high = middle;
    }
    const found = [];
    for (let i = low; i < this.runs.length && this.runs[i][1] < to; i++) {
      const [author, start, end] = this.runs[i];
      found.push({ author, from: Math.max(from, start), to: Math.min(to, end) });
    }
    return found;
  }

  /** "leader", "draft", "both", or null where nobody is known. */
  of(from, to) {
    const authors = new Set(this.within(from, to).map((run) => run.author));
    return authors.size > 1 ? "both" : ([...authors][0] ?? null);
  }
}
