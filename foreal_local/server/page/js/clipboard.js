/** Copying, also where the page came over plain http from another computer, and browsers have no clipboard for it. */
export async function copy(text, button) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copyBySelection(text);
  }
  const words = button.textContent;
  button.textContent = copied ? "Copied" : "Not copied";
  button.disabled = true; // keeps its words from being taken for the button's own
  setTimeout(() => {
    button.textContent = words;
    button.disabled = false;
  }, 1500);
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}
