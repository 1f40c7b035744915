/** The field with the room's name, which also leads to other rooms; Ctrl and K lead to it. */

import { isRoom } from "./address.js";
import { t } from "./language.js";
import { showText } from "./status.js";

const $ = (id) => document.getElementById(id);

export class RoomField {
  #room = null;
  #onGo;
  #onLeave;

  /**
   * @param {function} options.onGo called with the room that is to be shown.
   * @param {function} options.onLeave called when the user goes back to writing.
   */
  constructor({ onGo, onLeave }) {
    this.#onGo = onGo;
    this.#onLeave = onLeave;
    const field = $("room");
    $("room-form").addEventListener("submit", (event) => this.#submit(event));
    field.addEventListener("input", () => {
      $("join").hidden = field.value.trim() === this.#room;
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
  }

  /** Offer rooms for completion. */
  offer(names) {
    const options = names.map((name) => Object.assign(document.createElement("option"), { value: name }));
    $("rooms-known").replaceChildren(...options);
  }

  #enter() {
    $("room").focus();
    $("room").select();
  }

  #submit(event) {
    event.preventDefault();
    const room = $("room").value.trim().replace(/^#+/, "").replace(/\s+/g, "-");
    if (isRoom(room)) this.#onGo(room);
    else {
      $("room").setAttribute("aria-invalid", "true");
      showText($("room-error"), t("A room's name has only a to z, A to Z, digits and . _ ~ @ -."));
    }
  }

  #left() {
    if (document.activeElement?.form === $("room-form") || this.#room === null) return;
    if ($("room").value !== this.#room) this.show(this.#room);
  }
}
