/** One message on the page, in nodes that stay while the message changes. */

import { TextView } from "./text-view.js";
import {
  dataForm, element, hue, inert, initials, isolated, nameNode, setText, visibleName,
} from "./text.js";

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DELETED = { name: "p", className: "text deleted", text: "deleted" };

export class MessageRow {
  /** The list's item. */
  node;
  #head = element("p", "head");
  #body = element("div", "body");
  #edited = null;
  #content = null;
  #name = null;
  #reactions = null;

  /**
   * @param {object} message as it now is.
   * @param {boolean} own whether the user who reads wrote it.
   * @param {string} link the address of the message.
   */
  constructor(message, own, link) {
    const { at, from } = message;
    this.node = element("li", own ? "message own" : "message");
    const name = from ? visibleName(from.name, from.user) : "Server";
    const avatar = element("span", "avatar", initials(name));
    avatar.setAttribute("aria-hidden", "true");
    avatar.style.setProperty("--hue", hueOf(from));
    const sender = own ? element("span", "sender", "You") : nameNode(name, "sender");
    if (from) sender.title = inert(from.user);
    const time = element("time", "time", timeFormat.format(at));
    time.dateTime = new Date(at).toISOString();
    time.title = fullFormat.format(at);
    const place = element("a", "place");
    place.href = link;
    place.append(time);
    this.#head.append(sender, " ", place);
    this.#body.append(this.#head);
    this.show(message);
    this.node.append(avatar, this.#body);
  }

  /** Show the message as changes have made it, and touch only what they changed. */
  show({ data, state, deleted, edited_at, reactions }) {
    // What grows is read out when it is whole.
    if (state === "streaming" && !deleted) this.node.setAttribute("aria-busy", "true");
    else this.node.removeAttribute("aria-busy");
    this.#showEdited(Boolean(edited_at && !deleted));
    this.#showContent(deleted ? DELETED : dataForm(data));
    this.#showReactions(reactions);
  }

  #showEdited(edited) {
    if (edited && !this.#edited) {
      this.#edited = element("span", "time", "edited");
      quiet(this.#edited);
      this.#head.append(" ", this.#edited);
    } else if (!edited) {
      this.#edited?.remove();
      this.#edited = null;
    }
  }

  #showContent(form) {
    if (this.#name === form.name) {
      this.#content.show(form);
      return;
    }
    this.#content?.remove();
    this.#content = new TextView(form);
    this.#name = form.name;
    this.#head.after(...this.#content.nodes);
  }

  #showReactions(reactions) {
    if (!reactions) {
      this.#reactions?.remove();
      this.#reactions = null;
      return;
    }
    if (!this.#reactions) {
      this.#reactions = element("p", "reactions");
      this.#reactions.append(document.createTextNode(""));
      quiet(this.#reactions);
      this.#body.append(this.#reactions);
    }
    setText(this.#reactions.firstChild, reactionText(reactions));
  }
}

/** Return the hue that somebody chose, or else one that is always the same for them. */
function hueOf(from) {
  const chosen = from?.info?.hue;
  return Number.isInteger(chosen) && chosen >= 0 && chosen < 360 ? String(chosen) : hue(from?.user ?? "");
}

/** Keep a node that comes later from being read out alone: without its message it says nothing. */
function quiet(node) {
  node.setAttribute("aria-live", "off");
}

function reactionText(reactions) {
  return Object.entries(reactions)
    .map(([emoji, { count }]) => `${isolated(emoji)} ${count}`)
    .join("  ");
}
