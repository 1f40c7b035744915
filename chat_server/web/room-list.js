/** The list of rooms beside the messages; in a narrow window it is a drawer. */

import { permalink } from "./address.js";
import { locale, t } from "./language.js";
import { gist } from "./text-view.js";
import { element, inert, nameNode, setText, visibleName } from "./text.js";

const NARROW = matchMedia("(width < 48rem)");
const MAX_COUNT = 99;
const PREVIEW = 100;

const timeFormat = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const dateFormat = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });

export class RoomList {
  #nav;
  #list;
  #button;
  #texts;
  #onRemove;
  #onGo;
  #user = null;
  #rooms = null;
  #current = null;
  #items = new Map();
  #frame = null;

  /**
   * @param {Element} options.nav
   * @param {Element} options.list gets an item for each room.
   * @param {Element} options.button opens the drawer.
   * @param {Texts} options.texts knows the drafts.
   * @param {function} options.onGo called with the name of a chosen room.
   * @param {function} options.onRemove called with the name of a room to remove.
   */
  constructor({ nav, list, button, texts, onGo, onRemove }) {
    this.#nav = nav;
    this.#list = list;
    this.#button = button;
    this.#texts = texts;
    this.#onGo = onGo;
    this.#onRemove = onRemove;
    NARROW.addEventListener("change", () => this.#fold());
    this.#fold();
  }

  /** Show the rooms of a user; null for no user. */
  use(user, rooms) {
    this.#user = user;
    this.#rooms = rooms;
    this.#items.clear();
    this.#list.replaceChildren();
    this.render();
  }

  /** Mark the open room, and close the drawer. */
  select(name) {
    this.#current = name;
    if (this.#nav.popover !== null && this.#nav.matches(":popover-open")) this.#nav.hidePopover();
    this.render();
  }

  /** Show changes, before the next frame. */
  render() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #fold() {
    this.#nav.popover = NARROW.matches ? "auto" : null;
  }

  #show() {
    const rooms = this.#rooms ? [...this.#rooms] : [];
    const names = new Set(rooms.map(({ name }) => name));
    for (const [name, { node }] of this.#items) {
      if (names.has(name)) continue;
      node.remove();
      this.#items.delete(name);
    }
    let next = this.#list.firstElementChild;
    for (const room of rooms) {
      const { node } = this.#item(room);
      if (node === next) next = next.nextElementSibling;
      else this.#list.insertBefore(node, next);
    }
    const elsewhere = rooms.filter(({ name, unread }) => name !== this.#current && unread > 0).length;
    this.#button.dataset.unread = elsewhere || "";
    this.#button.setAttribute("aria-label", elsewhere ? t("Rooms, {count} with new messages", { count: elsewhere }) : t("Rooms"));
  }

  #item(room) {
    const item = this.#items.get(room.name) ?? this.#makeItem(room);
    const { link, time, preview, badge } = item;
    const isCurrent = room.name === this.#current;
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    const { last, unread } = room;
    setText(time, last ? shortTime(last.at) : "");
    setText(preview, this.#previewOf(room, isCurrent));
    const count = unread > MAX_COUNT || room.hasMoreUnread ? `${Math.min(unread, MAX_COUNT)}+` : `${unread}`;
    setText(badge.firstChild, unread > 0 ? `${room.isMentioned ? "@ " : ""}${count}` : "");
    badge.hidden = unread === 0;
    link.classList.toggle("unread", unread > 0);
    return item;
  }

  #previewOf({ name, last, people, state }, isCurrent) {
    const draft = isCurrent ? "" : this.#texts.draft(this.#user, name).trim();
    if (draft) return t("Draft: {text}", { text: inert(draft.slice(0, PREVIEW)) });
    if (state === "refused") return t("Not open");
    if (!last) return "";
    const { from, data, deleted } = last;
    const who = from?.user === this.#user ? t("You") : from ? visibleName(from.name, from.user) : t("Server");
    return `\u2068${who}\u2069: \u2068${deleted ? t("deleted") : inert(gist(data, people).slice(0, PREVIEW))}\u2069`;
  }

  #makeItem({ name }) {
    const node = element("li", "");
    const link = element("a", "room-link");
    link.href = permalink(name);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.#onGo(name);
    });
    const title = nameNode(name, "room-name");
    const [time, preview] = [element("span", "time", ""), element("span", "preview", "")];
    const badge = element("span", "badge", "");
    const parts = [time, preview, badge].map((part) => part.appendChild(document.createTextNode("")));
    badge.append(element("span", "unseen", ` ${t("unread")}`));
    link.append(title, " ", time, " ", preview, " ", badge);
    node.append(link);
    if (this.#rooms.isRemovable(name)) node.append(this.#remover(name));
    const item = { node, link, time: parts[0], preview: parts[1], badge };
    this.#items.set(name, item);
    return item;
  }

  #remover(name) {
    const button = element("button", "quiet remove", "×");
    button.type = "button";
    button.setAttribute("aria-label", t("Take {name} off the list", { name: inert(name) }));
    button.addEventListener("click", () => {
      const { node } = this.#items.get(name);
      const near = node.nextElementSibling ?? node.previousElementSibling;
      this.#onRemove(name);
      near?.querySelector("a").focus();
    });
    return button;
  }
}

function shortTime(at) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return (isToday ? timeFormat : dateFormat).format(at);
}
