/** The field to write in: its keys, its size, and the draft that it keeps for each room. */

import { Completion } from "./completion.js";
import { showText } from "./status.js";
import { isolated } from "./text.js";

const READ_ONLY = "You may only read here";
const FULL = "Too many messages are not sent yet. This one stays here.";

export class Composer {
  #field;
  #error;
  #texts;
  #user = null;
  #room = null;

  /**
   * @param {HTMLFormElement} options.form
   * @param {HTMLTextAreaElement} options.field
   * @param {Element} options.error says why a text stays in the field.
   * @param {Texts} options.texts what keeps the drafts.
   * @param {Element} options.proposals shows how a word may be completed.
   * @param {function[]} options.sources what proposes it, as for `Completion`.
   * @param {function} options.send called with a text; returns whether it was taken.
   * @param {function} options.onTyping called when the user writes.
   */
  constructor({ form, field, error, texts, proposals, sources, send, onTyping }) {
    this.#field = field;
    this.#error = error;
    this.#texts = texts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(send);
    });
    new Completion(field, proposals, sources);
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    field.addEventListener("input", () => {
      this.#changed();
      if (field.value.trim()) onTyping();
    });
  }

  /** Say under which name one writes; null if one may not write here. */
  nameAuthor(name) {
    this.#field.placeholder = name === null ? READ_ONLY : `Write a message as ${isolated(name)}`;
  }

  /** Show what a user has begun to write in a room; null for nobody. */
  show(user, room) {
    this.#user = user;
    this.#room = room;
    showText(this.#error, "");
    this.#field.value = user === null ? "" : this.#texts.draft(user, room);
    this.#fit();
  }

  focus() {
    this.#field.focus();
  }

  #submit(send) {
    const text = this.#field.value.trim();
    if (!text) return;
    if (!send(text)) {
      showText(this.#error, FULL);
      return;
    }
    this.#field.value = "";
    this.#changed();
  }

  #changed() {
    showText(this.#error, "");
    this.#texts.setDraft(this.#user, this.#room, this.#field.value);
    this.#fit();
  }

  /** Let the field grow with what is written, where CSS alone does not. */
  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}
