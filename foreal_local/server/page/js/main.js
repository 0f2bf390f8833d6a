/** Puts the page together: what each button and key does. */
import { ApiError, ServerGone, models, props, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { copy } from "./clipboard.js";
import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Follow } from "./scroll.js";
import { Settings } from "./settings.js";
import { Speech } from "./speech.js";
import { watchOverflow } from "./overflow.js";

const BACK = "The server is there.";
const NOT_KEPT =
  "This browser cannot keep the conversation: its storage is full, or switched off. A reload loses it.";
const $ = (id) => document.getElementById(id);
const message = $("message");
const settings = new Settings($("settings-form"), $("mode"));
const follow = new Follow($("to-end"));
const conversation = new Conversation();
const connection = new Connection((state) => {
  if (state === "ready") load(true);
  else
    say(
      { gone: "The server cannot be reached. Looking for it …", loading: "The server is loading its models …" }[
        state
      ],
    );
});
const parts = { conversation, settings, connection, follow, speech: new Speech($("spoken")) };
const chat = new Chat(parts, $("turns"), { changed: show, keyWanted: askKey, notKept: () => say(NOT_KEPT) });

function say(text) {
  $("status").textContent = text;
}

/** What can be done now. */
function show() {
  $("welcome").hidden = conversation.turns.length > 0;
  $("send").hidden = chat.isWriting;
  $("stop").hidden = !chat.isWriting;
  $("new").disabled = !conversation.turns.length;
  $("turns").classList.toggle("busy", chat.isWriting);
  grow();
}

function grow() {
  message.style.height = "auto";
  message.style.height = `${Math.min(message.scrollHeight + 2, window.innerHeight * 0.4)}px`;
  follow.follow();
}

/** Ask the server what it is. @param {boolean} isBack whether it was gone */
async function load(isBack = false) {
  try {
    const [name] = await models();
    chat.model = name;
    $("pair").textContent = name;
    document.title = `${name} · foreal`;
    const { default_generation_settings: values = {} } = await props();
    settings.showDefaults({ ...values.params, ...values.foreal });
    say(isBack ? BACK : "");
    setTimeout(() => $("status").textContent === BACK && say(""), 5000);
  } catch (error) {
    if (error instanceof ServerGone) connection.lost();
    else if (error instanceof ApiError && error.status === 503) connection.lost("loading");
    else if (error instanceof ApiError && error.status === 401) askKey();
    else say(error.message);
  }
}

let triedKey = false;

function askKey() {
  say("");
  if (triedKey) $("key-error").textContent = "The key is wrong. It is the one that foreal serve was started with.";
  if (!$("key").open) $("key").showModal();
}

async function send() {
  const text = message.value.trim();
  if (!text || chat.isWriting) return;
  if (settings.broken) {
    $("settings").showModal();
    settings.broken.reportValidity();
    return;
  }
  message.value = "";
  grow();
  await chat.ask(text);
}

const ACTIONS = {
  again: () => chat.regenerate(),
  "copy-answer": (button) => {
    const { content, reasoning } = button.closest(".turn").view.turn.answer;
    return copy(content || reasoning, button);
  },
  "copy-code": (button) => copy(button.closest("figure").querySelector("code").textContent, button),
  edit: () =>
    chat.lastView.change((text) => {
      message.focus();
      if (text !== null) chat.change(text);
    }),
};

$("turns").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) ACTIONS[button.dataset.action]?.(button);
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
message.addEventListener("input", grow);
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", () => {
  chat.stop();
  message.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chat.isWriting && !document.querySelector("dialog[open]")) chat.stop();
});
$("new").addEventListener("click", () => {
  chat.clear();
  show();
  message.focus();
});
$("open-settings").addEventListener("click", () => $("settings").showModal());
$("settings").addEventListener("click", (event) => {
  if (event.target === $("settings")) $("settings").close(); // beside the panel
});
$("clear-settings").addEventListener("click", () => settings.clear());
$("theme").value = window.theme.get();
$("theme").addEventListener("change", () => window.theme.set($("theme").value));
$("authors").checked = document.documentElement.classList.contains("authors");
$("authors").addEventListener("change", () => {
  document.documentElement.classList.toggle("authors", $("authors").checked);
  try {
    localStorage.setItem("foreal.authors", $("authors").checked ? "on" : "off");
  } catch {
    // switched off: it holds until the page is left
  }
});
$("key-form").addEventListener("submit", () => {
  triedKey = true;
  setKey($("key-input").value);
  $("key-input").value = "";
  load();
});

watchOverflow($("turns"));
show();
follow.toEnd();
message.focus();
load();
