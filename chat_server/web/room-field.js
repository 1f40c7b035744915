/** The field with the room's name, for changing the room; Ctrl and K focus the field. */

import { isRoom, topicOf } from "./address.js";
import { t } from "./language.js";
import { showText } from "./status.js";
import { allowed, grants } from "./token.js";

const RULE = t("A room's name has only a to z, A to Z, digits and . _ ~ @ -.");
/** Milliseconds without a key after which proposals are announced to screen readers. */
const PAUSE_MS = 700;

const $ = (id) => document.getElementById(id);

export class RoomField {
  #room = null;
  #names = [];
  #pause = null;
  #onGo;
  #onLeave;
  #onSay;
  #token;

  /**
   * @param {function} options.onGo called with the room to show.
   * @param {function} options.onLeave called when the user goes back to writing.
   * @param {function} options.onSay called with a sentence about the proposals, for screen readers.
   * @param {function} options.token returns the user's token.
   */
  constructor({ onGo, onLeave, onSay, token }) {
    this.#onGo = onGo;
    this.#onLeave = onLeave;
    this.#onSay = onSay;
    this.#token = token;
    const field = $("room");
    $("room-form").addEventListener("submit", (event) => this.#submit(event));
    field.addEventListener("input", () => {
      $("join").hidden = field.value.trim() === this.#room;
      this.#offerNew();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      this.show(this.#room);
      this.#onLeave();
    });
    window.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || this.#room === null) return;
      event.preventDefault();
      this.#enter();
    });
    $("another").addEventListener("click", () => this.#enter());
    field.addEventListener("blur", () => setTimeout(() => this.#left(), 200));
  }

  /** Show the name of a room; null for none. */
  show(room) {
    this.#room = room;
    $("room").removeAttribute("aria-invalid");
    showText($("room-error"), "");
    $("room").value = room ?? "";
    $("join").hidden = true;
    this.#hint("");
  }

  /** Offer rooms for completion. */
  offer(names) {
    this.#names = names;
    const options = names.map((name) => Object.assign(document.createElement("option"), { value: name }));
    $("rooms-known").replaceChildren(...options);
  }

  #enter() {
    $("room").focus();
    $("room").select();
  }

  #submit(event) {
    event.preventDefault();
    if (isRoom(this.#typed)) this.#onGo(this.#typed);
    else {
      $("room").setAttribute("aria-invalid", "true");
      this.#hint("");
      showText($("room-error"), RULE);
    }
  }

  /** The written name, in the form of a room. */
  get #typed() {
    return $("room").value.trim().replace(/^#+/, "").replace(/\s+/g, "-");
  }

  /** Offer the written room, unless the list has a similar one, and say which rooms the token allows. */
  #offerNew() {
    const room = this.#typed;
    const isListed = this.#names.some((name) => name.toLowerCase().includes(room.toLowerCase()));
    if (isListed) this.#hint("");
    else if (!isRoom(room)) this.#hint(RULE);
    else {
      const isRefused = grants(this.#token(), "subscribe", topicOf(room)) === false;
      const offer = t(isRefused
        ? "Your token does not allow #{room}."
        : "No room of your list is called that. Enter opens #{room}.", { room });
      this.#hint(`${offer} ${allowed(this.#token())}`);
    }
  }

  #hint(text) {
    showText($("room-hint"), text);
    clearTimeout(this.#pause);
    if (text) this.#pause = setTimeout(() => this.#onSay(text), PAUSE_MS);
  }

  #left() {
    if (document.activeElement?.form === $("room-form") || this.#room === null) return;
    if ($("room").value !== this.#room) this.show(this.#room);
  }
}
