/** Reports unread messages while the page is hidden: title, icon, and desktop notifications. */

import { t } from "./language.js";
import { mentions } from "./mentions.js";
import { gist } from "./text-view.js";
import { dataText, inert, visibleName } from "./text.js";

const ICON = "static/icon.svg";
const ICON_UNREAD = "static/icon-unread.svg";
const MAX_BODY = 200;

const $ = (id) => document.getElementById(id);

export class Notifier {
  #onGo;
  #user = null;
  #rooms = null;
  #title = t("Chat");

  /** @param {function} onGo called with the room and the `seq` of a chosen notification. */
  constructor(onGo) {
    this.#onGo = onGo;
    $("notify-yes").addEventListener("click", () => this.#answer(true));
    $("notify-no").addEventListener("click", () => this.#answer(false));
  }

  /** Report the rooms of a user from now on; null for no user. */
  use(user, rooms) {
    this.#user = user;
    this.#rooms = rooms;
    $("notify").hidden = true;
    this.render();
  }

  setTitle(title) {
    this.#title = title;
    this.render();
  }

  /** Show the number of unread messages in title and icon. */
  render() {
    const unread = this.#rooms ? [...this.#rooms].reduce((sum, room) => sum + room.unread, 0) : 0;
    const title = unread > 0 ? `(${unread}) ${this.#title}` : this.#title;
    // Without rooms the sign-in sets the title.
    if (this.#rooms !== null && document.title !== title) document.title = title;
    const icon = document.querySelector("link[rel=icon]");
    const wanted = unread > 0 ? ICON_UNREAD : ICON;
    if (icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
  }

  /** Take a message of a room. */
  receive(room, message) {
    const { from, data, seq } = message;
    if (from?.user === this.#user || !document.hidden || !mentions(dataText(data), this.#user)) return;
    if (!("Notification" in window)) return;
    // The permission is asked for once the user sees missed messages, not before.
    if (Notification.permission === "default" && !isDeclined()) $("notify").hidden = false;
    if (Notification.permission !== "granted") return;
    const who = from ? visibleName(from.name, from.user) : t("Server");
    const shown = new Notification(t("{name} in #{room}", { name: who, room: inert(room.name) }), {
      body: gist(data, room.people).slice(0, MAX_BODY),
      tag: room.topic,
    });
    shown.addEventListener("click", () => {
      window.focus();
      this.#onGo(room.name, seq);
      shown.close();
    });
  }

  async #answer(yes) {
    $("notify").hidden = true;
    if (yes) await Notification.requestPermission();
    else decline();
  }
}

const DECLINED = "chat.no-notifications";

function isDeclined() {
  try {
    return localStorage.getItem(DECLINED) !== null;
  } catch {
    return false;
  }
}

function decline() {
  try {
    localStorage.setItem(DECLINED, "1");
  } catch {
    // The page asks again after a reload.
  }
}
