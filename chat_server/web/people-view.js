/** Shows who is in the open room, who types, and who has read what the user wrote last. */

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

  /** Show what has changed, before the next frame. */
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
    $("people-button").textContent = `${count} here`;
    const here = people?.here ?? [];
    const names = here.slice(0, MAX_LISTED).map((name) => element("li", "").appendChild(nameNode(name)).parentNode);
    const more = (count ?? 0) - names.length;
    if (more > 0) names.push(element("li", "time", `and ${more} more`));
    $("people-list").replaceChildren(...names);
    showText($("typing"), typingText(people?.typing ?? []));
    showText($("seen"), this.#seenText());
  }

  /** Say who has read the newest message, if it is the user's own. */
  #seenText() {
    const { last, people } = this.#room ?? {};
    if (!last || last.from?.user !== this.#user) return "";
    const readers = people.readersOf(last.seq);
    return readers.length === 0 ? "" : `Read by ${list(readers)}`;
  }
}

function typingText(names) {
  if (names.length === 0) return "";
  return `${list(names)} ${names.length === 1 ? "is" : "are"} typing…`;
}

function list(names) {
  const named = names.slice(0, MAX_NAMED).map(isolated);
  const more = names.length - named.length;
  return more > 0 ? `${named.join(", ")} and ${more} more` : named.join(", ");
}
