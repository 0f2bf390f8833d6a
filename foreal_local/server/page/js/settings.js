/**
 * The settings of answers: the form in index.html, kept in localStorage. An empty field is the server's own value, and
 * is not sent.
 *
 * The form is the table of settings: a field's name is the API's, data-of says whether it belongs into the object
 * "foreal", data-modes in which modes it means something, data-review with which review.
 */
const KEY = "foreal.settings";

export class Settings {
  /** @param {HTMLFormElement} form the panel @param {HTMLSelectElement} mode the choice of who writes, outside of it */
  constructor(form, mode) {
    this.form = form;
    this.mode = mode;
    this.restore();
    this.show();
    const changed = () => {
      this.show();
      this.save();
    };
    form.addEventListener("input", changed);
    mode.addEventListener("change", changed);
  }

  get fields() {
    return [...this.form.querySelectorAll("input[name], select[name], textarea[name]"), this.mode];
  }

  restore() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    } catch {
      localStorage.removeItem(KEY);
    }
    for (const field of this.fields) {
      field.value = kept[field.name] ?? "";
      if (field.selectedIndex === -1) field.value = ""; // a choice that there is no more
    }
  }

  save() {
    const kept = {};
    for (const field of this.fields) if (field.value !== "" && field.validity.valid) kept[field.name] = field.value;
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // switched off, or full: they hold until the page is left
    }
  }

  /** Fields that mean nothing with the others' values are shown as such. */
  show() {
    const review = this.form.elements.review.value;
    for (const field of this.fields) {
      const { modes, review: ofReview } = field.dataset;
      const idle =
        (modes && this.mode.value && !modes.split(" ").includes(this.mode.value)) ||
        (ofReview && review && review !== ofReview);
      field.disabled = Boolean(idle);
      field.setAttribute("aria-invalid", String(!field.validity.valid));
    }
  }

  /** Show the server's own values where a field is empty. */
  showDefaults(values) {
    for (const field of this.fields) {
      const value = values[field.name];
      if (value === undefined || value === null) continue;
      if (field.tagName === "SELECT") field.options[0].textContent = `${value} (the server’s)`;
      else if (field.tagName === "INPUT") field.placeholder = String(value);
    }
  }

  clear() {
    for (const field of this.fields) field.value = "";
    this.show();
    this.save();
  }

  /** The first field whose value cannot be used, or null. */
  get broken() {
    return this.fields.find((field) => !field.disabled && !field.validity.valid) ?? null;
  }

  get system() {
    return this.form.elements.system.value.trim();
  }

  /** What of a request they are. @param {number} again how often this answer was asked for before: a seed of its own */
  request(again = 0) {
    const request = { foreal: {} };
    for (const field of this.fields) {
      if (field.value === "" || field.disabled || field.name === "system") continue;
      const value = field.type === "number" ? Number(field.value) : field.value;
      if (field.dataset.of === "foreal") request.foreal[field.name] = value;
      else request[field.name] = field.name === "seed" ? value + again : value;
    }
    return request;
  }
}
