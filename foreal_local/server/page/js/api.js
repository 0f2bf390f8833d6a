/**
 * The server's API: models, health, and answers as they are written. Knows no page.
 *
 * Addresses are relative to the page, so that it works behind a proxy that puts the server below a path.
 */
const KEY = "foreal.key";

/** What the server refused, or what went wrong while it answered. */
export class ApiError extends Error {
  constructor(message, status, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The server cannot be reached, or went away in the middle of an answer. */
export class ServerGone extends Error {}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerGone("The server cannot be reached.");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { message, code } = JSON.parse(text).error;
    return new ApiError(message, response.status, code);
  } catch {
    return new ApiError(`The server answered with status ${response.status}.`, response.status);
  }
}

/** The ids of the models. */
export async function models() {
  const { data } = await (await ask("v1/models")).json();
  return data.map((model) => model.id);
}

/** What the server says of itself; {} where it says nothing. */
export async function props() {
  try {
    return await (await ask("props")).json();
  } catch (error) {
    if (error instanceof ApiError && error.status !== 401) return {};
    throw error;
  }
}

/** "ready", "loading" or "gone". */
export async function health() {
  try {
    await ask("health");
    return "ready";
  } catch (error) {
    return error instanceof ApiError && error.status === 503 ? "loading" : "gone";
  }
}

/** The chunks of an answer, as they come. */
export async function* chat(request, signal) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const headers = { "Content-Type": "application/json" };
  const response = await ask("v1/chat/completions", { method: "POST", headers, body, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, response.status, chunk.error.code);
    yield chunk;
  }
  throw new ServerGone("The connection ended before the answer did.");
}

/** The data of server-sent events; comments are left out. */
async function* events(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerGone("The connection to the server broke.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
