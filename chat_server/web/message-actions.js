/** The actions on messages: one menu for all rows, which opens beside its row. */

import { permalink } from "./address.js";
import { ask } from "./dialog.js";
import { QUICK } from "./emoji.js";
import { t } from "./language.js";
import { dataText, element, inert, isolated } from "./text.js";
import { words } from "./words.js";

const MAX_QUOTED_LINES = 4;
const MAX_QUOTED = 300;
/** Pixels that stay free at the edges of the window. */
const EDGE = 8;

const $ = (id) => document.getElementById(id);

/** Return whether the author can edit a message: an existing text that does not grow. */
export function isEditable({ data, deleted, state }) {
  return !deleted && state !== "streaming" && typeof data?.text === "string";
}

export class MessageActions {
  #menu = $("actions");
  #room;
  #onReply;
  #onEdit;
  #onError;
  #onDone;
  /** The reading user, or null. */
  user = null;
  #moderates = false;
  /** The row of the open menu. */
  #row = null;

  /**
   * @param {function} options.room returns the open room.
   * @param {function} options.onReply called with the quote for an answer.
   * @param {function} options.onEdit called with a message to edit.
   * @param {function} options.onError called with a sentence about a failed action.
   * @param {function} options.onDone called with a sentence about a completed action.
   */
  constructor({ room, onReply, onEdit, onError, onDone }) {
    this.#room = room;
    this.#onReply = onReply;
    this.#onEdit = onEdit;
    this.#onError = onError;
    this.#onDone = onDone;
    $("quick").append(...QUICK.map((emoji) => {
      const button = element("button", "quiet", emoji);
      button.type = "button";
      button.addEventListener("click", () => this.#chosen((message) => this.react(message, emoji)));
      return button;
    }));
    $("reply").addEventListener("click", () => this.#chosen((message) => this.#onReply(this.#quote(message))));
    $("copy-text").addEventListener("click", () => this.#chosen(({ data }) => {
      this.#copy(dataText(data), t("The text is copied."));
    }));
    $("copy-link").addEventListener("click", () => this.#chosen(({ seq }) => {
      this.#copy(new URL(permalink(this.#room().name, seq), document.baseURI).href, t("The link is copied."));
    }));
    // On plain http:// browsers allow no copying.
    $("copy-text").hidden = $("copy-link").hidden = !navigator.clipboard;
    $("edit").addEventListener("click", () => this.#chosen((message) => this.#onEdit(message)));
    $("delete").addEventListener("click", () => this.#chosen((message) => this.#delete(message)));
    $("log").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches(".message")) return;
      // The key must not press the button that gets the focus.
      event.preventDefault();
      event.target.querySelector(".act")?.click();
    });
  }

  /** Begin for a user; `moderates` says whether the user may delete messages of others. */
  use(user, moderates) {
    this.user = user;
    this.#moderates = moderates;
  }

  /** Whether the user is known to have reacted to a message with an emoji. */
  isOwn(message, emoji) {
    return this.#room().hasReacted(message, emoji);
  }

  /** Open the menu for a row, beside the button that was pressed. */
  open(row, button) {
    const { message } = row;
    const isOwn = message.from?.user === this.user;
    this.#row = row;
    $("edit").hidden = !isOwn || !isEditable(message);
    $("delete").hidden = !isOwn && !this.#moderates;
    $("reacted").replaceChildren(...row.reactions.map(([emoji, names]) => element("li", "", `${isolated(emoji)} ${names}`)));
    const menu = this.#menu;
    menu.showPopover();
    const { top, bottom, left } = button.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = menu;
    const isBelow = bottom + offsetHeight + EDGE < innerHeight;
    menu.style.top = `${Math.max(isBelow ? bottom : top - offsetHeight, EDGE)}px`;
    menu.style.left = `${Math.max(Math.min(left, innerWidth - offsetWidth - EDGE), EDGE)}px`;
    $("quick").firstChild.focus();
  }

  /** The user's waiting or refused changes to a message, as in `Changes.of`. */
  changesOf({ seq }) {
    return this.#room().changes.of(seq);
  }

  dismiss({ seq }) {
    this.#room().changes.dismiss(seq);
  }

  edit(message) {
    this.#onEdit(message);
  }

  /** Add or remove a reaction; the message shows the progress. */
  react(message, emoji) {
    this.#room().react(message, emoji).catch(() => {});
  }

  /** Ask the writer of a streaming message to end it. */
  stop(message) {
    return this.#try(() => this.#room().stop(message));
  }

  #chosen(act) {
    this.#menu.hidePopover();
    act(this.#row.message);
  }

  async #copy(text, done) {
    if (await this.#try(() => navigator.clipboard.writeText(text))) this.#onDone(done);
  }

  async #delete(message) {
    const question = [t("Delete this message? It is gone for everybody.")];
    if (!(await ask({ question, no: [t("Keep it")], yes: [t("Delete")] }))) return;
    // The message shows the progress.
    await this.#room().delete(message).catch(() => {});
  }

  #quote({ from, data }) {
    const said = dataText(data).split("\n").filter((line) => line.trim() && !line.startsWith(">"));
    const begun = [...said.slice(0, MAX_QUOTED_LINES).join("\n")].slice(0, MAX_QUOTED).join("");
    const quote = begun.split("\n").filter(Boolean).map((line) => `> ${line}\n`).join("");
    return from && from.user !== this.user ? `${quote}@${inert(from.user)} ` : quote;
  }

  /** Run an action; resolves to whether it succeeded. */
  async #try(act) {
    try {
      await act();
      return true;
    } catch (error) {
      this.#onError(words(error));
      return false;
    }
  }
}
