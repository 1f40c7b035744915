/** Shows the users of the open room: presence, typing, and readers of the user's last message. */

import { t } from "./language.js";
import { showText } from "./status.js";
import { element, isolated, nameNode } from "./text.js";

const MAX_NAMED = 3;
const MAX_LISTED = 200;

const $ = (id) => document.getElementById(id);

export class PeopleView {
  #frame = null;
  #room = null;
  #user = null;

  /** Show the people of a room to a user; null for none. */
  show(room, user) {
    this.#room = room;
    this.#user = user;
    this.render();
  }

  /** Show changes, before the next frame. */
  render() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #show() {
    const people = this.#room?.people;
    const count = people?.count ?? null;
    $("people-button").hidden = count === null;
    $("people-button").textContent = t("{count} here", { count });
    const here = people?.here ?? [];
    const names = here.slice(0, MAX_LISTED).map((name) => element("li", "").appendChild(nameNode(name)).parentNode);
    const more = (count ?? 0) - names.length;
    if (more > 0) names.push(element("li", "time", t("and {count} more", { count: more })));
    $("people-list").replaceChildren(...names);
    showText($("typing"), typingText(people?.typing ?? []));
    showText($("seen"), this.#seenText());
  }

  /** Return the readers of the newest message as a text, if the message is the user's own. */
  #seenText() {
    const { last, people } = this.#room ?? {};
    if (!last || last.from?.user !== this.#user) return "";
    const readers = people.readersOf(last.seq);
    return readers.length === 0 ? "" : t("Read by {names}", { names: nameList(readers) });
  }
}

function typingText(names) {
  if (names.length === 0) return "";
  return t(names.length === 1 ? "{names} is typing…" : "{names} are typing…", { names: nameList(names) });
}

/** Return the first names of `count` people, and how many more there are. */
export function nameList(names, count = names.length, most = MAX_NAMED) {
  const named = names.slice(0, most).map(isolated);
  const shown = named.join(", ");
  const more = count - named.length;
  return more > 0 ? t("{names} and {count} more", { names: shown, count: more }) : shown;
}
