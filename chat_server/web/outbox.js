/** The unsent messages: of this room below the log, of other rooms behind a button. */

import { t } from "./language.js";
import { Unsent } from "./storage.js";
import { textNodes } from "./text-view.js";
import { element } from "./text.js";

export class Outbox {
  #texts;
  #list;
  #composer;
  #elsewhere;
  #retry;
  #open;
  #user = null;
  #room = null;
  #nodes = new Map();

  /**
   * @param {Texts} options.texts keeps the messages.
   * @param {Element} options.list shows the messages of this room.
   * @param {Element} options.composer gets the focus when no message has a button any more.
   * @param {Element} options.elsewhere shows the other rooms with unsent messages.
   * @param {function} options.retry called with a message to send again.
   * @param {function} options.open called with a room to show.
   */
  constructor({ texts, list, composer, elsewhere, retry, open }) {
    this.#texts = texts;
    this.#list = list;
    this.#composer = composer;
    this.#elsewhere = elsewhere;
    this.#retry = retry;
    this.#open = open;
  }

  /** Show a user's unsent messages in a room. */
  show(user, room) {
    this.#user = user;
    this.#room = room;
    this.#nodes.clear();
    this.#list.replaceChildren();
    for (const message of this.#here()) {
      // The message's event is in history, or comes with the next events.
      if (message.seq !== null) this.#texts.remove(message);
      else this.#render(message);
    }
    this.#showElsewhere();
  }

  /** Take a new message of this room; returns null without space for another one. */
  add(text) {
    if (!this.#texts.hasSpace(text)) return null;
    const message = new Unsent(this.#user, this.#room, text);
    this.update(message, "sending", t("Sending…"));
    return message;
  }

  /** Whether a message still waits, and was not deleted meanwhile. */
  has(message) {
    return this.#texts.has(message);
  }

  update(message, state, note) {
    Object.assign(message, { state, note });
    this.#texts.put(message);
    this.#render(message);
    this.#showElsewhere();
  }

  /** Note that a message is stored; a message of this room stays until its event comes. */
  sent(message, seq, awaited) {
    message.seq = seq;
    if (!awaited || !this.#nodes.has(message)) this.remove(message);
  }

  remove(message) {
    this.#texts.remove(message);
    const shown = this.#nodes.get(message);
    if (shown) this.#replace(shown, []);
    this.#nodes.delete(message);
    this.#showElsewhere();
  }

  /** Remove the messages of this room whose events have come. */
  settleUpTo(seq) {
    for (const message of this.#nodes.keys()) {
      if (message.seq !== null && message.seq <= seq) this.remove(message);
    }
  }

  #here() {
    if (this.#user === null) return [];
    return this.#texts.unsent(this.#user).filter(({ room }) => room === this.#room);
  }

  #render(message) {
    if (message.user !== this.#user || message.room !== this.#room) return;
    const { state, text, note } = message;
    const shown = this.#nodes.get(message);
    if (state === "sending" && shown?.classList.contains("pending")) {
      shown.querySelector(".note").textContent = note;
      return;
    }
    const node = element("li", `message own ${state === "sending" ? "pending" : "failed"}`);
    const body = element("div", "body");
    const explanation = element("p", "note", note);
    body.append(...textNodes(text), explanation);
    node.append(body);
    if (state !== "sending") explanation.append(" ", ...this.#choices(message));
    if (shown) this.#replace(shown, [node]);
    else this.#list.append(node);
    this.#nodes.set(message, node);
  }

  /** Replace a node; the focus moves to the nearest similar button. */
  #replace(shown, nodes) {
    const chosen = [...shown.querySelectorAll("button")].indexOf(document.activeElement);
    const rows = [...this.#list.children];
    const index = rows.indexOf(shown);
    shown.replaceWith(...nodes);
    if (chosen < 0) return;
    const near = [...nodes, ...rows.slice(index + 1), ...rows.slice(0, index).reverse()];
    const buttons = near.map((row) => row.querySelectorAll("button")[chosen]);
    (buttons.find(Boolean) ?? this.#composer).focus();
  }

  #choices(message) {
    const unsure = message.state === "unsure";
    const again = element("button", "quiet", unsure ? t("Send again") : t("Try again"));
    const drop = element("button", "quiet", unsure ? t("Discard") : t("Delete"));
    again.type = drop.type = "button";
    again.addEventListener("click", () => this.#retry(message));
    drop.addEventListener("click", () => this.remove(message));
    return [again, " ", drop];
  }

  #showElsewhere() {
    const counts = new Map();
    for (const { room, seq } of this.#user === null ? [] : this.#texts.unsent(this.#user)) {
      if (room !== this.#room && seq === null) counts.set(room, (counts.get(room) ?? 0) + 1);
    }
    const labels = [...counts].map(([room, count]) => [room, t("{count} not sent in #{room}", { count, room })]);
    const shown = [...this.#elsewhere.children].map((button) => button.textContent);
    if (shown.join("\n") === labels.map(([, label]) => label).join("\n")) return;
    this.#elsewhere.replaceChildren(...labels.map(([room, label]) => {
      const button = element("button", "quiet", label);
      button.type = "button";
      button.addEventListener("click", () => this.#open(room));
      return button;
    }));
  }
}
