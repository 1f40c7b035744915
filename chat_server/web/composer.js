/** The field to write in: its keys, its size, and the draft that it keeps for each room. */

import { Completion } from "./completion.js";
import { refusal } from "./changes.js";
import { Edits } from "./edits.js";
import { t } from "./language.js";
import { showText } from "./status.js";
import { isolated } from "./text.js";

const READ_ONLY = t("You may only read here");
const EDITING = t("Save or cancel first what you are editing.");
const GONE = t("The message that you were editing is not there any more. What you wrote is a draft now.");
const FULL = t("Too many messages are not sent yet. This one stays here.");

export class Composer {
  #field;
  #error;
  #texts;
  #user = null;
  #room = null;
  /** The message that is written anew, `{seq, epoch, data}`, or null. */
  #edit = null;
  #edits;
  #editing;
  #onEdit;

  /**
   * @param {HTMLFormElement} options.form
   * @param {HTMLTextAreaElement} options.field
   * @param {Element} options.error says why a text stays in the field.
   * @param {Texts} options.texts what keeps the drafts.
   * @param {Element} options.proposals shows how a word may be completed.
   * @param {function[]} options.sources what proposes it, as for `Completion`.
   * @param {function} options.send called with a text; returns whether it was taken.
   * @param {Element} options.editing is shown, with a button that ends it, while a message is written anew.
   * @param {function} options.onEdit called with the room and what a message shall be, `{seq, epoch, data}`;
   *   resolves when that is stored.
   * @param {function} options.lastEdit returns what Arrow-Up writes anew, or null.
   * @param {function} options.onTyping called when the user writes.
   */
  constructor({ form, field, error, texts, proposals, sources, send, editing, onEdit, lastEdit, onTyping }) {
    this.#field = field;
    this.#error = error;
    this.#texts = texts;
    this.#edits = new Edits(texts);
    this.#editing = editing;
    this.#onEdit = onEdit;
    editing.querySelector("button").addEventListener("click", () => this.#leave());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(send);
    });
    new Completion(field, proposals, sources);
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowUp" && field.value === "" && !event.isComposing) {
        const edit = lastEdit();
        if (edit) event.preventDefault();
        if (edit) this.edit(edit);
      }
      if (event.key === "Escape" && this.#edit) this.#leave();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    field.addEventListener("input", () => {
      this.#changed();
      if (field.value.trim()) onTyping();
    });
  }

  /** Say under which name one writes; null if one may not write here, and perhaps not read either. */
  nameAuthor(name, mayRead) {
    const denied = mayRead ? READ_ONLY : t("You are not allowed to write here.");
    this.#field.placeholder = name === null ? denied : t("Write a message as {name}", { name: isolated(name) });
  }

  /** Show what a user has begun to write in a room; null for nobody. */
  show(user, room) {
    this.#user = user;
    this.#room = room;
    showText(this.#error, "");
    this.#resumeEdit();
  }

  /** Go on with a message that is being written anew, if one is given with that, or with what is not sent yet. */
  #resumeEdit(seq) {
    this.#edit = this.#user === null ? null : this.#edits.open(this.#user, this.#room, seq);
    this.#fill();
  }

  /** Write a message anew, `{seq, epoch, data}`, with what is written so far kept for later. */
  edit(edit) {
    if (this.#isEditing()) return;
    showText(this.#error, "");
    this.#edit = this.#edits.open(this.#user, this.#room, edit.seq) ?? { ...edit };
    this.#keep();
    this.#fill();
    this.focus();
  }

  /** Note that a message is gone: what it was to say becomes a draft if it is being written anew. */
  deleted(room, seq) {
    const edit = room === this.#room ? this.#edits.open(this.#user, room, seq) : null;
    if (edit === null) return;
    const { text } = edit.data;
    const draft = this.#texts.draft(this.#user, room);
    this.#texts.setDraft(this.#user, room, draft.trim() ? `${draft}\n\n${text}` : text);
    this.#edits.drop(this.#user, room, seq);
    const { selectionStart, selectionEnd } = this.#field;
    if (this.#edit?.seq === seq) {
      this.#resumeEdit();
    } else if (this.#edit === null) {
      this.#fill();
      // What is being written stands above it.
      this.#field.setSelectionRange(selectionStart, selectionEnd);
    }
    showText(this.#error, GONE);
  }

  /** Begin an answer with a quote, before what is written so far. */
  quote(text) {
    if (this.#isEditing()) return;
    this.#field.setRangeText(text, 0, 0, "end");
    this.#changed();
    this.focus();
  }

  focus() {
    this.#field.focus();
  }

  /** Go on with writing; where that opens a keyboard over the messages only if it is open already. */
  resume() {
    if (!matchMedia("(hover: none)").matches || document.activeElement?.matches("input")) this.focus();
  }

  #submit(send) {
    const text = this.#field.value.trim();
    if (!text) return;
    if (this.#edit) {
      this.#save(this.#edit);
      return;
    }
    if (!send(text)) {
      showText(this.#error, FULL);
      return;
    }
    this.#field.value = "";
    this.#changed();
  }

  /** Whether a message is being written anew, whose text nothing may replace; say so then. */
  #isEditing() {
    if (this.#edit) showText(this.#error, EDITING);
    this.focus();
    return this.#edit !== null;
  }

  /** Let a message say what is written; the message shows how that goes, and one writes on. */
  async #save({ seq, epoch, data }) {
    const [user, room] = [this.#user, this.#room];
    const edit = { seq, epoch, data: { ...data, text: data.text.trim() } };
    const saved = this.#edits.save(user, room, edit, () => this.#onEdit(room, edit));
    showText(this.#error, "");
    this.#resumeEdit();
    try {
      await saved;
    } catch (error) {
      if (user !== this.#user || room !== this.#room) return;
      if (["gone", "not_found"].includes(error.code)) return this.deleted(room, seq);
      showText(this.#error, refusal(error, t("Not saved.")));
      // What is being written is not taken from under the hands.
      if (this.#edit === null && this.#field.value === "") this.#resumeEdit(seq);
    }
  }

  #changed() {
    showText(this.#error, "");
    if (this.#edit) this.#edit.data = { ...this.#edit.data, text: this.#field.value };
    this.#keep();
    this.#fit();
  }

  #keep() {
    if (this.#edit) this.#edits.keep(this.#user, this.#room, this.#edit);
    else this.#texts.setDraft(this.#user, this.#room, this.#field.value);
  }

  /** Go back to what is not sent yet. */
  #leave() {
    this.#edits.drop(this.#user, this.#room, this.#edit.seq);
    showText(this.#error, "");
    this.#resumeEdit();
    this.focus();
  }

  /** Show what is being written. */
  #fill() {
    this.#editing.hidden = this.#edit === null;
    const isNobody = this.#user === null;
    this.#field.value = isNobody ? "" : this.#edit?.data.text ?? this.#texts.draft(this.#user, this.#room);
    this.#fit();
  }

  /** Let the field grow with what is written, where CSS alone does not. */
  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}
