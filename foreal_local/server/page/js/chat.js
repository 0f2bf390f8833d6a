/** One chat: asks the server, and puts what comes into the conversation and onto the page. */
import { ApiError, ServerGone, chat } from "./api.js";
import { newAnswer } from "./conversation.js";
import { TurnView } from "./turn.js";

export class Chat {
  /**
   * @param {{conversation, settings, connection, follow, speech}} parts what it works with
   * @param {HTMLElement} box where the turns are
   * @param {{changed: () => void, keyWanted: () => void, notKept: () => void}} told when it begins or ends to write,
   *   when the server wants a key, and when the conversation cannot be kept
   */
  constructor(parts, box, told) {
    Object.assign(this, parts);
    this.box = box;
    this.told = told;
    this.model = null;
    this.abort = null;
    this.again = 0; // how often the last answer was asked for before
    this.showAll();
  }

  get isWriting() {
    return this.abort !== null;
  }

  showAll() {
    this.box.replaceChildren();
    for (const turn of this.conversation.turns) this.append(turn);
  }

  append(turn) {
    const number = this.box.children.length + 1;
    const told = {
      onDrawn: () => this.follow.follow(),
      onSettled: (text) => this.isWriting && this.speech.say(text),
    };
    const view = new TurnView(turn, number, told);
    this.box.append(view.root);
    return view;
  }

  get lastView() {
    return this.box.lastElementChild?.view ?? null;
  }

  ask(question) {
    this.again = 0;
    const view = this.append(this.conversation.ask(question));
    this.follow.toEnd();
    return this.write(view);
  }

  /** Ask for the last answer again; it stays until the new one begins. */
  regenerate() {
    this.again += 1;
    return this.write(this.lastView);
  }

  change(question) {
    const view = this.lastView;
    view.turn.question = question;
    view.turn.answer = newAnswer();
    view.show();
    this.again = 0;
    return this.write(view);
  }

  clear() {
    this.stop();
    this.conversation.clear();
    this.showAll();
  }

  stop() {
    this.abort?.abort();
  }

  async write(view) {
    const { turn } = view;
    const abort = new AbortController();
    this.stop();
    this.abort = abort;
    const answer = newAnswer();
    view.wait();
    this.speech.begin();
    this.told.changed();
    let failure = null;
    try {
      await this.read(view, answer, abort.signal);
      answer.state = "done";
    } catch (error) {
      failure = error;
    }
    if (turn.answer !== answer && (failure === null || turn.answer.state === "writing")) this.replace(view, answer);
    if (failure) this.fail(turn.answer, failure);
    view.end();
    this.speech.end(turn.answer);
    if (this.abort === abort) this.abort = null;
    if (!this.conversation.save()) this.told.notKept();
    this.told.changed();
    if (failure instanceof ApiError && failure.status === 401) this.told.keyWanted();
  }

  async read(view, answer, signal) {
    const messages = this.conversation.messages(this.settings.system);
    const request = { model: this.model, messages, ...this.settings.request(this.again) };
    for await (const chunk of chat(request, signal)) {
      const choice = chunk.choices?.[0];
      const { reasoning_content: reasoning, content } = choice?.delta ?? {};
      if ((reasoning || content) && view.turn.answer !== answer) this.replace(view, answer);
      const author = chunk.foreal?.author ?? "draft";
      if (reasoning) this.grow(view, "reasoning", author, reasoning);
      if (content) this.grow(view, "content", author, content);
      this.note(answer, chunk, choice);
    }
  }

  /** From here on the new answer is the turn's. */
  replace(view, answer) {
    view.turn.answer = answer;
    view.begin();
  }

  grow(view, part, author, text) {
    view.turn.answer[part] += text;
    view.authors[part].add(author, text.length);
    view.grow(part, text);
    this.conversation.saveSoon();
  }

  /** What the last chunks say of the whole answer. */
  note(answer, chunk, choice) {
    const { usage, timings } = chunk;
    const foreal = chunk.foreal && "leader_tokens" in chunk.foreal ? chunk.foreal : null;
    const finish = choice?.finish_reason;
    if (!usage && !timings && !foreal && !finish) return;
    const found = { finish, usage, timings, foreal };
    answer.figures ??= {};
    for (const name of Object.keys(found)) if (found[name]) answer.figures[name] = found[name];
    if (answer.figures.foreal) delete answer.figures.foreal.spans; // as the chunks' authors
  }

  fail(answer, error) {
    if (error.name === "AbortError") {
      if (answer.state === "writing") answer.state = "stopped";
      return;
    }
    answer.state = "failed";
    answer.error = error.message;
    if (error instanceof ServerGone) {
      answer.error += answer.content || answer.reasoning ? " The text so far is kept." : "";
      this.connection.lost();
    } else if (!(error instanceof ApiError)) {
      answer.error = `This page cannot read the server’s answer: ${error.message}`;
    }
  }
}
